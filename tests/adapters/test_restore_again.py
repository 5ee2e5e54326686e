"""The restore command, given again: it goes on with what the volume's mark says, and never takes a number twice."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from protokube.backups.member import Member, put_mark, read_mark
from protokube.backups.wishes import Wishes
from protokube.core.backup.model import BackupRecord
from protokube.core.backup.restore import RestoreWish, Stage
from protokube.core.disks.identity import Identity
from protokube.core.disks.paths import IDENTITY_PATH
from protokube.errors import ProviderError
from protokube.etcdcommand.restore import Restore
from protokube.store.file import FileStore

CLUSTER = "dev.example.com"
BACKUP = BackupRecord(1_800_000_000, 7, 512, "00", 1, 7, "3.5.30", "a", True, "", "a test")
WISH = RestoreWish(0, BACKUP, {"a": "etcd-a"}, {"a": "http://127.0.0.1:1"}, "3.5.30")


class Lab:
    """One member, whose volume and store are directories."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.member = Member("a", folder / "volume", "var/etcd/data", folder / "etcd.manifest")
        self.member.data.mkdir(parents=True)
        self.member.mark.parent.mkdir()
        identity = Identity(CLUSTER, "main", "a", "main-a", "fs", "3.5.30", started=True)
        (self.member.volume / IDENTITY_PATH).write_text(identity.render())
        self.store = FileStore(folder / "store", make=True)
        self.wishes = Wishes(self.store, CLUSTER, "main")

    def command(self) -> Restore:
        """The command on this member's node."""
        own = SimpleNamespace(
            volume=SimpleNamespace(member=SimpleNamespace(me="a", members=("a",)), target="/volume"),
            template=SimpleNamespace(data_dir="var/etcd/data"),
            link="/etcd.manifest",
            manifest="",
        )
        chosen = SimpleNamespace(
            settings=SimpleNamespace(root=str(self.folder)),
            config=SimpleNamespace(backup=SimpleNamespace(tools=None)),
            store=SimpleNamespace(open=lambda: self.store),
        )
        cluster = SimpleNamespace(key="main", cluster_id=CLUSTER, own=own, scheme="http")
        return Restore(cast(Any, chosen), cast(Any, cluster))

    def fulfilled(self) -> RestoreWish:
        """A wish that is fulfilled, whose mark is still there: the command was killed right before its end."""
        wish = self.wishes.make(WISH)
        put_mark(self.member, wish.number)
        self.member.beside(f"before-{wish.number}").mkdir()
        self.wishes.tell_stopped(wish, "a")
        self.wishes.move(wish, Stage.GOING)
        return self.wishes.tell_restored(wish, "a")


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    monkeypatch.setattr("protokube.etcdcommand.restore.choose_tool", lambda _first, _version: None)
    monkeypatch.setattr("protokube.etcdcommand.restore.find_backup", lambda *_: BACKUP)
    return Lab(tmp_path)


@pytest.mark.parametrize("backup", [None, "latest", str(BACKUP.name)])
def test_a_fulfilled_restore_whose_mark_is_left_is_ended_and_none_begins(lab: Lab, backup: str | None) -> None:
    wish = lab.fulfilled()
    assert lab.wishes.under_way() is None
    lab.command().run(backup, lambda: None, 0.0)
    newest = lab.wishes.newest()
    assert newest is not None and newest.number == wish.number
    assert read_mark(lab.member) is None and lab.member.data.is_dir()


def test_another_backup_isn_t_restored_while_a_mark_is_there(lab: Lab) -> None:
    lab.fulfilled()
    with pytest.raises(Exception, match="is under way"):
        lab.command().run("20200101T000000Z-1", lambda: None, 0.0)
    assert read_mark(lab.member) == 1


def test_a_mark_is_never_overwritten_by_another_number(lab: Lab) -> None:
    put_mark(lab.member, 1)
    put_mark(lab.member, 1)
    with pytest.raises(ProviderError, match="restore 1 is under way"):
        put_mark(lab.member, 2)
    assert read_mark(lab.member) == 1


@pytest.mark.parametrize("left", ["before-1", "restored-1"])
def test_what_an_older_restore_of_that_number_left_is_never_taken_for_this_one_s(lab: Lab, left: str) -> None:
    lab.member.beside(left).mkdir()
    with pytest.raises(ProviderError, match="move it away"):
        put_mark(lab.member, 1)
    assert read_mark(lab.member) is None


def test_a_number_that_any_object_has_is_not_used_again(lab: Lab) -> None:
    wish = lab.fulfilled()
    (lab.folder / "store" / CLUSTER / "backups/main/restore/000001/wish.json").unlink()
    assert lab.wishes.newest() is None
    assert lab.wishes.make(WISH).number == wish.number + 1
