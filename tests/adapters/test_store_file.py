"""The store in a directory: modes, crashes at every point, locks, and processes that race."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from protokube.errors import StoreError
from protokube.store.file import FileStore
from protokube.store.mounted import unit_name
from tests.lab.crashes import CrashError, crashing

NAME = "c/pki/v1.json"

RACE = """
import sys
from pathlib import Path
from protokube.store.file import FileStore
store = FileStore(Path(sys.argv[1]), make=True)
print("ready", flush=True)
sys.stdin.readline()
print(store.put_if_absent("c/pki/v1.json", sys.argv[2].encode() * 100000))
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(directory: Path) -> FileStore:
    return FileStore(directory, make=True)


def test_nobody_else_can_read_what_is_stored(directory: Path, store: FileStore) -> None:
    before = os.umask(0)
    try:
        store.put_if_absent(NAME, b"secret")
        found = store.get(NAME)
        assert found is not None
        store.compare_and_swap(NAME, b"another", found.version)
    finally:
        os.umask(before)
    for path in (directory, *directory.rglob("*")):
        assert path.stat().st_mode & 0o077 == 0, path


def test_a_named_directory_that_is_missing_is_not_an_empty_store(directory: Path) -> None:
    store = FileStore(directory)
    for call in (lambda: store.get(NAME), lambda: store.list(""), lambda: store.put_if_absent(NAME, b"x")):
        with pytest.raises(StoreError, match="no such directory; make it, or mount"):
            call()
    assert not directory.exists()


@pytest.mark.parametrize("by", ["fstab", "unit"])
def test_a_mount_point_where_nothing_is_mounted_is_not_an_empty_store(
    directory: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, by: str
) -> None:
    share = tmp_path / "nfs of-all"
    directory = share / "store"
    directory.mkdir(parents=True)
    fstab = tmp_path / "fstab"
    monkeypatch.setattr("protokube.store.mounted.FSTAB", fstab)
    monkeypatch.setattr("protokube.store.mounted.UNITS", (tmp_path,))
    if by == "fstab":
        target = str(share).replace(" ", "\\040")
        fstab.write_text(f"# a comment\n\nserver:/all {target}/ nfs noauto 0 0\nswap none swap\n")
    else:
        (tmp_path / unit_name(share)).write_text("[Mount]\nWhat=server:/all\n")
    store = FileStore(directory)
    for call in (lambda: store.get(NAME), lambda: store.list(""), lambda: store.put_if_absent(NAME, b"x")):
        with pytest.raises(StoreError, match=r"is to be mounted at .*nfs of-all, and none is"):
            call()
    assert list(directory.iterdir()) == []
    line = SimpleNamespace(target=str(share.resolve()))
    monkeypatch.setattr("protokube.store.mounted.mountinfo.read", lambda: [line])
    assert store.list("") == [] and store.put_if_absent(NAME, b"x")


def test_a_masked_mount_unit_says_nothing(directory: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("protokube.store.mounted.UNITS", (tmp_path,))
    (tmp_path / unit_name(directory)).symlink_to("/dev/null")
    directory.mkdir()
    assert FileStore(directory).list("") == []


def test_a_mount_unit_is_named_as_systemd_does() -> None:
    assert unit_name(Path("/mnt/nfs-a/.x y")) == "mnt-nfs\\x2da-.x\\x20y.mount"
    assert unit_name(Path("/.a")) == "\\x2ea.mount" and unit_name(Path("/")) == "-.mount"


def test_an_object_that_is_something_else_is_an_error(directory: Path, store: FileStore) -> None:
    (directory / NAME).mkdir(parents=True)
    with pytest.raises(StoreError):
        store.get(NAME)
    (directory / "c/link").symlink_to("/etc/hostname")
    with pytest.raises(StoreError):
        store.get("c/link")
    assert store.list("") == []


def test_a_lock_that_another_program_keeps_ends_the_wait(directory: Path) -> None:
    directory.mkdir()
    held = os.open(directory / ".lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(held, fcntl.LOCK_EX)
    try:
        with pytest.raises(StoreError, match=r"has held its lock for 0\.1 s"):
            FileStore(directory, lock_limit=0.1).put_if_absent(NAME, b"x")
    finally:
        os.close(held)
    assert FileStore(directory).put_if_absent(NAME, b"x")


@pytest.mark.parametrize("after", [False, True])
def test_a_crash_at_any_point_leaves_the_old_object_or_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    """Whatever is left, the next writer goes on, and nothing half-written is ever read."""
    points = 0
    for at in range(1, 100):
        directory = tmp_path / f"{at}"
        store = FileStore(directory, make=True)
        with monkeypatch.context() as patch:
            crashed = crashing(patch, at, after=after)
            done = []
            try:
                done.append(store.put_if_absent(NAME, b"one" * 100))
                found = store.get(NAME)
                assert found is not None
                done.append(store.compare_and_swap(NAME, b"two" * 100, found.version))
            except CrashError:
                pass
        points += crashed()
        left = store.get(NAME)
        allowed: tuple[bytes | None, ...] = (None, b"one" * 100) if not done else (b"one" * 100, b"two" * 100)
        assert (left.content if left else None) in allowed
        if left is None:
            assert store.put_if_absent(NAME, b"three")
        else:
            assert not store.put_if_absent(NAME, b"three")
            assert store.compare_and_swap(NAME, b"three", left.version)
        assert store.list("") == [NAME]
        assert not (directory / ".new").exists()
        if not crashed():
            break
    assert points > 12


@pytest.mark.parametrize("after", [False, True])
def test_a_crash_while_a_file_is_put_leaves_all_of_it_or_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    big, name = tmp_path / "big", "c/backups/main/one.db"
    big.write_bytes(b"x" * (3 << 20))
    points = 0
    for at in range(1, 100):
        directory = tmp_path / f"{at}"
        store = FileStore(directory, make=True)
        with monkeypatch.context() as patch:
            crashed = crashing(patch, at, after=after)
            with suppress(CrashError):
                store.put_file_if_absent(name, big)
        points += crashed()
        assert store.list("c/") in ([], [name])
        if store.list("c/"):
            assert store.get_file(name, tmp_path / f"got-{at}")
            assert (tmp_path / f"got-{at}").read_bytes() == big.read_bytes()
        assert store.put_if_absent(NAME, b"the next writer cleans up")
        assert [path.name for path in directory.glob(".*")] == [".lock"]
        if not crashed():
            break
    assert points > 5


def test_a_copy_under_way_is_left_alone_and_keeps_nobody_waiting(directory: Path, store: FileStore) -> None:
    store.put_if_absent(NAME, b"x")
    copy = directory / ".big-of-another-writer"
    with copy.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert store.put_if_absent("c/pki/v2.json", b"x")
        assert copy.exists()
    assert store.put_if_absent("c/pki/v3.json", b"x")
    assert not copy.exists()


def test_processes_that_race_for_one_object_make_one(directory: Path) -> None:
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACE, directory, letter], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for letter in "abc"
    ]
    for racer in racers:
        assert racer.stdout is not None and racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("\n")
        racer.stdin.flush()
    said = [racer.communicate(timeout=60)[0].strip() for racer in racers]
    assert sorted(said) == ["False", "False", "True"]
    found = FileStore(directory).get(NAME)
    assert found is not None and found.content == "abc"[said.index("True")].encode() * 100000
