"""What a machine may be wanted to have, each thing with its reason."""

from __future__ import annotations

from msgspec import Struct, field

from protokube.core.node.assets import Asset
from protokube.core.node.unit_files import FOLDER, Enablement
from protokube.core.steps import Findings


class FileWanted(Struct, frozen=True):
    """A file, and why."""

    path: str
    content: str
    reason: str
    mode: int = 0o644


class LinkWanted(Struct, frozen=True):
    """A link to an absolute target, and why. With `modest` whatever stands at its path already stays."""

    path: str
    target: str
    reason: str
    modest: bool = False


class ServiceWanted(Struct, frozen=True):
    """A unit that is to run, and the files that it reads at its start.

    `gate`: it makes or uses certificates, so that it isn't started while the clock is certainly wrong. `coming`: a
    package that a dry run assumes to be installed brings it.
    """

    unit: str
    reason: str
    reads: tuple[str, ...] = ()
    gate: bool = False
    coming: bool = False


class Wanted(Struct):
    """All that a machine is to have. What belongs to a running machine alone is empty for an image."""

    packages: dict[str, str] = field(default_factory=dict)
    files: list[FileWanted] = field(default_factory=list)
    links: list[LinkWanted] = field(default_factory=list)
    enabled: list[Enablement] = field(default_factory=list)
    disabled: list[Enablement] = field(default_factory=list)
    removed: dict[str, str] = field(default_factory=dict)
    assets: tuple[Asset, ...] = ()
    modules: dict[str, str] = field(default_factory=dict)
    sysctls: dict[str, tuple[str, str]] = field(default_factory=dict)
    hostname: tuple[str, str] | None = None
    swap_off: str | None = None
    services: list[ServiceWanted] = field(default_factory=list)
    stopped: str | None = None
    findings: Findings = field(default_factory=Findings)

    def file(self, path: str, content: str, reason: str, mode: int = 0o644) -> None:
        """Want a file."""
        self.files.append(FileWanted(path, content, reason, mode))

    @property
    def paths(self) -> tuple[str, ...]:
        """Every path whose state matters."""
        found = [*(file.path for file in self.files), *(link.path for link in self.links), *self.removed]
        found += [path for service in self.services for path in service.reads]
        for each in (*self.enabled, *self.disabled):
            found += [*each.links, each.file, f"{FOLDER}/{each.unit}"]
        return tuple(dict.fromkeys(found))

    @property
    def units(self) -> tuple[str, ...]:
        """Every unit whose state matters: those that run, and those whose files are ours."""
        folder = f"{FOLDER}/"
        ours = [file.path.removeprefix(folder) for file in self.files if file.path.startswith(folder)]
        named = [path.partition(".d/")[0] for path in ours]
        return tuple(dict.fromkeys([*(service.unit for service in self.services), *named]))
