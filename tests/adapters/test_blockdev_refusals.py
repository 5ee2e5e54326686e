"""Whatever isn't proven blank is refused with its evidence, and stays as it is, byte for byte.

Each disk is refused twice: when it is looked at, and by the worker that would format it, which proves its ground
again.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from protokube.core.disks.model import Blank, Ext4, Mounted, NotBlank, VolumeContents
from protokube.core.model import Unknown
from protokube.core.volumes.model import CloudVolume
from protokube.host.disk import mkfs
from protokube.host.disk.rawdisk import RawDisk
from protokube.host.disk.reference import Reference
from tests.lab.disks import LABEL, MIB, UUID, FaultDisk, LoopDisk, Node, encode, intent_for, run
from tests.lab.foreign import FOREIGN

pytestmark = pytest.mark.root

KIB = 1 << 10


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[LoopDisk]:
    with LoopDisk(tmp_path / "disk.img", 320 * MIB) as one:
        yield one


def assert_refused(
    here: Node, disk: LoopDisk, evidence: str, volume: CloudVolume | None = None, by_worker: str | None = None
) -> None:
    volume = volume or disk.volume()
    before = disk.digest()
    found = here.look(volume)
    assert isinstance(found, NotBlank), found
    assert evidence in found.evidence, found.evidence
    here.format(volume, disk)
    here.finish()
    failure = here.failure(volume)
    assert failure and (by_worker or evidence) in failure, failure
    assert disk.digest() == before


@pytest.mark.parametrize("kind", FOREIGN)
def test_what_others_made(here: Node, disk: LoopDisk, tmp_path: Path, kind: str) -> None:
    make, evidence = FOREIGN[kind]
    make(disk, tmp_path)
    assert_refused(here, disk, evidence)


WIPED = [kind for kind in FOREIGN if kind not in ("swap", "ext2", "lvm")]


@pytest.mark.parametrize("kind", WIPED)
def test_what_others_made_and_wiped_at_the_start(here: Node, disk: LoopDisk, tmp_path: Path, kind: str) -> None:
    """Somebody zeroes the first MiB: blkid sees a blank disk, and the spare copies still tell."""
    FOREIGN[kind][0](disk, tmp_path)
    disk.write(0, bytes(MIB))
    assert_refused(here, disk, "")


SIZE = 320 * MIB
SINGLE_BYTES = [
    0,
    1023,
    64 * KIB,
    MIB - 1,
    MIB,
    4 * MIB + 5,
    64 * MIB + 70,
    8 * MIB + KIB + 56,  # group 1 with 1 KiB blocks
    3 * 8 * MIB + KIB,
    7 * 8 * MIB + KIB + 1023,
    9 * 8 * MIB + KIB,
    32 * MIB,  # group 1 with 2 KiB blocks
    3 * 32 * MIB + 104,
    128 * MIB,  # group 1 with 4 KiB blocks
    SIZE // 4,
    SIZE // 4 * 3 + 511,
    SIZE - MIB,
    SIZE - 512 * KIB,
    SIZE - 512,
    SIZE - 1,
]


@pytest.mark.parametrize("offset", SINGLE_BYTES)
def test_a_single_byte(here: Node, disk: LoopDisk, offset: int) -> None:
    disk.write(offset, b"\x01")
    assert_refused(here, disk, f"byte {offset} is 0x01")


def test_a_blank_disk_is_no_refusal(here: Node, disk: LoopDisk) -> None:
    """So that the refusals above are for their own reason."""
    assert here.look(disk.volume()) == Blank()


def test_an_ext4_with_data_is_never_formatted(here: Node, disk: LoopDisk, tmp_path: Path) -> None:
    disk.make_ext4()
    with disk.mounted(tmp_path / "m") as root:
        (root / "precious").write_text("data")
    volume = disk.volume()
    before = disk.digest()
    found = here.look(volume)
    assert (
        isinstance(found, Ext4)
        and isinstance(found.contents, VolumeContents)
        and "precious" in found.contents.entries
    )
    here.format(volume, disk)
    here.finish()
    assert UUID in here.failure(volume)
    assert disk.digest() == before


@pytest.mark.parametrize("wiped", [4 * KIB, MIB, 2 * MIB])
def test_a_used_filesystem_with_a_wiped_superblock(here: Node, disk: LoopDisk, tmp_path: Path, wiped: int) -> None:
    disk.make_ext4()
    with disk.mounted(tmp_path / "m") as root:
        (root / "precious").write_text("data")
    disk.write(0, bytes(wiped))
    assert_refused(here, disk, "not zero")


def test_a_damaged_filesystem_is_looked_at_without_a_trace(here: Node, disk: LoopDisk) -> None:
    """The kernel would write the error that it meets into the superblock, mounted with ro,noload or not."""
    disk.make_ext4()
    block = int(run("debugfs", "-R", "blocks <2>", disk.device).split()[-1])
    disk.write(block * KIB, b"\xa5" * KIB)
    before = disk.digest()
    found = here.look(disk.volume())
    assert isinstance(found, Ext4) and isinstance(found.contents, Unknown) and "checksum" in found.contents.reason, (
        found
    )
    assert disk.digest() == before


def test_another_size_than_the_cloud_says(here: Node, disk: LoopDisk) -> None:
    volume = disk.volume(size=SIZE + MIB)
    evidence = f"the disk has {SIZE} bytes, the cloud says {SIZE + MIB}"
    assert_refused(here, disk, evidence, volume, by_worker=f"is not for vol-a with {SIZE} bytes")


def test_a_read_error_at_the_end(here: Node, disk: LoopDisk) -> None:
    os.truncate(disk.image, SIZE // 2)  # the device keeps its size, and what is beyond can't be read
    before = disk.image.read_bytes()
    found = here.look(disk.volume())
    assert isinstance(found, NotBlank) and "read error at byte" in found.evidence
    here.format(disk.volume(), disk)
    here.finish()
    assert "read error at byte" in here.failure(disk.volume())
    assert disk.image.read_bytes() == before


def test_a_read_error_that_comes_and_goes(here: Node, tmp_path: Path) -> None:
    with FaultDisk(tmp_path / "fault") as fault:
        volume = fault.volume()
        assert here.look(volume) == Blank()
        fault.mode("badread")
        found = here.look(volume)
        assert isinstance(found, NotBlank) and "read error at byte" in found.evidence, found
        fault.mode("healthy")
        assert here.look(volume) == Blank()


def test_a_disk_that_somebody_holds(here: Node, disk: LoopDisk) -> None:
    fd = os.open(disk.device, os.O_RDONLY | os.O_EXCL)
    try:
        assert_refused(here, disk, "another program holds it exclusively")
    finally:
        os.close(fd)
    assert here.look(disk.volume()) == Blank()


def test_a_mounted_disk(here: Node, disk: LoopDisk, tmp_path: Path) -> None:
    disk.make_ext4()
    volume = disk.volume()
    with disk.mounted(tmp_path / "m") as root:
        assert here.look(volume) == Mounted()
        (root / "kept").write_text("x")
        here.format(volume, disk)
        here.finish()
        assert "is mounted" in here.failure(volume)
        assert (root / "kept").read_text() == "x"


def test_a_disk_that_is_mounted_in_another_namespace(here: Node, disk: LoopDisk, tmp_path: Path) -> None:
    disk.make_ext4()
    volume = disk.volume()
    (tmp_path / "m").mkdir()
    script = f"mount {disk.device} {tmp_path}/m && echo ready && read line"
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdin is not None
        assert other.stdout.readline() == b"ready\n"
        found = here.look(volume)
        assert isinstance(found, NotBlank) and "another mount namespace" in found.evidence
        other.stdin.close()


def test_a_partitioned_disk(here: Node, disk: LoopDisk) -> None:
    """Its table is wiped, and a partition that the kernel still knows is in use."""
    run("sgdisk", "-o", "-n", "1:0:0", disk.device)
    run("partx", "-a", disk.device)
    try:
        disk.write(0, bytes(MIB))
        disk.write(disk.size - MIB, bytes(MIB))
        fd = os.open(f"{disk.device}p1", os.O_RDONLY | os.O_EXCL)
        try:
            assert_refused(here, disk, "another program holds it exclusively")
        finally:
            os.close(fd)
    finally:
        run("partx", "-d", disk.device)


def test_a_second_probe_that_disagrees(here: Node, disk: LoopDisk, tmp_path: Path) -> None:
    """wipefs finds something where blkid and our own reading find nothing."""
    liar = tmp_path / "wipefs"
    liar.write_text("#!/bin/sh\necho 'zfs_member 0x1000000'\n")
    liar.chmod(0o755)
    script = f'mount --bind {liar} $(readlink -f $(command -v wipefs)) && exec "$0" -c \'{_LOOK}\' "$@"'
    backing = disk.identity.backing
    assert backing is not None
    words = [str(here.root), str(disk.size), *map(str, backing)]
    before = disk.digest()
    said = run("unshare", "--mount", "--propagation", "private", "sh", "-c", script, sys.executable, *words)
    assert "NotBlank" in said and "wipefs zfs_member at 0x1000000" in said and "blkid finds nothing" in said
    assert disk.digest() == before
    assert here.look(disk.volume()) == Blank()


_LOOK = f"""
import sys
sys.path.insert(0, "{Path(__file__).parents[2]}")
from protokube.core.volumes.model import CloudVolume, DiskIdentity
from protokube.host.blockdev import BlockDevices
root, size, device, inode = sys.argv[1], *map(int, sys.argv[2:])
volume = CloudVolume("vol-a", "local", size, {{}}, identity=DiskIdentity(backing=(device, inode)))
print(BlockDevices(root, root + "/run/protokube", frozenset()).inspect([volume]))
"""


def test_the_record_of_another_volumes_format(here: Node, disk: LoopDisk) -> None:
    other = intent_for(disk.volume("vol-b"))
    _record(disk, encode(other))
    assert_refused(here, disk, "a format of volume vol-b")


def test_a_record_that_was_tampered_with(here: Node, disk: LoopDisk) -> None:
    record = bytearray(encode(intent_for(disk.volume())))
    record[60] ^= 1
    _record(disk, bytes(record))
    assert_refused(here, disk, "its record can't be trusted: its checksum is wrong")


def test_a_record_on_a_filesystem_that_was_used(here: Node, disk: LoopDisk, tmp_path: Path) -> None:
    disk.make_ext4()
    with disk.mounted(tmp_path / "m") as root:
        (root / "precious").write_text("data")
    _record(disk, encode(intent_for(disk.volume())))
    assert_refused(here, disk, f"the used filesystem {UUID}")


def test_a_record_beside_somebody_elses_new_filesystem(here: Node, disk: LoopDisk) -> None:
    disk.make_ext4("ffffffff-52d3-5c1e-9f00-6f2d0c7a1b11")
    _record(disk, encode(intent_for(disk.volume())))
    assert_refused(here, disk, "the other filesystem ffffffff")


@pytest.mark.parametrize("kind", ["xfs", "btrfs", "luks", "gpt", "two filesystems"])
def test_a_record_beside_somebody_elses_signature(here: Node, disk: LoopDisk, tmp_path: Path, kind: str) -> None:
    FOREIGN[kind][0](disk, tmp_path)
    _record(disk, encode(intent_for(disk.volume())))
    assert_refused(here, disk, "")


@pytest.mark.parametrize("kind", ["xfs", "ext3"])
def test_a_record_beside_spare_copies(here: Node, disk: LoopDisk, tmp_path: Path, kind: str) -> None:
    FOREIGN[kind][0](disk, tmp_path)
    disk.write(0, bytes(16 * KIB))
    _record(disk, encode(intent_for(disk.volume())))
    assert_refused(here, disk, "which that format does not write")


def test_another_member_does_not_resume_a_format(here: Node, disk: LoopDisk) -> None:
    volume = disk.volume()
    _record(disk, encode(intent_for(volume, member="b")))
    assert here.look(volume) == Blank(resumes=intent_for(volume, member="b"))
    before = disk.digest()
    here.format(volume, disk)
    here.finish()
    assert "another format was interrupted here" in here.failure(volume)
    assert disk.digest() == before


def _record(disk: LoopDisk, record: bytes) -> None:
    disk.write(disk.size - 512 * KIB, record)


def test_volumes_are_judged_side_by_side(here: Node, disk: LoopDisk, tmp_path: Path) -> None:
    """One disk in trouble does not keep the other from being seen."""
    with ExitStack() as stack:
        bad = stack.enter_context(LoopDisk(tmp_path / "bad.img"))
        run("mkswap", "-q", bad.device)
        found = here.devices.inspect([disk.volume(), bad.volume("vol-b")])
        contents = {key: getattr(one, "content", one) for key, one in found.items()}
        assert contents["vol-a"] == Blank() and isinstance(contents["vol-b"], NotBlank)


@pytest.mark.parametrize("wiped", [0, 4 * KIB])
@pytest.mark.parametrize("kind", FOREIGN)
def test_an_interrupted_format_and_then_another_use(
    here: Node, disk: LoopDisk, tmp_path: Path, kind: str, wiped: int
) -> None:
    """The record that a cut left outranks no proof: each byte must be what that format would have written."""
    with RawDisk(disk.device, write=True) as raw, Reference(raw.size, UUID, LABEL, 512) as reference:
        record = encode(intent_for(disk.volume()))
        mkfs.write(raw, reference, record)
    _record(disk, record)
    disk.write(0, bytes(4 * KIB))
    assert here.look(disk.volume()) == Blank(resumes=intent_for(disk.volume()))
    FOREIGN[kind][0](disk, tmp_path)
    disk.write(0, bytes(wiped))
    if kind != "swap" or not wiped:  # a swap area is its first 4 KiB
        _record(disk, record)
        assert_refused(here, disk, "")
