"""The way of a volume's disk on a real loop device: blank, formatted, mounted, checked, grown."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from msgspec.structs import replace

from protokube.core.disks.model import Blank, Ext4, Mounted, NoDisk, VolumeContents, Working
from protokube.core.model import Unknown
from protokube.core.volumes.model import DiskIdentity
from protokube.errors import ProviderError
from tests.lab.disks import MIB, UUID, LoopDisk, Node, clear_root, intent_for, run, until

pytestmark = pytest.mark.root

GROUP = 8 * MIB  # a block group of a filesystem with 1 KiB blocks, as small as these


_CONVERGED = """
import sys
from pathlib import Path
from protokube.core.disks.model import Mounted
from protokube.core.volumes.model import CloudVolume, DiskIdentity
from protokube.host.blockdev import BlockDevices
root, size, device, inode = sys.argv[1], *map(int, sys.argv[2:])
volume = CloudVolume("vol-a", "local", size, {}, identity=DiskIdentity(backing=(device, inode)))
devices = BlockDevices(root, root + "/run/protokube", frozenset())
def number(disk):
    try:
        return (disk / "diskseq").read_text()
    except OSError:
        return None
def loops():
    return {disk.name: number(disk) for disk in Path("/sys/block").glob("loop*")}
events = []
sys.addaudithook(lambda *event: events.append(event) if not event[0].startswith("object.") else None)
while True:  # until no other test has made a loop device meanwhile, which would be asked about, once
    before = loops()
    devices.inspect([volume])
    events.clear()
    content = devices.inspect([volume])["vol-a"].content
    devices.mounts()
    seen = list(events)
    if loops() == before:
        break
