"""What is remembered between reconciles, and within one: it starts from nothing, and losing it loses no effect."""

from __future__ import annotations

import pytest

from protokube.core.action import Action
from protokube.core.dns.actions import ChangeRecords
from protokube.core.dns.model import OWN, REMOVALS, ChangeKind, OwnedRecord, RecordChange, RecordSet
from protokube.core.dns.owners import ABSENCE
from protokube.core.history import History, Result
from protokube.core.model import Unknown
from protokube.core.node.actions import StartUnit, WriteFile
from protokube.core.observed import Observed
from protokube.core.volumes.actions import AttachVolume
from protokube.core.volumes.model import Peer
from tests.core.states import changed, planned, state

NAME = "api.internal.c.example.com"
ACTIONS: tuple[Action, ...] = (AttachVolume("vol-1"), StartUnit("kubelet.service"), WriteFile("/etc/x", "text"))


def removal(*owners: str, batch: str = REMOVALS) -> ChangeRecords:
    changes = [RecordChange(ChangeKind.DELETE, NAME, "A", (), 60, owner, True) for owner in owners]
    return ChangeRecords(batch, tuple(changes))


@pytest.mark.parametrize("action", ACTIONS, ids=[one.kind for one in ACTIONS])
@pytest.mark.parametrize("result", list(Result))
def test_what_failed_is_left_alone_until_the_next_reconcile(action: Action, result: Result) -> None:
    history = History().recorded(action, result, 10.0)
    left_alone = result not in (Result.DONE, Result.CONFLICT)
    assert history.failed == ({action.subject} if left_alone else set())
    assert history.next_reconcile().failed == frozenset()


def test_a_subject_that_failed_is_not_planned() -> None:
    observed = state()
    first = [step.action for step in planned(observed).steps]
    history = History()
    for action in first:
        history = history.recorded(action, Result.FAILED, 10.0)
    assert first and planned(observed, history).steps == []
    assert [step.action for step in planned(observed, history.next_reconcile()).steps] == first


@pytest.mark.parametrize("result", list(Result))
def test_removals_are_counted_whatever_came_of_them(result: Result) -> None:
    """A server may have carried out what gave no answer."""
    history = History().recorded(removal("i-2", "i-3"), result, 10.0).recorded(removal("i-4"), result, 11.0)
    assert history.owners.removed == 3
    assert history.recorded(removal("i-5", batch=OWN), result, 12.0).owners.removed == 3
    assert history.next_reconcile().owners.removed == 0


def with_record_of(owner: str, *peers: str, **facts: object) -> Observed:
    records = {NAME: RecordSet(NAME, (OwnedRecord("A", ("10.0.0.2",), 60, owner),))}
    return changed(state(records=records, peers=tuple(Peer(one, ()) for one in peers)), **facts)


def test_owners_without_a_peer_are_followed_from_answer_to_answer() -> None:
    first, last = with_record_of("n2", "n1", uptime=10.0), with_record_of("n2", "n1", uptime=10.0 + ABSENCE)
    history = History().cloud_answered(first).next_reconcile().cloud_answered(last)
    assert history.owners.absences.absent_for() == {"n2": ABSENCE}
    assert history.cloud_answered(with_record_of("n2", "n1", "n2")).owners.absences.absent_for() == {}


@pytest.mark.parametrize(
    "silent",
    [
        with_record_of("n2", "n1", "n2", instance=Unknown("no answer")),
        with_record_of("n2", "n1", peers=Unknown("throttled")),
        with_record_of("n2", "n3", uptime=20.0),
    ],
    ids=["the instance is unknown", "the peers are unknown", "this machine isn't listed"],
)
def test_an_answer_that_says_nothing_of_the_peers_changes_nothing(silent: Observed) -> None:
    history = History().cloud_answered(with_record_of("n2", "n1"))
    assert history.cloud_answered(silent) == history and history.owners.absences.spans == {"n2": (10.0, 10.0)}


def test_for_another_configuration_only_the_starts_of_units_are_kept() -> None:
    history = History().seen(with_record_of("n2", "n1")).cloud_answered(with_record_of("n2", "n1"))
    for action in ACTIONS:
        history = history.recorded(action, Result.DONE, 10.0)
    kept = history.for_another_configuration()
    assert kept == History(units=history.units) and kept.units.starts == {"kubelet.service": (10.0,)}
