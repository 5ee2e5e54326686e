"""One backup of a real etcd, of three releases: what is proven, and what is found before it counts."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

from protokube.backups.catalogue import Catalogue
from protokube.backups.proof import count
from protokube.backups.take import AtWorkError, Source, is_working, take
from protokube.backups.tools import find_tools
from protokube.core.backup.names import Listing
from protokube.core.etcd.running import Snapshot
from protokube.errors import ProviderError, StoreError
from protokube.etcdclient.client import EtcdClient
from protokube.etcdclient.transport import Server
from protokube.store.file import FileStore
from protokube.store.s3 import S3Store
from protokube.store.sealed import SealedStore
from tests.lab.etcd_process import Etcd
from tests.lab.etcd_releases import BINARIES, OWN, TOOLS
from tests.lab.s3 import Fault, serving

CLUSTER = "dev.example.com"


def running(folder: Path, binaries: Path) -> Etcd:
    (folder / "etcd").mkdir()
    return Etcd(folder / "etcd", binaries=binaries)


@pytest.fixture
def etcd(tmp_path: Path) -> Iterator[Etcd]:
    member = running(tmp_path, OWN)
    try:
        yield member
    finally:
        member.close()


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path / "store", make=True)


def source(etcd: Etcd) -> Source:
    return Source(EtcdClient(Server(etcd.client), 30.0), "a")


def fill(etcd: Etcd, keys: int = 20) -> None:
    for number in range(keys):
        etcd.ctl("put", f"key/{number}", "x" * 2_000)
    etcd.ctl("put", "key/0", "again")
    etcd.ctl("del", "key/1")


@pytest.mark.parametrize("version", BINARIES)
def test_a_backup_is_taken_and_proven(tmp_path: Path, store: FileStore, version: str) -> None:
    member = running(tmp_path, BINARIES[version])
    try:
        fill(member)
        tools = str(BINARIES[version])
        sealed = SealedStore(store, bytes(32))
        catalogue = Catalogue(sealed, CLUSTER, "main")
        record = take(source(member), catalogue, tmp_path / "work", "a test", tools)
    finally:
        member.close()
    assert record.proven and "19 keys" in record.proof, record.proof
    assert (record.keys, record.etcd_version, record.reason) == (19, version, "a test")
    assert catalogue.listing() == Listing((record.name,))
    assert catalogue.record(record.name) == record
    assert sorted(path.name for path in (tmp_path / "work").iterdir()) == [".lock"]
    catalogue.fetch(record.name, tmp_path / "got", record.sha256)
    assert count(tmp_path / "got").keys == 19 and record.size == (tmp_path / "got").stat().st_size
    for path in (tmp_path / "store").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0


def test_without_a_tool_it_is_not_proven(
    etcd: Etcd, tmp_path: Path, store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("protokube.backups.take.find_tools", lambda _first: ())
    record = take(source(etcd), Catalogue(store, CLUSTER, "main"), tmp_path / "work", "a test")
    assert not record.proven and "no etcdutl" in record.proof


@pytest.mark.parametrize(("version", "counts"), [("3.6.6", True), ("3.4.99", False)])
def test_a_tool_that_refuses_condemns_only_backups_of_its_own_version(
    etcd: Etcd, tmp_path: Path, store: FileStore, monkeypatch: pytest.MonkeyPatch, version: str, counts: bool
) -> None:
    tool = tmp_path / "etcdutl"
    tool.write_text(f"#!/bin/sh\n[ $1 = version ] && echo etcdutl version: {version} || {{ echo no >&2; exit 3; }}\n")
    tool.chmod(0o755)
    monkeypatch.setattr("protokube.backups.tools._DIRECTORIES", ())
    catalogue = Catalogue(store, CLUSTER, "main")
    if counts:
        record = take(source(etcd), catalogue, tmp_path / "work", "a test", str(tmp_path))
        assert not record.proven and "exit code 3" in record.proof and "etcd 3.4" in record.proof
    else:
        with pytest.raises(ProviderError, match="refuses the snapshot"):
            take(source(etcd), catalogue, tmp_path / "work", "a test", str(tmp_path))
        assert catalogue.listing().complete == ()


def test_a_backup_in_s3_meets_conflicts_and_is_proven(
    etcd: Etcd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(etcd)
    with serving(monkeypatch, "masters") as server:
        server.conflict_every = 3
        catalogue = Catalogue(S3Store("masters", "p/"), CLUSTER, "main")
        first = take(source(etcd), catalogue, tmp_path / "work", "a test")
        second = take(source(etcd), catalogue, tmp_path / "work", "a test") if first.proven else first
        assert second.proven and catalogue.listing().complete[-1] == second.name
        server.conflict_every = 0
        server.faults.append(Fault("InternalError", 500, "PUT", after=True))
        with pytest.raises(StoreError):
            take(source(etcd), catalogue, tmp_path / "work", "a test")
        listing = catalogue.listing()
        assert listing.complete[-1] == second.name and len(listing.incomplete) <= 1


def test_an_etcd_that_was_compacted_is_counted_rightly(etcd: Etcd, tmp_path: Path, store: FileStore) -> None:
    fill(etcd)
    etcd.ctl("del", "", "--from-key")
    client = source(etcd).client
    client.compact(client.keys().revision)
    assert (client.keys().count, client.keys().revision) == (0, 24)
    record = take(source(etcd), Catalogue(store, CLUSTER, "main"), tmp_path / "work", "a test")
    assert record.proven and (record.keys, record.revision) == (0, 24)


def test_a_client_that_writes_all_the_time_makes_no_backup_wrong(
    etcd: Etcd, tmp_path: Path, store: FileStore
) -> None:
    stop, written = threading.Event(), list[int]()

    def write() -> None:
        while not stop.is_set():
            etcd.ctl("put", f"load/{len(written)}", "x" * 500)
            written.append(len(written))
            if len(written) % 7 == 0:
                etcd.ctl("del", f"load/{len(written) - 3}")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(3):
            before = len(written)
            while len(written) < before + 5:
                pass
            assert take(source(etcd), Catalogue(store, CLUSTER, "main"), tmp_path / "work", "a test").proven
    finally:
        stop.set()
        writer.join(60)


class Meddling(EtcdClient):
    """A client whose snapshots are changed on their way."""

    def __init__(self, url: str, change: Callable[[Path], object], scratch: Path) -> None:
        super().__init__(Server(url), 30.0)
        self._change, self._scratch = change, scratch

    def snapshot(self, out: BinaryIO, limit: float = 60.0) -> Snapshot:
        """The snapshot, changed."""
        with self._scratch.open("wb") as file:
            told = super().snapshot(file, limit)
        self._change(self._scratch)
        out.write(self._scratch.read_bytes())
        return told


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 512)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(("change", "problem"), [(cut, "own sha256"), (flip, "own sha256")])
def test_a_damaged_snapshot_never_counts(
    etcd: Etcd, tmp_path: Path, store: FileStore, change: Callable[[Path], None], problem: str
) -> None:
    fill(etcd)
    catalogue = Catalogue(store, CLUSTER, "main")
    meddling = Source(Meddling(etcd.client, change, tmp_path / "scratch"), "a")
    with pytest.raises(ProviderError, match=problem):
        take(meddling, catalogue, tmp_path / "work", "a test")
    assert catalogue.listing() == Listing() and store.list("") == []


def test_a_stale_snapshot_never_counts(etcd: Etcd, tmp_path: Path, store: FileStore) -> None:
    fill(etcd)
    with (tmp_path / "old").open("wb") as old:
        source(etcd).client.snapshot(old)
    etcd.ctl("put", "later", "x")
    old_one = (tmp_path / "old").read_bytes()
    stale = Source(Meddling(etcd.client, lambda path: bool(path.write_bytes(old_one)), tmp_path / "scratch"), "a")
    with pytest.raises(ProviderError, match="stale"):
        take(stale, Catalogue(store, CLUSTER, "main"), tmp_path / "work", "a test")
    assert store.list("") == []


def test_a_store_that_gives_back_something_else_is_found_before_it_counts(
    etcd: Etcd, tmp_path: Path, store: FileStore
) -> None:
    class Lossy(FileStore):
        def get_file(self, name: str, path: Path) -> bool:
            found = super().get_file(name, path)
            flip(path)
            return found

    catalogue = Catalogue(Lossy(tmp_path / "store", make=True), CLUSTER, "main")
    with pytest.raises(StoreError, match="it is damaged"):
        take(source(etcd), catalogue, tmp_path / "work", "a test")
    listing = catalogue.listing()
    assert listing.complete == () and len(listing.incomplete) == 1


def test_a_full_store_or_a_full_disk_leaves_what_was_there(
    etcd: Etcd, tmp_path: Path, store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(FileStore):
        def put_file_if_absent(self, name: str, path: Path) -> bool:
            raise StoreError("no space left on device")

    catalogue = Catalogue(store, CLUSTER, "main")
    first = take(source(etcd), catalogue, tmp_path / "work", "a test")
    full = Catalogue(Full(tmp_path / "store", make=True), CLUSTER, "main")
    with pytest.raises(StoreError, match="no space"):
        take(source(etcd), full, tmp_path / "work", "a test")
    monkeypatch.setattr("protokube.backups.take._SPARE", 1 << 60)
    with pytest.raises(ProviderError, match="MiB free"):
        take(source(etcd), catalogue, tmp_path / "work", "a test")
    assert catalogue.listing() == Listing((first.name,))
    assert sorted(path.name for path in (tmp_path / "work").iterdir()) == [".lock"]
    etcd.ctl("get", "key/0")


def test_two_never_work_side_by_side_and_what_a_killed_one_left_is_removed(
    etcd: Etcd, tmp_path: Path, store: FileStore
) -> None:
    folder, catalogue = tmp_path / "work", Catalogue(store, CLUSTER, "main")
    (folder / "trial/member").mkdir(parents=True)
    (folder / "snapshot.db").write_bytes(b"half")
    with (folder / ".lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert is_working(folder)
        with pytest.raises(AtWorkError):
            take(source(etcd), catalogue, folder, "a test")
    assert not is_working(folder)
    assert take(source(etcd), catalogue, folder, "a test").proven
    assert [path.name for path in folder.iterdir()] == [".lock"]


def test_an_etcd_that_is_silent_is_an_error_and_nothing_is_written(tmp_path: Path, store: FileStore) -> None:
    silent = Source(EtcdClient(Server("http://127.0.0.1:1"), 2.0), "a")
    with pytest.raises(ProviderError):
        take(silent, Catalogue(store, CLUSTER, "main"), tmp_path / "work", "a test")
    assert not (tmp_path / "store").exists()


def test_the_newest_tool_is_taken_and_the_operator_s_first(tmp_path: Path) -> None:
    (first, *_) = find_tools(str(TOOLS["3.5.16"]))
    assert (first.path.name, first.version) == ("etcdutl", (3, 5, 16))
    assert [tool.name for tool in find_tools(None)] == ["etcdctl 3.4.23"]
    broken = tmp_path / "etcdutl"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    assert [tool.path.parent for tool in find_tools(str(tmp_path))] == [OWN]
