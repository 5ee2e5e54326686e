"""The facts of a machine, as nodeup's decisions need them.

What stands in the tree (packages, programs, os-release) is one half. `Running` is the other: what only a running
system can tell. An image that is being built has none, so that nothing of the build host gets into it.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct
from msgspec.structs import replace

from protokube.core.model import Unknown
from protokube.core.node.model import FileState, UnitState

AFTER_INSTALLATION = "known after its installation"
"""The version of a package that a dry run assumes to be installed."""


class OsRelease(Struct, frozen=True):
    """os-release(5): `id` such as debian, `version` such as 12, `name` for people."""

    id: str = ""
    version: str = ""
    name: str = "an unknown system"


class Running(Struct, frozen=True):
    """What a running system tells.

    `systemd`: it is PID 1. `modules`: loaded or built in, spelled with underscores. `can_load`: the kernel takes
    modules. `sysctls`: the current values of those that are wanted; a key that the kernel doesn't have is missing.
    `fixed`: those that can't be set here, as in a container.
    `hostname`: the kernel's. `cloud_hostname`: what cloud-init has from the cloud. `clock`: seconds since the epoch.
    `synchronised`: the kernel says that a time service keeps the clock; None where it may not be asked.
    """

    systemd: bool = True
    modules: frozenset[str] = frozenset()
    can_load: bool = True
    sysctls: Mapping[str, str] = {}
    fixed: frozenset[str] = frozenset()
    swap: tuple[str, ...] = ()
    hostname: str = ""
    cloud_hostname: str | None = None
    clock: float = 0.0
    synchronised: bool | None = None


class MachineFacts(Struct, frozen=True):
    """A machine, or the tree of an image.

    `architecture` is in Go's words (amd64). `packages`: installed Debian packages and their versions. `programs`:
    where each program that matters lies. `packaged_units`: the files of units that packages brought. `containerd`:
    the version of the containerd that runs here, None without one. `plugins`: the directories that hold CNI plugins.
    `debian_plugins`: the names of those that Debian's package brought.
    `mirrors`: the directories of registries whose mirrors nodeup has written.
    `machine_id` is empty in an image. `interrupted`: dpkg has to finish what it began. `running` is None in an image.
    """

    os: OsRelease = OsRelease()
    architecture: str = "amd64"
    packages: Mapping[str, str] = {}
    programs: Mapping[str, str] = {}
    packaged_units: Mapping[str, str] = {}
    containerd: str | None = None
    plugins: tuple[str, ...] = ()
    debian_plugins: tuple[str, ...] = ()
    mirrors: tuple[str, ...] = ()
    machine_id: str = ""
    interrupted: bool = False
    running: Running | None = None

    def with_running(self, **changes: object) -> MachineFacts:
        """The facts with other facts of the running system; an image's stay without any."""
        return self if self.running is None else replace(self, running=replace(self.running, **changes))


class TreeFacts(Struct, frozen=True):
    """Files that were asked for, and units. `units` is empty in an image.

    `stale`: units whose files have changed since systemd read them. `queued`: units that systemd has a job for.
    """

    files: Mapping[str, FileState] | Unknown
    units: Mapping[str, UnitState | Unknown] = {}
    stale: frozenset[str] | Unknown = frozenset()
    queued: frozenset[str] = frozenset()

    def with_file(self, path: str, state: FileState) -> TreeFacts:
        """The facts with another state of a path; Unknown files stay Unknown."""
        if isinstance(self.files, Unknown):
            return self
        return replace(self, files={**self.files, path: state})

    def with_unit(self, unit: str, state: UnitState) -> TreeFacts:
        """The facts with another state of a unit."""
        return replace(self, units={**self.units, unit: state})
