"""look → judge → **plan** → act: the difference between what is wanted and what there is, as steps.

Law 1 holds: a step is planned when its preconditions hold already, so that the steps of one pass run side by side.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from protokube.core.model import Unknown
from protokube.core.node.actions import MakeLink, RemoveFile, RestartUnit, StartUnit, WriteFile
from protokube.core.node.asset_actions import AssetFacts, next_action
from protokube.core.node.kernel import module_of, same_value
from protokube.core.node.machine import MachineFacts, Running, TreeFacts
from protokube.core.node.machine_actions import (
    DaemonReload,
    DisableUnit,
    EnableUnit,
    InstallPackages,
    LoadModule,
    SetHostname,
    SetSysctl,
    TurnOffSwap,
)
from protokube.core.node.model import Absent, File, FileState, Link, UnitState
from protokube.core.node.packages import KMOD
from protokube.core.node.unit_files import FOLDER, Enablement
from protokube.core.node.wants import ServiceWanted, Wanted
from protokube.core.steps import Plan

Files = Mapping[str, FileState]


class NodeupFacts(Struct, frozen=True):
    """All facts that nodeup decides by."""

    machine: MachineFacts
    node: TreeFacts
    assets: AssetFacts = AssetFacts()


def needs(wanted: Wanted, facts: NodeupFacts, failed: frozenset[str] = frozenset()) -> Plan:
    """Plan one pass. `failed` are the subjects whose actions failed in this run: the next run tries them again."""
    out = Plan(failed=failed)
    out.add(wanted.findings)
    _packages(wanted, facts.machine, out)
    fetching = False
    for asset in wanted.assets:
        if (action := next_action(asset, facts.assets.state(asset))) is not None:
            out.step(action, "the configuration lists it")
            fetching = True
    files = facts.node.files
    if isinstance(files, Unknown):
        out.not_known("files", files.reason)
        return out
    _tree(wanted, files, out, image=facts.machine.running is None)
    if not fetching:
        # Last, since Packer's machine is the image: downloads that fail leave it as it can be reached.
        for path, reason in wanted.removed.items():
            if isinstance(files[path], File):
                out.step(RemoveFile(path), reason)
    if facts.machine.running is not None:
        _running(wanted, facts.machine.running, out)
        _manager(wanted, facts, files, out)
    return out


def _packages(wanted: Wanted, machine: MachineFacts, out: Plan) -> None:
    names = tuple(sorted(wanted.packages))
    if names and not machine.packages:
        evidence = (
            f"{machine.os.name} has no dpkg; install {', '.join(names)} in its own way, or list them in `assets`"
        )
        out.refuse("packages", "packages/no-dpkg", evidence)
    elif machine.running is not None:
        if names or machine.interrupted:
            reasons = [f"{name}: {wanted.packages[name]}" for name in names]
            reasons += ["dpkg was interrupted"] * machine.interrupted
            out.step(InstallPackages(names, finish=machine.interrupted), "; ".join(reasons))
    elif names:
        out.refuse(
            "packages",
            "image/packages",
            f"this tree lacks {', '.join(names)}; install them while you build it, for instance with "
            f"`chroot DIR apt-get install {' '.join(names)}`, or list other sources in `assets`",
        )


def _tree(wanted: Wanted, files: Files, out: Plan, *, image: bool) -> None:
    for file in wanted.files:
        state = files[file.path]
        if _is_mask(state):
            continue  # it is refused where the unit is enabled
        if not (isinstance(state, File) and state.text == file.content and state.mode == file.mode):
            out.step(WriteFile(file.path, content=file.content, mode=file.mode), file.reason)
    for link in wanted.links:
        state = files[link.path]
        if not (_leads_to(state, link.target) or (link.modest and not isinstance(state, Absent))):
            out.step(MakeLink(link.path, target=link.target), link.reason)
    written = {file.path for file in wanted.files}
    for unit in wanted.enabled:
        if _is_mask(files[f"{FOLDER}/{unit.unit}"]):
            out.refuse(unit.unit, "unit/masked", f"an administrator has masked it; `systemctl unmask {unit.unit}`")
        elif image and _comes_from_nowhere(unit, wanted, files):
            out.refuse(
                unit.unit, "unit/missing", "this tree has no such unit; install its package, or give `content`"
            )
        # A link that leads nowhere is no enablement: the unit's file comes first.
        elif unit.file not in written or isinstance(files[unit.file], File):
            _enable(unit, files, out)
    for unit in wanted.disabled:
        for path in unit.links:
            if isinstance(files[path], Link):
                out.step(DisableUnit(path, unit=unit.unit), "protokube alone starts it, when the node is ready")


def _comes_from_nowhere(unit: Enablement, wanted: Wanted, files: Files) -> bool:
    """Whether nothing brings a unit's file. An instance of a template has none of its own."""
    targets = {one.target for asset in wanted.assets for one in asset.extract}
    brought = {file.path for file in wanted.files} | targets
    here = not isinstance(files[unit.file], Absent) or unit.file in brought or f"{FOLDER}/" in targets
    return not here and "@" not in unit.unit


