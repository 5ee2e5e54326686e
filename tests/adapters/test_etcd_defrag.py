"""`protokube etcd defrag`: what it proves again after the question, and whose alarms it takes back."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from msgspec.structs import replace

from protokube.core.etcd.health import ClusterView, problems
from protokube.core.etcd.running import CORRUPT, NOSPACE, Alarm, ClusterMember, MemberStatus
from protokube.core.model import Unknown
from protokube.etcdcommand.defrag import defragment
from protokube.etcdcommand.look import ImpossibleError
from tests.core.etcd_views import view


class Lab:
    """A cluster that is seen as the views say, one after the other; the last one stays. Calls that change it are
    noted."""

    name, key = "etcd-a", "main"

    def __init__(self, *views: ClusterView) -> None:
        self._views, self.calls = list(views), list[str]()

    def run(self) -> None:
        node = SimpleNamespace(view=lambda _cluster: self._look())
        cluster = SimpleNamespace(key=self.key, name=self.name, client=self)
        defragment(cast(Any, node), cast(Any, cluster), lambda: self.calls.append("confirmed"))

    def _look(self) -> ClusterView:
        return self._views.pop(0) if len(self._views) > 1 else self._views[0]

    def status(self) -> MemberStatus:
        assert isinstance(self._views[0].status, MemberStatus)
        return self._views[0].status

    def members(self) -> tuple[ClusterMember, ...]:
        assert not isinstance(self._views[0].members, Unknown)
        return self._views[0].members

    def alarms(self) -> tuple[Alarm, ...]:
        assert not isinstance(self._views[0].alarms, Unknown)
        return self._views[0].alarms

    def transfer_leadership(self, _id: int) -> None:
        self.calls.append("transferred")

    def defragment(self) -> None:
        self.calls.append("defragmented")

    def disarm(self, alarm: Alarm) -> None:
        self.calls.append(f"disarmed {alarm.member_id}")


def follower(seen: ClusterView) -> ClusterView:
    """The same, member a not being the leader."""
    assert isinstance(seen.status, MemberStatus)
    return replace(seen, status=replace(seen.status, leader=2))


GOOD = follower(view("abc"))
SILENT = follower(view("abc", silent="c"))


def test_it_is_defragmented_while_all_others_serve() -> None:
    lab = Lab(GOOD)
    lab.run()
    assert lab.calls == ["confirmed", "defragmented"]


@pytest.mark.parametrize("looks", [1, 2])
def test_a_member_that_falls_silent_after_the_plan_was_shown_keeps_it_from_being_done(looks: int) -> None:
    lab = Lab(*[GOOD] * looks, SILENT)
    with pytest.raises(ImpossibleError, match="etcd-c must serve first"):
        lab.run()
    assert lab.calls == ["confirmed"]


def test_a_leader_that_leads_again_isn_t_defragmented() -> None:
    lab = Lab(GOOD, GOOD, view("abc"))
    with pytest.raises(ImpossibleError, match="leads again"):
        lab.run()
    assert lab.calls == ["confirmed"]


def test_the_alarm_of_a_removed_member_is_taken_back() -> None:
    lab = Lab(replace(GOOD, alarms=(Alarm(9, NOSPACE), Alarm(10, CORRUPT))))
    lab.run()
    assert lab.calls == ["confirmed", "disarmed 9", "disarmed 10", "defragmented"]


@pytest.mark.parametrize(("kind", "rule"), [(NOSPACE, "etcd/nospace"), (CORRUPT, "etcd/corrupt")])
def test_the_alarm_of_a_removed_member_is_reported_as_such(kind: str, rule: str) -> None:
    (found,) = problems("main", replace(GOOD, alarms=(Alarm(9, kind),)))
    assert found.rule == rule and "was removed" in found.evidence and "takes it back" in found.evidence


def test_an_alarm_of_nobody_known_and_one_of_a_later_version_stand() -> None:
    lab = Lab(replace(GOOD, alarms=(Alarm(0, CORRUPT), Alarm(9, "OF A LATER VERSION"))))
    lab.run()
    assert lab.calls == ["confirmed", "defragmented"]
