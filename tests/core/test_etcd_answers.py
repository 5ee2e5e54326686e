"""For how long an etcd cluster's members have given the same answers."""

from __future__ import annotations

from protokube.core.etcd.answers import AnswerTracking
from protokube.core.etcd.model import EtcdPeerMember, PeerAnswers
from protokube.core.history import History
from protokube.core.model import Unknown
from tests.core.states import state

OTHER = EtcdPeerMember("other", (), ())


def test_answers_count_from_the_youngest_of_those_who_answer() -> None:
    tracking = AnswerTracking()

    def age(uptime: float, **lists: tuple[EtcdPeerMember, ...]) -> float:
        nonlocal tracking
        tracking = tracking.seen(uptime, {"main": PeerAnswers(lists)})
        return tracking.stable_for["main"]

    assert [age(10.0, b=()), age(12.0, b=())] == [0.0, 2.0]
    assert [age(13.0, b=(), c=()), age(15.0, b=(), c=())] == [0.0, 2.0], "c is new"
    assert [age(16.0, b=()), age(17.0, b=(), c=())] == [6.0, 4.0], "silence is no change"
    assert [age(18.0, b=(OTHER,)), age(20.0, b=(OTHER,))] == [0.0, 2.0]
    assert tracking.seen(30.0, {"main": Unknown("no answer")}).stable_for == {"main": 0.0}


def test_each_etcd_cluster_has_a_time_of_its_own() -> None:
    main, events = PeerAnswers({"b": ()}), PeerAnswers({"b": (OTHER,)})
    tracking = AnswerTracking().seen(10.0, {"main": main}).seen(15.0, {"main": main, "events": events})
    assert tracking.stable_for == {"main": 5.0, "events": 0.0}


def test_nobody_was_asked_is_no_answer_and_forgets_nothing() -> None:
    main = PeerAnswers({"b": ()})
    tracking = AnswerTracking().seen(10.0, {"main": main}).seen(15.0, {})
    assert tracking.stable_for == {}
    assert tracking.seen(18.0, {"main": main}).stable_for == {"main": 8.0}


def test_history_follows_the_answers_from_snapshot_to_snapshot() -> None:
    answers = {"main": PeerAnswers({"b": ()})}
    history = History().seen(state(uptime=10.0, answers=answers))
    history = history.next_reconcile().seen(state(uptime=14.0, answers=answers))
    assert history.answers.stable_for == {"main": 4.0}
