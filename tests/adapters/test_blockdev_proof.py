"""How much of a disk is read before it counts as blank, and what that finds."""

from __future__ import annotations

import random
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from protokube.core.disks.model import Blank, Disk, Ext4, NotBlank
from protokube.errors import ProviderError
from protokube.host.disk.coverage import RANDOM_PAGES
from protokube.host.disk.places import places
from tests.lab.disks import MIB, UUID, LoopDisk, Node, run
from tests.lab.foreign import FOREIGN

pytestmark = pytest.mark.root

SIZE = 320 * MIB
PAGE = 4096


@pytest.fixture
def sparse(tmp_path: Path) -> Iterator[LoopDisk]:
    """A disk whose file tells which parts of it hold data."""
    with LoopDisk(tmp_path / "sparse.img", SIZE) as one:
        yield one


@pytest.fixture
def opaque(tmp_path: Path) -> Iterator[LoopDisk]:
    """A disk that tells nothing, as a real one."""
    with LoopDisk(tmp_path / "opaque.img", SIZE, offset=MIB) as one:
        yield one


def _unread(disk: LoopDisk) -> int:
    """The offset of a page that neither a place nor the sample covers."""
    chance = random.Random(5)
    covered = [(place.offset, place.offset + place.length) for place in places(disk.size)]
    while True:
        offset = chance.randrange(disk.size // PAGE) * PAGE
        if not any(start < offset + PAGE and offset < end for start, end in covered):
            return offset


def test_a_sparse_disk_is_read_whole(here: Node, sparse: LoopDisk) -> None:
    chance = random.Random("whole")
    assert here.look(sparse.volume()) == Blank()
    for _ in range(8):
        offset = chance.randrange(SIZE)
        sparse.write(offset, b"\x01")
        found = here.look(sparse.volume())
        assert isinstance(found, NotBlank) and f"byte {offset} is 0x01" in found.evidence, (offset, found)
        sparse.write(offset, b"\x00")
        assert here.look(sparse.volume()) == Blank()


@pytest.mark.parametrize("end", [2 * MIB - 1, SIZE - 2 * MIB], ids=["first", "last"])
def test_both_ends_are_read_whole(here: Node, opaque: LoopDisk, end: int) -> None:
    assert here.look(opaque.volume()) == Blank()
    opaque.write(end, b"\x01")
    found = here.look(opaque.volume())
    assert isinstance(found, NotBlank) and f"byte {end} is 0x01" in found.evidence, found


def test_no_stretch_of_two_parts_in_a_thousand_is_missed(here: Node, opaque: LoopDisk) -> None:
    chance = random.Random("stretch")
    stretch = 2 * (SIZE // RANDOM_PAGES)
    for _ in range(6):
        offset = chance.randrange(2 * MIB, SIZE - stretch)
        opaque.write(offset, b"\xa5" * stretch)
        found = here.look(opaque.volume())
        assert isinstance(found, NotBlank) and "is 0xa5, not zero" in found.evidence, (offset, found)
        opaque.write(offset, bytes(stretch))


def test_what_the_sample_found_once_it_finds_again(here: Node, opaque: LoopDisk) -> None:
    opaque.write(40 * MIB + 4096, b"\x01" * (1000 * 4096))
    first = here.look(opaque.volume())
    assert isinstance(first, NotBlank)
    here.restart()
    assert here.look(opaque.volume()) == first


def test_every_byte_is_read_on_demand(here: Node, opaque: LoopDisk) -> None:
    """A byte between the pages of the sample: the sample misses it, the whole reading refuses it."""
    volume = opaque.volume()
    offset = next(
        offset for offset in iter(lambda: _unread(opaque), None) if _write_and_look(here, opaque, offset) == Blank()
    )
    before = opaque.digest()
    here.restart(prove_every_byte=True)
    here.format(volume, opaque)
    here.finish()
    assert f"byte {offset + 7} is 0x01, not zero" in here.failure(volume)
    assert opaque.digest() == before


def _write_and_look(here: Node, disk: LoopDisk, offset: int) -> object:
    disk.write(offset + 7, b"\x01")
    return here.look(disk.volume())


@pytest.mark.parametrize("kind", FOREIGN)
def test_the_remedy_that_the_evidence_names_helps(here: Node, sparse: LoopDisk, tmp_path: Path, kind: str) -> None:
    FOREIGN[kind][0](sparse, tmp_path)
    sparse.write(100 * MIB, b"\x01")
    found = here.look(sparse.volume())
    assert isinstance(found, NotBlank)
    command = found.evidence.partition("zero all of it: ")[2]
    assert sparse.device in command
    subprocess.run(["sh", "-c", command], check=True, capture_output=True, timeout=60)
    sparse.flush()
    assert here.look(sparse.volume()) == Blank()


def test_a_filesystem_is_not_grown_over_what_stands_behind_it(here: Node, opaque: LoopDisk) -> None:
    run("mkfs.ext4", "-q", "-F", "-U", UUID, opaque.device, "64M")
    opaque.flush()
    volume = opaque.volume()
    found = here.look(volume)
    assert isinstance(found, Ext4) and found.behind is None, found
    opaque.write(65 * MIB + 5, b"\x01")
    found = here.look(volume)
    assert isinstance(found, Ext4) and found.behind is not None, found
    assert f"byte {65 * MIB + 5} is 0x01" in found.behind
    before = opaque.digest()
    here.grow(volume, opaque)
    here.finish()
    assert re.search(r"not blank behind the filesystem's end .* is 0x01", here.failure(volume))
    assert opaque.digest() == before


def test_a_write_protected_disk_is_refused_by_name(here: Node, sparse: LoopDisk) -> None:
    volume = sparse.volume()
    run("blockdev", "--setro", sparse.device)
    try:
        found = here.devices.inspect([volume])[volume.id]
        assert isinstance(found, Disk) and found.read_only
        here.format(volume, sparse)
        here.finish()
        assert f"{sparse.device} is write-protected (/sys/block/" in here.failure(volume)
        with pytest.raises(ProviderError, match="is write-protected"):
            here.mount(volume, sparse)
    finally:
        run("blockdev", "--setrw", sparse.device)
    found = here.devices.inspect([volume])[volume.id]
    assert isinstance(found, Disk) and not found.read_only
