"""systemd over D-Bus: reads, starts and restarts units, and wakes the daemon when one of them changes.

The connection lives in the event loop of the main thread; the methods are called from the worker thread and
wait with a limit. It is made on first use and again after the bus was lost.

The first look at a unit asks for five properties at once (2 ms). Later looks ask for one (0.5 ms), only to hear
systemd answer: the state is remembered until a signal says that it may have changed. That is safe because the bus
delivers in order: all signals that systemd sent before its answer arrive before it. A change that systemd announces a
moment later wakes the daemon.

Interfaces: org.freedesktop.systemd1(5), https://www.freedesktop.org/software/systemd/man/latest/org.freedesktop.systemd1.html
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection, Coroutine
from concurrent.futures import CancelledError
from string import ascii_letters, digits
from typing import Any, TypeVar

from dbus_next.constants import MessageType
from dbus_next.errors import AuthError, DBusError, InvalidAddressError
from dbus_next.message import Message
from dbus_next.signature import Variant

from protokube.core.node.model import UnitState
from protokube.errors import ProviderError
from protokube.host.busclient import Connection

log = logging.getLogger("protokube")

DEFAULT_ADDRESS = "unix:path=/run/dbus/system_bus_socket"

_SYSTEMD = "org.freedesktop.systemd1"
_BUS = "org.freedesktop.DBus"
_PROPERTIES = f"{_BUS}.Properties"
_MANAGER_PATH = "/org/freedesktop/systemd1"

_UNIT_PROPERTIES = ("LoadState", "ActiveState", "SubState")
_SERVICE_PROPERTIES = ("ExecMainStartTimestamp", "NRestarts")
_KINDS = dict.fromkeys(_SERVICE_PROPERTIES, int)
"""The kinds of the properties that are no text."""

_ADVICE = {
    f"{_SYSTEMD}.NoSuchUnit": "install the unit's file",
    f"{_SYSTEMD}.LoadFailed": "`systemd-analyze verify` names the fault in the unit's file",
    f"{_SYSTEMD}.BadUnitSetting": "`systemd-analyze verify` names the fault in the unit's file",
    f"{_SYSTEMD}.UnitMasked": "`systemctl unmask` it if it is to run here",
    f"{_BUS}.Error.AccessDenied": "run protokube as root",
    f"{_BUS}.Error.InteractiveAuthorizationRequired": "run protokube as root",
    f"{_BUS}.Error.ServiceUnknown": "systemd isn't on this bus: is it this machine's PID 1?",
    f"{_BUS}.Error.NameHasNoOwner": "systemd isn't on this bus: is it this machine's PID 1?",
}

T = TypeVar("T")


_SIGNALS = {
    "PropertiesChanged": "sa{sv}as",
    "JobRemoved": "uoss",
    "UnitNew": "so",
    "UnitRemoved": "so",
    "Reloading": "b",
    "NameOwnerChanged": "sss",
}
"""The signals that are heard, with the types of their bodies: org.freedesktop.systemd1(5), D-Bus's specification."""


def unit_path(unit: str) -> str:
    """The D-Bus object path of a unit: all but ASCII letters and digits as `_` and two hex digits."""
    kept = [char in ascii_letters or (char in digits and place > 0) for place, char in enumerate(unit)]
    escaped = (char if keep else f"_{ord(char):02x}" for char, keep in zip(unit, kept, strict=True))
    return f"{_MANAGER_PATH}/unit/{''.join(escaped)}"


