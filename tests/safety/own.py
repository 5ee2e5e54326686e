"""Our own healthy volumes: whatever became of the node that last had one, the next one takes it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.lab.cut_tools import tracing, writes_in
from tests.lab.trial import TrialNode
from tests.safety import members
from tests.safety.claims import Job, Result
from tests.safety.corpus import label
from tests.safety.images import GIB, MIB, run

DATABASE = bytes(range(256)) * 4096
_SIZES = (64 * MIB, 129 * MIB, GIB)


def _use(node: TrialNode) -> None:
    """What etcd would leave behind."""
    snap = node.path(f"{members.MOUNT}/var/etcd/data/member/snap")
    snap.mkdir(parents=True, exist_ok=True)
    (snap / "db").write_bytes(DATABASE)


def _unmounted(node: TrialNode, _image: Path) -> None:
    run(*node.command("umount", f"{node.root}{members.MOUNT}"))


def _cut(node: TrialNode, _image: Path) -> None:
    node.power_cut()


def _forgotten(node: TrialNode, image: Path) -> None:
    node.power_cut()
    Path(f"{image}.state").unlink()


def _checked(node: TrialNode, image: Path) -> None:
    node.power_cut()
    members.replayed(image)


def _copied(node: TrialNode, image: Path) -> None:
    """The same volume behind another file: the cloud moved it to another host."""
    node.power_cut()
    run("cp", "--sparse=always", image, f"{image}.new")
    Path(f"{image}.new").rename(image)


ENDS: dict[str, Callable[[TrialNode, Path], None]] = {
    "unmounted": _unmounted,
    "the node was cut off": _cut,
    "the cloud's memory is gone": _forgotten,
    "somebody ran e2fsck": _checked,
    "it moved": _copied,
}


def jobs() -> list[Job]:
    """All of them."""
    found = [Job("own", f"{label(size)}, {end}", _Own(size, end).run) for size in _SIZES for end in ENDS]
    return [*found, *(Job("own", f"{label(size)}, grown", _Grown(size).run) for size in _SIZES)]


class _Own:
    def __init__(self, size: int, end: str) -> None:
        self._size = size
        self._end = end

    def run(self, scratch: Path) -> Iterator[Result]:
        """One node makes and uses the volume, another takes it: before and after etcd is known to have run."""
        image = members.image_of(scratch)
        for name, following, reconciles in (("a", "b", 1), ("b", "c", 2)):
            with members.member(scratch, self._size, name=f"node-{name}") as node:
                for _ in range(reconciles):
                    node.once()
                    _use(node)
                ENDS[self._end](node, image)
            with members.member(scratch, self._size, name=f"node-{following}") as node:
                trouble = members.serves(node, node.report("--timeout", "100"))
            yield Result("own", f"{label(self._size)}, {self._end}, taken by {following}", trouble)


class _Grown:
    """The volume has become four times as large, and resize2fs is killed at some of its writes, the last ones too."""

    def __init__(self, size: int) -> None:
        self._size = size

    def run(self, scratch: Path) -> Iterator[Result]:
        """Another node takes it."""
        with members.member(scratch, self._size) as node:
            node.once()
            _use(node)
            node.power_cut()
        run("e2fsck", "-f", "-p", members.image_of(scratch))
        last = self._grow(scratch, scratch / "whole")
        for write in sorted({1, 2, 3, 4, 5, *(last * n // 8 for n in range(1, 8)), *range(last - 3, last + 1)}):
            folder = scratch / f"at-{write}"
            self._grow(scratch, folder, write)
            with members.member(folder, 4 * self._size, name="node-b") as node:
                trouble = members.serves(node, node.report("--timeout", "100"))
                kept = node.path(f"{members.MOUNT}/var/etcd/data/member/snap/db")
                if not trouble and kept.read_bytes() != DATABASE:
                    trouble = "its data are others"
            yield Result("own", f"{label(self._size)}, its growth killed at write {write} of {last}", trouble)
            shutil.rmtree(folder / "volumes")

    def _grow(self, made: Path, folder: Path, write: int | None = None) -> int:
        """Grow a copy of the volume, up to a write; how many there were."""
        image, log = members.image_of(folder), folder / "strace.log"
        image.parent.mkdir(parents=True)
        run("cp", "--sparse=always", members.image_of(made), image)
        shutil.copy(f"{members.image_of(made)}.state", f"{image}.state")
        os.truncate(image, 4 * self._size)
        words = [*tracing(image, log, write), "resize2fs", str(image)]
        done = subprocess.run(words, check=write is None, capture_output=True, timeout=120)
        assert write is None or done.returncode, f"resize2fs was to be killed at its write {write}, and ended"
        return writes_in(log)
