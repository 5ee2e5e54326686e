"""Certificates at the hub: overlap while they are renewed, copied keys, and who is out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from protokube.hub.core.membership import (
    LEEWAY,
    RENEW_GRACE,
    Cloned,
    Issued,
    Member,
    Renews,
    Same,
    Shows,
    Shut,
    Standing,
    admit,
    expelled,
    judge_enrolment,
    judge_renewal,
    renewed,
)

DAY = 86400.0


def issued(number: int, begins: float = 0.0) -> Issued:
    return Issued(f"s{number}", f"k{number}", f"pem{number}", begins, begins + DAY)


FIRST, SECOND, THIRD = issued(1), issued(2, 60000.0), issued(3, 60000.0)
MEMBER = Member("node-a", (), 0.0, FIRST)
S1, S2 = Shows("s1", 0.0), Shows("s2", 60000.0)


def rule(judged: object) -> str | None:
    return judged.rule if isinstance(judged, Shut) else None


def test_a_certificate_in_force_is_let_in() -> None:
    assert admit(MEMBER, "s1", 100.0) == MEMBER
    assert rule(admit(None, "s1", 100.0)) == "unknown"
    assert rule(admit(MEMBER, "s9", 100.0)) == "superseded"


def test_its_times_are_judged_by_the_hub_s_clock() -> None:
    late = structs.replace(MEMBER, current=SECOND)
    assert rule(admit(MEMBER, "s1", DAY)) == "renew"
    assert rule(admit(late, "s2", 60000.0 - LEEWAY - 1)) == "clock"
    assert isinstance(admit(late, "s2", 60000.0 - LEEWAY), Member)


def test_both_certificates_hold_until_the_new_one_is_used_and_then_the_old_one_is_dead() -> None:
    both = renewed(MEMBER, SECOND)
    assert admit(both, "s1", 60001.0) == both
    used = admit(both, "s2", 60001.0)
    assert isinstance(used, Member) and used.current == SECOND and used.next is None
    assert rule(admit(used, "s1", 60001.0)) == "superseded"


def test_the_same_key_gets_the_same_certificate_again_and_another_replaces_an_unused_one() -> None:
    assert judge_renewal(MEMBER, S1, "k2", 60000.0) == Renews(MEMBER)
    both = renewed(MEMBER, SECOND)
    assert judge_renewal(both, S1, "k2", 60000.0) == Same(SECOND)
    assert judge_renewal(both, S1, "k3", 60000.0) == Renews(both)
    assert renewed(both, THIRD).next == THIRD


def test_a_renewal_over_the_new_certificate_is_its_first_use() -> None:
    judged = judge_renewal(renewed(MEMBER, SECOND), S2, "k3", 60000.0)
    assert isinstance(judged, Renews) and judged.member.current == SECOND


def test_a_renewal_needs_a_new_key() -> None:
    assert rule(judge_renewal(MEMBER, S1, "k1", 60000.0)) == "key"


def test_a_copied_key_shows_itself_and_both_are_out_until_a_new_token() -> None:
    used = admit(renewed(MEMBER, SECOND), "s2", 60001.0)
    assert isinstance(used, Member)
    judged = judge_renewal(used, S1, "k9", 60002.0)
    assert isinstance(judged, Cloned) and judged.member.standing is Standing.CLONED
    for serial in ("s1", "s2"):
        assert rule(admit(judged.member, serial, 60003.0)) == "cloned"
        assert rule(judge_renewal(judged.member, Shows(serial, 60000.0), "k10", 60003.0)) == "cloned"
    assert judge_enrolment(judged.member, "node-a", replace=False) is None


def test_a_machine_from_before_a_new_enrolment_is_refused_alone() -> None:
    """Another machine has the name. The old one is switched on weeks later: the new one has done nothing wrong."""
    since = 10 * DAY + 0.7
    anew = Member("node-a", (), since, issued(5, float(int(since - LEEWAY))))
    assert rule(judge_renewal(anew, Shows("s4", since - LEEWAY - 2), "k9", since + DAY)) == "replaced"
    # The first certificate of the new machine is in force with the enrolment: once it was renewed, it is a copy's.
    later = structs.replace(anew, current=issued(6, since + 60000.0))
    assert isinstance(judge_renewal(later, Shows("s5", anew.current.begins), "k9", since + DAY), Cloned)


def test_a_hub_whose_database_was_put_back_calls_nobody_a_copy() -> None:
    assert rule(judge_renewal(MEMBER, S2, "k3", 2 * DAY)) == "ahead"
    both = renewed(MEMBER, SECOND)
    assert rule(judge_renewal(both, Shows("s3", 60001.0), "k4", 2 * DAY)) == "ahead"
    assert isinstance(judge_renewal(both, Shows("s0", 100.0), "k4", 2 * DAY), Cloned)


@pytest.mark.parametrize(
    ("late", "expected"), [(0.0, None), (3 * 7 * DAY, None), (RENEW_GRACE - 1, None), (RENEW_GRACE, "expired")]
)
def test_a_node_that_was_off_for_weeks_renews_by_itself(late: float, expected: str | None) -> None:
    assert rule(judge_renewal(MEMBER, S1, "k2", FIRST.ends + late)) == expected
    assert rule(admit(MEMBER, "s1", FIRST.ends + late)) == "renew"


def test_evicted_and_banned_are_told_apart() -> None:
    evicted = expelled(MEMBER, Standing.EVICTED, "sold")
    banned = expelled(MEMBER, Standing.BANNED, "stolen")
    for member, word in ((evicted, "evicted"), (banned, "banned")):
        assert rule(admit(member, "s1", 1.0)) == word
        assert rule(judge_renewal(member, S1, "k2", 1.0)) == word
    assert judge_enrolment(evicted, "node-a", replace=False) is None
    assert rule(judge_enrolment(banned, "node-a", replace=True)) == "banned"


def test_a_name_that_is_taken_needs_a_token_that_says_so() -> None:
    assert judge_enrolment(None, "node-a", replace=False) is None
    refused = judge_enrolment(MEMBER, "node-a", replace=False)
    assert rule(refused) == "taken" and "--replace" in (refused.reason if refused else "")
    assert judge_enrolment(MEMBER, "node-a", replace=True) is None


@given(st.lists(st.tuples(st.sampled_from(["use", "renew", "lose"]), st.booleans()), max_size=40))
def test_a_node_alone_never_locks_itself_out_whatever_answers_get_lost(steps: list[tuple[str, bool]]) -> None:
    """The node keeps its newest certificate and the one that it asks for; answers get lost, and it asks again."""
    member, held, asked, count, now = MEMBER, FIRST, "k100", 100, 1000.0
    for step, arrives in steps:
        now += 10.0
        if step == "use":
            admitted = admit(member, held.serial, now)
            assert isinstance(admitted, Member)
            member = admitted
            continue
        judged = judge_renewal(member, Shows(held.serial, held.begins), asked, now)
        assert isinstance(judged, Renews | Same)
        if isinstance(judged, Renews):
            count += 1
            answer = Issued(f"s{count}", asked, "pem", now, now + DAY)
            member = renewed(judged.member, answer)
        else:
            answer = judged.issued
        if step == "lose" and not arrives:
            asked = f"k{count + 1000}"  # the key that it asked for is lost as well
        elif arrives:
            held, asked = answer, f"k{count + 1}"
    assert isinstance(admit(member, held.serial, now), Member)
