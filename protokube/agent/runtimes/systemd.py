"""Containers as transient units of systemd: no images, no files, no daemon in between.

`StartTransientUnit` makes them; they end and are counted by systemd, and outlive the agent. A unit that has ended
stays loaded (RemainAfterExit for exit code 0) until it was read and removed. Arguments are taken literally: the
property ExecStartEx with `no-env-expand` expands nothing, where ExecStart would expand `${…}` (systemd 252).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from protokube.agent.core.lifecycle import CREATED, EXITED, RUNNING, ContainerId, ContainerState
from protokube.agent.core.model import Pod, spec_of
from protokube.agent.core.quantity import quantity
from protokube.agent.ports import ContainerSpec, ExecResult, LogOptions
from protokube.agent.runtimes.commands import PATH, follow, run
from protokube.agent.runtimes.envfiles import EnvironmentFiles
from protokube.agent.runtimes.hostbinary import grace_of_spec, parse_id, program, refusals, user_of
from protokube.errors import ProviderError
from protokube.host.bus import DEFAULT_ADDRESS, Bus, CallError, Connection, Message, MessageType, Variant
from protokube.host.systemd import unit_path

_SYSTEMD = "org.freedesktop.systemd1"
_MANAGER = "/org/freedesktop/systemd1"
_SERVICE = f"{_SYSTEMD}.Service"
_PROPERTIES = "org.freedesktop.DBus.Properties"
_ABSENT = (f"{_SYSTEMD}.NoSuchUnit",)
_EXISTS = (f"{_SYSTEMD}.UnitExists",)
_REMEDY = "systemd and the package dbus must run on this machine; --provider podman does without them"
_SLICE = "protokube.slice"
_RECURSIVE = 0x4000  # MS_REC: what is mounted below a path is seen as well
_EXITED_BY_ITSELF = 1  # CLD_EXITED
_KILLED = 9
LIMIT = 20.0
"""Seconds for an answer of systemd."""


class SystemdRuntime:
    """systemd behind a system bus; `address` is in D-Bus's notation. `environments`: a folder for variables."""

    name = "systemd"

    def __init__(self, environments: Path, address: str | None = None) -> None:
        self._environments = EnvironmentFiles(environments)
        self._address = address or DEFAULT_ADDRESS
        self._bus: Bus | None = None
        self._connecting = asyncio.Lock()
        self._watched: dict[str, str] = {}  # object path → unit
        self._events: asyncio.Queue[str | ProviderError | None] = asyncio.Queue()

    def refuse(self, pod: Pod) -> Sequence[str]:
        """Whatever isn't a program of the machine on the machine's network."""
        return list(refusals(pod))

    async def open(self) -> None:
        """Connect to the bus, and remove variables that a killed agent has left for units that there never were."""
        await self._connected()
        if left := self._environments.left():
            known = {f"{one.id}.service" for one in await self.containers()}
            for unit in left:
                if unit not in known:
                    self._environments.remove(unit)

    async def close(self) -> None:
        """Close the connection."""
        if self._bus is not None:
            self._bus.close()
            self._bus = None

    async def start(self, spec: ContainerSpec) -> None:
        """Start a transient unit."""
        path, argv = program(spec)
        unit = f"{spec.id}.service"
        await self._watch(unit)
        environment = self._environments.write(unit, spec.env)
        properties = [[name, value] for name, value in _properties(spec, path, argv, environment)]
        try:
            await self._manager("StartTransientUnit", "ssa(sv)a(sa(sv))", unit, "fail", properties, [])
        except CallError as error:
            if error.name not in _EXISTS:
                self._environments.remove(unit)
                raise

    async def stop(self, ref: ContainerId, grace: float) -> None:  # noqa: ARG002 - the unit was made with its grace
        """Have systemd end the unit: TERM, and KILL after the grace that the unit was made with."""
        await self._unless_absent("StopUnit", "ss", f"{ref}.service", "replace")

    async def kill(self, ref: ContainerId) -> None:
        """KILL every process of the unit."""
        await self._unless_absent("KillUnit", "ssi", f"{ref}.service", "all", _KILLED)

    async def remove(self, ref: ContainerId) -> None:
        """Have systemd forget the ended unit."""
        unit = f"{ref}.service"
        await self._unless_absent("StopUnit", "ss", unit, "replace")
        await self._unless_absent("ResetFailedUnit", "s", unit)
        await self._unwatch(unit)
        self._environments.remove(unit)

    async def containers(self) -> Sequence[ContainerState]:
        """Every unit of ours that systemd still knows. The variables of those that it has started are removed."""
        (units,) = await self._manager("ListUnitsByPatterns", "asas", [], ["protokube-*.service"])
        found = []
        for unit, _, _, active, sub, _, path, *_ in units:
            ref = parse_id(unit.removesuffix(".service"))
            if ref is None:
                continue
            await self._watch(unit)
            try:
                (values,) = await self._ask(path, _PROPERTIES, "GetAll", "s", _SERVICE)
            except CallError:
                continue  # it went away since the list was made
            state = _state(ref, unit, active, sub, {name: variant.value for name, variant in values.items()})
            if active == "failed" or (state.state != CREATED and state.started_at is not None):
                self._environments.remove(unit)
            found.append(state)
        return found

    async def exec(self, ref: ContainerId, argv: Sequence[str], limit: float) -> ExecResult:
        """Run a command in the namespaces and the environment of the unit's main process."""
        (variant,) = await self._ask(unit_path(f"{ref}.service"), _PROPERTIES, "Get", "ss", _SERVICE, "MainPID")
        if not variant.value:
            raise ProviderError(f"{ref}: it has no process any more")
        try:
            content = await asyncio.to_thread(Path(f"/proc/{variant.value}/environ").read_bytes)
        except OSError as error:
            raise ProviderError(f"{ref}: its environment can't be read: {error.strerror}") from error
        pairs = (one.partition("=") for one in content.decode(errors="surrogateescape").split("\0") if one)
        env = {"PATH": PATH} | {name: value for name, _, value in pairs}
        return await run(["/usr/bin/nsenter", "-t", str(variant.value), "-m", "-w", "--", *argv], limit, env)

    async def logs(self, ref: ContainerId, options: LogOptions) -> AsyncIterator[bytes]:
        """What the unit has printed, from the journal, without what systemd says of the unit."""
        tail = "all" if options.tail is None else str(options.tail)
        argv = ["/usr/bin/journalctl", "--no-pager", "-q", "-o", "cat", f"_SYSTEMD_UNIT={ref}.service", "-n", tail]
        async for part in follow([*argv, "-f"] if options.follow else argv):
            yield part

    async def changes(self) -> AsyncIterator[str | None]:
        """Yield the UID of a pod with each change of a unit of it. Raises ProviderError when the bus was lost."""
        while True:
            event = await self._events.get()
            if isinstance(event, ProviderError):
                raise event
            yield event

    # --- calls ---------------------------------------------------------------------------------------

    async def _connected(self) -> Bus:
        async with self._connecting:
            if self._bus is None:
                bus = await Bus.open(self._address, self._lost, self._heard, _REMEDY)
                with contextlib.ExitStack() as opened:
                    opened.callback(bus.close)
                    await bus.ask(_SYSTEMD, _MANAGER, f"{_SYSTEMD}.Manager", "Subscribe")
                    opened.pop_all()
                self._bus = bus
                self._events.put_nowait(None)
            return self._bus

    async def _ask(self, path: str, interface: str, method: str, signature: str, *body: Any) -> list[Any]:
        bus = await self._connected()
        try:
            async with asyncio.timeout(LIMIT):
                return await bus.ask(_SYSTEMD, path, interface, method, signature, body)
        except TimeoutError:
            bus.close()
            raise ProviderError(f"system bus {self._address}: {method}: no answer within {LIMIT:g} s") from None

    async def _manager(self, method: str, signature: str, *body: Any) -> list[Any]:
        return await self._ask(_MANAGER, f"{_SYSTEMD}.Manager", method, signature, *body)

    async def _unless_absent(self, method: str, signature: str, *body: Any) -> None:
        try:
            await self._manager(method, signature, *body)
        except CallError as error:
            if error.name not in _ABSENT:
                raise

    # --- signals -------------------------------------------------------------------------------------

    async def _watch(self, unit: str) -> None:
        if unit_path(unit) in self._watched:
            return
        bus = await self._connected()
        self._watched[unit_path(unit)] = unit
        for rule in _rules(unit):
            await bus.match(rule)

    async def _unwatch(self, unit: str) -> None:
        if self._watched.pop(unit_path(unit), None) is not None:
            bus = await self._connected()
            for rule in _rules(unit):
                await bus.unmatch(rule)

    def _heard(self, message: Message) -> None:
        if message.message_type is not MessageType.SIGNAL:
            return
        unit = self._watched.get(message.path)
        if message.member == "UnitRemoved":
            unit = message.body[0]
        ref = parse_id(unit.removesuffix(".service")) if unit is not None else None
        if ref is not None:
            self._events.put_nowait(ref.uid)

    def _lost(self, bus: Connection) -> None:
        if self._bus is not None and self._bus.connection is bus:
            self._bus = None
            self._watched.clear()
            self._events.put_nowait(ProviderError(f"system bus {self._address}: it closed the connection"))


