"""Which records are changed, refused or left alone. What a whole fleet makes of it is test_dns_fleet.py."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protokube.core.dns.changes import RecordDecision, RecordPolicy, decide_records
from protokube.core.dns.model import (
    OWN,
    PLACEHOLDERS,
    REMOVALS,
    ChangeKind,
    OwnedRecord,
    RecordChange,
    RecordSet,
    UnmanagedRecord,
    WantedRecord,
    WantedRecords,
)
from protokube.core.model import Unknown

API = "api.internal.c1.test"
ETCD = "etcd-a.internal.c1.test"
ALIAS = UnmanagedRecord("A", ("lb.c1.test",), "an alias")
MULTI = UnmanagedRecord("A", ("192.0.2.9",), "a multivalue record 'x'", blocks=False)


def want(name: str, value: str = "10.0.0.1", owner: str = "i-1") -> WantedRecord:
    return WantedRecord(name, "AAAA" if ":" in value else "A", (value,), name.startswith("api"), owner)


def here(
    name: str,
    *owned: tuple[str, str | None],
    unmanaged: Sequence[UnmanagedRecord] = (),
    ttl: int = 60,
    coexists: bool = False,
) -> RecordSet:
    records = tuple(
        OwnedRecord("AAAA" if ":" in values else "A", tuple(values.split()), ttl, owner) for values, owner in owned
    )
    return RecordSet(name, records, tuple(unmanaged), coexists)


def decide(
    there: RecordSet,
    *wanted: WantedRecord,
    control_plane: tuple[WantedRecord, ...] | Unknown = (),
    terminated: Sequence[str] = (),
    adopt: bool = False,
    private: bool = False,
    removals: int = 3,
    withdrawn: bool = False,
) -> RecordDecision:
    left = frozenset({there.name}) if withdrawn else frozenset()
    ours = WantedRecords("i-1", private, wanted, left, control_plane)
    policy = RecordPolicy(dict.fromkeys(terminated, "terminated"), removals, adopt)
    return decide_records(ours, {there.name: there}, policy)


def changes(decision: RecordDecision, name: str = OWN) -> list[RecordChange]:
    return [change for batch in decision.batches if batch.name == name for change in batch.changes]


def lines(decision: RecordDecision, name: str = OWN) -> list[str]:
    return [change.describe() for change in changes(decision, name)]


@pytest.mark.parametrize(
    "there",
    [
        here(API, ("10.0.0.1", "i-1")),
        here(API, ("10.0.0.1", "i-1"), ("10.0.0.2", "i-2")),
        here(ETCD, ("10.0.0.1", "i-1")),
    ],
    ids=["alone", "beside others", "exclusive"],
)
def test_what_is_right_is_left_alone(there: RecordSet) -> None:
    assert decide(there, want(there.name)) == RecordDecision()


@pytest.mark.parametrize(
    ("there", "expected"),
    [
        (here(API), f"{API} A (i-1): nothing → 10.0.0.1"),
        (here(API, ("10.0.0.9", "i-1")), f"{API} A (i-1): 10.0.0.9 → 10.0.0.1"),
        (here(API, ("10.0.0.1", "i-1"), ttl=300), f"{API} A (i-1): 10.0.0.1 → 10.0.0.1"),
        (here(API, ("10.0.0.2", "i-2")), f"{API} A (i-1): nothing → 10.0.0.1"),
        (here(ETCD), f"{ETCD} A: nothing → 10.0.0.1"),
        (here(ETCD, ("10.0.0.9", "i-2")), f"{ETCD} A: 10.0.0.9 → 10.0.0.1"),
        (here(ETCD, ("10.0.0.9 10.0.0.1", None)), f"{ETCD} A: 10.0.0.9, 10.0.0.1 → 10.0.0.1"),
        (here(ETCD, ("10.0.0.1", "i-1"), ("10.0.0.9", None)), f"{ETCD} A: 10.0.0.1, 10.0.0.9 → 10.0.0.1"),
        (here(ETCD, ("10.0.0.1", None)), f"{ETCD} A: 10.0.0.1 → 10.0.0.1"),
    ],
)
def test_what_is_missing_or_differs_is_written(there: RecordSet, expected: str) -> None:
    assert lines(decide(there, want(there.name))) == [expected]


def test_a_change_of_a_shared_name_never_mentions_others() -> None:
    (change,) = changes(decide(here(API, ("10.0.0.2", "i-2"), ("10.0.0.3", "i-3")), want(API)))
    assert (change.owner, change.values, change.shared, change.adopts) == ("i-1", ("10.0.0.1",), True, ())


def test_a_family_that_the_node_lost_goes_in_the_same_batch() -> None:
    there = here(ETCD, ("10.0.0.9", "i-1"), ("fd00::9", "i-1"))
    assert lines(decide(there, want(ETCD))) == [f"{ETCD} A: 10.0.0.9 → 10.0.0.1", f"{ETCD} AAAA: fd00::9 → nothing"]
    there = here(API, ("10.0.0.1", "i-1"), ("fd00::1", "i-1"), ("fd00::2", "i-2"))
    assert lines(decide(there, want(API))) == [f"{API} AAAA (i-1): fd00::1 → nothing"]


# --- other people's records ---


@pytest.mark.parametrize("name", [API, ETCD])
@pytest.mark.parametrize("other", [ALIAS, UnmanagedRecord("CNAME", ("lb.c1.test",), "a CNAME")])
def test_what_others_put_there_is_reported_and_left(name: str, other: UnmanagedRecord) -> None:
    found = decide(here(name, unmanaged=[other]), want(name))
    assert found.batches == ()
    ((subject, rule, evidence),) = found.refusals
    assert (subject, rule) == (name, "dns/foreign")
    assert "lb.c1.test" in evidence
    assert "--dns-adopt" in evidence


def test_a_record_of_another_family_is_none_of_ours() -> None:
    aaaa = UnmanagedRecord("AAAA", ("lb.c1.test",), "an alias")
    assert decide(here(API, ("10.0.0.1", "i-1"), unmanaged=[aaaa]), want(API)) == RecordDecision()


def test_where_records_can_stand_side_by_side_ours_is_kept_as_well() -> None:
    found = decide(here(API, unmanaged=[MULTI]), want(API))
    assert lines(found) == [f"{API} A (i-1): nothing → 10.0.0.1"]
    assert [rule for _, rule, _ in found.refusals] == ["dns/foreign"]
    found = decide(here(API, ("192.0.2.9", None), coexists=True), want(API))
    assert (len(found.batches), len(found.refusals)) == (1, 1)
    assert decide(here(API, ("192.0.2.9", None)), want(API)).batches == ()


def test_nothing_stands_beside_an_exclusive_record() -> None:
    assert decide(here(ETCD, unmanaged=[MULTI]), want(ETCD)).batches == ()


@pytest.mark.parametrize("values", [PLACEHOLDERS["A"], f"{PLACEHOLDERS['A']} {PLACEHOLDERS['A']}"])
def test_placeholders_are_replaced_in_the_same_step(values: str) -> None:
    found = decide(here(API, (values, None)), want(API))
    (change,) = changes(found)
    assert change.adopts[0].values[0] == PLACEHOLDERS["A"]
    assert found.refusals == ()


def test_a_placeholder_among_real_addresses_is_left_alone() -> None:
    assert decide(here(API, (f"{PLACEHOLDERS['A']} 192.0.2.1", None)), want(API)).batches == ()


def test_adopting_gives_every_living_master_its_record_at_once() -> None:
    control_plane = (
        want(API),
        want(API, "10.0.0.2", "i-2"),
        want(API, "fd00::2", "i-2"),
        want("api.c1.test", "192.0.2.1"),
    )
    found = decide(here(API, unmanaged=[ALIAS]), want(API), control_plane=control_plane, adopt=True)
    assert [(one.owner, one.values, one.adopts) for one in changes(found)] == [
        ("i-1", ("10.0.0.1",), (ALIAS,)),
        ("i-2", ("10.0.0.2",), (ALIAS,)),
    ]
    assert found.refusals == ()
    assert "an alias" in found.batches[0].reason


def test_adopting_waits_for_the_peers() -> None:
    found = decide(here(API, unmanaged=[ALIAS]), want(API), control_plane=Unknown("throttled"), adopt=True)
    assert found.batches == ()
    assert "throttled" in found.waiting[0][1]


def test_a_name_without_a_zone_is_refused() -> None:
    there = RecordSet(API, refusal=("dns/ambiguous-zone", "Z1 and Z2"))
    assert decide(there, want(API)) == RecordDecision(refusals=((API, "dns/ambiguous-zone", "Z1 and Z2"),))
    assert decide(there, withdrawn=True) == RecordDecision()


# --- removal ---


def test_what_terminated_owners_left_is_removed_in_a_batch_of_its_own() -> None:
    there = here(API, ("10.0.0.9", "i-1"), ("10.0.0.2", "i-2"), ("10.0.0.3", "i-3"))
    found = decide(there, want(API), terminated=["i-2"])
    assert [batch.name for batch in found.batches] == [OWN, REMOVALS]
    (change,) = changes(found, REMOVALS)
    assert (change.kind, change.owner, change.before) == (ChangeKind.DELETE, "i-2", ("10.0.0.2",))
    assert "i-2 is terminated: terminated" in found.batches[1].reason


@pytest.mark.parametrize(
    "there",
    [
        here(API, ("10.0.0.2", "i-2")),
        RecordSet(API, (OwnedRecord("A", (), 60, "i-1"), OwnedRecord("A", ("10.0.0.2",), 60, "i-2"))),
    ],
    ids=["no record", "an empty one"],
)
def test_nothing_is_removed_where_ours_does_not_stand(there: RecordSet) -> None:
    assert changes(decide(there, want(API), terminated=["i-2"]), REMOVALS) == []


def test_no_node_cleans_up_a_name_that_is_not_its_own() -> None:
    there = here(API, ("10.0.0.1", "i-1"), ("10.0.0.2", "i-2"))
    assert decide(there, terminated=["i-2"], withdrawn=True, control_plane=()).batches == ()


def test_an_exclusive_name_is_left_to_its_next_holder() -> None:
    there = here(ETCD, ("10.0.0.1", "i-1"), ("10.0.0.2", "i-2"))
    assert changes(decide(there, want(ETCD), terminated=["i-2"]), REMOVALS) == []


@pytest.mark.parametrize("limit", [0, 1, 3])
def test_removals_are_limited(limit: int) -> None:
    dead = [f"i-{i}" for i in range(2, 9)]
    there = here(API, ("10.0.0.1", "i-1"), *((f"10.0.0.{i}", owner) for i, owner in enumerate(dead, 2)))
    found = decide(there, want(API), terminated=dead, removals=limit)
    assert (len(changes(found, REMOVALS)), found.left_over) == (limit, len(dead) - limit)


# --- leaving ---


def test_a_master_leaves_a_name_only_while_a_living_one_stands_there() -> None:
    mine, living = ("10.0.0.1", "i-1"), want(API, "10.0.0.2", "i-2")
    both = here(API, mine, ("10.0.0.2", "i-2"))
    assert lines(decide(both, control_plane=(living,), withdrawn=True)) == [f"{API} A (i-1): 10.0.0.1 → nothing"]
    assert decide(here(API, mine), control_plane=(living,), withdrawn=True).batches == ()
    assert decide(both, control_plane=(), withdrawn=True).batches == ()
    assert decide(both, control_plane=Unknown("throttled"), withdrawn=True).batches == ()


# --- a file of one's own ---


def test_in_a_private_place_whole_sets_are_written() -> None:
    wanted = WantedRecord(API, "A", ("10.0.0.1", "10.0.0.2"), True, "i-1")
    (change,) = changes(decide(here(API, ("10.0.0.1 10.0.0.9", None)), wanted, private=True))
    assert (change.values, change.shared) == (("10.0.0.1", "10.0.0.2"), False)
    assert decide(here(API, ("10.0.0.2 10.0.0.1", None), ttl=0), wanted, private=True) == RecordDecision()


def test_addresses_of_peers_that_cannot_be_seen_stay() -> None:
    there = here(API, ("10.0.0.9 10.0.0.2", None), ("fd00::2", None))
    (change,) = changes(decide(there, want(API), private=True, control_plane=Unknown("throttled")))
    assert change.values == ("10.0.0.1", "10.0.0.2", "10.0.0.9")


def test_other_peoples_lines_are_reported_and_stop_nothing() -> None:
    found = decide(
        here(API, unmanaged=[UnmanagedRecord("A", (PLACEHOLDERS["A"],), "line 3")]),
        want(API),
        private=True,
        adopt=True,
    )
    assert [one.adopts for one in changes(found)] == [()]
    assert [rule for _, rule, _ in found.refusals] == ["dns/foreign"]


def test_unknown_records_decide_nothing() -> None:
    ours = WantedRecords("i-1", records=(want(API),))
    assert decide_records(ours, Unknown("no answer"), RecordPolicy(removals=3, adopt=True)) == RecordDecision()


# --- properties ---

OWNERS = st.sampled_from(["i-1", "i-2", "i-3", None])
OWNED = st.lists(
    st.builds(
        OwnedRecord,
        st.sampled_from(["A", "AAAA"]),
        st.lists(st.sampled_from(["10.0.0.1", "10.0.0.2", PLACEHOLDERS["A"]]), max_size=2).map(tuple),
        st.sampled_from([60, 300]),
        OWNERS,
    ),
    max_size=5,
    unique_by=lambda one: (one.type, one.owner),
)
UNMANAGED = st.lists(st.sampled_from([ALIAS, MULTI, UnmanagedRecord("CNAME", ("x.test",), "a CNAME")]), max_size=2)


@given(OWNED, UNMANAGED, st.booleans(), st.sets(st.sampled_from(["i-2", "i-3"])), st.booleans(), st.booleans())
def test_without_leave_only_own_records_and_placeholders_are_touched(
    owned: list[OwnedRecord],
    unmanaged: list[UnmanagedRecord],
    coexists: bool,
    terminated: set[str],
    listed: bool,
    withdrawn: bool,
) -> None:
    there = RecordSet(API, tuple(owned), tuple(unmanaged), coexists)
    wanted = () if withdrawn else (want(API),)
    control_plane = (want(API, "10.0.0.2", "i-2"),) if listed else ()
    found = decide(there, *wanted, control_plane=control_plane, terminated=sorted(terminated), withdrawn=withdrawn)
    for change in changes(found):
        assert change.owner == "i-1"
        assert all(set(one.values) == {PLACEHOLDERS["A"]} for one in change.adopts)
    for change in changes(found, REMOVALS):
        assert change.kind is ChangeKind.DELETE
        assert change.owner in terminated
    deleted = {
        (one.owner, one.type) for batch in found.batches for one in batch.changes if one.kind is ChangeKind.DELETE
    }
    added = any(one.kind is ChangeKind.UPSERT for one in changes(found))
    left = [one for one in owned if one.values and (one.owner, one.type) not in deleted]
    assert added or left or not deleted, "a name became empty"
