"""A restore that a member never finishes is ended by command: nothing is lost, and two clusters never run at once.

The tool that restores is a stand-in: what stands on the volume and in the store is real.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from protokube.backups.catalogue import Catalogue
from protokube.backups.database import Contents
from protokube.backups.member import Member, alone, put_mark, read_mark
from protokube.backups.node import restored_backup
from protokube.backups.restore import advance
from protokube.backups.tools import Place, Tool
from protokube.backups.wishes import Wishes
from protokube.core.backup.model import BackupRecord
from protokube.core.backup.restore import RestoreWish, Stage
from protokube.core.backup.tools import BUMP
from protokube.core.disks.identity import Identity, parse_identity
from protokube.core.disks.paths import IDENTITY_PATH
from protokube.core.model import Unknown
from protokube.errors import ProviderError, StoreError
from protokube.etcdcommand.look import ImpossibleError
from protokube.etcdcommand.restore import Restore
from protokube.store.file import FileStore
from tests.lab.crashes import CrashError, crashing

CLUSTER = "dev.example.com"
BACKUP = BackupRecord(1_800_000_000, 7, 512, "00", 1, 7, "3.5.30", "a", True, "", "a test")
NAMES = {me: f"etcd-{me}" for me in "abc"}
URLS = {me: f"http://etcd-{me}.internal:2380" for me in "abc"}
WISH = RestoreWish(0, BACKUP, NAMES, URLS, "3.5.30")
TOOL = Tool(Path("/nowhere/etcdutl"), (3, 5, 30))


class Lab:
    """Three members, whose volumes and store are directories."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = FileStore(folder / "store", make=True)
        self.wishes = Wishes(self.store, CLUSTER, "main")
        self.catalogue = Catalogue(self.store, CLUSTER, "main")
        self.members = {me: self.member(me) for me in "abc"}

    def member(self, me: str) -> Member:
        made = Member(me, self.folder / me, "var/etcd/data", self.folder / f"{me}.manifest")
        (made.data / "member/snap").mkdir(parents=True)
        (made.data / "old").touch()
        made.mark.parent.mkdir()
        identity = Identity(CLUSTER, "main", me, f"main-{me}", "fs", "3.5.30", started=True)
        (made.volume / IDENTITY_PATH).write_text(identity.render())
        return made

    def going(self) -> RestoreWish:
        """A restore for which all have stopped."""
        wish = self.wishes.make(WISH)
        for me in "abc":
            put_mark(self.members[me], wish.number)
            self.wishes.tell_stopped(wish, me)
        return self.wishes.move(wish, Stage.GOING)

    def advance(self, me: str) -> str:
        return advance(self.members[me], self.wishes, self.catalogue, None)

    def command(self, me: str) -> Restore:
        """The command on a member's node."""
        volume = SimpleNamespace(member=SimpleNamespace(me=me, members=tuple("abc")), target=f"/{me}")
        template = SimpleNamespace(data_dir="var/etcd/data")
        own = SimpleNamespace(volume=volume, template=template, link=f"/{me}.manifest", manifest="")
        chosen = SimpleNamespace(
            settings=SimpleNamespace(root=str(self.folder)),
            config=SimpleNamespace(backup=SimpleNamespace(tools=None)),
            store=SimpleNamespace(open=lambda: self.store),
        )
        return Restore(
            cast(Any, chosen), cast(Any, SimpleNamespace(key="main", cluster_id=CLUSTER, own=own, scheme="http"))
        )


def is_old(member: Member) -> bool:
    return (member.data / "old").exists()


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    def made(_tool: Tool, _snapshot: Path, place: Place, *, bump: bool) -> None:
        (place.data_dir / "member/snap").mkdir(parents=True)

    module = "protokube.backups.exchange"
    monkeypatch.setattr(f"{module}.choose_tool", lambda _first, _version: TOOL)
    monkeypatch.setattr(f"{module}.restore", made)
    monkeypatch.setattr(f"{module}.count", lambda _path: Contents(keys=1, revision=7, compacted=0))
    restored = Contents(keys=1, revision=7 + BUMP, compacted=7 + BUMP)
    monkeypatch.setattr(f"{module}.read_contents", lambda _path: restored)
    monkeypatch.setattr("protokube.backups.catalogue.Catalogue.fetch", lambda *_: None)
    monkeypatch.setattr("protokube.etcdcommand.restore.choose_tool", lambda _first, _version: None)
    yield Lab(tmp_path)


