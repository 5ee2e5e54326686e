"""A first start of etcd that a power cut ended: a mount takes it back when its log holds no entry, and only then."""

from __future__ import annotations

import logging
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace

from protokube.core.disks.actions import TakeBackFirstStart
from protokube.errors import ProviderError
from tests.lab.disks import MIB, LoopDisk, Node, run, until

pytestmark = pytest.mark.root

LOG = "0000000000000000-0000000000000000.wal"
DATA = "var/etcd/data"
HEAD_ENDS = 4096
"""etcd writes its first entries into the page of the log's head, and these logs are cut behind that head."""


SERVES = "set initial cluster version"


@contextmanager
def running(data: Path, until_it_says: str) -> Iterator[None]:
    """A real etcd of one member that has said something. It is killed in the end."""
    words = ["etcd", "--name", "etcd-a", "--data-dir", str(data), "--logger", "zap", "--log-outputs", f"{data}.log"]
    words += ["--listen-client-urls", "http://127.0.0.1:0", "--advertise-client-urls", "http://127.0.0.1:1"]
    peer = "http://127.0.0.1:2380"
    words += ["--listen-peer-urls", "http://127.0.0.1:0", "--initial-advertise-peer-urls", peer]
    with subprocess.Popen([*words, "--initial-cluster", f"etcd-a={peer}"], stderr=subprocess.DEVNULL) as etcd:
        try:
            log = Path(f"{data}.log")
            until(lambda: log.exists() and until_it_says in log.read_text(), f"etcd says {until_it_says}")
            yield
        finally:
            etcd.kill()
            etcd.wait()
            log.unlink(missing_ok=True)


def head_of(log: bytes) -> int:
    """Where the third record of a log ends: after the checksum, the metadata and the first snapshot's record."""
    position = 0
    for _ in range(3):
        length = int.from_bytes(log[position : position + 7], "little")
        position += 8 + length + (log[position + 7] & 7)
    return position


