"""Verbs that change nothing: status, plan, pods and logs."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import socket
from collections.abc import Mapping

import psutil

from protokube import __version__
from protokube.hub.core.checks import Order
from protokube.hub.core.course import Outcome
from protokube.hub.core.verbs import UNITS, Logs
from protokube.hub.handlers import End, Say
from protokube.hub.verbs.programs import Programs, Ran, lines, run

_FAMILIES = (socket.AF_INET, socket.AF_INET6)


class Reads:
    """The handlers."""

    def __init__(self, programs: Programs) -> None:
        self._programs = programs

    async def facts(self) -> Mapping[str, str]:
        """The state of each unit. Raises ProviderError."""
        argv = (*self._programs.systemctl, "is-active", *(f"{unit}.service" for unit in UNITS))
        ran = await run(argv, 10.0)  # its exit code tells whether one of them is active
        states = ran.output.split()
        return dict(zip(UNITS, states, strict=False)) | {"version": __version__}

    async def plan(self, _order: Order, say: Say, limit: float) -> End:
        """What protokube would do: its own report, by a dry run, which can't write."""
        ran = await run((*self._programs.protokube, "--dry-run", "-o", "json"), limit)
        return _report(ran, say, "protokube --dry-run")

    async def pods(self, _order: Order, say: Say, limit: float) -> End:
        """What virtual-kubelet runs."""
        ran = await run((*self._programs.virtual_kubelet, "pods", "-o", "json"), limit)
        return _report(ran, say, "virtual-kubelet pods")

    async def logs(self, order: Order, say: Say, limit: float) -> End:
        """The journal of one unit."""
        asked = order.arguments
        assert isinstance(asked, Logs)
        argv = [*self._programs.journalctl, "--no-pager", "--quiet", "--output=short-iso", f"--unit={asked.unit}"]
        argv.append(f"--lines={asked.lines}")
        if asked.since is not None:
            argv.append(f"--since=-{asked.since}s")
        if asked.follow == 0:
            async for part in lines(argv):
                say.output(part)
            return End(Outcome.OK)
        with contextlib.suppress(TimeoutError):
            # A second is left to say that it is over.
            async with asyncio.timeout(max(0.0, min(asked.follow, limit - 1.0))):
                async for part in lines([*argv, "--follow"]):
                    say.output(part)
        return End(Outcome.OK)


def addresses() -> list[str]:
    """This machine's addresses that others may reach."""
    found = [one for ones in psutil.net_if_addrs().values() for one in ones if one.family in _FAMILIES]
    # IPv6 addresses of one link bear their interface behind a percent sign.
    return sorted(
        one.address for one in found if not one.address.startswith(("127.", "fe80:")) and one.address != "::1"
    )


def _report(ran: Ran, say: Say, what: str) -> End:
    """Pass a report on; its digest shows whether all of it arrived."""
    say.output(ran.output, "report")
    data = ran.output.encode()
    result = {"exit_code": ran.code, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    if ran.code == 0:
        return End(Outcome.OK, result=result)
    return End(Outcome.FAILED, f"{what}: exit code {ran.code}: {ran.errors[-1000:]}", result)