class SystemBus:
    """The service manager behind a system bus.

    `address` is in D-Bus's notation (`unix:path=/run/dbus/system_bus_socket`). `limit` bounds every call,
    `job_limit` how long start and restart wait for systemd's verdict (both in seconds). `on_change` is called
    in the loop's thread, with a reason, when a unit that was asked for has changed or the bus was lost.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        address: str | None,
        *,
        limit: float = 10.0,
        job_limit: float = 3.0,
        on_change: Callable[[str], None] | None = None,
    ) -> None:
        self._loop = loop
        self._address = address or DEFAULT_ADDRESS
        self._limit = limit
        self._job_limit = job_limit
        self._on_change = on_change
        self._connecting = asyncio.Lock()
        self._bus: Connection | None = None
        self._watched: dict[str, str] = {}  # object path → unit
        self._states: dict[str, UnitState] = {}  # those that no signal has overtaken
        self._seen: dict[str, tuple[str, str]] = {}  # the last (active, sub) that was read or announced
        self._announced = 0  # counts signals: a reply must not overwrite a later one
        self._starting = 0
        self._results: dict[str, asyncio.Future[str]] = {}  # job's object path → its result

    # --- called from the worker thread ---------------------------------------------------------------

    def state(self, unit: str) -> UnitState:
        """The state of a unit; a unit that isn't there has load `not-found`."""
        return self._wait(self._state(unit), f"the state of {unit}")

    def program(self, unit: str) -> str | None:
        """The program that a service's ExecStart= names; None for a unit that isn't there or names none."""
        return self._wait(self._program(unit), f"the program of {unit}")

    def start(self, unit: str) -> None:
        """Start a unit, reloading systemd's configuration first when the unit's file has changed.

        Raises ProviderError when the start failed. A start that hasn't ended within the job limit (a unit that
        takes its time to be ready) is no error: the unit's state says `activating`.
        """
        self._wait(self._run_job("StartUnit", unit), f"the start of {unit}")

    def restart(self, unit: str) -> None:
        """Restart a unit, or start it; otherwise like start."""
        self._wait(self._run_job("RestartUnit", unit), f"the restart of {unit}")

    def stale(self, units: Collection[str]) -> frozenset[str]:
        """The units whose files have changed since systemd read them."""
        return self._wait(self._those(units, "NeedDaemonReload"), "units whose files have changed")

    def queued(self, units: Collection[str]) -> frozenset[str]:
        """The units that systemd has a job for: they are yet to be started or stopped."""
        return self._wait(self._those(units, "Job"), "units with a job")

    def reload(self) -> None:
        """Let systemd read its unit files again."""
        self._wait(self._reload(), "reading its unit files again")

    def close(self) -> None:
        """Close the connection; calls in flight fail. Callable from any thread."""
        self._loop.call_soon_threadsafe(self._close)

    def _wait(self, work: Coroutine[Any, Any, T], what: str) -> T:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(self._limit)
        except TimeoutError as error:
            future.cancel()
            self.close()  # the next call starts afresh
            raise ProviderError(
                f"system bus {self._address}: systemd didn't answer within {self._limit:g} s when asked for {what};"
                " does `systemctl status` answer?"
            ) from error
        except CancelledError as error:
            raise ProviderError(f"system bus {self._address}: closed while asking for {what}") from error

    # --- calls, in the loop --------------------------------------------------------------------------

    async def _state(self, unit: str) -> UnitState:
        bus = await self._watching(unit)
        if unit in self._states:
            # Any property would do: signals that were on their way arrive before it, and drop changed states.
            await self._get(bus, unit, "Unit", "ActiveState", str)
            known = self._states.get(unit)
            if known is not None:
                return known
        announced = self._announced
        state = await self._read(bus, unit)
        self._seen[unit] = (state.active, state.sub)
        if self._announced == announced:
            self._states[unit] = state
        return state

    async def _read(self, bus: Connection, unit: str) -> UnitState:
        """Read a unit's whole state; systemd loads the unit for it if need be."""
        wanted = [("Unit", name) for name in _UNIT_PROPERTIES]
        if unit.endswith(".service"):
            wanted += [("Service", name) for name in _SERVICE_PROPERTIES]
        values = await asyncio.gather(*(self._get(bus, unit, *place, _KINDS.get(place[1], str)) for place in wanted))
        of = dict(zip((name for _, name in wanted), values, strict=True))
        started = of.get("ExecMainStartTimestamp", 0)  # microseconds, 0: never
        return UnitState(
            load=of["LoadState"],
            active=of["ActiveState"],
            sub=of["SubState"],
            started_at=started / 1e6 if started else None,
            restarts=of.get("NRestarts", 0),
        )

    async def _program(self, unit: str) -> str | None:
        if not unit.endswith(".service"):
            return None
        commands = await self._get(await self._watching(unit), unit, "Service", "ExecStart", list)
        if commands and not (isinstance(commands[0], list) and commands[0]):
            raise self._misunderstood(f"ExecStart of {unit}", commands, "a list of commands")
        return str(commands[0][0]) if commands else None

    async def _those(self, units: Collection[str], name: str) -> frozenset[str]:
        """The units that have a property: true, or a job's number above 0."""
        bus = await self._connection()
        kind = list if name == "Job" else bool
        answers = await asyncio.gather(*(self._get(bus, unit, "Unit", name, kind) for unit in units))
        if [] in answers:
            raise self._misunderstood(name, [], "a job's number and path")
        return frozenset(
            unit for unit, value in zip(units, answers, strict=True) if (value[0] if name == "Job" else value)
        )

    async def _reload(self) -> None:
        await self._manager(await self._connection(), "Reload")

    async def _run_job(self, method: str, unit: str) -> None:
        bus = await self._watching(unit)
        if await self._get(bus, unit, "Unit", "NeedDaemonReload", bool):
            await self._manager(bus, "Reload")
        self._starting += 1
        try:
            body = await self._manager(bus, method, "ss", unit, "replace")
            if len(body) != 1 or not isinstance(body[0], str):
                raise self._misunderstood(f"{method} of {unit}", body, "a job")
            job = body[0]
            ended = self._results.setdefault(job, self._loop.create_future())
            with contextlib.suppress(asyncio.TimeoutError):
                result = await asyncio.wait_for(ended, self._job_limit)
                if result != "done":
                    raise ProviderError(
                        f"{unit}: systemd's {method} ended as {result!r}; `systemctl status {unit}` and "
                        f"`journalctl -u {unit}` say why"
                    )
        finally:
            self._starting -= 1
            if not self._starting:
                self._results.clear()

    async def _get(self, bus: Connection, unit: str, interface: str, name: str, kind: type) -> Any:
        """A property, which must be of this kind."""
        body = await self._call(
            bus, _SYSTEMD, unit_path(unit), _PROPERTIES, "Get", "ss", f"{_SYSTEMD}.{interface}", name
        )
        value = body[0].value if len(body) == 1 and isinstance(body[0], Variant) else body
        if not isinstance(value, kind) or (kind is list and value is body):
            raise self._misunderstood(f"{name} of {unit}", value, kind.__name__)
        return value

    def _misunderstood(self, what: str, value: object, expected: str) -> ProviderError:
        return ProviderError(
            f"system bus {self._address}: {what}: an answer that can't be understood (expected {expected}, got "
            f"{value!r}); does something else than systemd own {_SYSTEMD}?"
        )

    async def _manager(self, bus: Connection, method: str, signature: str = "", *body: str) -> list[Any]:
        return await self._call(bus, _SYSTEMD, _MANAGER_PATH, f"{_SYSTEMD}.Manager", method, signature, *body)

    async def _call(
        self, bus: Connection, to: str, path: str, interface: str, method: str, signature: str, *body: str
    ) -> list[Any]:
        message = Message(
            destination=to, path=path, interface=interface, member=method, signature=signature, body=list(body)
        )
        try:
            reply = await bus.call(message)
        except (OSError, EOFError) as error:
            raise ProviderError(f"system bus {self._address}: lost while calling {method}: {error!r}") from error
        if reply is None:
            raise ProviderError(f"system bus {self._address}: closed while calling {method}")
        log.debug("system bus: %s: %s", " ".join((method, path, *body)), reply.body)
        if reply.message_type is MessageType.ERROR:
            said = reply.body[0] if reply.body else "no message"
            advice = _ADVICE.get(reply.error_name, "see `journalctl -b _PID=1`")
            called = " ".join((method, *body))
            raise ProviderError(f"system bus {self._address}: {called}: {said} ({reply.error_name}); {advice}")
        result: list[Any] = reply.body
        return result

    # --- the connection ------------------------------------------------------------------------------

    async def _connection(self) -> Connection:
        async with self._connecting:
            if self._bus is None:
                self._bus = await self._connect()
            return self._bus

    async def _connect(self) -> Connection:
        try:
            bus = Connection(self._address, self._lost)
        except (OSError, InvalidAddressError) as error:
            raise self._unreachable(error) from error
        with contextlib.ExitStack() as opened:
            opened.callback(bus.close)
            try:
                await bus.connect()
                bus.add_message_handler(self._heard)
                await asyncio.gather(
                    self._match(bus, f"sender='{_BUS}',member='NameOwnerChanged',arg0='{_SYSTEMD}'"),
                    self._match(bus, f"sender='{_SYSTEMD}',path='{_MANAGER_PATH}',member='Reloading'"),
                    self._manager(bus, "Subscribe"),
                )
            except (OSError, EOFError, AuthError, DBusError, ValueError) as error:
                raise self._unreachable(error) from error
            opened.pop_all()
        return bus

    def _unreachable(self, error: Exception) -> ProviderError:
        return ProviderError(
            f"system bus {self._address}: {error}; systemd and the package dbus must run on this machine "
            "(`--kubelet-unit none` does without them)"
        )

    async def _watching(self, unit: str) -> Connection:
        """The connection, hearing of this unit's changes. The bus filters: others' signals never get here."""
        bus = await self._connection()
        path = unit_path(unit)
        if path not in self._watched:
            manager = f"sender='{_SYSTEMD}',path='{_MANAGER_PATH}'"
            await asyncio.gather(
                self._match(bus, f"sender='{_SYSTEMD}',path='{path}',member='PropertiesChanged'"),
                self._match(bus, f"{manager},member='JobRemoved',arg2='{unit}'"),
                self._match(bus, f"{manager},member='UnitNew',arg0='{unit}'"),
                self._match(bus, f"{manager},member='UnitRemoved',arg0='{unit}'"),
            )
            self._watched[path] = unit
        return bus

    async def _match(self, bus: Connection, rule: str) -> None:
        await self._call(bus, _BUS, "/org/freedesktop/DBus", _BUS, "AddMatch", "s", f"type='signal',{rule}")

    # --- signals, in the loop ------------------------------------------------------------------------

    def _heard(self, message: Message) -> None:
        if message.message_type is not MessageType.SIGNAL:
            return
        self._announced += 1
        # Any program may send us a signal. The library holds a body to its own signature, and nothing else does.
        if message.signature != _SIGNALS.get(message.member):
            log.debug("system bus: %s %s from %s: ignored", message.member, message.signature, message.sender)
            return
        match message.member:
            case "PropertiesChanged" if message.path in self._watched:
                self._unit_changed(self._watched[message.path], message.body[1])
            case "JobRemoved":
                _, job, _, result = message.body
                if self._starting:  # it may come before the reply that names the job
                    future = self._results.setdefault(job, self._loop.create_future())
                    if not future.done():
                        future.set_result(result)
            case "UnitNew" | "UnitRemoved":  # no change by itself: asking after an idle unit causes both
                self._states.pop(message.body[0], None)
            case "Reloading":
                self._states.clear()
                if not message.body[0]:
                    self._changed("systemd has read its unit files again")
            case "NameOwnerChanged" if message.body[0] == _SYSTEMD:
                self._close()
                self._changed("systemd has left or joined the system bus")

    def _unit_changed(self, unit: str, properties: dict[str, Any]) -> None:
        self._states.pop(unit, None)
        active, sub = self._seen.get(unit, ("", ""))
        now = (
            properties["ActiveState"].value if "ActiveState" in properties else active,
            properties["SubState"].value if "SubState" in properties else sub,
        )
        if now != (active, sub):
            self._seen[unit] = now
            self._changed(f"{unit} is {now[0]} ({now[1]})")

    def _changed(self, reason: str) -> None:
        if self._on_change is not None:
            self._on_change(reason)

    def _lost(self, bus: Connection) -> None:
        if self._bus is bus:
            self._forget()
            self._changed("the system bus closed the connection")

    def _close(self) -> None:
        bus = self._bus
        self._forget()
        if bus is not None:
            bus.close()

    def _forget(self) -> None:
        self._bus = None
        self._watched.clear()
        self._states.clear()
