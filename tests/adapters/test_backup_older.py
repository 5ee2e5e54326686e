"""`protokube etcd new`, and the deletion of old backups: neither is led astray by a wrong clock or a race."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from msgspec.structs import replace

from protokube.backups.catalogue import Catalogue
from protokube.backups.node import older_backups
from protokube.backups.removal import remove
from protokube.backups.wishes import Wishes
from protokube.core.backup.model import BackupRecord
from protokube.core.backup.names import BackupName, older_object
from protokube.core.backup.restore import RestoreWish
from protokube.core.model import Unknown
from protokube.etcdcommand.newcluster import allow_new
from protokube.store.file import FileStore

CLUSTER = "dev.example.com"
YEAR = 365 * 86400


class Lab:
    """A store with backups, and a node whose member never ran."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.now = folder, int(time.time())
        self.store = FileStore(folder / "store", make=True)
        self.catalogue = Catalogue(self.store, CLUSTER, "main")
        self.wishes = Wishes(self.store, CLUSTER, "main")
        (folder / "data").write_bytes(b"x")

    def put(self, age: int) -> BackupRecord:
        """A backup, `age` seconds old."""
        record = BackupRecord(self.now - age, 7, 512, "00", 1, 7, "3.5.30", "a", True, "", "a test")
        name = self.catalogue.put_data(record.at, record.revision, self.folder / "data")
        record = replace(record, at=name.at)
        self.catalogue.put_record(record)
        return record

    def new(self) -> None:
        """The command."""
        chosen = SimpleNamespace(
            settings=SimpleNamespace(root=str(self.folder)), store=SimpleNamespace(open=lambda: self.store)
        )
        own = SimpleNamespace(has_data=False)
        cluster = SimpleNamespace(key="main", cluster_id=CLUSTER, name="etcd-a", own=own)
        allow_new(cast(Any, chosen), cast(Any, cluster), lambda: None)

    def wish(self, record: BackupRecord) -> RestoreWish:
        """Begin a restore."""
        return self.wishes.make(RestoreWish(0, record, {"a": "etcd-a"}, {"a": "http://a"}, "3.5.30"))


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


def test_one_backup_of_a_wrong_clock_gives_up_no_later_one(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    real, _future = lab.put(100), lab.put(-YEAR)
    lab.new()
    assert f"2 backups of it, the newest {real.name}, 10" in capsys.readouterr().out
    assert lab.catalogue.kept(lab.now).count == 0
    # The new cluster's own one bars another birth, although one of the old ones has a later name.
    own = lab.put(5)
    assert lab.catalogue.kept(lab.now).newest == own.name
    lab.new()
    assert lab.catalogue.kept(lab.now).count == 0 and len(lab.catalogue.older()) == 3


def test_where_only_backups_of_a_wrong_clock_are_left_that_is_said(lab: Lab, capsys: Any) -> None:
    lab.put(-YEAR)
    lab.new()
    assert "from the future" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["{}", '{"names":["latest"]}'])
def test_a_damaged_list_of_older_ones_is_not_known(lab: Lab, text: str) -> None:
    lab.put(100)
    lab.new()
    (lab.folder / "store" / older_object(CLUSTER, "main")).write_text(text)
    assert isinstance(older_backups(lab.catalogue), Unknown)


def test_the_backup_of_a_restore_that_began_meanwhile_is_not_deleted(lab: Lab) -> None:
    one, two = lab.put(200), lab.put(100)
    lab.wish(one)
    remove(lab.catalogue, lab.wishes, (one.name, two.name))
    assert lab.catalogue.listing().complete == (one.name,)


def test_one_that_is_wished_between_two_looks_is_put_back(lab: Lab) -> None:
    one, two = lab.put(200), lab.put(100)

    def names() -> Iterator[BackupName]:
        yield two.name
        yield one.name
        lab.wish(one)  # nobody has told the deletion's first look

    remove(lab.catalogue, lab.wishes, names())
    assert lab.catalogue.listing().complete == (one.name,)
    assert lab.catalogue.record(one.name) == one
