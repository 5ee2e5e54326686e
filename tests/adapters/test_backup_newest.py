"""Which backup is the newest, and which is `latest`: not one of a wrong clock, nor one that can't be read."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from msgspec.structs import replace

from protokube.backups.catalogue import Catalogue
from protokube.core.backup.model import BackupRecord
from protokube.core.backup.names import metadata_object
from protokube.etcdcommand.backups import LATEST, find_backup, list_text, older_of, records_of
from protokube.etcdcommand.look import ImpossibleError
from protokube.store.file import FileStore

CLUSTER = "dev.example.com"


class Lab:
    """A store with backups."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.now = folder, int(time.time())
        self.catalogue = Catalogue(FileStore(folder / "store", make=True), CLUSTER, "main")
        (folder / "data").write_bytes(b"x")

    def put(self, age: int) -> BackupRecord:
        """A backup, `age` seconds old."""
        record = BackupRecord(self.now - age, 7, 512, "00", 1, 7, "3.5.30", "a", True, "", "a test")
        name = self.catalogue.put_data(record.at, record.revision, self.folder / "data")
        record = replace(record, at=name.at)
        self.catalogue.put_record(record)
        return record

    def damage(self, record: BackupRecord, text: str) -> None:
        """Damage a backup's metadata."""
        (self.folder / "store" / metadata_object(CLUSTER, "main", record.name)).write_text(text)


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


def test_one_of_a_wrong_clock_is_never_latest(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    good, future = lab.put(100), lab.put(-86400)
    assert lab.catalogue.newest(lab.now).record == good
    assert find_backup(lab.catalogue, LATEST) == good
    assert f"{future.name}: it is from the future" in capsys.readouterr().err
    assert find_backup(lab.catalogue, str(future.name)) == future


def test_where_all_are_of_a_wrong_clock_one_must_be_named(lab: Lab) -> None:
    future = lab.put(-86400)
    assert lab.catalogue.newest(lab.now).record == future
    with pytest.raises(ImpossibleError, match=str(future.name)):
        find_backup(lab.catalogue, LATEST)


def test_one_of_an_older_cluster_is_never_latest_and_must_be_named(
    lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    """Right after `protokube etcd new` the store has no others: the new cluster's data would be lost for them."""
    old = lab.put(100)
    lab.catalogue.give_up(lab.catalogue.listing())
    with pytest.raises(ImpossibleError, match=f"older cluster .*{old.name}: name it"):
        find_backup(lab.catalogue, LATEST)
    assert find_backup(lab.catalogue, str(old.name)) == old
    own = lab.put(50)
    assert find_backup(lab.catalogue, LATEST) == own
    lab.damage(own, "nonsense")
    with pytest.raises(ImpossibleError, match="no such backup"):
        find_backup(lab.catalogue, LATEST)
    assert str(own.name) in capsys.readouterr().err


def test_the_list_tells_which_are_of_an_older_cluster(lab: Lab) -> None:
    old = lab.put(100)
    lab.catalogue.give_up(lab.catalogue.listing())
    own = lab.put(50)
    cluster = cast(Any, SimpleNamespace(key="main"))
    _, first, second = list_text(cluster, [old, own], 0, older_of(lab.catalogue)).splitlines()
    assert str(old.name) in first and first.endswith("; of an older cluster")
    assert str(own.name) in second and "older cluster" not in second


@pytest.mark.parametrize("text", ["", "{}", "nonsense"])
def test_one_that_can_t_be_read_is_passed_over_and_named(
    lab: Lab, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    good, damaged = lab.put(200), lab.put(100)
    lab.damage(damaged, text)
    found = lab.catalogue.newest(lab.now)
    assert found.record == good and str(damaged.name) in found.unreadable[0]
    assert find_backup(lab.catalogue, LATEST) == good
    assert records_of(lab.catalogue) == [good]
    assert capsys.readouterr().err.count(str(damaged.name)) == 2
