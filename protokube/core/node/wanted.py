"""look → **judge** → plan → act: everything that a machine is to have, by the configuration and its facts.

Nothing is wanted that Debian's packages do right already: kubelet's resolver and reserved resources are protokube's
business, logs go to the journal and to files that kubelet rotates, and a packaged unit stays the packager's.
"""

from __future__ import annotations

from collections.abc import Mapping

from protokube.core.model import Rejected
from protokube.core.node import clock, hostname, kernel, swap, unit_files
from protokube.core.node.assets import Asset, containerd_target, for_machine, version_in
from protokube.core.node.containerd import (
    CONFIG,
    DEBIAN_PLUGINS,
    UPSTREAM_PLUGINS,
    containerd_files,
    has_one_directory,
)
from protokube.core.node.machine import AFTER_INSTALLATION, MachineFacts
from protokube.core.node.model import AGENT_UNIT
from protokube.core.node.packages import packages
from protokube.core.node.settings import ExtraUnit, NodeupSettings
from protokube.core.node.unit_files import CONTAINERD, FOLDER, KUBELET, NODEUP, PROTOKUBE
from protokube.core.node.wants import LinkWanted, ServiceWanted, Wanted

PROTOKUBE_CONFIG = "/etc/protokube/config.yaml"
NODEUP_CONFIG = "/etc/protokube/nodeup.yaml"


def wanted(
    settings: NodeupSettings, machine: MachineFacts, shipped: Mapping[str, str], protokube_config: str
) -> Wanted:
    """Judge what a machine is to have.

    `shipped` are the units that come with the program, by name. `protokube_config` is protokube's own file.
    """
    out = Wanted(assets=for_machine(settings.assets, machine.architecture))
    programs = {**machine.programs, **_programs_of(out.assets)}
    _kernel(settings, machine, out)
    out.packages = packages(settings, machine, programs, out.assets, out.modules.keys())
    _containerd(settings, machine, programs, shipped, out)
    _clock(machine, out)
    _protokube(settings, machine, programs, shipped, protokube_config, out)
    _swap(settings, machine, out)
    if (name := hostname.wanted_hostname(settings.hostname, machine)) is not None:
        out.hostname = name
        out.file(hostname.PATH, f"{name[0]}\n", name[1])
        if "cloud-init" in machine.packages:
            out.file(hostname.CLOUD_INIT_PATH, hostname.CLOUD_INIT, "cloud-init would rename the machine at a boot")
    _extras(settings, machine, out)
    return out


def _programs_of(assets: tuple[Asset, ...]) -> dict[str, str]:
    """Programs that assets bring, by name. An archive's programs go to a directory called bin."""
    found: dict[str, str] = {}
    for asset in assets:
        if asset.path is not None:
            found[asset.name] = asset.path
        elif (program := containerd_target(asset)) is not None:
            found["containerd"] = program
    return found


def _kernel(settings: NodeupSettings, machine: MachineFacts, out: Wanted) -> None:
    modules, sysctls = kernel.modules(settings.modules), kernel.sysctls(settings.sysctls)
    out.file(
        kernel.MODULES_PATH, kernel.modules_file(modules), "each boot loads these modules, before sysctls are set"
    )
    out.file(kernel.SYSCTLS_PATH, kernel.sysctls_file(sysctls), "each boot sets what kubelet and containerd demand")
    if machine.running is not None:
        out.modules, out.sysctls = modules, sysctls


