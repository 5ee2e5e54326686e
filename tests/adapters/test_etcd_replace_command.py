"""`protokube etcd replace`: the backup comes before every change, and what is seen right before a change decides."""

from __future__ import annotations

from contextlib import suppress
from types import SimpleNamespace
from typing import Any, cast

import pytest

from protokube.core.etcd.health import ClusterView
from protokube.core.etcd.running import Alarm, ClusterMember
from protokube.core.model import Unknown
from protokube.errors import ProviderError
from protokube.etcdcommand import replace as command
from protokube.etcdcommand.look import ImpossibleError
from protokube.etcdcommand.replace import replace_member
from tests.core.etcd_views import URL, listed, view

LOST, REMOVED, ADDED = view("abc", silent="b"), view("ac"), view("ac", added="b")
CAUGHT_UP, WHOLE = view("ac", learner="b"), view("abc")


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "pause", lambda _seconds: None)


class Lab:
    """A cluster that is seen as `seen` says, until a change shows the next view. Changes and backups are noted."""

    def __init__(self, *views: ClusterView, backup: Exception | None = None) -> None:
        self._views, self._backup = list(views), backup
        self.calls = list[str]()
        self.looks = 0
        self.at_look: dict[int, ClusterView] = {}

    def run(self) -> None:
        template = SimpleNamespace(member_name=lambda me: f"etcd-{me}")
        member = SimpleNamespace(members=("a", "b", "c"))
        own = SimpleNamespace(template=template, volume=SimpleNamespace(member=member))
        cluster = SimpleNamespace(
            key="main", own=own, client=self, names=("etcd-a", "etcd-b", "etcd-c"), peer_url=lambda me: URL.format(me)
        )
        node = SimpleNamespace(view=lambda _cluster: self._look())
        confirm = lambda: self.calls.append("confirmed")  # noqa: E731
        replace_member(cast(Any, node), cast(Any, cluster), "b", self._save, confirm, 5)

    def _look(self) -> ClusterView:
        self.looks += 1
        if self.looks in self.at_look:
            self._views[0] = self.at_look[self.looks]
        return self._views[0]

    def _save(self) -> str:
        self.calls.append("backup")
        if self._backup is not None:
            raise self._backup
        return "revision 7"

    def _changed(self, what: str) -> ClusterMember:
        self.calls.append(what)
        self._views.pop(0)
        return listed(2, "b", started=False, learner=True)

    def remove(self, _id: int) -> None:
        self._changed("removed")

    def add_learner(self, _url: str) -> ClusterMember:
        return self._changed("added")

    def promote(self, _id: int) -> None:
        self._changed("promoted")

    def members(self) -> tuple[ClusterMember, ...]:
        assert not isinstance(self._views[0].members, Unknown)
        return self._views[0].members

    def alarms(self) -> tuple[Alarm, ...]:
        return ()


def test_one_backup_comes_first_and_then_step_after_step() -> None:
    lab = Lab(LOST, REMOVED, CAUGHT_UP, WHOLE)
    lab.run()
    assert lab.calls == ["confirmed", "backup", "removed", "added", "promoted"]


@pytest.mark.parametrize("seen", [LOST, REMOVED])
def test_without_a_backup_nothing_is_changed(seen: ClusterView) -> None:
    lab = Lab(seen, REMOVED, backup=ProviderError("the store is full"))
    with pytest.raises(ProviderError, match="the store is full"):
        lab.run()
    assert lab.calls == ["confirmed", "backup"]


@pytest.mark.parametrize("look", range(3, 7))
@pytest.mark.parametrize("seen", [WHOLE, view("abc", silent="bc"), view("abc", silent="b", learner="d")])
def test_a_cluster_that_is_another_one_after_the_plan_was_shown_keeps_its_member(
    seen: ClusterView, look: int
) -> None:
    """The member answers again, the others are no majority any more, or somebody has added one."""
    lab = Lab(LOST, REMOVED)
    lab.at_look[look] = seen
    with suppress(ImpossibleError):  # where it answers again there is nothing to replace
        lab.run()
    assert "removed" not in lab.calls


def test_a_learner_that_doesn_t_start_is_waited_for_with_a_limit() -> None:
    lab = Lab(ADDED)
    with pytest.raises(ImpossibleError, match="not yet, after 5 s"):
        lab.run()
    assert lab.calls == ["confirmed"]
