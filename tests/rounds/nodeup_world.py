"""A running machine in memory, for whole runs of nodeup: files, packages, kernel, units."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Collection, Mapping, Sequence

from msgspec import Struct, field

from nodeup.observe import Observer, Readers
from nodeup.rounds import Run, converge
from nodeup.sources import Source
from protokube.core.node.actions import MakeDirectory, MakeLink, RemoveFile, Unlink, WriteFile
from protokube.core.node.assets import Asset, AssetState
from protokube.core.node.kernel import module_of
from protokube.core.node.machine import MachineFacts, Running
from protokube.core.node.model import Absent, Directory, File, FileState, Link, UnitState
from protokube.core.node.unit_files import FOLDER, PACKAGED
from protokube.errors import ProviderError

BROUGHT = {
    "containerd": ("containerd", "containerd.service"),
    "systemd-timesyncd": (None, "systemd-time-wait-sync.service"),
}
"""Package → the program and the unit that it brings."""


class World(Struct):
    """What is left when a process is killed."""

    files: dict[str, FileState] = field(default_factory=dict)
    packages: dict[str, str] = field(default_factory=lambda: {"dpkg": "1"})
    programs: set[str] = field(default_factory=lambda: {"protokube", "nodeup", "kubelet"})
    units: set[str] = field(default_factory=set)
    modules: set[str] = field(default_factory=set)
    sysctls: dict[str, str] = field(default_factory=lambda: {"net.ipv4.ip_forward": "0", "kernel.panic": "0"})
    swap: list[str] = field(default_factory=lambda: ["/dev/sda2"])
    hostname: str = "localhost"
    active: dict[str, float] = field(default_factory=dict)
    fetched: set[str] = field(default_factory=set)
    installed: set[str] = field(default_factory=set)
    now: float = 2e9
    calls: list[str] = field(default_factory=list)

    def end(self) -> object:
        """All that two ways to one place must agree on: everything but times."""
        files = {
            path: (state.text, state.mode) if isinstance(state, File) else getattr(state, "target", None)
            for path, state in self.files.items()
        }
        return files, self.packages, self.modules, self.sysctls, self.swap, self.hostname, set(self.active)


class Machine:
    """Reads and changes a world; `effect` is told of each change, and may end the process before or after it."""

    def __init__(self, world: World, effect: Callable[[Callable[[], object]], object]) -> None:
        self.world = world
        self._effect = effect

    # --- reading ---

    def read(self, units: Sequence[str] = (), sysctls: Sequence[str] = ()) -> MachineFacts:
        """Facts."""
        world = self.world
        containerd = world.packages.get("containerd")
        return MachineFacts(
            packages=dict(world.packages),
            programs={name: f"/usr/bin/{name}" for name in world.programs},
            packaged_units={unit: f"{PACKAGED[0]}/{unit}" for unit in units if unit in world.units},
            containerd=containerd,
            plugins=("/usr/lib/cni",) if "containernetworking-plugins" in world.packages else (),
            machine_id="0" * 32,
            running=Running(
                modules=frozenset(world.modules),
                sysctls={key: world.sysctls[key] for key in sysctls if self._has(key)},
                swap=tuple(world.swap),
                hostname=world.hostname,
                clock=world.now,
                synchronised=True,
            ),
        )

    def _has(self, key: str) -> bool:
        module = module_of(key)
        if module is None or module in self.world.modules:
            self.world.sysctls.setdefault(key, "0")
            return True
        return False

    # --- changing ---

    def finish_packages(self) -> None:
        """dpkg has nothing to finish here."""

    def install_packages(self, names: Sequence[str]) -> None:
        """Install, with programs and units."""

        def install() -> None:
            for name in names:
                self.world.packages[name] = "1.7.24" if name == "containerd" else "1"
                program, unit = BROUGHT.get(name, (None, None))
                self.world.programs |= {program} if program else set()
                self.world.units |= {unit} if unit else set()
                if unit:
                    self.world.files[f"{PACKAGED[0]}/{unit}"] = File("", 0o644, 0)

        self._do(f"install {' '.join(names)}", install)

    def load_module(self, name: str) -> None:
        """Load it."""
        self._do(f"modprobe {name}", lambda: self.world.modules.add(name))

    def set_sysctl(self, key: str, value: str) -> None:
        """Set it, unless its module is missing."""
        if not self._has(key):
            raise ProviderError(f"set {key}: no such sysctl")
        self._do(f"sysctl {key}", lambda: self.world.sysctls.update({key: value}))

    def set_hostname(self, name: str) -> None:
        """Set it."""
        self._do("hostname", lambda: setattr(self.world, "hostname", name))

    def turn_off_swap(self, devices: Sequence[str]) -> None:
        """Turn it off."""
        assert set(devices) <= set(self.world.swap)
        self._do("swapoff", self.world.swap.clear)

    def _do(self, what: str, change: Callable[[], object]) -> None:
        def change_it() -> None:
            self.world.calls.append(what)
            self.world.now += 1
            change()

        self._effect(change_it)


class Files(Machine):
    """The world's files."""

    def read(self, paths: Sequence[str]) -> Mapping[str, FileState]:  # type: ignore[override]
        """Their states."""
        return {path: self.world.files.get(path, Absent()) for path in paths}

    def listing(self, directory: str) -> Mapping[str, FileState]:
        """The entries of a directory."""
        return {path: state for path, state in self.world.files.items() if posixpath.dirname(path) == directory}

    def make_directory(self, action: MakeDirectory) -> None:
        """Make it."""
        self._do(action.describe(), lambda: self._put(action.path, Directory(action.mode)))

    def write(self, action: WriteFile) -> None:
        """Write it."""
        state = File(action.content, action.mode, int(self.world.now * 1e9))
        self._do(action.describe(), lambda: self._put(action.path, state))

    def link(self, action: MakeLink) -> None:
        """Link it; a unit is enabled only once its file is there."""
        if action.path.startswith(FOLDER) and action.target != "/dev/null":
            assert isinstance(self.world.files.get(action.target), File), f"{action.path} leads nowhere"
        self._do(action.describe(), lambda: self._put(action.path, Link(action.target, 0)))

    def unlink(self, action: Unlink) -> None:
        """Remove the link."""
        assert isinstance(self.world.files[action.path], Link)
        self._do(action.describe(), lambda: self.world.files.pop(action.path))

    def remove(self, action: RemoveFile) -> None:
        """Remove the file."""
        self._do(action.describe(), lambda: self.world.files.pop(action.path))

    def _put(self, path: str, state: FileState) -> None:
        self.world.files[path] = state


