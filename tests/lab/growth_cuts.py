"""A growth that is cut off: every disk that it may leave, in order and with writes lost since the last flush."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from protokube.host.disk import ext4, growth, probe
from protokube.host.disk.disklock import find
from protokube.host.disk.loops import Loops
from protokube.host.disk.rawdisk import PAGE, RawDisk
from protokube.host.disk.sysblock import BlockDisk, UncertainError
from tests.lab.disks import DATA_DIRS, UUID, LoopDisk, run, until

VOLUME = "vol-a"
_FILE = b"kept\n" * 50_000
_LOSSES = 12
"""So many times writes are lost by lot between two flushes."""

Pages = dict[int, bytes]


@dataclass(frozen=True)
class Cut:
    """What the growth has written that the disk kept: the content of pages by their offset."""

    name: str
    kept: Pages


class Growth:
    """A filesystem with a file, on a disk that has become larger. `before` and `after` are digests of the disk."""

    def __init__(self, disk: LoopDisk, scratch: Path, large: int) -> None:
        self.disk = disk
        disk.make_ext4(UUID)
        with disk.mounted(scratch / "mounted") as mounted:
            (mounted / "file").write_bytes(_FILE)
        self._scratch = scratch
        disk.size = large
        os.truncate(disk.image, large)
        run("losetup", "--set-capacity", disk.device)
        run("e2fsck", "-f", "-p", disk.device)
        self.found: BlockDisk = until(self._found, "the disk is found")
        self.before = disk.digest()
        self._epochs: list[list[tuple[int, bytes]]] = [[]]
        self._grow()
        self.after = disk.digest()
        assert (trouble := self.wrong()) == "", trouble

    def _found(self) -> BlockDisk | None:
        """The disk as the program knows it; None while another's loop device doesn't answer."""
        try:
            disk = find(self._identity, self.disk.size, Loops({}, {}))
        except UncertainError:
            return None
        assert isinstance(disk, BlockDisk), disk
        return disk

    def _seen(self) -> probe.Answer | None:
        """What a look shows; None where it must be repeated, on a busy machine."""
        seen = probe.answer(
            {
                "volume_id": VOLUME,
                "size": self.disk.size,
                "identity": self._identity,
                "loops": ({}, {}),
                "data_dirs": DATA_DIRS,
            }
        )
        return None if seen["state"] in ("uncertain", "busy") else seen

    @property
    def _identity(self) -> tuple[frozenset[str], tuple[int, int], None, None]:
        status = self.disk.image.stat()
        return frozenset(), (status.st_dev, status.st_ino), None, None

    def _grow(self) -> None:
        write, zero, sync = RawDisk.write, RawDisk.zero, RawDisk.sync
        self._old: Pages = {}

        def note(raw: RawDisk, offset: int, data: bytes) -> None:
            for start in range(0, len(data), PAGE):
                self._old.setdefault(offset + start, raw.read(offset + start, PAGE))
                self._epochs[-1].append((offset + start, data[start : start + PAGE]))

        def noted_write(raw: RawDisk, offset: int, data: bytes) -> None:
            note(raw, offset, data)
            write(raw, offset, data)

        def noted_zero(raw: RawDisk, offset: int, length: int) -> None:
            note(raw, offset, bytes(length))
            zero(raw, offset, length)

        def noted_sync(raw: RawDisk) -> None:
            self._epochs.append([])
            sync(raw)

        with (
            patch.object(RawDisk, "write", noted_write),
            patch.object(RawDisk, "zero", noted_zero),
            patch.object(RawDisk, "sync", noted_sync),
        ):
            assert growth.by_log(self.found, VOLUME)

    def cuts(self) -> Iterator[Cut]:
        """The disk before each write of 4 KiB, and with some of the writes lost that came since the last flush."""
        pick = random.Random(10)
        kept: Pages = {}
        for number, epoch in enumerate(self._epochs):
            for count in range(len(epoch)):
                yield Cut(f"flush {number}, write {count}", kept | dict(epoch[:count]))
            for lot in range(_LOSSES if len(epoch) > 1 else 0):
                share = pick.random()
                yield Cut(f"flush {number}, loss {lot}", kept | dict(one for one in epoch if pick.random() < share))
            kept |= dict(epoch)
        yield Cut("the end", kept)

    def leave(self, cut: Cut) -> None:
        """Make the disk what the cut has left."""
        with self.disk.image.open("r+b", buffering=0) as image:
            for offset, page in {**self._old, **cut.kept}.items():
                os.pwrite(image.fileno(), page, offset)
        self.disk.flush()

    def finished(self, cut: Cut) -> str:
        """Leave the cut's disk to the next node, which looks at it and finishes the growth before a check; says what
        is wrong: it must be the disk of before or of after, to the byte."""
        self.leave(cut)
        superblock = ext4.parse(self.disk.read(ext4.OFFSET, ext4.LENGTH))
        if superblock is None:
            return "there is no superblock"
        seen = until(self._seen, "the disk answers")
        if seen["state"] != "ext4" or seen["behind"]:
            return f"it looks like {seen.get('text')}, {seen.get('behind')} behind"
        growth.finish(self.found, superblock, VOLUME, full=False)
        found = self.disk.digest()
        if found == self.before or found == self.after:
            return ""
        # The log's rest: bytes in free blocks of the larger filesystem, where the node died before it removed them.
        small = ext4.parse(self.disk.read(ext4.OFFSET, ext4.LENGTH))
        return (
            self.wrong() if small is not None and small.size == self.disk.size else "neither of before nor of after"
        )

    def wrong(self) -> str:
        """What is wrong with the larger filesystem, by a full check and by its file."""
        superblock = ext4.parse(self.disk.read(ext4.OFFSET, ext4.LENGTH))
        if superblock is None or superblock.size != self.disk.size:
            return "it is not larger"
        run("e2fsck", "-f", "-n", self.disk.device)
        text = run("debugfs", "-R", "cat /file", self.disk.device)
        return "" if text.encode() == _FILE.strip() else "its file is another"


@contextmanager
def grown(scratch: Path, small: int, large: int) -> Iterator[Growth]:
    """A growth on a disk in `scratch`."""
    with LoopDisk(scratch / "disk.img", small) as disk:
        yield Growth(disk, scratch, large)


def some(cuts: Sequence[Cut], count: int) -> list[Cut]:
    """As many of them, spread evenly."""
    return [cuts[index * (len(cuts) - 1) // (count - 1)] for index in range(count)]
