"""One suite for every store: of several writers exactly one wins, and what can't be read is never absent."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from protokube.errors import StoreError
from protokube.ports import BulkStore
from tests.contract.store_backends import BACKENDS, Backend

NAME = "dev.example.com/pki/v1.json"
BACKUP = "dev.example.com/backups/main/20261101T000000Z-7.db"
WRITERS = 8
MIB = 1 << 20


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Backend]:
    with BACKENDS[request.param](tmp_path, monkeypatch) as backend:
        yield backend


@pytest.fixture
def store(backend: Backend) -> BulkStore:
    return backend.open()


def at_once(write: Callable[[int], bool]) -> list[int]:
    """Let writers begin together; the numbers of those that were told that they won."""
    begin = threading.Barrier(WRITERS)
    won: list[int] = []

    def run(number: int) -> None:
        begin.wait()
        if write(number):
            won.append(number)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(WRITERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return won


def test_an_object_that_was_never_written_is_absent(store: BulkStore) -> None:
    assert store.get(NAME) is None
    assert store.list("") == []
    assert not store.compare_and_swap(NAME, b"new", "any")
    assert store.get(NAME) is None


def test_what_was_written_is_read_by_every_client(backend: Backend) -> None:
    assert backend.open().put_if_absent(NAME, b"first")
    found = backend.open().get(NAME)
    assert found is not None and found.content == b"first"


@pytest.mark.parametrize("content", [b"", b"\0\xff\r\n", b"x" * 3_000_000], ids=["empty", "binary", "large"])
def test_every_content_comes_back_as_it_was(store: BulkStore, content: bytes) -> None:
    assert store.put_if_absent(NAME, content)
    found = store.get(NAME)
    assert found is not None and found.content == content


def test_an_object_is_not_made_a_second_time(store: BulkStore) -> None:
    assert store.put_if_absent(NAME, b"first")
    assert not store.put_if_absent(NAME, b"second")
    found = store.get(NAME)
    assert found is not None and found.content == b"first"


def test_a_swap_needs_the_version_that_stands_there(store: BulkStore) -> None:
    store.put_if_absent(NAME, b"one")
    one = store.get(NAME)
    assert one is not None
    assert store.compare_and_swap(NAME, b"two", one.version)
    assert not store.compare_and_swap(NAME, b"three", one.version)
    two = store.get(NAME)
    assert two is not None and two.content == b"two"
    assert store.compare_and_swap(NAME, b"three", two.version)


def test_of_several_who_make_an_object_exactly_one_wins(backend: Backend) -> None:
    stores = [backend.open() for _ in range(WRITERS)]
    (winner,) = at_once(lambda number: stores[number].put_if_absent(NAME, b"%d" % number))
    found = backend.open().get(NAME)
    assert found is not None and found.content == b"%d" % winner


def test_of_several_who_change_an_object_exactly_one_wins(backend: Backend) -> None:
    backend.open().put_if_absent(NAME, b"old")
    old = backend.open().get(NAME)
    assert old is not None
    stores = [backend.open() for _ in range(WRITERS)]
    (winner,) = at_once(lambda number: stores[number].compare_and_swap(NAME, b"%d" % number, old.version))
    found = backend.open().get(NAME)
    assert found is not None and found.content == b"%d" % winner


@pytest.mark.parametrize("size", [0, 5, MIB - 1, MIB, MIB + 1, 3 * MIB], ids=str)
def test_a_file_comes_back_as_it_was(store: BulkStore, tmp_path: Path, size: int) -> None:
    given, got = tmp_path / "given", tmp_path / "got"
    given.write_bytes(os.urandom(size))
    assert store.put_file_if_absent(BACKUP, given)
    assert store.get_file(BACKUP, got)
    assert got.read_bytes() == given.read_bytes()
    assert got.stat().st_mode & 0o777 == 0o600
    assert store.list("dev.example.com/") == [BACKUP]
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["given", "got"]


def test_a_file_that_is_absent_or_taken_changes_nothing(store: BulkStore, tmp_path: Path) -> None:
    given, other, got = tmp_path / "given", tmp_path / "other", tmp_path / "got"
    given.write_bytes(b"first")
    other.write_bytes(b"second")
    assert not store.get_file(BACKUP, got) and not got.exists()
    assert store.put_file_if_absent(BACKUP, given)
    assert not store.put_file_if_absent(BACKUP, other)
    assert store.get_file(BACKUP, got) and got.read_bytes() == b"first"


def test_of_several_who_make_an_object_of_a_file_exactly_one_wins(backend: Backend, tmp_path: Path) -> None:
    stores = [backend.open() for _ in range(WRITERS)]
    for number in range(WRITERS):
        (tmp_path / str(number)).write_bytes(b"%d" % number)
    (winner,) = at_once(lambda number: stores[number].put_file_if_absent(BACKUP, tmp_path / str(number)))
    assert backend.open().get_file(BACKUP, tmp_path / "got")
    assert (tmp_path / "got").read_bytes() == b"%d" % winner


def test_a_backup_is_deleted_and_nothing_else_can_be(store: BulkStore, tmp_path: Path) -> None:
    (tmp_path / "given").write_bytes(b"x")
    store.put_file_if_absent(BACKUP, tmp_path / "given")
    store.put_if_absent(NAME, b"authorities")
    store.delete(BACKUP)
    store.delete(BACKUP)
    assert store.list("") == [NAME]
    for name in (NAME, "backups/main/x.db", "dev.example.com/backups/main", "dev.example.com/backups/../pki/v1.json"):
        with pytest.raises(ValueError, match="no name of"):
            store.delete(name)
    assert store.list("") == [NAME]


def test_names_are_listed_by_prefix_in_order(store: BulkStore) -> None:
    for name in ("a/tokens/2.json", "a/tokens/1.json", "a/pki/v1.json", "ab/tokens/3.json"):
        store.put_if_absent(name, b"x")
    assert store.list("a/tokens/") == ["a/tokens/1.json", "a/tokens/2.json"]
    assert store.list("a/") == ["a/pki/v1.json", "a/tokens/1.json", "a/tokens/2.json"]
    assert store.list("b/") == []
    assert len(store.list("")) == 4


@pytest.mark.parametrize("name", ["", "/etc/passwd", "../up", "a/../b", "a//b", ".new", "a/.lock", "a/", "a b"])
def test_a_name_that_leads_elsewhere_is_a_bug(store: BulkStore, name: str) -> None:
    for call in (
        lambda: store.get(name),
        lambda: store.put_if_absent(name, b"x"),
        lambda: store.compare_and_swap(name, b"x", "v"),
    ):
        with pytest.raises(ValueError, match="no name of an object"):
            call()


def test_a_prefix_without_a_slash_is_a_bug(store: BulkStore) -> None:
    with pytest.raises(ValueError, match="no prefix"):
        store.list("dev")


def test_what_can_t_be_read_is_an_error_and_never_absent(backend: Backend, tmp_path: Path) -> None:
    store = backend.open()
    store.put_if_absent(NAME, b"first")
    (tmp_path / "given").write_bytes(b"x")
    backend.break_down()
    for call in (
        lambda: store.get(NAME),
        lambda: store.list(""),
        lambda: store.put_if_absent(NAME, b"x"),
        lambda: store.compare_and_swap(NAME, b"x", "v"),
        lambda: store.put_file_if_absent(BACKUP, tmp_path / "given"),
        lambda: store.get_file(BACKUP, tmp_path / "got"),
        lambda: store.delete(BACKUP),
    ):
        with pytest.raises(StoreError) as caught:
            call()
        assert caught.value.rule == "store/unreadable"