@pytest.mark.parametrize("after", [False, True])
def test_before_anybody_is_restored_all_take_their_own_data_back(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    """Wherever the exchange was cut off, and wherever the way back is."""
    for at in range(1, 200):
        lab.folder = lab.folder / "at"
        lab.folder.mkdir()
        one = lab.members["a"] = lab.member("a")
        wish = lab.wishes.make(WISH)
        put_mark(one, wish.number)
        lab.wishes.move(wish, Stage.GOING)
        with monkeypatch.context() as patch:
            crashed = crashing(patch, at, after=after)
            patch.setattr(lab.wishes, "tell_restored", lambda wish, _me: lab.wishes.move(wish, Stage.ABANDONED))
            with suppress(CrashError):
                lab.advance("a")
        assert lab.wishes.move(wish, Stage.ABANDONED).stage is Stage.ABANDONED
        assert lab.advance("a") == "" and is_old(one) and read_mark(one) is None
        assert [path.name for path in one.data.parent.iterdir()] == ["data"]
        identity = parse_identity((one.volume / IDENTITY_PATH).read_text())
        assert isinstance(identity, Identity) and identity.told is None
        lab.folder = lab.folder.parent
        (lab.folder / "at").rename(lab.folder / f"at-{at}-{after}")
        if not crashed():
            break
    assert at > 10


def test_who_is_told_to_be_restored_before_the_end_runs_and_who_isn_t_takes_its_data_back(lab: Lab) -> None:
    wish = lab.going()
    lab.command("b").abandon(lambda: None)
    assert is_old(lab.members["b"]) and read_mark(lab.members["b"]) is None
    # a was in the middle of its exchange.
    assert lab.wishes.tell_restored(wish, "a").restored == ()
    for me in "ac":
        lab.command(me).run(None, lambda: None, 0.0)
        assert is_old(lab.members[me]) and read_mark(lab.members[me]) is None
    assert lab.wishes.under_way() is None


def test_who_was_left_behind_stays_stopped_until_another_restore(lab: Lab, capsys: Any) -> None:
    lab.going()
    assert lab.advance("a") == "" and not is_old(lab.members["a"])
    lab.command("a").abandon(lambda: None)
    told = capsys.readouterr().out
    assert "b, c won't be restored" in told and "a alone are no quorum of 3" in told
    for me in "bc":
        with pytest.raises(ProviderError, match="stays stopped"):
            lab.advance(me)
        # Not by mistake: it would bring the backup back on the members that serve, too.
        with pytest.raises(ImpossibleError, match=f"replace --member {me}"):
            lab.command(me).run(None, lambda: None, 0.0)
        assert read_mark(lab.members[me]) == 1 and is_old(lab.members[me])


def test_another_restore_takes_in_whoever_was_left_behind(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.going()
    assert lab.advance("a") == ""
    lab.command("a").abandon(lambda: None)
    second = lab.wishes.make(WISH)
    for me in "ab":
        with pytest.raises(ImpossibleError, match="to stop"):  # they wait for the others
            lab.command(me).run(None, lambda: None, 0.0)
    for me in "cab":
        lab.command(me).run(None, lambda: None, 0.0)
    for me in "abc":
        assert not is_old(lab.members[me]) and read_mark(lab.members[me]) is None
    assert lab.wishes.read(second.number).missing == () and lab.wishes.under_way() is None


@pytest.mark.parametrize("going", [False, True])
def test_who_was_left_behind_stays_stopped_after_another_abandoned_one(lab: Lab, capsys: Any, going: bool) -> None:
    lab.going()
    assert lab.advance("a") == lab.advance("b") == ""
    lab.command("a").abandon(lambda: None)
    second = lab.wishes.make(WISH)
    with pytest.raises(ImpossibleError, match="to stop"):
        lab.command("c").run(None, lambda: None, 0.0)
    assert read_mark(lab.members["c"]) == second.number
    if going:
        lab.wishes.move(second, Stage.GOING)
        lab.command("b").abandon(lambda: None)
        lab.command("c").run(None, None, 0.0)
        assert "left behind by restore 1 again" in capsys.readouterr().out
    with pytest.raises(ProviderError, match="replace --member c"):
        if going:
            lab.command("c").run(None, lambda: None, 0.0)
        else:
            lab.command("c").abandon(lambda: None)
    assert read_mark(lab.members["c"]) == 1 and is_old(lab.members["c"])
    with pytest.raises(ProviderError, match="stays stopped"):
        lab.advance("c")


def test_a_finished_restore_is_never_abandoned(lab: Lab) -> None:
    wish = lab.going()
    assert [lab.advance(me) for me in "abc"] == ["", "", ""]
    assert lab.wishes.move(wish, Stage.ABANDONED).stage is Stage.GOING
    with pytest.raises(ImpossibleError, match="no restore"):
        lab.command("a").abandon(lambda: None)


def test_only_one_command_restores_a_member_and_its_tool_keeps_the_others_out(lab: Lab) -> None:
    with alone(lab.members["a"]) as held:
        with pytest.raises(ProviderError, match="another process restores it now"), alone(lab.members["a"]):
            raise AssertionError("two at once")
        with pytest.raises(ProviderError, match="another process restores it now"):
            lab.command("a").run(None, lambda: None, 0.0)
        assert held.lock is not None
        tool = subprocess.Popen(["sleep", "600"], pass_fds=(held.lock,))
    try:
        # The command was killed, and its tool goes on.
        with pytest.raises(ProviderError, match="what a killed one has left"), alone(lab.members["a"]):
            raise AssertionError("two at once")
    finally:
        tool.kill()
        tool.wait(30)
    with alone(lab.members["a"]):
        pass


def test_the_backup_of_a_restore_under_way_is_told_and_one_that_can_t_be_read_is_unknown(lab: Lab) -> None:
    assert restored_backup(lab.wishes) is None
    wish = lab.going()
    assert restored_backup(lab.wishes) == BACKUP.name
    lab.wishes.move(wish, Stage.ABANDONED)
    assert restored_backup(lab.wishes) is None
    (lab.folder / "store" / CLUSTER / "backups/main/restore/000001/wish.json").write_text("{}")
    assert isinstance(restored_backup(lab.wishes), Unknown)
    with pytest.raises(StoreError):
        lab.wishes.under_way()


def test_a_backup_that_goes_while_its_restore_begins_ends_that(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    command = lab.command("a")
    monkeypatch.setattr(command, "_drafted", lambda *_: WISH)
    with pytest.raises(ImpossibleError, match="deleted right now"):
        command.run(None, lambda: None, 0.0)
    assert lab.wishes.under_way() is None and read_mark(lab.members["a"]) is None
