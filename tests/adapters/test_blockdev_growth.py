"""A growth that is cut off before its last writes: the filesystem is checked, holds what it held, and grows."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from protokube.core.disks.model import Ext4
from protokube.host.disk.fsck import growth_was_cut_off
from tests.lab.cut_tools import traced_tools, writes_in
from tests.lab.disks import MIB, LoopDisk, Node, clear_root, node, run, until

SMALL, LARGE = 160 * MIB, 320 * MIB
TEXT = "kept\n" * 50_000

FOUND = """e2fsck 1.47.0 (5-Feb-2023)
Resize inode not valid.  Recreate? no

Pass 1: Checking inodes, blocks, and sizes
Pass 2: Checking directory structure
Pass 3: Checking directory connectivity
Pass 4: Checking reference counts
Pass 5: Checking group summary information

etcd-a: ********** WARNING: Filesystem still has errors **********

etcd-a: 51/40960 files (0.0% non-contiguous), 23785/163840 blocks
"""


def test_what_a_growth_leaves_that_was_cut_off() -> None:
    assert growth_was_cut_off(FOUND)


@pytest.mark.parametrize(
    "more",
    [
        "Free blocks count wrong (1, counted=2).\nFix? no\n",
        "Entry 'db' in /member (13) has deleted/unused inode 14.  Clear? no\n",
        "Block bitmap differences:  -8194\nFix? no\n",
        "Inode 13 has an invalid extent node (blk 33, lblk 0)\nClear? no\n",
        "Resize inode not valid.  Recreate? no\n",
        "something that no release has said yet\n",
    ],
)
def test_any_other_finding_is_left_to_a_human(more: str) -> None:
    assert not growth_was_cut_off(FOUND.replace("Pass 2", f"{more}Pass 2"))


@pytest.fixture
def grown(tmp_path: Path) -> Iterator[tuple[Node, LoopDisk]]:
    """A checked filesystem with a file, on a disk that has become larger."""
    with LoopDisk(tmp_path / "disk.img", SMALL) as disk, node(tmp_path / "root") as here:
        here.look(disk.volume())
        here.format(disk.volume(), disk)
        here.finish()
        (here.mount(disk.volume(), disk) / "file").write_text(TEXT)
        clear_root(here.root)
        disk.size = LARGE
        os.truncate(disk.image, LARGE)
        run("losetup", "--set-capacity", disk.device)
        check(here, disk)
        yield here, disk


def forget(here: Node) -> None:
    """The minute that a tool isn't tried again after a failure is over."""
    shutil.rmtree(here.root / "run", ignore_errors=True)
    here.restart()


def check(here: Node, disk: LoopDisk) -> Ext4:
    """Check it, again where a busy machine let a look or the disk's lock time out."""

    def checked() -> Ext4 | None:
        forget(here)
        here.check(disk.volume(), disk)
        here.finish()
        found = here.look(disk.volume())
        return found if isinstance(found, Ext4) and found.checked else None

    found = until(checked, "it passes its check")
    assert isinstance(found, Ext4)
    return found


@pytest.mark.root
@pytest.mark.parametrize("write", [1, 4, 60, 200])
def test_a_growth_that_is_cut_off_goes_on(grown: tuple[Node, LoopDisk], tmp_path: Path, write: int) -> None:
    here, disk = grown
    log = tmp_path / "strace.log"

    def cut_off() -> bool:
        with traced_tools(disk.device, log, write):
            here.grow(disk.volume(), disk)
            here.finish()
        forget(here)
        return log.exists() and writes_in(log) >= write

    until(cut_off, "the growth has begun")
    disk.flush()
    assert check(here, disk).size == SMALL

    def grown_now() -> bool:
        check(here, disk)
        here.grow(disk.volume(), disk)
        here.finish()
        return isinstance(found := here.look(disk.volume()), Ext4) and found.checked and found.size == LARGE

    until(grown_now, "it grows")
    assert (here.mount(disk.volume(), disk) / "file").read_text() == TEXT