def _containerd(
    settings: NodeupSettings,
    machine: MachineFacts,
    programs: Mapping[str, str],
    shipped: Mapping[str, str],
    out: Wanted,
) -> None:
    extracted = [one.target.rstrip("/") for asset in out.assets for one in asset.extract]
    version = machine.containerd
    if machine.running is None:
        # Of an image's own program only a package, or the name of what is installed, tells the version.
        named = (version_in(asset.name) for asset in out.assets if containerd_target(asset) is not None)
        version = next((one for one in named if one is not None), version)
    if version in (None, AFTER_INSTALLATION):
        out.findings.wait(CONFIG, "depends on the version of containerd, which is known after its installation")
    else:
        files = containerd_files(settings.containerd, version, machine.mirrors)
        if isinstance(files, Rejected):
            out.findings.refuse("containerd", files.rule, files.evidence)
            return
        for file in files:
            out.file(file.path, file.content, f"for containerd {version}")
        if has_one_directory(version) and UPSTREAM_PLUGINS not in extracted:
            reason = f"containerd {version} looks for plugins in {UPSTREAM_PLUGINS} only"
            for name in machine.debian_plugins:
                link = LinkWanted(f"{UPSTREAM_PLUGINS}/{name}", f"{DEBIAN_PLUGINS}/{name}", reason, modest=True)
                out.links.append(link)
    path = _unit(CONTAINERD, machine, programs, shipped, out) if "containerd" in programs else None
    path = path or machine.packaged_units.get(CONTAINERD)
    if path is not None:
        out.enabled.append(unit_files.enablement(CONTAINERD, ("multi-user.target",), path))
    if machine.running is not None and machine.containerd is not None:
        coming = machine.containerd == AFTER_INSTALLATION
        out.services.append(
            ServiceWanted(CONTAINERD, "containers run in it", _read_by(CONTAINERD, CONFIG, programs), coming=coming)
        )


def _clock(machine: MachineFacts, out: Wanted) -> None:
    package = clock.time_package(machine.packages)
    wait = clock.SERVICES.get(package or "")
    if wait is not None and wait in machine.packaged_units:
        reason = "certificates wait for the clock, and a boot doesn't wait for ever"
        limit = f"[Service]\nTimeoutStartSec={clock.LIMIT}\n"
        out.file(f"{FOLDER}/{wait}.d/10-nodeup.conf", limit, reason)
        out.enabled.append(unit_files.enablement(wait, (clock.WANTED_BY[wait],), machine.packaged_units[wait]))
    problem = clock.clock_problem(machine)
    if problem is not None:
        rejected, certain = problem
        out.findings.refuse("clock", rejected.rule, rejected.evidence, serious=certain)
        out.stopped = rejected.evidence if certain else None


def _protokube(
    settings: NodeupSettings,
    machine: MachineFacts,
    programs: Mapping[str, str],
    shipped: Mapping[str, str],
    config: str,
    out: Wanted,
) -> None:
    out.file(PROTOKUBE_CONFIG, config, "protokube's configuration, from the key `protokube`")
    out.file(NODEUP_CONFIG, settings.text, "each boot makes sure that all this still holds", 0o600)
    out.file(unit_files.PRESETS_PATH, unit_files.PRESETS, "only protokube starts kubelet, in images too")
    _pods(settings, machine, programs, shipped, out)
    for unit in (NODEUP, PROTOKUBE):
        path = _unit(unit, machine, programs, shipped, out)
        name = unit.removesuffix(".service")
        if name in programs:
            out.enabled.append(unit_files.enablement(unit, ("multi-user.target",), path))
        else:
            _missing(unit, f"install the package protokube, or list {name} in assets", out)
    if machine.running is not None and "protokube" in programs:
        reads = _read_by(PROTOKUBE, PROTOKUBE_CONFIG, programs)
        out.services.append(ServiceWanted(PROTOKUBE, "it makes this machine a node", reads, gate=True))


def _pods(
    settings: NodeupSettings,
    machine: MachineFacts,
    programs: Mapping[str, str],
    shipped: Mapping[str, str],
    out: Wanted,
) -> None:
    """Want the unit that runs the node's pods: kubelet, or the agent in its place. protokube starts either when the
    node's volumes are there, so that nothing else may."""
    out.disabled.append(unit_files.enablement(KUBELET, ("multi-user.target",), f"{FOLDER}/{KUBELET}"))
    if _kubelet_unit(settings) != AGENT_UNIT:
        _unit(KUBELET, machine, programs, shipped, out)
        if "kubelet" not in programs:
            out.findings.hints.append("kubelet is not here yet: list it in `assets`, or install its package")
        return
    path = _unit(AGENT_UNIT, machine, programs, shipped, out)
    out.disabled.append(unit_files.enablement(AGENT_UNIT, ("multi-user.target",), path))
    if AGENT_UNIT.removesuffix(".service") not in programs:
        _missing(AGENT_UNIT, "install protokube's wheel by pip, with its extra `agent`", out)


