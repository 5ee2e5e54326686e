"""A growth that is cut off, whatever the disk keeps of it: the filesystem holds what it held, and grows."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from unittest.mock import patch

import pytest

from protokube.core.disks.model import Ext4
from protokube.errors import ProviderError
from protokube.host.disk import ext4
from protokube.host.disk.disklock import open_exclusively
from protokube.host.disk.fsck import growth_was_cut_off
from protokube.host.disk.grown import unfit
from protokube.host.disk.redo import NoRoomError, Redo, _gap, find
from tests.lab.cut_tools import traced_tools, writes_in
from tests.lab.disks import MIB, UUID, LoopDisk, Node, node, run, until
from tests.lab.growth_cuts import VOLUME, grown, some

SMALL, LARGE = 160 * MIB, 320 * MIB
LARGER = 256 * MIB
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


IN_PLACE = ("-O", "^metadata_csum,^uninit_bg")
"""Without checksums of its group descriptors a filesystem isn't grown by a log."""


@pytest.fixture
def larger(tmp_path: Path) -> Iterator[tuple[Node, LoopDisk]]:
    """A filesystem with a file, on a disk that has become larger."""
    with LoopDisk(tmp_path / "disk.img", SMALL) as disk, node(tmp_path / "root") as here:
        yield here, disk


def enlarge(here: Node, disk: LoopDisk, tmp_path: Path, *options: str) -> None:
    """Make the filesystem, and the disk larger."""
    disk.make_ext4(UUID, *options)
    with disk.mounted(tmp_path / "mounted") as mounted:
        (mounted / "file").write_text(TEXT)
    disk.size = LARGE
    os.truncate(disk.image, LARGE)
    run("losetup", "--set-capacity", disk.device)
    check(here, disk)


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
@pytest.mark.parametrize(("write", "options"), [(1, ()), (3, ()), (6, ()), (4, IN_PLACE), (60, IN_PLACE)])
def test_a_growth_that_is_killed_goes_on(
    larger: tuple[Node, LoopDisk], tmp_path: Path, write: int, options: Sequence[str]
) -> None:
    here, disk = larger
    enlarge(here, disk, tmp_path, *options)
    log = tmp_path / "strace.log"

    def killed() -> bool:
        with traced_tools(disk.device, log, write):
            here.grow(disk.volume(), disk)
            here.finish()
        forget(here)
        return log.exists() and writes_in(log) >= write

    until(killed, "the growth has begun")
    disk.flush()
    check(here, disk)

    def grown_now() -> bool:
        check(here, disk)
        here.grow(disk.volume(), disk)
        here.finish()
        return isinstance(found := here.look(disk.volume()), Ext4) and found.checked and found.size == LARGE

    until(grown_now, "it grows")
    assert (here.mount(disk.volume(), disk) / "file").read_text() == TEXT


@pytest.mark.root
def test_a_growth_that_loses_writes_is_finished_or_undone(tmp_path: Path) -> None:
    """`make safety` tries all of these disks."""
    with grown(tmp_path, 64 * MIB, 256 * MIB) as growth:
        cuts = list(growth.cuts())
        assert len(cuts) > 200
        for cut in some(cuts, 12):
            assert (trouble := growth.finished(cut)) == "", f"{cut.name}: {trouble}"


@pytest.mark.root
def test_a_growth_is_finished_on_its_own_unchanged_disk_alone(tmp_path: Path) -> None:
    with grown(tmp_path, 64 * MIB, 256 * MIB) as growth, node(tmp_path / "root") as here:
        disk = growth.disk
        half = next(cut for cut in growth.cuts() if cut.name == "flush 3, write 0")

        def pending(volume_id: str = VOLUME) -> Redo | None:
            superblock = ext4.parse(disk.read(ext4.OFFSET, ext4.LENGTH))
            assert superblock is not None
            with open_exclusively(growth.found) as raw:
                return find(raw, superblock, volume_id)

        growth.leave(half)
        found = here.look(disk.volume())
        assert isinstance(found, Ext4) and found.needs_recovery and not found.checked, "it is to be checked first"
        with pytest.raises(ProviderError, match="unfinished"):
            here.mount(disk.volume(), disk)
        begun = pending()
        assert begun is not None
        assert pending("vol-b") is None, "another volume's"

        disk.write(LARGER - 4096, b"data of others")
        before = disk.digest()
        here.check(disk.volume(), disk)
        here.finish()
        assert "the disk has changed since: byte 268431360 is 0x64" in here.failure(disk.volume())
        assert disk.digest() == before

        growth.leave(half)
        with disk.mounted(tmp_path / "mounted"):
            pass
        assert pending() is None, "somebody mounted it since"


def test_where_a_log_has_no_room() -> None:
    pages = {0, 4096, 12288}
    assert _gap(pages, 4096, 0, 1 << 20) == 8192
    assert _gap(pages, 8192, 0, 1 << 20) == 16384
    with pytest.raises(NoRoomError):
        _gap(pages, 8192, 0, 20480)


def test_what_can_not_be_grown_by_a_log(tmp_path: Path) -> None:
    def why(size: int, larger: int, *options: str) -> str | None:
        image = tmp_path / "image"
        image.unlink(missing_ok=True)
        image.touch()
        os.truncate(image, size)
        run("mkfs.ext4", "-q", *options, image)
        superblock = ext4.parse(image.read_bytes()[ext4.OFFSET : ext4.OFFSET + ext4.LENGTH])
        assert superblock is not None
        return unfit(superblock, larger)

    assert why(64 * MIB, 256 * MIB) is None
    assert why(64 * MIB, 256 * MIB, "-b", "4096") is None
    assert "checksums" in str(why(64 * MIB, 256 * MIB, *IN_PLACE))
    assert "no room" in str(why(64 * MIB, 256 * MIB, "-O", "^resize_inode"))
    assert "clusters" in str(why(64 * MIB, 256 * MIB, "-O", "bigalloc"))
    assert "reserved" in str(why(64 * MIB, 4096 * MIB, "-E", "resize=400000"))
    with patch("protokube.host.disk.grown._available", return_value=1 << 20):
        assert "1048576 are available" in str(why(64 * MIB, 256 * MIB))