@pytest.fixture(scope="module")
def member(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What etcd leaves in its data directory."""
    folder = tmp_path_factory.mktemp("etcd")
    (folder / "data").mkdir(mode=0o700)
    with running(folder / "data", SERVES):
        pass
    return folder / "data/member"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[LoopDisk]:
    with LoopDisk(tmp_path / "disk.img", 256 * MIB) as disk:
        disk.make_ext4()
        yield disk


def empty(wal: Path) -> None:
    """Leave of a log nothing but its head, as a kill does before the first entry."""
    size, head = (wal / LOG).stat().st_size, (wal / LOG).read_bytes()[:HEAD_ENDS]
    os.truncate(wal / LOG, head_of(head))
    run("fallocate", "--length", str(size), wal / LOG)


def plant(disk: LoopDisk, at: Path, member: Path, cut: int | None, **more: bytes) -> None:
    """A volume with the member's directory; of its log nothing but the first `cut` bytes."""
    with disk.mounted(at) as volume:
        (volume / DATA).mkdir(parents=True)
        run("cp", "-r", "--sparse=always", member, volume / DATA)
        wal = volume / DATA / "member/wal"
        if cut is not None:
            size = (wal / LOG).stat().st_size
            os.truncate(wal / LOG, cut)
            run("fallocate", "--length", str(size), wal / LOG)
        for name, content in more.items():
            with (wal / LOG).open("r+b") as file:
                file.seek(int(name.removeprefix("at_")))
                file.write(content)


def mount(here: Node, disk: LoopDisk) -> Path:
    """Look, check and mount, as a node does; return the member's directory."""
    volume = disk.volume()
    here.look(volume)
    here.check(volume, disk)
    here.finish()
    here.look(volume)
    return here.mount(volume, disk) / DATA / "member"


def test_a_log_without_entries_is_put_aside(
    here: Node, tmp_path: Path, disk: LoopDisk, member: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = (member / "wal" / LOG).read_bytes()[:HEAD_ENDS]
    plant(disk, tmp_path / "m", member, head_of(log))
    with caplog.at_level(logging.WARNING, "protokube"):
        found = mount(here, disk)
    assert sorted(one.name for one in found.iterdir()) == ["snap", "wal.tmp"]
    assert (found / "wal.tmp" / LOG).read_bytes()[:HEAD_ENDS].rstrip(b"\0") == log[: head_of(log)].rstrip(b"\0")
    assert (found / "snap/db").read_bytes() == (member / "snap/db").read_bytes()
    assert "vol-a: etcd's first start in var/etcd/data was cut off before its first entry" in caplog.text


def test_a_log_with_an_entry_stays(here: Node, tmp_path: Path, disk: LoopDisk, member: Path) -> None:
    plant(disk, tmp_path / "m", member, None)
    found = mount(here, disk)
    assert (found / "wal" / LOG).read_bytes() == (member / "wal" / LOG).read_bytes()


def test_a_byte_far_behind_the_head_keeps_the_log(here: Node, tmp_path: Path, disk: LoopDisk, member: Path) -> None:
    cut = head_of((member / "wal" / LOG).read_bytes()[:HEAD_ENDS])
    plant(disk, tmp_path / "m", member, cut, at_40000000=b"x")
    assert (mount(here, disk) / "wal" / LOG).exists()


@pytest.mark.parametrize(
    "name", ["snap/0000000000000001-0000000000000005.snap", "wal/0000000000000001-5.wal", "lost"]
)
def test_whatever_else_is_there_keeps_the_log(
    here: Node, tmp_path: Path, disk: LoopDisk, member: Path, name: str
) -> None:
    plant(disk, tmp_path / "m", member, head_of((member / "wal" / LOG).read_bytes()[:HEAD_ENDS]))
    with disk.mounted(tmp_path / "m") as volume:
        (volume / DATA / "member" / name).write_bytes(b"x")
    assert (mount(here, disk) / "wal" / LOG).exists()


def test_a_link_in_the_logs_place_is_not_followed(here: Node, tmp_path: Path, disk: LoopDisk, member: Path) -> None:
    plant(disk, tmp_path / "m", member, None)
    outside = tmp_path / "outside"
    with disk.mounted(tmp_path / "m") as volume:
        log = volume / DATA / "member/wal" / LOG
        head = log.read_bytes()[:HEAD_ENDS]
        outside.write_bytes(head[: head_of(head)])
        log.unlink()
        log.symlink_to(outside)
    assert (mount(here, disk) / "wal" / LOG).is_symlink()


# --- while the volume stays mounted ---


def cut_off(here: Node, disk: LoopDisk, tmp_path: Path, member: Path) -> tuple[Path, TakeBackFirstStart]:
    """A mounted volume whose etcd was killed before its first entry, and the action that mends that."""
    plant(disk, tmp_path / "m", member, None)
    data = mount(here, disk).parent
    data.chmod(0o700)
    empty(data / "member/wal")
    number = Path(disk.device).stat().st_rdev
    return data, TakeBackFirstStart("vol-a", "/mnt/master-vol-a", (os.major(number), os.minor(number)), DATA)


def test_a_log_that_nobody_holds_is_put_aside_and_etcd_serves(
    here: Node, tmp_path: Path, disk: LoopDisk, member: Path
) -> None:
    data, action = cut_off(here, disk, tmp_path, member)
    assert here.devices.contents(action.target).cut_off == {DATA: False}
    action.execute(here.devices)
    assert sorted(one.name for one in (data / "member").iterdir()) == ["snap", "wal.tmp"]
    assert here.devices.contents(action.target).cut_off == {}
    with running(data, SERVES):
        assert here.devices.contents(action.target).cut_off == {}
        with pytest.raises(ProviderError, match="left alone"):
            action.execute(here.devices)
    assert (data / "member/wal" / LOG).exists()


def test_a_log_that_an_etcd_holds_is_left_alone_until_that_ends(
    here: Node, tmp_path: Path, disk: LoopDisk, member: Path
) -> None:
    """etcd runs on from an empty log, and never serves."""
    data, action = cut_off(here, disk, tmp_path, member)
    with running(data, "restarting local member"):
        assert here.devices.contents(action.target).cut_off == {DATA: True}
        with pytest.raises(ProviderError, match="a process holds it: left alone"):
            action.execute(here.devices)
        assert (data / "member/wal" / LOG).exists()
    assert here.devices.contents(action.target).cut_off == {DATA: False}
    action.execute(here.devices)
    assert (data / "member/wal.tmp" / LOG).exists()


def test_a_log_that_is_open_and_not_locked_yet_is_left_alone(
    here: Node, tmp_path: Path, disk: LoopDisk, member: Path
) -> None:
    """etcd opens its log first, and locks it then."""
    data, action = cut_off(here, disk, tmp_path, member)
    opened = ["sh", "-c", f"exec 3<>'{data}/member/wal/{LOG}'; echo; exec sleep infinity"]
    with subprocess.Popen(opened, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None and process.stdout.read(1)
            with pytest.raises(ProviderError, match="left alone"):
                action.execute(here.devices)
            assert sorted(one.name for one in (data / "member").iterdir()) == ["snap", "wal"]
        finally:
            process.kill()


def test_another_volume_in_its_place_is_left_alone(here: Node, tmp_path: Path, disk: LoopDisk, member: Path) -> None:
    data, action = cut_off(here, disk, tmp_path, member)
    with pytest.raises(ProviderError, match="another filesystem is mounted there now"):
        replace(action, number=(7, 1000)).execute(here.devices)
    assert (data / "member/wal" / LOG).exists()