def _read_by(unit: str, config: str, programs: Mapping[str, str]) -> tuple[str, ...]:
    """What a unit reads at its start: its configuration, its program, and its file where nodeup writes it."""
    program = programs.get(unit.removesuffix(".service"))
    return (config, f"{FOLDER}/{unit}", *((program,) if program else ()))


def _missing(unit: str, remedy: str, out: Wanted) -> None:
    name = unit.removesuffix(".service")
    out.findings.refuse(
        unit,
        "unit/program-missing",
        f"{name} is not installed where a unit can start it (expected /usr/bin/{name} or /usr/local/bin/{name}); "
        f"{remedy}",
    )


def _kubelet_unit(settings: NodeupSettings) -> str:
    """The unit that protokube's own configuration names to run pods."""
    plain = settings.protokube.plain() if settings.protokube is not None else {}
    return str(plain.get("kubeletUnit", KUBELET)) if isinstance(plain, dict) else KUBELET


def _unit(
    unit: str, machine: MachineFacts, programs: Mapping[str, str], shipped: Mapping[str, str], out: Wanted
) -> str:
    """Want a unit's file unless a package brought it; the path of the one that counts."""
    if unit in machine.packaged_units:
        return machine.packaged_units[unit]
    path = f"{FOLDER}/{unit}"
    out.file(path, unit_files.with_program(shipped[unit], programs), "no package brought this unit")
    return path


def _swap(settings: NodeupSettings, machine: MachineFacts, out: Wanted) -> None:
    if swap.kubelet_takes_swap(settings) or _kubelet_unit(settings) == AGENT_UNIT:
        return
    out.findings.hints += swap.hints(settings)
    out.links.append(LinkWanted(unit_files.SWAP_TARGET, unit_files.SWAP_MASK, swap.REASON))
    if machine.running is not None:
        out.swap_off = swap.REASON


def _extras(settings: NodeupSettings, machine: MachineFacts, out: Wanted) -> None:
    ours = {*(file.path for file in out.files), *(link.path for link in out.links)}
    for asset in out.assets:
        if asset.path in ours:
            out.findings.refuse(asset.path, "files/ours", "nodeup writes this file itself; take it out of `assets`")
    out.assets = tuple(asset for asset in out.assets if asset.path not in ours)
    for file in settings.files:
        if file.path in ours:
            out.findings.refuse(file.path, "files/ours", "nodeup writes this file itself; take it out of `files`")
        else:
            out.file(file.path, file.content, "the configuration lists it", file.mode)
    for unit in settings.units:
        path = f"{FOLDER}/{unit.name}"
        if path in ours:
            out.findings.refuse(path, "files/ours", "nodeup writes this unit itself; take it out of `units`")
        else:
            _extra_unit(unit, path, machine, out)


def _extra_unit(unit: ExtraUnit, path: str, machine: MachineFacts, out: Wanted) -> None:
    strange = [name for name in unit_files.installed_in(unit.content or "") if "/" in name]
    if strange:
        out.findings.refuse(path, "unit/install", f"[Install] names {strange[0]!r} (expected a unit); correct it")
        return
    if unit.content is not None:
        out.file(path, unit.content, "the configuration lists it")
    if not unit.enabled:
        return
    out.enabled.append(unit_files.extra_enablement(unit, machine.packaged_units.get(unit.name, path)))
    if machine.running is not None and unit_files.stays_active(unit.content or ""):
        reads = (path,) if unit.content is not None else ()
        out.services.append(ServiceWanted(unit.name, "the configuration enables it", reads))