assert content == Mounted(), content
print(*(f"{name} {arguments}" for name, arguments in seen), sep="\\n")
"""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[LoopDisk]:
    with LoopDisk(tmp_path / "disk.img") as one:
        yield one


def test_a_blank_disk_becomes_a_mounted_volume(here: Node, disk: LoopDisk) -> None:
    volume = disk.volume()
    before = disk.digest()
    assert here.look(volume) == Blank()
    assert disk.digest() == before

    here.format(volume, disk)
    here.finish()
    made = here.look(volume)
    assert isinstance(made, Ext4), made
    assert (made.uuid, made.label, made.size, made.used, made.checked) == (UUID, "etcd-a", disk.size, False, False)
    assert made.contents == VolumeContents(frozenset({"lost+found/"}), uuid=UUID)
    assert disk.read(disk.size - 512 * 1024, 4096) == bytes(4096), "the intent is gone"

    mount = here.mount(volume, disk)
    assert here.look(volume) == Mounted()
    (line,) = here.devices.mounts()
    assert (line.target, line.fstype, line.read_only, line.shutdown, line.errors) == (
        "/mnt/master-vol-a",
        "ext4",
        False,
        False,
        0,
    )
    options = set(run("findmnt", "-no", "OPTIONS", mount).split(","))
    assert {"rw", "noatime", "nodev", "nosuid", "errors=remount-ro"} <= options
    assert here.devices.contents("/mnt/master-vol-a") == VolumeContents(frozenset({"lost+found/"}), uuid=UUID)


def test_the_bare_mount_point_is_private_and_takes_no_file(here: Node, disk: LoopDisk) -> None:
    disk.make_ext4()
    mount = here.mount(disk.volume(), disk)
    run("umount", mount)
    assert stat.S_IMODE(mount.stat().st_mode) == 0o750
    with pytest.raises(PermissionError):
        (mount / "lost").write_text("")


def test_a_converged_inspect_starts_nothing_and_opens_no_disk(here: Node, disk: LoopDisk) -> None:
    disk.make_ext4()
    volume = disk.volume()
    here.look(volume)
    here.mount(volume, disk)
    done = subprocess.run(
        [sys.executable, "-c", _CONVERGED, str(here.root), str(disk.size), *map(str, disk.identity.backing or ())],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    events = done.stdout.splitlines()
    assert any("/proc/self/mountinfo" in event for event in events)
    known = ("open", "os.scandir", "os.listdir", "marshal.loads", "import", "compile", "exec")
    assert not [event for event in events if "'/dev/" in event or not event.startswith(known)]
    assert not [event for event in events if event.startswith("open") and ", 'w" in event]


def test_what_a_volume_holds_looks_the_same_mounted_and_not(here: Node, disk: LoopDisk, tmp_path: Path) -> None:
    disk.make_ext4()
    volume = disk.volume()
    with disk.mounted(tmp_path / "m") as root:
        (root / "k8s.io/manifests").mkdir(parents=True)
        (root / "k8s.io/identity.yaml").write_text("cluster: dev\n")
        (root / "k8s.io/manifests/etcd.manifest").write_text("é: 1\n")
        (root / "k8s.io/manifests/binary").write_bytes(b"\xff\xfe")
        (root / "k8s.io/manifests/link").symlink_to("/etc/passwd")
        (root / "k8s.io/manifests/fifo").touch()
        (root / "var/etcd/data/member/wal").mkdir(parents=True)
        (root / "var/etcd/data-events").mkdir()
        (root / "var/etcd/data/member/wal/0.wal").touch()
        (root / "var/lib").symlink_to("/etc")
        (root / "a name\nwith lines").touch()
        (root / "\udcff").mkdir()
    found = here.look(volume)
    assert isinstance(found, Ext4) and isinstance(found.contents, VolumeContents)
    assert found.used and not found.checked
    assert found.contents.texts == {
        "k8s.io/identity.yaml": "cluster: dev\n",
        "k8s.io/manifests/etcd.manifest": "é: 1\n",
        "k8s.io/manifests/binary": "\\xff\\xfe",
        "k8s.io/manifests/fifo": "",
    }
    assert {
        "var/etcd/data/member/",
        "var/etcd/data-events/",
        "var/lib",
        "k8s.io/manifests/link",
    } <= found.contents.entries
    assert "var/etcd/data/member/wal/" not in found.contents.entries
    assert not found.contents.overflow

    here.check(volume, disk)
    here.finish()
    here.mount(volume, disk)
    seen = here.devices.contents("/mnt/master-vol-a")
    assert seen.texts == found.contents.texts and seen.mtimes.keys() == seen.texts.keys() and seen.uuid == UUID
    crippled = {entry for entry in found.contents.entries if entry.startswith("/") or entry.startswith("with lines")}
    assert len(crippled) == 2, found.contents.entries
    assert found.contents.entries - crippled == seen.entries - {"a name\nwith lines"}


def test_links_on_a_volume_are_not_followed(here: Node, disk: LoopDisk, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "manifests").mkdir(parents=True)
    (elsewhere / "identity.yaml").write_text("secret")
    disk.make_ext4()
    with disk.mounted(tmp_path / "m") as root:
        (root / "k8s.io").symlink_to(elsewhere)
        (root / "real").mkdir()
        (root / "real/etcd").mkdir()
        (root / "var").symlink_to("real")
        assert (root / "k8s.io/identity.yaml").read_text() == "secret"
    volume = disk.volume()
    found = here.look(volume)
    expected = {"lost+found/", "k8s.io", "var", "real/"}
    assert found.contents.entries == expected and not found.contents.texts
    here.check(volume, disk)
    here.finish()
    here.mount(volume, disk)
    seen = here.devices.contents("/mnt/master-vol-a")
    assert seen.entries == expected and not seen.texts


def test_a_directory_with_too_many_entries_says_so(here: Node, disk: LoopDisk, tmp_path: Path) -> None:
    disk.make_ext4()
    with disk.mounted(tmp_path / "m") as root:
        for number in range(1100):
            (root / f"{number:04}").touch()
    assert here.look(disk.volume()).contents.overflow


def test_the_first_look_does_not_replay_the_journal(here: Node, tmp_path: Path) -> None:
    with LoopDisk(tmp_path / "first.img") as first:
        first.make_ext4()
        with first.mounted(tmp_path / "m") as root:
            (root / "file").write_text("x")
            run("sync", "-f", root / "file")
            first.flush()
            run("cp", "--sparse=always", first.image, tmp_path / "cut.img")
    with LoopDisk(tmp_path / "cut.img") as cut:
        volume = cut.volume()
        assert "needs_recovery" in run("dumpe2fs", "-h", cut.device)
        before = cut.digest()
        found = here.look(volume)
        assert isinstance(found, Ext4) and found.used
        assert cut.digest() == before
        here.check(volume, cut)
        here.finish()
        assert here.look(volume).checked
        assert "needs_recovery" not in run("dumpe2fs", "-h", cut.device)


def test_a_used_filesystem_is_mounted_only_after_its_check(here: Node, disk: LoopDisk, tmp_path: Path) -> None:
    disk.make_ext4()
    volume = disk.volume()
    with disk.mounted(tmp_path / "m"):
        pass
    with pytest.raises(ProviderError, match="e2fsck"):
        here.mount(volume, disk)
    here.check(volume, disk)
    here.finish()
    assert here.look(volume).checked
    run("tune2fs", "-L", "changed", disk.device)  # somebody writes to it after the check
    assert not here.look(volume).checked
    with pytest.raises(ProviderError, match="e2fsck"):
        here.mount(volume, disk)
    here.check(volume, disk)
    here.finish()
    here.restart()
    assert here.look(volume).checked
    assert os.path.ismount(here.mount(volume, disk))


def test_e2fsck_repairs_what_it_safely_can(here: Node, disk: LoopDisk, tmp_path: Path) -> None:
    disk.make_ext4()
    with disk.mounted(tmp_path / "m") as root:
        (root / "file").write_text("x")
    run("debugfs", "-w", "-R", "set_super_value free_blocks_count 7", disk.device)
    run("debugfs", "-w", "-R", "set_super_value state 0", disk.device)
    volume = disk.volume()
    here.check(volume, disk)
    here.finish()
    found = here.look(volume)
    assert found.checked and found.check_failed is None
    assert "Free blocks:              7\n" not in run("dumpe2fs", "-h", disk.device)


def test_e2fsck_refusal_is_reported_and_not_mounted(here: Node, disk: LoopDisk, tmp_path: Path) -> None:
    disk.make_ext4()
    with disk.mounted(tmp_path / "m") as root:
        for number in range(50):
            (root / f"file{number}").write_text("x" * 5000)
    run("debugfs", "-w", "-R", "set_inode_field <12> block[0] 0x7fffffff", disk.device)
    run("debugfs", "-w", "-R", "set_inode_field file1 mode 070000", disk.device)
    run("debugfs", "-w", "-R", "set_super_value state 2", disk.device)
    volume = disk.volume()
    here.check(volume, disk)
    here.finish()
    found = here.look(volume)
    assert not found.checked and found.check_failed is not None and "exited with 4" in found.check_failed, found
    with pytest.raises(ProviderError, match="e2fsck"):
        here.mount(volume, disk)
    subprocess.run(["e2fsck", "-f", "-y", disk.device], capture_output=True, timeout=60)  # the operator repairs it
    disk.flush()
    assert here.look(volume).check_failed is None
    here.check(volume, disk)
    here.finish()
    assert here.look(volume).checked


def test_a_filesystem_grows_with_its_disk(here: Node, disk: LoopDisk, tmp_path: Path) -> None:
    disk.make_ext4()
    with disk.mounted(tmp_path / "m") as root:
        (root / "file").write_text("kept")
    disk.detach()
    disk.size = 256 * MIB
    os.truncate(disk.image, disk.size)
    disk.attach()
    volume = disk.volume()
    assert here.look(volume).size == 64 * MIB
    here.grow(volume, disk)
    here.finish()
    found = here.look(volume)
    assert found.checked and disk.size - found.size < GROUP
    assert (here.mount(volume, disk) / "file").read_text() == "kept"


def test_it_looks_again_after_a_disk_is_gone_and_back(here: Node, disk: LoopDisk) -> None:
    volume = disk.volume()
    assert here.look(volume) == Blank()
    disk.detach()
    gone = here.look(volume)
    assert isinstance(gone, NoDisk) and "no loop device" in gone.hint
    disk.attach()
    assert here.look(volume) == Blank()


def test_two_disks_that_match_are_both_named(here: Node, disk: LoopDisk) -> None:
    twin = LoopDisk(disk.image)
    twin.attach()
    try:
        before = disk.digest()
        found = here.look(disk.volume())
        assert isinstance(found, Unknown) and disk.device in found.reason and twin.device in found.reason
        here.format(disk.volume(), disk)
        here.finish()
        assert "both match" in here.failure(disk.volume())
        assert disk.digest() == before
    finally:
        twin.detach()


def test_a_disk_of_the_machine_is_found_by_its_link(here: Node, disk: LoopDisk, tmp_path: Path) -> None:
    link = tmp_path / "by-id"
    link.symlink_to(disk.device)
    volume = replace(disk.volume(), identity=DiskIdentity(path=str(link)))
    assert here.look(volume) == Blank()
    here.format(volume, disk)
    here.finish()
    here.mount(volume, disk)
    assert here.look(volume) == Mounted()


def test_two_volumes_are_made_side_by_side(here: Node, disk: LoopDisk, tmp_path: Path) -> None:
    with LoopDisk(tmp_path / "other.img") as other:
        pairs = [(disk.volume(), disk), (other.volume("vol-b"), other)]
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda pair: here.format(*pair), pairs))
        assert set(here.devices.running()) <= {"vol-a", "vol-b"}
        here.finish()
        with ThreadPoolExecutor() as pool:
            mounts = list(pool.map(lambda pair: here.mount(*pair), pairs))
        assert all(mount.is_mount() for mount in mounts)
        found = here.devices.inspect([volume for volume, _ in pairs])
        assert [getattr(one, "content", one) for one in found.values()] == [Mounted(), Mounted()]
        clear_root(here.root)


def test_a_locked_disk_is_left_alone(here: Node, disk: LoopDisk) -> None:
    volume = disk.volume()
    with subprocess.Popen(["flock", disk.device, "sleep", "60"]) as holder:
        try:
            until(lambda: isinstance(here.look(volume), Working), "the lock is seen")
            found = here.look(volume)
            assert "flock" in found.tool and str(holder.pid) in found.tool
        finally:
            run("pkill", "-P", str(holder.pid))
            holder.kill()
    assert here.look(volume) == Blank()


def test_a_tool_at_work_is_found_again_by_the_next_daemon(here: Node, disk: LoopDisk) -> None:
    volume = disk.volume()
    here.format(volume, disk)
    notes = here.root / "run/protokube/disks/vol-a.json"
    until(lambda: notes.exists() and json.loads(notes.read_text()).get("job"), "the worker has begun")
    here.restart()
    assert here.look(volume) == Working("mkfs.ext4") or here.look(volume).uuid == UUID
    here.finish()
    assert here.look(volume).uuid == UUID


def test_a_failure_is_not_repeated_at_once(here: Node, disk: LoopDisk) -> None:
    volume = disk.volume()
    disk.write(5 * MIB, b"\0")
    here.format(volume, disk, intent_for(disk.volume("vol-b")))
    here.finish()
    with pytest.raises(ProviderError, match="is not for vol-a"):
        here.format(volume, disk)
    assert here.look(volume) == Blank()


def test_an_occupied_or_crooked_mount_point_is_refused(here: Node, disk: LoopDisk, tmp_path: Path) -> None:
    disk.make_ext4()
    volume = disk.volume()
    target = here.root / "mnt/master-vol-a"
    target.parent.mkdir(parents=True)
    target.symlink_to(tmp_path)
    with pytest.raises(ProviderError, match="refused"):
        here.mount(volume, disk)
    target.unlink()
    target.mkdir()
    run("mount", "-t", "tmpfs", "none", target)
    with pytest.raises(ProviderError, match="another filesystem is mounted there"):
        here.mount(volume, disk)
    run("umount", target)
    assert here.mount(volume, disk) == target


def test_another_filesystem_than_planned_is_not_mounted_checked_or_grown(here: Node, disk: LoopDisk) -> None:
    disk.make_ext4()
    volume = disk.volume()
    other = "ffffffff-52d3-5c1e-9f00-6f2d0c7a1b11"
    before = disk.digest()
    with pytest.raises(ProviderError, match=f"{UUID}, expected {other}"):
        here.mount(volume, disk, uuid=other)
    here.check(volume, disk, uuid=other)
    here.finish()
    assert UUID in here.failure(volume)
    assert disk.digest() == before