def _enable(unit: Enablement, files: Files, out: Plan) -> None:
    for path in unit.links:
        if not isinstance(files[path], Link):
            out.step(EnableUnit(path, unit=unit.unit, target=unit.file), "each boot starts it")


def _is_mask(state: FileState) -> bool:
    return _leads_to(state, "/dev/null")


def _leads_to(state: FileState, target: str) -> bool:
    return isinstance(state, Link) and state.target == target


def _running(wanted: Wanted, running: Running, out: Plan) -> None:
    for name, reason in wanted.modules.items():
        if name in running.modules:
            continue
        if KMOD in wanted.packages:
            out.wait(name, "modprobe comes with the package kmod")
        elif running.can_load:
            out.step(LoadModule(name), reason)
        else:
            out.hints.append(f"the kernel module {name} is not there, and this kernel loads none: {reason}")
    for key, (value, reason) in wanted.sysctls.items():
        current = running.sysctls.get(key)
        if current is None:
            _missing_sysctl(key, running, out)
        elif same_value(current, value):
            continue
        elif key in running.fixed:
            evidence = f"it is {current} (expected {value}: {reason}), and can't be set in here; set it on the host"
            out.refuse(key, "sysctl/read-only", evidence, serious=False)
        else:
            out.step(SetSysctl(key, value), f"{reason}; it is {current}")
    if wanted.swap_off and running.swap:
        out.step(TurnOffSwap(running.swap), wanted.swap_off)
    if wanted.hostname is not None and running.hostname != wanted.hostname[0]:
        out.step(SetHostname(wanted.hostname[0]), f"{wanted.hostname[1]}; it is {running.hostname!r}")


def _missing_sysctl(key: str, running: Running, out: Plan) -> None:
    module = module_of(key)
    if module is None or module in running.modules:
        out.hints.append(f"this kernel has no sysctl {key}")
    elif running.can_load:
        out.wait(key, f"comes with the module {module}")


def _manager(wanted: Wanted, facts: NodeupFacts, files: Files, out: Plan) -> None:
    """systemd's part comes when everything else is done or has failed, so that no unit starts half prepared."""
    if out.steps:
        return
    if facts.machine.running is not None and not facts.machine.running.systemd:
        out.hints.append("systemd is not running here: nothing is started")
        return
    stale = facts.node.stale
    if isinstance(stale, Unknown):
        out.not_known("systemd", stale.reason)
    elif stale:
        out.step(DaemonReload(), f"changed: {', '.join(sorted(stale))}")
        return
    places = {each.unit: each.file for each in wanted.enabled}
    masked = {one.subject for one in out.refusals if one.rule == "unit/masked"}
    for service in wanted.services:
        state = facts.node.units.get(service.unit)
        if service.unit in masked:
            continue
        if service.unit in facts.node.queued:
            out.hints.append(f"systemd starts {service.unit} next: it has a job for it")
        elif isinstance(state, Unknown) or state is None:
            out.not_known(service.unit, state.reason if state else "systemd was not asked")
        elif service.gate and wanted.stopped:
            out.wait(service.unit, wanted.stopped)
        else:
            there = service.coming or isinstance(files.get(places.get(service.unit, "")), File)
            _service(service, state, files, out, there=there)


def _service(service: ServiceWanted, state: UnitState, files: Files, out: Plan, *, there: bool) -> None:
    """`there`: the unit's file is. systemd reads it when the unit is started, if it hasn't yet."""
    if state.load == "not-found" and not there:
        out.not_known(service.unit, "systemd knows no such unit")
    elif state.active in ("inactive", "failed"):
        out.step(StartUnit(service.unit), service.reason)
    elif state.active == "active" and state.started_at is not None:
        newest = max((_written(files.get(path, Absent())) for path in service.reads), default=0.0)
        if newest > state.started_at:
            out.step(RestartUnit(service.unit), "its configuration has changed since it was started")


def _written(state: FileState) -> float:
    return state.mtime_ns / 1e9 if isinstance(state, File) else 0.0
