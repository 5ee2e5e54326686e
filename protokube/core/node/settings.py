"""The configuration of nodeup: what a machine is to become. Everything but `cluster` has a default that is right.

Every value is checked as it is read; faults are collected, so that all of them are reported at once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from msgspec import Struct

from protokube.core.located import Located, Section, parse
from protokube.core.model import Fault
from protokube.core.node.asset_settings import read_assets
from protokube.core.node.assets import Asset
from protokube.core.node.containerd import ContainerdSettings
from protokube.core.node.containerd_settings import read_containerd

KEYS = (
    "assets",
    "cluster",
    "containerd",
    "files",
    "hostname",
    "kubernetesVersion",
    "modules",
    "packages",
    "protokube",
    "role",
    "sysctls",
    "units",
)
ROLES = ("control-plane", "worker")
UNITS = "/etc/systemd/system"
"""Where the units of a machine's administrator lie."""
HOSTNAME_AUTO, HOSTNAME_KEEP = "auto", "keep"

_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_DNS_NAME = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*")
_HOST_NAME = re.compile(rf"(?=.{{1,64}}\Z){_LABEL}(?:\.{_LABEL})*")
_VERSION = re.compile(r"v?\d+\.\d+\.\d+(?:-[0-9A-Za-z.-]+)?")
_UNIT = re.compile(r"[A-Za-z0-9:_.\\-]+@?[A-Za-z0-9:_.\\-]*\.(?:service|socket|timer|path|target|mount|slice)")
_INSTALLED = re.compile(r"^[ \t]*(?:WantedBy|RequiredBy|Alias)[ \t]*=[ \t]*\S", re.MULTILINE)
_MODULE = re.compile(r"[A-Za-z0-9_-]+")
_SYSCTL = re.compile(r"[a-z0-9_]+(?:[./][A-Za-z0-9_*-]+)+")
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]+(?::[a-z0-9]+)?(?:=[A-Za-z0-9.+:~-]+)?")
_PLAIN_MODES = (400, 440, 444, 500)
"""Numbers up to 0o777 that were rather meant as they stand: `mode: 400`."""
_MODE = re.compile(r"0?[0-7]{3}")
_NEVER = ("/proc", "/sys", "/dev", "/run")


class ExtraFile(Struct, frozen=True):
    """A file that the operator wants."""

    path: str
    content: str
    mode: int = 0o644


class ExtraUnit(Struct, frozen=True):
    """A unit that the operator wants. `content` is None for a unit that a package brings."""

    name: str
    content: str | None = None
    enabled: bool = False


class NodeupSettings(Struct, frozen=True):
    """The whole configuration. `text` is the document itself, which first boots and reboots read again.

    `protokube` are protokube's own keys as they were written; config/load.py has the rules for them.
    """

    text: str
    cluster: str = ""
    role: str = "worker"
    kubernetes_version: str | None = None
    assets: tuple[Asset, ...] = ()
    containerd: ContainerdSettings = ContainerdSettings()
    files: tuple[ExtraFile, ...] = ()
    units: tuple[ExtraUnit, ...] = ()
    modules: tuple[str, ...] = ()
    sysctls: Mapping[str, str] = {}
    packages: tuple[str, ...] = ()
    hostname: str = HOSTNAME_AUTO
    protokube: Located | None = None

    @property
    def control_plane(self) -> bool:
        """Whether the machine becomes a control-plane node."""
        return self.role == "control-plane"


def read_settings(text: str, file: str) -> tuple[NodeupSettings, list[Fault]]:
    """The settings of a document, and every fault in it. A faulty value reads as its default."""
    document, faults = parse(text, file)
    if document is None:
        return NodeupSettings(text), faults
    section = Section.of(document, KEYS, faults)
    settings = NodeupSettings(
        text=text,
        cluster=_matching(section, "cluster", _DNS_NAME, "a DNS name in lower case", required=True) or "",
        role=_role(section),
        kubernetes_version=_version(section),
        assets=read_assets(section.sequence("assets"), faults),
        containerd=read_containerd(section.get("containerd"), faults),
        files=_files(section),
        units=_units(section),
        modules=_texts(section, "modules", _MODULE, "the name of a kernel module"),
        sysctls=_sysctls(section),
        packages=_texts(section, "packages", _PACKAGE, "the name of a Debian package, or name=version"),
        hostname=_matching(
            section, "hostname", _HOST_NAME, "auto, keep, or a host name in lower case, of 64 at most,"
        )
        or HOSTNAME_AUTO,
        protokube=section.get("protokube"),
    )
    _no_path_twice(section, settings)
    return settings, faults


def _matching(
    section: Section, key: str, pattern: re.Pattern[str], what: str, *, required: bool = False
) -> str | None:
    text = section.text(key, required=required)
    if text is None or pattern.fullmatch(text):
        return text
    section.faults.append(section.items[key].expected(what))
    return None


