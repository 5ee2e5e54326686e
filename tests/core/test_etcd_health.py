"""How an etcd cluster is: each problem with its rule, and what status shows."""

from __future__ import annotations

from msgspec.json import decode, encode
from msgspec.structs import replace

from protokube.core.etcd.health import ClusterView, problems, size
from protokube.core.etcd.running import CORRUPT, NOSPACE, Alarm, MemberStatus, PeerAbout
from protokube.core.etcd.status import status_json, status_text
from protokube.core.model import MIB, Unknown
from tests.core.etcd_views import view


def rules(seen: ClusterView) -> list[str]:
    return [one.rule for one in problems("main", seen)]


def own(seen: ClusterView) -> MemberStatus:
    assert isinstance(seen.status, MemberStatus)
    return seen.status


def test_a_cluster_that_is_well_has_no_problem() -> None:
    assert rules(view("abc")) == rules(view("a")) == []


def test_a_member_without_a_leader_or_a_quorum_is_reported_once() -> None:
    seen = view("abc")
    assert rules(replace(seen, status=replace(own(seen), leader=0))) == ["etcd/no-quorum"]
    assert rules(replace(seen, members=Unknown("timed out"))) == ["etcd/no-quorum"]
    assert rules(ClusterView("etcd-a", Unknown("refused"), Unknown("refused"), Unknown("refused"))) == [
        "etcd/no-quorum"
    ]


def test_alarms_name_their_member_and_the_remedy() -> None:
    seen = replace(view("abc"), alarms=(Alarm(2, NOSPACE), Alarm(3, CORRUPT)))
    nospace, corrupt = problems("main", seen)
    assert nospace.rule == "etcd/nospace" and "etcd-b" in nospace.evidence and "etcd defrag" in nospace.evidence
    assert corrupt.rule == "etcd/corrupt" and "etcd-c" in corrupt.evidence and "etcd replace" in corrupt.evidence
    assert rules(replace(view("abc"), alarms=(Alarm(0, CORRUPT), Alarm(7, "OF A LATER VERSION")))) == ["etcd/corrupt"]


def test_a_database_is_reported_before_it_is_full() -> None:
    seen = view("abc")
    status = own(seen)
    for part, expected in ((0.79, []), (0.8, ["etcd/nospace"]), (1.2, ["etcd/nospace"])):
        full = replace(seen, status=replace(status, size=round(2048 * MIB * part) + 1))
        assert rules(full) == expected
    unknown = replace(seen, status=replace(status, quota=None, size=2000 * MIB))
    assert rules(unknown) == ["etcd/nospace"], "etcd's own quota is 2 GiB"
    alarmed = replace(seen, status=replace(status, size=2048 * MIB), alarms=(Alarm(1, NOSPACE),))
    assert rules(alarmed) == ["etcd/nospace"], "said once"


def test_learners_and_silent_members_are_reported() -> None:
    assert rules(view("ac", learner="b")) == ["etcd/learner"]
    assert rules(view("ac", added="b")) == ["etcd/learner"]
    assert rules(view("ac", learner="b", silent="b")) == ["etcd/learner", "etcd/member-silent"]
    assert rules(view("abc", silent="bc")) == ["etcd/member-silent"] * 2


def test_a_clock_that_differs_is_reported_with_its_direction() -> None:
    for ahead, expected in ((2.0, None), (2.1, "2.1 s ahead of"), (-3600.0, "3600 s behind"), (None, None)):
        seen = replace(view("ab"), peers={"etcd-b": PeerAbout("3.5.30", ahead)})
        found = problems("main", seen)
        assert [one.rule for one in found] == (["etcd/clock"] if expected else [])
        assert all(expected is not None and expected in one.evidence for one in found)


def test_status_shows_members_database_and_problems() -> None:
    seen = view("ac", learner="b")
    text = status_text("main", seen, problems("main", seen))
    assert "etcd-a (1): leader, etcd 3.5.30" in text
    assert "etcd-b (2): learner, etcd 3.5.30" in text
    assert "database of etcd-a: 20 MiB of 2.0 GiB, 10 MiB in use; revision 100" in text
    assert "etcd/learner: etcd-b" in text
    dark = ClusterView("etcd-a", Unknown("refused"), Unknown("refused"), Unknown("refused"))
    assert "members: not known (refused)" in status_text("main", dark, [])


def test_status_as_json_has_everything() -> None:
    seen = replace(view("abc", silent="b"), alarms=(Alarm(3, NOSPACE),))
    told = decode(encode(status_json("main", seen, problems("main", seen))))
    assert (told["cluster"], told["member"], told["quorum"]) == ("main", "etcd-a", True)
    a, b, c = told["members"]
    assert (a["name"], a["id"], a["leader"], a["answers"], a["version"]) == ("etcd-a", "1", True, True, "3.5.30")
    assert (b["answers"], b["version"], b["clockAhead"]) == (False, None, None)
    assert c["clockAhead"] == 0.0
    assert told["database"] == {"size": 20 * MIB, "inUse": 10 * MIB, "quota": 2048 * MIB, "revision": 100}
    assert told["alarms"] == [{"member": "etcd-c", "alarm": "NOSPACE"}]
    assert [one["rule"] for one in told["problems"]] == ["etcd/nospace", "etcd/member-silent"]
    dark = ClusterView("etcd-a", Unknown("refused"), Unknown("refused"), Unknown("refused"))
    told = decode(encode(status_json("main", dark, [])))
    assert (told["quorum"], told["members"], told["database"], told["alarms"]) == (False, [], None, None)


def test_sizes_are_for_people() -> None:
    assert [size(one) for one in (0, 20480, 20 * MIB, 2048 * MIB)] == ["0 KiB", "20 KiB", "20 MiB", "2.0 GiB"]
