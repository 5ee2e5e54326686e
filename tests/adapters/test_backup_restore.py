"""A cluster's restore with real etcd: all members from one file, cut off at every step, and what is refused."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from msgspec.structs import replace

from protokube.backups.catalogue import Catalogue
from protokube.backups.member import Member, put_mark, read_mark
from protokube.backups.restore import advance, is_running, read_identity
from protokube.backups.take import Source, take
from protokube.backups.tools import Place, Tool, choose_tool, find_tools, restore
from protokube.backups.wishes import Wishes
from protokube.core.backup.model import BackupRecord
from protokube.core.backup.restore import RestoreWish, Stage
from protokube.core.backup.tools import BUMP
from protokube.core.disks.identity import Identity
from protokube.core.disks.paths import IDENTITY_PATH
from protokube.errors import ProviderError, StoreError
from protokube.etcdclient.client import EtcdClient
from protokube.etcdclient.transport import Server
from protokube.store.file import FileStore
from tests.lab.crashes import CrashError, crashing
from tests.lab.etcd_process import free_port
from tests.lab.etcd_releases import OWN, TOOLS

CLUSTER = "dev.example.com"
TOOL = TOOLS["3.5.30"]


class Running:
    """A member of a cluster, on a data directory that is there or not."""

    def __init__(self, member: Member, urls: dict[str, str], client: str, binaries: Path) -> None:
        self.client = client
        own = urls[member.me]
        self._log = (member.volume / f"{member.me}.log").open("ab")
        self._process = subprocess.Popen(
            [str(binaries / "etcd")],
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env={
                "ETCD_NAME": f"etcd-{member.me}",
                "ETCD_DATA_DIR": str(member.data),
                "ETCD_LISTEN_PEER_URLS": own,
                "ETCD_LISTEN_CLIENT_URLS": client,
                "ETCD_ADVERTISE_CLIENT_URLS": client,
                "ETCD_INITIAL_ADVERTISE_PEER_URLS": own,
                "ETCD_INITIAL_CLUSTER": ",".join(f"etcd-{me}={url}" for me, url in urls.items()),
                "ETCD_UNSUPPORTED_ARCH": os.uname().machine,
            },
        )

    def close(self) -> None:
        self._process.kill()
        self._process.wait(30)
        self._log.close()


class Lab:
    """Members on directories of one machine, with a store."""

    def __init__(self, folder: Path, letters: str, binaries: Path) -> None:
        self.folder, self.binaries = folder, binaries
        self.members = {me: member(folder / me, me) for me in letters}
        self.urls = {me: f"http://127.0.0.1:{free_port()}" for me in letters}
        self.clients = {me: f"http://127.0.0.1:{free_port()}" for me in letters}
        self.store = FileStore(folder / "store", make=True)
        self.catalogue = Catalogue(self.store, CLUSTER, "main")
        self.wishes = Wishes(self.store, CLUSTER, "main")
        self._running: list[Running] = []

    def start(self) -> None:
        for me, one in self.members.items():
            self._running.append(Running(one, self.urls, self.clients[me], self.binaries))
        for me in self.members:
            self.ctl(me, "endpoint", "health", "--command-timeout=120s", "--dial-timeout=10s")

    def stop(self) -> None:
        while self._running:
            self._running.pop().close()

    def ctl(self, me: str, *words: str) -> str:
        done = subprocess.run(
            ["etcdctl", f"--endpoints={self.clients[me]}", *words],
            env={"PATH": os.environ["PATH"], "ETCDCTL_API": "3"},
            check=True,
            capture_output=True,
            text=True,
            timeout=130,
        )
        return done.stdout

    def value(self, me: str, key: str) -> str:
        return self.ctl(me, "get", key, "--print-value-only").strip()

    def status(self, me: str) -> dict[str, int]:
        header: dict[str, int] = json.loads(self.ctl(me, "endpoint", "status", "-w", "json"))[0]["Status"]["header"]
        return header

    def backup(self) -> BackupRecord:
        me = min(self.members)
        source = Source(EtcdClient(Server(self.clients[me]), 30.0), me)
        return take(source, self.catalogue, self.folder / "work", "a test", str(TOOL))

    def wish(self, backup: BackupRecord) -> RestoreWish:
        names = {me: f"etcd-{me}" for me in self.members}
        return self.wishes.make(RestoreWish(0, backup, names, self.urls, backup.etcd_version))

    def advance(self, me: str, tools: str | None = str(TOOL)) -> str:
        return advance(self.members[me], self.wishes, self.catalogue, tools)

    def all_the_way(self) -> None:
        for _ in range(4):
            waiting = [self.advance(me) for me in self.members]
            if not any(waiting):
                return
        raise AssertionError("the restore doesn't come to its end")


def member(volume: Path, me: str) -> Member:
    (volume / "k8s.io").mkdir(parents=True)
    (volume / "var/etcd").mkdir(parents=True)
    identity = Identity(CLUSTER, "main", me, f"main-{me}", "fs", "3.5.30", started=True, told="old/old")
    (volume / IDENTITY_PATH).write_text(identity.render())
    return Member(me, volume, "var/etcd/data", volume / "etcd.manifest")


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Callable[..., Lab]]:
    with ExitStack() as stack:

        def make(letters: str = "a", binaries: Path = TOOL) -> Lab:
            made = Lab(tmp_path / "lab", letters, binaries)
            stack.callback(made.stop)
            return made

        yield make


@pytest.mark.parametrize(("letters", "binaries"), [("a", OWN), ("abc", TOOL)], ids=["one, 3.4.23", "three, 3.5.30"])
def test_a_cluster_comes_back_as_it_was_backed_up(lab: Callable[..., Lab], letters: str, binaries: Path) -> None:
    here = lab(letters, binaries)
    here.start()
    for number in range(10):
        here.ctl("a", "put", f"kept/{number}", "x")
    backup = here.backup()
    here.ctl("a", "put", "later", "x")
    before = here.status("a")
    wish = here.wish(backup)
    for one in here.members.values():
        put_mark(one, wish.number)
    assert here.advance("a") == "etcd to end" and is_running(here.members["a"].data)
    here.stop()
    here.all_the_way()
    here.start()
    for me in letters:
        assert all(here.value(me, f"kept/{number}") == "x" for number in range(10))
        assert here.value(me, "later") == ""
        after = here.status(me)
        assert after["cluster_id"] != before["cluster_id"]
        assert after["revision"] >= backup.revision + BUMP
        assert here.members[me].data.stat().st_mode & 0o777 == 0o700
        assert read_identity(here.members[me]).told == "", "what was told of authorities is the backup's"
        assert is_running(here.members[me].data)
        names = {path.name for path in here.members[me].data.parent.iterdir()}
        assert names == {"data", "data.before-1"}, "the old data are kept, and nothing else is left"
    here.ctl(letters[-1], "put", "again", "y")
    assert here.value("a", "again") == "y" and here.wishes.under_way() is None


def test_a_watch_from_before_the_restore_is_told_and_doesn_t_wait_silently(lab: Callable[..., Lab]) -> None:
    here = lab()
    here.start()
    here.ctl("a", "put", "one", "x")
    backup = here.backup()
    here.ctl("a", "put", "two", "x")
    old = here.status("a")["revision"]
    put_mark(here.members["a"], here.wish(backup).number)
    here.stop()
    here.all_the_way()
    here.start()
    watching = subprocess.Popen(
        ["etcdctl", f"--endpoints={here.clients['a']}", "watch", "", "--prefix", f"--rev={old + 1}"],
        env={"PATH": os.environ["PATH"], "ETCDCTL_API": "3"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        told = watching.communicate(timeout=120)[0]
    finally:
        watching.kill()
    assert "compacted" in told


def restored_once(here: Lab, backup: BackupRecord) -> Callable[..., None]:
    """A tool that gives what etcdutl has restored once, without its log of 64 MB: it is needed many times."""
    snapshot, whole = here.folder / "once.db", here.folder / "once"
    here.catalogue.fetch(backup.name, snapshot, backup.sha256)
    peer = here.urls["a"]
    restore(choose_tool(str(TOOL), "3.5.30"), snapshot, Place(whole, "a", peer, f"a={peer}", "token"), bump=True)

    def again(_tool: Tool, _snapshot: Path, place: Place, *, bump: bool) -> None:
        assert bump and not place.data_dir.exists()
        (place.data_dir / "member/snap").mkdir(parents=True)
        shutil.copy(whole / "member/snap/db", place.data_dir / "member/snap/db")

    return again


@pytest.mark.parametrize("after", [False, True])
def test_a_restore_cut_off_at_any_step_ends_in_the_same_place(
    lab: Callable[..., Lab], monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    here = lab()
    here.start()
    here.ctl("a", "put", "kept", "x")
    backup = here.backup()
    here.stop()
    monkeypatch.setattr("protokube.backups.exchange.restore", restored_once(here, backup))
    chosen = choose_tool(str(TOOL), backup.etcd_version)
    monkeypatch.setattr("protokube.backups.exchange.choose_tool", lambda _first, _version: chosen)
    points = 0
    for at in range(1, 200):
        one = member(here.folder / f"at-{at}", "a")
        (one.data / "member/snap").mkdir(parents=True)
        (one.data / "old").write_text("old")
        wish = here.wish(backup)
        with monkeypatch.context() as patch:
            crashed = crashing(patch, at, after=after)
            with suppress(CrashError):
                put_mark(one, wish.number)
                advance(one, here.wishes, here.catalogue, str(TOOL))
        points += crashed()
        # Whatever was cut off: the old data are there, in one place or the other.
        kept = one.beside(f"before-{wish.number}")
        assert (one.data / "old").exists() or (kept / "old").exists()
        if here.wishes.under_way() is not None and read_mark(one) is None:
            put_mark(one, wish.number)  # the operator gives the command again
        assert advance(one, here.wishes, here.catalogue, str(TOOL)) == ""
        assert here.wishes.under_way() is None and read_mark(one) is None
        assert (kept / "old").read_text() == "old" and (one.data / "member/snap/db").exists()
        assert {path.name for path in one.data.parent.iterdir()} == {"data", kept.name}
        if not crashed():
            break
    assert points > 15


def test_nobody_restores_before_all_have_stopped_and_until_then_it_can_be_abandoned(lab: Callable[..., Lab]) -> None:
    here = lab("abc")
    here.start()
    here.ctl("a", "put", "kept", "x")
    wish = here.wish(here.backup())
    here.stop()
    for me in "ab":
        put_mark(here.members[me], wish.number)
    assert "c to stop" in here.advance("a") and "c to stop" in here.advance("b")
    assert here.wishes.stopped(wish) == {"a", "b"}
    with pytest.raises(ProviderError, match="is under way"):
        here.wish(wish.backup)
    assert here.wishes.move(wish, Stage.ABANDONED).stage is Stage.ABANDONED
    assert here.wishes.move(wish, Stage.GOING).stage is Stage.ABANDONED
    assert here.advance("a") == here.advance("b") == ""
    assert here.wishes.read(wish.number).restored == ()
    here.start()
    assert here.value("c", "kept") == "x"


def test_a_manifest_that_is_still_linked_keeps_the_data_as_they_are(lab: Callable[..., Lab]) -> None:
    here = lab()
    here.start()
    wish = here.wish(here.backup())
    here.stop()
    one = here.members["a"]
    one.link.symlink_to("anywhere")
    put_mark(one, wish.number)
    assert "the daemon must run" in here.advance("a")
    assert not one.beside("before-1").exists()


def test_a_backup_that_is_damaged_gone_or_another_changes_nothing(lab: Callable[..., Lab]) -> None:
    here = lab()
    here.start()
    here.ctl("a", "put", "kept", "x")
    backup = here.backup()
    here.stop()
    put_mark(here.members["a"], here.wish(backup).number)
    path = here.folder / "store" / CLUSTER / "backups/main" / f"{backup.name}.db"
    content = path.read_bytes()
    for damaged in (content[:-512], content[:5000] + b"x" + content[5001:], b""):
        path.write_bytes(damaged)
        with pytest.raises(StoreError, match="it is damaged"):
            here.advance("a")
    path.unlink()
    with pytest.raises(StoreError, match="no such object"):
        here.advance("a")
    assert [one.name for one in here.members["a"].data.parent.iterdir()] == ["data"]
    path.write_bytes(content)
    here.all_the_way()
    here.start()
    assert here.value("a", "kept") == "x"


def test_a_refused_restore_leaves_no_half_made_directory(lab: Callable[..., Lab], tmp_path: Path) -> None:
    here = lab()
    here.start()
    backup = here.backup()
    here.catalogue.fetch(backup.name, tmp_path / "snapshot", backup.sha256)
    content = (tmp_path / "snapshot").read_bytes()
    (tmp_path / "snapshot").write_bytes(content[:-33] + b"x" + content[-32:])
    place = Place(tmp_path / "part", "a", "http://127.0.0.1:1", "a=http://127.0.0.1:1", "token")
    (tool, *_) = find_tools(str(TOOL))
    with pytest.raises(ProviderError, match="refuses the snapshot"):
        restore(tool, tmp_path / "snapshot", place, bump=False)
    assert not (tmp_path / "part").exists()
    half = here.members["a"].beside("part")
    (half / "member").mkdir(parents=True)
    put_mark(here.members["a"], here.wish(backup).number)
    here.stop()
    here.all_the_way()
    assert not half.exists()


def test_a_tool_that_can_t_raise_the_revision_is_refused(lab: Callable[..., Lab]) -> None:
    with pytest.raises(ProviderError, match="watches would wait silently"):
        choose_tool(None, "3.4.23")
    assert choose_tool(str(TOOL), "3.4.23").version == (3, 5, 30)
    with pytest.raises(ProviderError, match="another version"):
        choose_tool(str(TOOL), "3.6.6")
    here = lab()
    here.start()
    put_mark(here.members["a"], here.wish(here.backup()).number)
    here.stop()
    with pytest.raises(ProviderError, match="can't raise the revision"):
        here.advance("a", None)
    assert [one.name for one in here.members["a"].data.parent.iterdir()] == ["data"]


def test_a_restore_without_the_bump_would_be_noticed(
    lab: Callable[..., Lab], monkeypatch: pytest.MonkeyPatch
) -> None:
    def plain(tool: Tool, snapshot: Path, place: Place, *, bump: bool) -> None:
        restore(tool, snapshot, place, bump=False)

    here = lab()
    here.start()
    put_mark(here.members["a"], here.wish(here.backup()).number)
    here.stop()
    monkeypatch.setattr("protokube.backups.exchange.restore", plain)
    with pytest.raises(ProviderError, match="compacted up to 0"):
        here.advance("a")
    assert not here.members["a"].beside("before-1").exists()


def test_a_link_that_was_planted_on_the_volume_is_not_followed(lab: Callable[..., Lab], tmp_path: Path) -> None:
    here = lab()
    here.start()
    wish = here.wish(here.backup())
    here.stop()
    put_mark(here.members["a"], wish.number)
    data = here.members["a"].data
    data.parent.rename(tmp_path / "elsewhere")
    data.parent.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ProviderError, match="symbolic link"):
        here.advance("a")
    assert [one.name for one in (tmp_path / "elsewhere").iterdir()] == ["data"]


def test_a_member_of_another_restore_is_told(lab: Callable[..., Lab]) -> None:
    here = lab()
    here.start()
    wish = here.wish(here.backup())
    stranger = replace(here.members["a"], me="z")
    put_mark(stranger, wish.number)
    with pytest.raises(ProviderError, match="has no member z"):
        advance(stranger, here.wishes, here.catalogue, str(TOOL))