class Services(Machine):
    """The world's systemd. It starts a unit only when all of its files and its program are there."""

    def state(self, unit: str) -> UnitState:
        """Its state."""
        places = (f"{FOLDER}/{unit}", *(f"{place}/{unit}" for place in PACKAGED))
        if not any(isinstance(self.world.files.get(place), File) for place in places):
            return UnitState("not-found", "inactive", "dead")
        started = self.world.active.get(unit)
        return UnitState("loaded", "active" if started else "inactive", "", started_at=started)

    def stale(self, units: Collection[str]) -> frozenset[str]:
        """None."""
        return frozenset()

    def queued(self, units: Collection[str]) -> frozenset[str]:
        """None."""
        return frozenset()

    def reload(self) -> None:
        """Nothing is stale."""

    def start(self, unit: str) -> None:
        """Start it."""
        assert unit != "kubelet.service", "nodeup started kubelet"
        assert self.state(unit).load == "loaded"
        if unit == "protokube.service":
            assert "/etc/protokube/config.yaml" in self.world.files and not self.world.swap
        self._do(f"start {unit}", lambda: self.world.active.update({unit: self.world.now}))

    def restart(self, unit: str) -> None:
        """Start it again."""
        self.start(unit)


class Assets(Machine):
    """The world's assets."""

    def states(self, assets: Sequence[Asset]) -> Mapping[str, AssetState]:
        """How they stand."""
        return {
            one.subject: AssetState(
                installed=one.subject in self.world.installed, cached=one.sha256 in self.world.fetched
            )
            for one in assets
        }

    def fetch(self, asset: Asset) -> None:
        """Fetch it."""
        self._do(f"fetch {asset.name}", lambda: self.world.fetched.add(asset.sha256))

    def install(self, asset: Asset) -> None:
        """Install it, from the cache alone."""
        assert asset.sha256 in self.world.fetched
        self._do(f"install {asset.name}", lambda: self.world.installed.add(asset.subject))


def observer(source: Source, world: World) -> Observer:
    """Looks at a world."""
    return Observer(
        source, Readers(Machine(world, _now), Files(world, _now), Assets(world, _now), Services(world, _now))
    )


def run(source: Source, world: World, effect: Callable[[Callable[[], object]], object] | None = None) -> Run:
    """A process that prepares the machine."""
    doing = effect or _now
    writers: dict[str, object] = {
        "files": Files(world, doing),
        "machine": Machine(world, doing),
        "services": Services(world, doing),
        "assets": Assets(world, doing),
    }
    return converge(observer(source, world), writers)


def _now(change: Callable[[], object]) -> object:
    return change()
