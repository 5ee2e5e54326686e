"""Units: which program they start, how they are enabled, and which of them run.

A unit is enabled by a link and by nothing else, so that an image and a running machine are the same. What a Debian
package brings is left as it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from msgspec import Struct

from protokube.core.node.settings import UNITS, ExtraUnit

FOLDER = UNITS
PRESETS_PATH = "/etc/systemd/system-preset/10-protokube.preset"
PROTOKUBE, NODEUP, KUBELET, CONTAINERD = (
    "protokube.service",
    "nodeup.service",
    "kubelet.service",
    "containerd.service",
)

SSH = "ssh.service"

PACKAGED = ("/usr/lib/systemd/system", "/lib/systemd/system")
"""Where packages put units."""

# An image's first boot and `systemctl preset-all` enable every unit that no preset names.
PRESETS = """\
# Written by nodeup. What runs pods is started by protokube alone, when the node is ready for it.
enable nodeup.service
enable protokube.service
enable containerd.service
disable kubelet.service
disable virtual-kubelet.service
"""

_MASKED = "/dev/null"
SWAP_TARGET = f"{FOLDER}/swap.target"
SWAP_MASK = _MASKED
"""Swap units are pulled in by swap.target alone (systemd.swap(5)): without it they are not, and /etc/fstab stays."""


class Enablement(Struct, frozen=True):
    """The links that enable a unit, by path, and the unit's file that they lead to."""

    unit: str
    links: tuple[str, ...]
    file: str


def with_program(text: str, programs: Mapping[str, str]) -> str:
    """A shipped unit that starts its program where that lies on this machine."""

    def here(match: re.Match[str]) -> str:
        return f"ExecStart={programs.get(match[2], match[1] + match[2])}"

    return re.sub(r"^ExecStart=(\S*/)([\w.-]+)", here, text, flags=re.MULTILINE)


def enablement(unit: str, targets: tuple[str, ...], file: str) -> Enablement:
    """How a unit is enabled whose [Install] section says `WantedBy=targets`."""
    return Enablement(unit, tuple(f"{FOLDER}/{target}.wants/{unit}" for target in targets), file)


def extra_enablement(unit: ExtraUnit, file: str) -> Enablement:
    """How an operator's unit is enabled: by its own [Install] section, a package's unit as most of its kind are."""
    if unit.content is None:
        kind = unit.name.rpartition(".")[2]
        target = {"timer": "timers.target", "socket": "sockets.target"}.get(kind, "multi-user.target")
        return enablement(unit.name, (target,), file)
    content = unit.content
    wants = [f"{FOLDER}/{name}.wants/{unit.name}" for name in _values(content, "WantedBy")]
    requires = [f"{FOLDER}/{name}.requires/{unit.name}" for name in _values(content, "RequiredBy")]
    aliases = [f"{FOLDER}/{name}" for name in _values(content, "Alias")]
    return Enablement(unit.name, (*wants, *requires, *aliases), file)


def stays_active(content: str) -> bool:
    """Whether a unit is active for as long as it does its work: a oneshot that doesn't remain after exit isn't."""
    oneshot = "oneshot" in _values(content, "Type")
    return not oneshot or bool({"yes", "true", "on", "1"} & set(_values(content, "RemainAfterExit")))


def installed_in(content: str) -> list[str]:
    """The units and names that a unit's [Install] section leads to."""
    return [name for key in ("WantedBy", "RequiredBy", "Alias") for name in _values(content, key)]


def _values(content: str, key: str) -> list[str]:
    found = re.findall(rf"^[ \t]*{key}[ \t]*=(.*)$", content, flags=re.MULTILINE)
    return [word for line in found for word in line.split()]
