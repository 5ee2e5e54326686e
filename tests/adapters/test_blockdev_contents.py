"""What a volume holds, when it holds much, strange or damaged things: the answer is plain, and never too small."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from protokube.core.disks.model import Ext4, VolumeContents
from protokube.core.model import Unknown
from protokube.host import process
from protokube.host.disk.contents import MOST_BYTES, MOST_FILES
from protokube.host.disk.debugfs import DebugfsError, DebugfsSource
from protokube.host.disk.jobs import JobState
from protokube.host.disk.probe import answer
from protokube.host.disk.worker import RefusedError, work
from tests.lab.disks import MIB, UUID, FaultDisk, LoopDisk, Node, encode, intent_for, run, until

pytestmark = pytest.mark.root


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[LoopDisk]:
    with LoopDisk(tmp_path / "disk.img", 64 * MIB) as one:
        one.make_ext4()
        yield one


def both(here: Node, disk: LoopDisk) -> tuple[VolumeContents, VolumeContents]:
    """The contents before the mount and after it."""
    volume = disk.volume()
    found = here.look(volume)
    assert isinstance(found, Ext4) and isinstance(found.contents, VolumeContents), found
    here.check(volume, disk)
    here.finish()
    here.mount(volume, disk)
    return found.contents, here.devices.contents("/mnt/master-vol-a")


def test_thousands_of_manifests(here: Node, disk: LoopDisk, tmp_path: Path) -> None:
    with disk.mounted(tmp_path / "m") as root:
        (root / "k8s.io/manifests").mkdir(parents=True)
        (root / "k8s.io/identity.yaml").write_text("cluster: dev\n")
        for number in range(3000):
            (root / f"k8s.io/manifests/{number}.manifest").write_text(f"number: {number}\n" * 20)
        (root / "var/etcd/data").mkdir(parents=True)
    for seen in both(here, disk):
        assert seen.overflow and len(seen.texts) <= MOST_FILES
        assert seen.texts["k8s.io/identity.yaml"] == "cluster: dev\n", "the one file that always counts"
        assert "var/etcd/data/" in seen.entries, "the rest is seen in spite of it"


def test_one_debugfs_reads_many_files(disk: LoopDisk, tmp_path: Path) -> None:
    texts = {f"k8s.io/manifests/{number}": bytes([number]) * (number * 3000) for number in range(10)}
    texts["k8s.io/manifests/like a request"] = b"debugfs: cd /\ndebugfs: cat <12>\n" * 3
    with disk.mounted(tmp_path / "m") as root:
        (root / "k8s.io/manifests").mkdir(parents=True)
        for path, content in texts.items():
            (root / path).write_bytes(content)
    source = DebugfsSource(disk.device)
    source.listings([""])
    source.listings(["k8s.io"])
    (listed,) = source.listings(["k8s.io/manifests"])
    files = [(f"k8s.io/manifests/{name}", size) for name, _, size in listed]
    assert dict(zip([path for path, _ in files], source.contents(files), strict=True)) == texts


def test_a_name_that_looks_like_a_request_moves_no_entry(disk: LoopDisk, tmp_path: Path) -> None:
    with disk.mounted(tmp_path / "m") as root:
        (root / "a\ndebugfs: cd \ndebugfs: ls -p <2>").mkdir()
        (root / "var/etcd").mkdir(parents=True)
        (root / "k8s.io").mkdir()
    source = DebugfsSource(disk.device)
    source.listings([""])
    var, k8s = source.listings(["var", "k8s.io"])
    assert var == [("etcd", "d", 0)] and k8s == []


@pytest.mark.parametrize("path", ["k8s.io/identity.yaml", "k8s.io/manifests/etcd.manifest"])
def test_a_file_that_is_too_long_is_no_text(here: Node, disk: LoopDisk, tmp_path: Path, path: str) -> None:
    with disk.mounted(tmp_path / "m") as root:
        (root / "k8s.io/manifests").mkdir(parents=True)
        (root / path).write_bytes(b"#" * (MOST_BYTES + 1))
    for seen in both(here, disk):
        assert seen.overflow and path in seen.entries and not seen.texts


def test_what_is_neither_file_nor_directory_is_told(here: Node, disk: LoopDisk, tmp_path: Path) -> None:
    with disk.mounted(tmp_path / "m") as root:
        (root / "k8s.io").mkdir()
        (root / "k8s.io/.identity.yaml.protokube-new").symlink_to("/etc/passwd")
        os.mkfifo(root / "k8s.io/.fifo.protokube-new")
        (root / "k8s.io/.file.protokube-new").touch()
        (root / "k8s.io/.directory.protokube-new").mkdir()
        (root / "var/etcd/data").mkdir(parents=True)
        (root / "var/etcd/data/member").symlink_to("/somewhere")
    for seen in both(here, disk):
        assert seen.others == {
            "k8s.io/.identity.yaml.protokube-new",
            "k8s.io/.fifo.protokube-new",
            "var/etcd/data/member",
        }
        assert {"k8s.io/.file.protokube-new", "k8s.io/.directory.protokube-new/"} <= seen.entries


def test_lost_and_found_is_looked_into(here: Node, disk: LoopDisk, tmp_path: Path) -> None:
    """e2fsck puts a volume's directories there when the root directory was lost."""
    with disk.mounted(tmp_path / "m") as root:
        (root / "lost+found/#2049/etcd/data/member").mkdir(parents=True)
    for seen in both(here, disk):
        assert seen.entries == {"lost+found/", "lost+found/#2049/"}