def _rules(unit: str) -> tuple[str, ...]:
    return (
        f"sender='{_SYSTEMD}',path='{unit_path(unit)}',member='PropertiesChanged'",
        f"sender='{_SYSTEMD}',path='{_MANAGER}',member='UnitRemoved',arg0='{unit}'",
    )


def _properties(spec: ContainerSpec, path: str, argv: Sequence[str], environment: Path) -> list[tuple[str, Variant]]:
    """The unit's properties; their types are those of org.freedesktop.systemd1(5)."""
    pod, container = spec.pod, spec.container
    title = f"{pod['metadata'].get('namespace', 'default')}/{pod['metadata']['name']} {container.name}"
    made = [
        ("Description", Variant("s", title)),
        ("Slice", Variant("s", _SLICE)),
        ("Type", Variant("s", "exec")),
        ("ExecStartEx", Variant("a(sasas)", [[path, list(argv), ["no-env-expand"]]])),
        ("EnvironmentFiles", Variant("a(sb)", [[str(environment), False]])),  # False: it must be there
        ("Restart", Variant("s", "no")),
        ("RemainAfterExit", Variant("b", True)),
        ("KillMode", Variant("s", "control-group")),
        ("TimeoutStopUSec", Variant("t", grace_of_spec(spec_of(pod)) * 1_000_000)),
        ("SyslogIdentifier", Variant("s", container.name)),
    ]
    if container.working_dir:
        made.append(("WorkingDirectory", Variant("s", container.working_dir)))
    for field, name in (("runAsUser", "User"), ("runAsGroup", "Group")):
        if (who := user_of(pod, container, field)) is not None:
            made.append((name, Variant("s", who)))
    for name, read_only in (("BindPaths", False), ("BindReadOnlyPaths", True)):
        binds = [[one.source, one.target, False, _RECURSIVE] for one in spec.mounts if one.read_only is read_only]
        if binds:
            made.append((name, Variant("a(ssbt)", binds)))
    cpu, memory = (quantity(container.resources.limits.get(name, "")) for name in ("cpu", "memory"))
    if cpu:
        made.append(("CPUQuotaPerSecUSec", Variant("t", int(cpu * 1_000_000))))
    if memory:
        made.append(("MemoryMax", Variant("t", int(memory))))
    return made


def _state(ref: ContainerId, unit: str, active: str, sub: str, values: dict[str, Any]) -> ContainerState:
    started, ended = (values.get(f"ExecMain{when}Timestamp", 0) / 1e6 or None for when in ("Start", "Exit"))
    handle = f"systemd://{unit}"
    if active in ("activating", "reloading"):
        return ContainerState(ref, CREATED, started, handle=handle)
    if active == "deactivating" or (active == "active" and sub == "running"):
        return ContainerState(ref, RUNNING, started, handle=handle)
    code, status = values.get("ExecMainCode", 0), values.get("ExecMainStatus", 0)
    by_itself = code in (0, _EXITED_BY_ITSELF)
    return ContainerState(
        ref,
        EXITED,
        started,
        ended,
        exit_code=status if by_itself else 128 + status,
        signal=None if by_itself else status,
        oom=values.get("Result") == "oom-kill",
        handle=handle,
    )