def _role(section: Section) -> str:
    role = section.text("role")
    if role is None or role in ROLES:
        return role or "worker"
    section.faults.append(section.items["role"].expected(" or ".join(ROLES)))
    return "worker"


def _version(section: Section) -> str | None:
    text = _matching(section, "kubernetesVersion", _VERSION, "a version such as 1.36.2")
    return text.removeprefix("v") if text else None


def _files(section: Section) -> tuple[ExtraFile, ...]:
    found = []
    for item in section.sequence("files"):
        one = Section.of(item, ("content", "mode", "path"), section.faults)
        if not isinstance(item.value, dict):
            continue
        path, content = one.text("path", required=True), one.text("content", required=True)
        if path is not None and not _is_path(path):
            section.faults.append(
                one.items["path"].expected(f"an absolute path without '..', not below {', '.join(_NEVER)},")
            )
            path = None
        mode = _mode(one)
        if path is not None and content is not None:
            found.append(ExtraFile(path, content, int(mode, 8)))
    return tuple(found)


def _mode(one: Section) -> str:
    """A file's mode. Without quotes YAML takes 0644 for the number 420."""
    item = one.get("mode")
    if item is not None and type(item.value) is int:
        value = item.value
        digits = f"{value:04o}" if 0 <= value <= 0o777 and value not in _PLAIN_MODES else f"{value:04d}"
        one.faults.append(item.fault(f'a mode without quotes is a number to YAML: put it in quotes: "{digits}"'))
        return "0644"
    mode = one.text("mode") or "0644"
    if item is not None and not _MODE.fullmatch(mode):
        one.faults.append(item.expected('an octal mode such as "0644"'))
        return "0644"
    return mode


def _is_path(path: str) -> bool:
    plain = path.startswith("/") and path.isprintable() and not {"", ".", ".."} & set(path[1:].split("/"))
    return plain and not any(path.startswith(f"{place}/") for place in _NEVER)


def _units(section: Section) -> tuple[ExtraUnit, ...]:
    found = []
    for item in section.sequence("units"):
        one = Section.of(item, ("content", "enabled", "name"), section.faults)
        if not isinstance(item.value, dict):
            continue
        name = _matching(one, "name", _UNIT, "a unit's name such as extra.service", required=True)
        enabled = one.get("enabled")
        if enabled is not None and not isinstance(enabled.value, bool):
            section.faults.append(enabled.expected("true or false"))
        wanted = enabled is not None and enabled.value is True
        if name == "kubelet.service" and wanted:
            section.faults.append(item.fault("protokube starts kubelet when the node is ready: leave `enabled` out"))
            continue
        content = one.text("content")
        if wanted and content is not None and not _INSTALLED.search(content):
            wanted_in = "an [Install] section with WantedBy, RequiredBy or Alias, or no `enabled`"
            section.faults.append(item.fault(f"it can't be enabled, since nothing says where: expected {wanted_in}"))
        elif name is not None:
            found.append(ExtraUnit(name, content, wanted))
    return tuple(found)


def _texts(section: Section, key: str, pattern: re.Pattern[str], what: str) -> tuple[str, ...]:
    found: list[str] = []
    for item in section.sequence(key):
        text = section.string(item)
        if text is None:
            continue
        if pattern.fullmatch(text):
            found.append(text)
        else:
            section.faults.append(item.expected(what))
    return tuple(dict.fromkeys(found))


def _sysctls(section: Section) -> dict[str, str]:
    """Sysctls may be written as numbers, as everywhere."""
    item = section.get("sysctls")
    if item is None:
        return {}
    if not isinstance(item.value, dict):
        section.faults.append(item.expected("a mapping of sysctls to values"))
        return {}
    found: dict[str, str] = {}
    for key, value in item.value.items():
        if not _SYSCTL.fullmatch(key) or ".." in key:
            section.faults.append(value.fault(f"{key!r} where a sysctl such as vm.max_map_count was expected"))
        elif type(value.value) not in (int, str) or "\n" in str(value.value):
            section.faults.append(value.expected("a number or a text in one line"))
        else:
            found[key] = str(value.value).strip()
    return found


def _no_path_twice(section: Section, settings: NodeupSettings) -> None:
    """One path, one content: two writers would take turns for ever."""
    fetched = {asset.path for asset in settings.assets}
    seen: set[str] = set()
    for key, paths in (
        ("files", [file.path for file in settings.files]),
        ("units", [f"{UNITS}/{unit.name}" for unit in settings.units]),
    ):
        for path in paths:
            if path in fetched:
                section.faults.append(section.items[key].fault(f"{path} is the path of an asset as well"))
            elif path in seen:
                section.faults.append(section.items[key].fault(f"{path} is listed twice"))
            seen.add(path)
    for key, inside in (("files", seen), ("assets", fetched)):
        for path in sorted(filter(None, inside)):
            if above := next((file for file in seen if path.startswith(f"{file}/")), None):
                section.faults.append(section.items[key].fault(f"{path} lies in {above}, which is a file"))