def test_any_data_directory_is_looked_into(here: Node, disk: LoopDisk, tmp_path: Path) -> None:
    here.devices.data_dirs = frozenset({"data/etcd", "srv"})
    with disk.mounted(tmp_path / "m") as root:
        for directory in ("data/etcd/member/wal", "data/other/member", "srv/member", "var/etcd/data/member"):
            (root / directory).mkdir(parents=True)
    for seen in both(here, disk):
        directories = {
            "lost+found/",
            "data/",
            "data/etcd/",
            "data/etcd/member/",
            "data/other/",
            "srv/",
            "srv/member/",
        }
        assert seen.entries == {*directories, "var/"}


def test_a_damaged_root_directory_is_told_from_a_disk_that_does_not_answer(here: Node, disk: LoopDisk) -> None:
    block = int(run("debugfs", "-R", "blocks <2>", disk.device).split()[-1])
    disk.write(block * 1024, b"\xa5" * 1024)
    found = here.look(disk.volume())
    assert isinstance(found, Ext4) and isinstance(found.contents, Unknown), found
    assert found.damaged == found.contents.reason and "checksum" in found.damaged


def test_a_directory_that_cannot_be_read_is_no_damage(here: Node, tmp_path: Path) -> None:
    with FaultDisk(tmp_path / "fault") as fault:
        fault.make_ext4()
        fault.mode("badread")
        with pytest.raises(DebugfsError) as caught:
            DebugfsSource(fault.device).listings([""])
        assert not caught.value.damaged
        fault.mode("healthy")


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory whose tools come first."""
    tools = tmp_path / "tools"
    tools.mkdir()
    monkeypatch.setattr(process, "_TOOL_DIRS", (str(tools), *process._TOOL_DIRS))
    return tools


def script(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@pytest.mark.parametrize("end", ["exit 1", "kill -9 $$"])
def test_a_debugfs_that_fails_has_said_nothing(fake: Path, disk: LoopDisk, end: str) -> None:
    """Half a listing is not the directory."""
    script(fake / "debugfs", f"echo 'debugfs: cd /'; echo 'debugfs: ls -p <2>'; echo banner >&2; {end}")
    with pytest.raises(DebugfsError, match=r"debugfs (exited with 1|was killed by signal 9)"):
        DebugfsSource(disk.device).listings([""])


@pytest.mark.parametrize("code", [8, 12, 16, 32, 128])
def test_e2fsck_that_came_to_no_verdict_is_a_failure_and_not_remembered(
    here: Node, fake: Path, disk: LoopDisk, tmp_path: Path, code: int
) -> None:
    script(fake / "e2fsck", f"echo in use; exit {code}")
    identity, number = disk.identity, os.stat(disk.device).st_rdev
    with pytest.raises(RefusedError, match=f"e2fsck exited with {code}: in use"):
        work(
            {
                "job": "check",
                "volume_id": "vol-a",
                "device": disk.device,
                "number": (os.major(number), os.minor(number)),
                "size": disk.size,
                "identity": (identity.serials, identity.backing, identity.path, identity.requested),
                "uuid": UUID,
                "state": str(here.root / "run/protokube/disks"),
                "full": False,
            }
        )
    JobState(str(here.root / "run/protokube/disks"), "vol-a").end("in use", "e2fsck")  # as the worker's main() does
    found = here.look(disk.volume())
    assert isinstance(found, Ext4) and found.check_failed is None and not found.checked


def test_stale_partitions_of_an_earlier_disk_do_not_count(here: Node, tmp_path: Path) -> None:
    """partx makes partitions that the kernel keeps for the loop device's next file."""
    with LoopDisk(tmp_path / "first.img", 64 * MIB) as first:
        run("sgdisk", "-o", "-n", "1:0:0", first.device)
        run("partx", "-a", first.device)
        device = first.device
    with LoopDisk(tmp_path / "second.img", 64 * MIB) as second:
        assert second.device == device
        try:
            until(lambda: Path(f"/sys/block/{device[5:]}/{device[5:]}p1").exists(), "the partition is still known")
            volume = second.volume()
            here.format(volume, second)
            here.finish()
            assert here.failure(volume) == ""
            assert here.mount(volume, second).is_mount()
        finally:
            subprocess.run(["umount", here.root / "mnt/master-vol-a"], capture_output=True, timeout=60)
            subprocess.run(["partx", "-d", device], capture_output=True, timeout=60)


def test_an_interrupted_format_that_cannot_be_judged_is_unknown(fake: Path, disk: LoopDisk) -> None:
    """Without a working mkfs.ext4 nothing says what the format would have written: neither blank nor another's."""
    run("blkdiscard", disk.device)
    disk.write(disk.size - (512 << 10), encode(intent_for(disk.volume())))
    script(fake / "mkfs.ext4", "echo no memory >&2; exit 1")
    identity = disk.identity
    said = answer(
        {
            "volume_id": "vol-a",
            "size": disk.size,
            "identity": (identity.serials, identity.backing, identity.path, identity.requested),
            "loops": ({}, {}),
            "data_dirs": frozenset(),
        }
    )
    assert said["state"] == "failed" and "mkfs.ext4 exited with 1: no memory" in said["text"]
