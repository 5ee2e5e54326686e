"""Whether the clock is in sync, as systemd-timedated tells it over the system bus.

That is for a process which may not ask the kernel: the shipped unit's filter lets no call of the clock through.
timedated asks the kernel by the rule of kernel/clock.py. The bus starts it for the question, and it ends by itself.

A question has a connection of its own: it is asked only while a certificate is to be issued.

Interface: org.freedesktop.timedate1(5), https://www.freedesktop.org/software/systemd/man/latest/org.freedesktop.timedate1.html
"""

from __future__ import annotations

import asyncio
import contextlib

from protokube.errors import ProviderError
from protokube.host.bus import Bus, CallError, Variant

_TIMEDATE = "org.freedesktop.timedate1"
_REMEDY = "see `systemctl status systemd-timedated`; where the clock is right, give --trust-clock"


def clock_in_sync(address: str, *, limit: float = 4.0) -> bool:
    """Ask timedated on the bus at `address`, and wait up to `limit` seconds. Not to be called in an event loop.

    Raises ProviderError with the reason and the remedy.
    """
    return asyncio.run(_ask(address, limit))


async def _ask(address: str, limit: float) -> bool:
    try:
        async with asyncio.timeout(limit):
            bus = await Bus.open(address, lambda _: None, lambda _: None, _REMEDY)
            with contextlib.closing(bus):
                path, properties = "/org/freedesktop/timedate1", "org.freedesktop.DBus.Properties"
                answer = await bus.ask(_TIMEDATE, path, properties, "Get", "ss", (_TIMEDATE, "NTPSynchronized"))
    except TimeoutError as error:
        raise ProviderError(f"system bus {address}: {_TIMEDATE}: no answer within {limit:g} s; {_REMEDY}") from error
    except CallError as error:
        raise ProviderError(f"{error}; {_REMEDY}") from error
    value = answer[0].value if len(answer) == 1 and isinstance(answer[0], Variant) else answer
    if not isinstance(value, bool):
        raise ProviderError(
            f"system bus {address}: NTPSynchronized: an answer that can't be understood (expected bool, got "
            f"{value!r}); does something else than systemd own {_TIMEDATE}?"
        )
    return value
