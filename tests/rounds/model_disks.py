"""The model of disks beside a real one: random actions and happenings, each on both, must be seen the same.

The real one is a loop device with the tools that the program runs: mkfs.ext4, e2fsck, resize2fs, mount.
"""

from __future__ import annotations

import copy
import os
import random
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from operator import attrgetter
from pathlib import Path

from protokube.core.disks.actions import CheckFilesystem, FormatVolume, GrowFilesystem, MountVolume
from protokube.core.disks.model import Blank, Disk, Ext4, Intent, NoDisk
from protokube.core.model import MIB, Unknown
from protokube.core.volumes.model import CloudVolume
from protokube.errors import ProviderError
from protokube.host.disk import intent as records
from tests.lab.cut_tools import traced_tools
from tests.lab.disks import LABEL, LoopDisk, Node, clear_root, encode, intent_for, node, run, until
from tests.rounds.machine import Disks
from tests.rounds.process import Process
from tests.rounds.world import World

VOLUME = "vol-a"
TARGET = f"/mnt/master-{VOLUME}"
SIZE = 160 * MIB
MORE = 160 * MIB
"""Larger by a block group: less isn't grown."""
STEPS = 14
MOST_WRITES = 30
"""A tool is cut off at one of its first writes to the disk; a format has some twenty here."""
_FILE = "k8s.io/identity.yaml"

Seen = Disk | NoDisk | Unknown


