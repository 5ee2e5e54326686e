"""The model of a cloud beside the local cloud's images: two nodes that take, tag and lose volumes see the same.

The real ones are files behind loop devices. Beside what nodes do, images get data, are lost, are replaced by
empty ones by an operator, and their folder isn't mounted for a while.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from protokube.cloudprovider.static.provider import StaticCloud
from protokube.core.model import MIB, Unknown
from protokube.core.volumes.model import AttachState
from protokube.errors import ProviderError
from tests.lab.disks import until
from tests.lab.local_cloud import Make, nodes
from tests.rounds.machine import Cloud
from tests.rounds.process import Process
from tests.rounds.world import World, WorldVolume

NODES = ("node-a", "node-b")
MISSING = "volume/image-missing"
STEPS = 20
_SIZE = 32 * MIB
_TAG = "protokube.k8s.io/filesystem"
_INVENTORY = """\
cluster: dev.example.com
nodes: [{name: node-a}, {name: node-b}]
volumes:
  - {id: main-a, file: volumes/main-a.img, size: 32MiB, tags: {k8s.io/etcd/main: "a/a,b"}}
  - {id: main-b, file: volumes/main-b.img, size: 32MiB, tags: {k8s.io/etcd/main: "b/a,b"}}
"""

Shown = dict[str, tuple[list[str], bool, bool, str | None]]
"""Holders, whether its image is lost, whether it is free and proven unused, and its tag; by the volume."""


class _Both:
    def __init__(self, make: Make, folder: Path, pick: random.Random) -> None:
        self._make, self._folder, self.pick = make, folder, pick
        self.real = {name: self._start(name) for name in NODES}
        self.world = World(attach_looks=0, tool_looks=0)
        for name in ("main-a", "main-b"):
            volume = self.world.volume(name, f"{name[-1]}/a,b")
            volume.size, volume.pristine = _SIZE, True
        self.model = {name: Cloud(Process(self.world, self.world.node(name))) for name in NODES}
        self.used: set[str] = set()
        """Volumes that were taken once."""
        self._lacking: list[WorldVolume] = []
        """Those whose images are away with their folder."""

    def _start(self, node: str) -> StaticCloud:
        return self._make(node, text=_INVENTORY, root=str(self._folder / node))

    def _image(self, volume: WorldVolume) -> Path:
        return self._folder / f"volumes/{volume.id}.img"

    @property
    def _away(self) -> bool:
        return (self._folder / "away").exists()

    # --- what is seen ---

    def differs(self) -> str:
        """What the nodes see differently; a device is let go by and by."""
        for node in NODES:
            model = self._shown(self.model[node])
            try:
                until(partial(self._same, node, model), "the same", 20)
            except AssertionError:
                return f"{node} sees {self._shown(self.real[node])}, in the model {model}"
        return ""

    def _same(self, node: str, model: Shown) -> bool:
        return self._shown(self.real[node]) == model

    def _shown(self, cloud: StaticCloud | Cloud) -> Shown:
        found = cloud.snapshot(volumes=True).volumes
        assert not isinstance(found, Unknown), found.reason
        shown: Shown = {}
        for one in found:
            holders = [held.instance for held in one.attachments if held.state is AttachState.ATTACHED]
            if isinstance(cloud, Cloud):
                gone = self.world.volumes[one.id].error is not None
            else:
                gone = one.obstacle is not None and one.obstacle.rule == MISSING
            # Without its image a volume has nothing to show: its tags stand beside it.
            tag = None if gone else one.tags.get(_TAG)
            shown[one.id] = holders, gone, bool(one.pristine) and not holders and not gone, tag
        return shown

    # --- what nodes do ---

    def steps(self) -> Iterator[Callable[[], str]]:
        """What can happen now."""
        free = [one for one in self.world.volumes.values() if one.holder is None]
        yield from (self.take, self.tag, self.killed, self.killed)
        if len(free) == len(self.world.volumes) and self.used == self.world.volumes.keys():
            yield from [self.folder_back if self._away else self.folder_away] * 3
        if free and not self._away:
            yield from (self.written, self.lost, self.emptied)

    def take(self) -> str:
        """AttachVolume; says when the answers differ."""
        node = self.pick.choice(NODES)
        volumes = [*self.world.volumes.values()]
        volume = self.pick.choice([one for one in volumes if one.id not in self.used] or volumes)
        if self.world.held(self.world.nodes[node]):  # nobody takes two volumes of one etcd cluster
            return ""
        one, other = _outcome(self.real[node], "attach", volume.id), _outcome(self.model[node], "attach", volume.id)
        if other == "done":
            self.used.add(volume.id)
        return "" if one == other else f"{node} takes {volume.id}: the answers are {one} and {other}"

    def tag(self) -> str:
        """A tag by the volume's holder."""
        held = [one for one in self.world.volumes.values() if one.holder is not None]
        if not held:
            return ""
        volume = self.pick.choice(held)
        words = volume.id, _TAG, f"fs-{self.pick.randint(1, 3)}"
        one = _outcome(self.real[str(volume.holder)], "tag", *words)
        other = _outcome(self.model[str(volume.holder)], "tag", *words)
        return "" if one == other else f"{volume.holder} tags {volume.id}: the answers are {one} and {other}"

    def killed(self) -> str:
        """A node starts again before it has mounted anything: what it held is free."""
        holding = [one.holder for one in self.world.volumes.values() if one.holder is not None]
        node = self.pick.choice(holding or NODES)
        self.real[node].close()
        self.real[node] = self._start(node)
        for volume in self.world.volumes.values():
            if volume.holder == node:
                self.world.detach(volume)
        return ""

    # --- what happens to the images ---

    def _free(self) -> WorldVolume:
        return self.pick.choice([one for one in self.world.volumes.values() if one.holder is None])

    def written(self) -> str:
        """Something is written to an image."""
        volume = self._free()
        if self._image(volume).exists():
            with self._image(volume).open("r+b") as image:
                os.pwrite(image.fileno(), b"data", 8192)
            volume.evidence = "data"
        return ""

    def lost(self) -> str:
        """An image is lost."""
        volume = self._free()
        self._image(volume).unlink(missing_ok=True)
        volume.evidence = None
        volume.error = MISSING if volume.id in self.used else None
        return ""

    def emptied(self) -> str:
        """An operator gives the data up, and makes an empty image."""
        volume = self._free()
        if volume.id in self.used:
            self._image(volume).unlink(missing_ok=True)
            self._image(volume).touch()
            os.truncate(self._image(volume), _SIZE)
            volume.evidence = volume.error = None
        return ""

    def folder_away(self) -> str:
        """The folder of the images isn't mounted."""
        (self._folder / "volumes").rename(self._folder / "away")
        self._lacking = [one for one in self.world.volumes.values() if one.error is None]
        for volume in self.world.volumes.values():
            volume.error = MISSING
        return ""

    def folder_back(self) -> str:
        """It is mounted again."""
        (self._folder / "away").rename(self._folder / "volumes")
        for volume in self._lacking:
            volume.error = None
        return ""


def _outcome(cloud: StaticCloud | Cloud, call: str, *words: str) -> str:
    try:
        getattr(cloud, call)(*words)
    except ProviderError as error:
        return type(error).__name__
    return "done"


@contextmanager
def _both(folder: Path, pick: random.Random) -> Iterator[_Both]:
    with ExitStack() as undo:
        for node in NODES:
            (folder / node / "etc/kubernetes/manifests").mkdir(parents=True)
        yield _Both(undo.enter_context(nodes(folder)), folder, pick)


def differs(seed: int, folder: Path) -> str:
    """Run one sequence; says at which step the two differ."""
    pick = random.Random(seed)
    with _both(folder, pick) as both:
        way, trouble = ["a look"], both.differs()
        for _ in range(STEPS):
            if trouble:
                return f"after {', '.join(way)}: {trouble}"
            step = pick.choice([*both.steps()])
            way.append(step.__name__)
            trouble = step() or both.differs()
        return f"after {', '.join(way)}: {trouble}" if trouble else ""
