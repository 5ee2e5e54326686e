"""A format that is killed anywhere is repeated and ends well; a disk that hangs takes nobody along."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from msgspec.structs import replace

from protokube.core.disks.model import Blank, Disk, Ext4, VolumeContents, Working
from protokube.core.model import Unknown
from protokube.core.volumes.model import DiskIdentity
from protokube.errors import ProviderError
from protokube.host import blockdev, process
from protokube.host.disk import intent, mkfs
from protokube.host.disk.rawdisk import RawDisk
from protokube.host.disk.reference import Reference
from tests.lab.disks import LABEL, MIB, UUID, FaultDisk, LoopDisk, Node, encode, intent_for, run, until

pytestmark = pytest.mark.root

RECORD = 512 << 10
KIB = 1 << 10


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[LoopDisk]:
    with LoopDisk(tmp_path / "disk.img", 128 * MIB) as one:
        yield one


def assert_formats(here: Node, disk: LoopDisk) -> None:
    """From whatever stands on the disk now to the right filesystem, sound and without a record."""
    volume = disk.volume()
    until(lambda: not isinstance(here.look(volume), Working), "the tools have ended")
    found = here.look(volume)
    if not isinstance(found, Ext4):
        assert isinstance(found, Blank) and found.resumes in (None, intent_for(volume)), found
        here.format(volume, disk)
        here.finish()
        assert here.failure(volume) == ""
        found = here.look(volume)
    assert isinstance(found, Ext4) and isinstance(found.contents, VolumeContents), found
    assert (found.uuid, found.used, found.contents.entries) == (UUID, False, frozenset({"lost+found/"}))
    assert intent.decode(disk.read(disk.size - RECORD, intent.LENGTH)) is None
    run("e2fsck", "-f", "-n", disk.device)


def _record(disk: LoopDisk) -> None:
    disk.write(disk.size - RECORD, encode(intent_for(disk.volume())))


def test_killed_before_mkfs_began(here: Node, disk: LoopDisk) -> None:
    _record(disk)
    assert here.look(disk.volume()) == Blank(resumes=intent_for(disk.volume()))
    assert_formats(here, disk)


def test_killed_between_the_last_byte_and_the_records_removal(here: Node, disk: LoopDisk) -> None:
    here.format(disk.volume(), disk)
    here.finish()
    here.restart()
    _record(disk)
    assert here.look(disk.volume()) == Blank(resumes=intent_for(disk.volume()))
    with pytest.raises(ProviderError, match="its format is unfinished"):
        here.mount(disk.volume(), disk)
    assert_formats(here, disk)


class CutDisk:
    """A disk whose power fails after so many writes. What came before is there, and nothing of the rest."""

    def __init__(self, raw: RawDisk, writes: int) -> None:
        self.size = raw.size
        self.left = writes
        self._raw = raw

    def _count(self) -> None:
        if self.left == 0:
            raise PowerCutError
        self.left -= 1

    def write(self, offset: int, data: bytes) -> None:
        step = 16 * KIB if self.size < 16 * MIB else max(128 * KIB, self.size // 512 // 4096 * 4096)
        for start in range(0, len(data), step):
            self._count()
            self._raw.write(offset + start, data[start : start + step])

    def zero(self, offset: int, length: int) -> None:
        self._count()
        self._raw.zero(offset, length)

    def sync(self) -> None:
        self._raw.sync()


class PowerCutError(Exception):
    pass


def format_until(disk: LoopDisk, writes: int) -> bool:
    """Format as the worker does until the power fails; whether it came to its end."""
    with RawDisk(disk.device, write=True) as raw, Reference(raw.size, UUID, LABEL, 512) as reference:
        try:
            mkfs.write(CutDisk(raw, writes), reference, encode(intent_for(disk.volume())))  # type: ignore[arg-type]
        except PowerCutError:
            return False
    return True


SIZES = [64 * MIB, 129 * MIB, 257 * MIB, 385 * MIB, 8 * MIB + 512 * KIB, 2051 * MIB - 768 * KIB]
"""The usual, and the ones where mkfs.ext4 lays the last inode table over the record's place."""