class Pair:
    """One node with one volume, in the model and on the machine."""

    def __init__(self, disk: LoopDisk, here: Node, pick: random.Random) -> None:
        self.disk, self.here, self.pick = disk, here, pick
        self.world = World(tool_looks=0)
        self.there = self.world.node("n1")
        self.volume = self.world.volume(VOLUME, "a/a")
        self.volume.size, self.volume.holder = disk.size, "n1"
        self.model = Disks(Process(self.world, self.there))
        self.seen: dict[str, Seen] = {}

    # --- what is seen ---

    @property
    def described(self) -> CloudVolume:
        return self.disk.volume(VOLUME)

    def look(self) -> str:
        """Look at both; says what differs."""
        real = until(self._known, "the disk answers")
        modelled = self.model.inspect([self.described])[VOLUME]
        self.seen = {"real": real, "model": modelled}
        if (one := shown(real)) != (other := shown(modelled)):
            return f"the disk shows {one}, the model {other}"
        if self.there.mounts:
            one, other = self.here.devices.contents(TARGET), self.model.contents(TARGET)
            if (one.entries, one.texts, one.uuid) != (other.entries, other.texts, other.uuid):
                return f"the volume holds {one}, the model's {other}"
        return ""

    def _known(self) -> Seen | None:
        """What the disk shows. On a busy machine a look may time out, which the next one makes up for."""
        found = self.here.devices.inspect([self.described])[VOLUME]
        return None if isinstance(found, Unknown) else found

    def content(self) -> object:
        found = self.seen.get("model")
        return found.content if isinstance(found, Disk) else None

    # --- actions, as a planner takes them from what was seen last ---

    def actions(self) -> list[Callable[[], str]]:
        match self.content():
            case Blank():
                return [self.format, self.cut_off]
            case Ext4(used=used, checked=checked, size=size):
                room = self.volume.size - size >= MORE
                return [
                    self.check,
                    self.cut_off,
                    *([self.mount] if checked or not used else []),
                    *([self.grow] * (checked and room)),
                ]
        return []

    def format(self) -> str:
        """mkfs.ext4, for this volume's member."""
        intent = intent_for(self.described)
        return self._both(partial(FormatVolume, intent=intent, label=LABEL), lambda port: port.format)

    def check(self) -> str:
        """e2fsck."""
        return self._both(partial(CheckFilesystem, uuid=self._uuid()), lambda port: port.check)

    def grow(self) -> str:
        """resize2fs."""
        return self._both(partial(GrowFilesystem, uuid=self._uuid()), lambda port: port.grow)

    def mount(self) -> str:
        """mount."""
        return self._both(partial(MountVolume, uuid=self._uuid(), target=TARGET), lambda port: port.mount)

    def _uuid(self) -> str:
        found = self.content()
        assert isinstance(found, Ext4)
        return found.uuid

    def _both(self, make: Callable[..., object], call: Callable[..., Callable[[object], None]]) -> str:
        """Carry an action out on both; says what differs. Tools are awaited."""
        outcomes = {}
        for which, port in (("real", self.here.devices), ("model", self.model)):
            found = self.seen[which]
            assert isinstance(found, Disk)
            action = make(VOLUME, found.device, found.number, found.size, self.described.identity)
            try:
                call(port)(action)
                outcomes[which] = "done"
            except ProviderError as error:
                outcomes[which] = str(error)
        self.here.finish()
        self.here.devices.running()  # takes in how the tool has ended
        if (self.here.root / f"run/protokube/disks/{VOLUME}.json").exists() and (
            failure := self.here.failure(self.described)
        ):
            outcomes["real"] = failure
            self._forget()
        if outcomes["real"] == "done" and outcomes["model"] != "done":
            # A tool that finds another disk than the one it was started for ends without a word: the look tells.
            return self.look()
        same = (outcomes["real"] == "done") == (outcomes["model"] == "done")
        return "" if same else f"the machine: {outcomes['real']}; the model: {outcomes['model']}"

    def _forget(self) -> None:
        """The minute that a tool isn't tried again after a failure is over; so is what e2fsck has said, for both."""
        shutil.rmtree(self.here.root / "run/protokube/disks", ignore_errors=True)
        if self.volume.filesystem:
            self.volume.filesystem.checked = False

    # --- the power fails while mkfs or e2fsck is at work ---

    def cut_off(self) -> str:
        """The tool is killed at one of its writes, and the machine starts again. For the model it hadn't begun, was
        in the middle, or had done its work."""
        model, found = self.seen["model"], self.seen["real"]
        assert isinstance(model, Disk)
        assert isinstance(found, Disk)
        half: Callable[[], None] = _nothing
        make: Callable[..., FormatVolume | CheckFilesystem]
        match self.content():
            case Ext4():
                make, call = partial(CheckFilesystem, uuid=self._uuid()), attrgetter("check")
            case _:
                intent = intent_for(self.described)
                make, call = partial(FormatVolume, intent=intent, label=LABEL), attrgetter("format")
                half = partial(setattr, self.volume, "intent", intent)
        ground = self.described.identity
        log, write = self.disk.image.with_suffix(".strace"), self.pick.randint(1, MOST_WRITES)
        with traced_tools(self.disk.device, log, write), suppress(ProviderError):
            call(self.here.devices)(make(VOLUME, found.device, found.number, found.size, ground))
            self.here.finish()
        done = partial(call(self.model), make(VOLUME, model.device, model.number, model.size, ground))
        return self._one_of([_nothing, half, done])

    def _one_of(self, endings: Sequence[Callable[[], None]]) -> str:
        """Start both machines again; says what differs from the model in each of the endings."""
        filesystem, intent = self.volume.filesystem, self.volume.intent
        differ = []
        for ending in endings:
            self.volume.filesystem, self.volume.intent = copy.deepcopy(filesystem), intent
            with suppress(ProviderError):
                ending()
            self.model.inspect([self.described])  # the tool ends
            if not (trouble := self.reboot()):
                return ""
            differ.append(trouble)
        return "; or ".join(differ)

    # --- what happens to the disk between a look and an action ---

    def happenings(self) -> list[Callable[[], str]]:
        if self.there.mounts:
            return [self.file_is_written, self.reboot]
        blank = self.volume.filesystem is None and self.volume.evidence is None and self.volume.intent is None
        after_blank = [self.foreign_data, self.own_intent, self.another_intent] if blank else []
        return [self.enlarged, self.wiped, self.reboot, *after_blank]

    def file_is_written(self) -> str:
        """On the mounted volume."""
        path = self.here.root / TARGET[1:] / _FILE
        path.parent.mkdir(exist_ok=True)
        path.write_text("text\n")
        assert self.volume.filesystem is not None
        self.volume.filesystem.put(_FILE, "text\n")
        return ""

    def reboot(self) -> str:
        """Mounts and notes of this boot are gone."""
        clear_root(self.here.root)
        shutil.rmtree(self.here.root / "run", ignore_errors=True)
        self.here.restart()
        self.disk.flush()
        self.world.reboot(self.there)
        return self.look()

    def enlarged(self) -> str:
        """The operator makes the volume larger."""
        if self.disk.size < SIZE + 2 * MORE and self.volume.intent is None:
            self.disk.size += MORE
            os.truncate(self.disk.image, self.disk.size)
            run("losetup", "--set-capacity", self.disk.device)
            self.volume.size = self.disk.size
        return ""

    def wiped(self) -> str:
        """The operator wipes the disk."""
        run("blkdiscard", "--zeroout", self.disk.device)
        self.disk.flush()
        self.volume.filesystem = self.volume.evidence = self.volume.intent = None
        return ""

    def foreign_data(self) -> str:
        """Somebody else uses the blank disk."""
        self.disk.write(0, b"XFSB" + bytes(100) + b"x" * 400)
        self.volume.evidence = "an xfs superblock"
        return ""

    def own_intent(self) -> str:
        """A format of ours was interrupted at once."""
        return self._intent(intent_for(self.described))

    def another_intent(self) -> str:
        """A format for another member was."""
        return self._intent(intent_for(self.described, member="b"))

    def _intent(self, intent: Intent) -> str:
        self.disk.write(records.offset(self.disk.size), encode(intent))
        self.volume.intent = intent
        return ""


def _nothing() -> None:
    """The tool has done nothing."""


def shown(found: Seen) -> object:
    """What a planner sees of a disk."""
    if not isinstance(found, Disk):
        return type(found).__name__, found
    match found.content:
        case Blank(resumes=resumes):
            return found.size, "blank", resumes
        case Ext4() as one:
            contents = one.contents
            holds = contents.reason if isinstance(contents, Unknown) else (sorted(contents.entries), contents.texts)
            return found.size, "ext4", one.uuid, one.size, one.used, one.checked, holds
    return found.size, type(found.content).__name__


def differs(seed: int, folder: Path) -> str:
    """Run one sequence; says at which step the two differ. `folder` is for the disk's image and the node."""
    pick = random.Random(seed)
    with LoopDisk(folder / "disk.img", SIZE) as disk, node(folder / "root") as here:
        pair = Pair(disk, here, pick)
        way = ["a look"]
        trouble = pair.look()
        for _ in range(STEPS):
            if trouble:
                return f"after {', '.join(way)}: {trouble}"
            acts = pair.actions()
            step = pick.choice(acts) if acts and pick.random() < 0.7 else pick.choice(pair.happenings())
            way.append(step.__name__)
            # Sometimes the next action stands on what was seen before.
            trouble = step() or (pair.look() if step in acts or pick.random() < 0.6 else "")
        return ""