@pytest.mark.parametrize("size", SIZES)
def test_the_power_fails_at_every_write(here: Node, tmp_path: Path, size: int) -> None:
    with LoopDisk(tmp_path / "sized.img", size) as disk:
        volume = disk.volume()
        states = []
        for writes in range(1, 1000):
            run("blkdiscard", disk.device)
            disk.flush()
            complete = format_until(disk, writes)
            found = here.look(volume)
            if complete:
                break
            assert found == Blank(resumes=intent_for(volume)), (writes, found)
            states.append(disk.digest())
        assert len(set(states)) >= 5, "the cuts differ"
        assert_formats(here, disk)
        # From the middle of one format, the next one ends well.
        run("blkdiscard", disk.device)
        disk.flush()
        format_until(disk, len(states) // 2)
        assert_formats(here, disk)


def test_the_worker_is_killed_at_any_moment(here: Node, disk: LoopDisk) -> None:
    chance = random.Random("worker")
    for _ in range(24):
        run("blkdiscard", disk.device)
        disk.flush()
        here.restart()
        here.format(disk.volume(), disk)
        (worker,) = here.devices.running().values()
        time.sleep(chance.uniform(0.0, 0.15))
        _kill(worker)
        here.finish()
        forget(here)
        here.restart()
        assert_formats(here, disk)


def _children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


@pytest.fixture
def release(tmp_path: Path) -> Iterator[Path]:
    """While this test runs, an e2fsck waits for this file before it begins."""
    release, real, waiting = tmp_path / "release", tmp_path / "e2fsck.real", tmp_path / "e2fsck"
    tool = Path(process.tool("e2fsck")).resolve()
    shutil.copy2(tool, real)
    # Python keeps the signals blocked that it was started with; a shell lets them through.
    script = f"import os, sys, time\nwhile not os.path.exists({str(release)!r}):\n    time.sleep(0.01)\n"
    waiting.write_text(f"#!{Path(sys.executable).resolve()} -IS\n{script}os.execv({str(real)!r}, sys.argv)\n")
    waiting.chmod(0o755)
    run("mount", "--bind", waiting, tool)
    try:
        yield release
    finally:
        release.touch()
        run("umount", tool)


def test_a_tool_outlives_its_worker_and_keeps_the_lock(here: Node, disk: LoopDisk, release: Path) -> None:
    volume = disk.volume()
    disk.make_ext4()
    here.check(volume, disk)
    worker, _ = until(lambda: _at_work(here), "e2fsck runs")
    _kill(worker)
    here.finish()
    here.restart()
    forget(here)
    found = here.look(volume)
    assert isinstance(found, Working), found
    here.check(volume, disk)  # the second worker waits for the lock, then gives up
    here.finish()
    assert here.failure(volume)
    release.touch()
    until(lambda: isinstance(here.look(volume), Ext4), "the tool has ended")


def _at_work(here: Node) -> tuple[int, int] | None:
    """The worker and its e2fsck, once that runs."""
    for worker in here.devices.running().values():
        for child in _children(worker):
            if _comm(child) == "e2fsck":
                return worker, child
    return None


def forget(here: Node) -> None:
    """As if the time to wait after a failure had passed."""
    (here.root / "run/protokube/disks/vol-a.json").unlink(missing_ok=True)


def _comm(pid: int) -> str:
    """A process's name; empty when it has ended."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    name, _, rest = status.partition("(")[2].rpartition(")")
    return "" if rest.split()[0] == "Z" else name


def test_a_link_that_leads_elsewhere_by_the_time_the_lock_is_held(here: Node, disk: LoopDisk, tmp_path: Path) -> None:
    link = tmp_path / "by-id"
    link.symlink_to(disk.device)
    with LoopDisk(tmp_path / "other.img", disk.size) as other:
        volume = replace(disk.volume(), identity=DiskIdentity(path=str(link)))
        before = disk.digest(), other.digest()
        with subprocess.Popen(["flock", disk.device, "cat"], stdin=subprocess.PIPE) as holder:
            assert holder.stdin is not None
            until(lambda: isinstance(here.look(volume), Working), "the lock is held")
            here.format(volume, disk)
            (worker,) = here.devices.running().values()
            until(lambda: disk.device in _open_files(worker), "the worker waits for the lock")
            link.unlink()
            link.symlink_to(other.device)
            holder.stdin.close()
        here.finish()
        assert (disk.digest(), other.digest()) == before
        assert not list((here.root / "run").rglob("vol-a.json")), "nothing was tried, and nothing is held against it"


def test_an_order_for_a_disk_that_is_gone_holds_nothing_against_the_volume(here: Node, disk: LoopDisk) -> None:
    """A killed daemon takes a loop device along that nobody else has open yet; the next one attaches it again."""
    volume = disk.volume()
    other = replace(volume, identity=DiskIdentity(backing=(0, 1)))
    here.format(other, disk)
    here.finish()
    here.restart()
    here.format(volume, disk)
    here.finish()
    assert here.look(volume).uuid == UUID


def _open_files(pid: int) -> set[str]:
    found = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            found.add(str(entry.readlink()))
    return found


def test_the_daemons_end_does_not_end_a_tool(here: Node, disk: LoopDisk, release: Path) -> None:
    volume = disk.volume()
    disk.make_ext4()
    here.check(volume, disk)
    worker, e2fsck = until(lambda: _at_work(here), "e2fsck runs")
    assert os.getsid(worker) == worker != os.getsid(0)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        for process_id in (worker, e2fsck):
            os.kill(process_id, number)
    release.touch()
    here.finish()
    assert here.failure(volume) == ""
    assert here.look(volume).checked


def test_a_disk_that_hangs_is_unknown_and_asked_by_one_child_only(
    here: Node, disk: LoopDisk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blockdev, "PROBE_LIMIT", 1.0)
    here.restart()
    with FaultDisk(tmp_path / "fault") as fault:
        volume, other = fault.volume("vol-f"), disk.volume()
        fault.hang()
        found = here.devices.inspect([volume, other])
        hung = found[volume.id]
        assert isinstance(hung, Unknown) and "does not answer" in hung.reason, hung
        seen = found[other.id]
        assert isinstance(seen, Disk) and seen.content == Blank(), seen
        assert here.look(volume) == hung, "the same process, still waiting"
        assert here.look(other) == Blank(), "another disk is not held up"
        fault.hang(False)
        until(lambda: here.look(volume) == Blank(), "the disk is seen again")


def test_the_late_answer_of_a_slow_disk_counts(here: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blockdev, "PROBE_LIMIT", 0.2)
    here.restart()
    with FaultDisk(tmp_path / "fault") as fault:
        volume = fault.volume()
        fault.mode("slow")
        assert isinstance(here.look(volume), Unknown)
        until(lambda: here.look(volume) == Blank(), "the slow probe has ended")


def test_mkfs_that_meets_a_write_error_is_reported_and_repeated(here: Node, tmp_path: Path) -> None:
    with FaultDisk(tmp_path / "fault") as fault:
        volume = fault.volume()
        fault.mode("badwrite")
        here.format(volume, fault)
        here.finish()
        assert here.failure(volume)
        with pytest.raises(ProviderError, match=r"mkfs.ext4 failed on .* it is tried again"):
            here.format(volume, fault)
        fault.mode("healthy")
        forget(here)
        assert_formats(here, fault)


def test_a_filesystem_that_reports_errors_is_seen_without_asking_it(here: Node, tmp_path: Path) -> None:
    with FaultDisk(tmp_path / "fault") as fault:
        volume = fault.volume()
        fault.make_ext4()
        mount = here.mount(volume, fault)
        try:
            fault.mode("badwrite")
            until(lambda: _write(mount) != 0 and here.devices.mounts()[0].read_only, "the filesystem gives up")
            fault.hang()
            (line,) = here.devices.mounts()
            fault.hang(False)
            assert line.read_only and line.errors
        finally:
            fault.hang(False)
            fault.mode("healthy")
            run("umount", mount)


def _write(mount: Path) -> int:
    return subprocess.run(
        ["dd", "if=/dev/zero", f"of={mount}/file", "count=1", "conv=fsync"], capture_output=True
    ).returncode
