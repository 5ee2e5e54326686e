"""When a backup is due, who takes it, which are kept, and what their names say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from protokube.core.backup.assess import ASK_AGAIN, TROUBLE, TRY_AGAIN, assess
from protokube.core.backup.model import (
    BackedUp,
    BackupAnswers,
    BackupAssessment,
    BackupFacts,
    BackupRecord,
    BackupSettings,
    BackupWork,
)
from protokube.core.backup.names import BackupName, Listing, by_trust, parse_name, read_listing
from protokube.core.backup.retention import INCOMPLETE_FOR, MOST, expired
from protokube.core.backup.tools import can_bump, parse_tool_version, why_not
from protokube.core.backup.tracking import BackupTracking
from protokube.core.model import Moment, Unknown
from protokube.core.pki.model import Unreadable

DAY = 86400
NOW = 1_800_000_000
EVERY = 900.0
SETTINGS = BackupSettings(EVERY, keep=4, keep_daily=3)
MAIN = BackedUp("main", "a", 4001, tls=True)
IDLE = BackupWork()


def record(age: float, *, proven: bool = True) -> BackupRecord:
    at = int(NOW - age)
    return BackupRecord(at, 7, 512, "00", 1, 7, "3.5.30", "a", proven, "no etcdutl", "the newest is old")


def answers(newest: BackupRecord | None, leads: bool | Unknown = True, *older: BackupName) -> BackupAnswers:
    names = (*older, newest.name) if newest else older
    return BackupAnswers(Listing(tuple(sorted(names))), newest, leads)


def judge(
    work: BackupWork | Unknown | None = IDLE,
    answer: BackupAnswers | Unknown | None = None,
    *,
    before: BackupAnswers | Unknown | None = None,
    waited: float = 1000.0,
    uptime: float = 5000.0,
) -> BackupAssessment:
    """A judgement. `before` is what an earlier reconcile was answered, `waited` seconds ago."""
    tracking = BackupTracking()
    facts = BackupFacts(None if work is None else {"main": work}, {} if answer is None else {"main": answer})
    if before is not None:
        tracking = tracking.seen(Moment(NOW, uptime - waited), facts.work, {"main": before})
    tracking = tracking.seen(Moment(NOW, uptime), facts.work, facts.answers)
    return assess(SETTINGS, facts, Moment(NOW, uptime), tracking, ("c", (MAIN,)))


def rules(judged: BackupAssessment) -> dict[str, bool]:
    return {one.rule: one.serious for one in judged.findings.refusals}


def test_nothing_is_judged_where_no_backup_is_wanted() -> None:
    facts = BackupFacts({"main": BackupWork()})
    off = assess(BackupSettings(), facts, Moment(NOW, 1.0), BackupTracking(), ("c", (MAIN,)))
    assert (off.members, off.asks, off.due, off.findings.converged) == ((), (), (), True)


@pytest.mark.parametrize(
    ("newest", "due"),
    [
        (None, "there is none"),
        (record(EVERY), "15 minutes old"),
        (record(-7200), "a clock was wrong"),
        (record(10), ""),
    ],
)
def test_the_leader_takes_one_when_the_newest_is_too_old(newest: BackupRecord | None, due: str) -> None:
    judged = judge(answer=answers(newest))
    assert [one.member for one in judged.due] == ([MAIN] if due else [])
    assert all(due in one.reason for one in judged.due)


@pytest.mark.parametrize("leads", [False, Unknown("no answer")])
def test_nobody_else_takes_one(leads: bool | Unknown) -> None:
    judged = judge(answer=answers(None, leads))
    assert (judged.due, judged.removals) == ((), ())


def test_a_store_that_gives_no_answer_lets_none_be_taken() -> None:
    judged = judge(answer=Unreadable("down", "store/unreadable"))
    assert judged.due == () and rules(judged) == {"store/unreadable": False}
    assert rules(judge(answer=Unreadable("the key", "store/key"))) == {"store/key": False}


def test_the_store_is_asked_at_the_start_and_while_a_backup_is_due() -> None:
    assert judge().asks == (MAIN,)
    assert judge(before=answers(record(10))).asks == ()
    assert judge(before=answers(record(EVERY)), waited=ASK_AGAIN).asks == (MAIN,)
    assert judge(before=answers(record(EVERY)), waited=ASK_AGAIN - 1).asks == ()
    assert judge(before=Unknown("down"), waited=ASK_AGAIN).asks == (MAIN,)
    assert judge(before=Unknown("down"), waited=ASK_AGAIN - 1).asks == ()
    assert judge(answer=answers(record(EVERY), leads=False)).asks == ()
    assert judge(work=None).asks == () and judge(work=Unknown("?")).asks == ()


def test_nothing_is_asked_or_taken_while_one_is_at_work_or_has_just_failed() -> None:
    for work in (BackupWork(working=True), BackupWork(failure="full", failed_for=TRY_AGAIN - 1)):
        assert judge(work).asks == ()
        assert judge(work, answers(None)).due == ()
    later = BackupWork(failure="full", failed_for=TRY_AGAIN)
    assert judge(later).asks == (MAIN,) and judge(later, answers(None)).due
    assert rules(judge(later)) == {"etcd/backup-failed": False}


def test_an_old_answer_makes_no_backup_unseen() -> None:
    done = record(5)
    judged = judge(BackupWork(last=done), answers(record(2000)))
    assert judged.due == () and judged.asks == ()
    assert f"the newest is {done.name}" in judged.findings.hints[0]


def test_one_of_a_wrong_clock_doesn_t_stay_the_newest() -> None:
    future, done = record(-7200), record(5)
    judged = judge(BackupWork(last=done), answers(future))
    assert judged.due == () and f"the newest is {done.name}" in judged.findings.hints[0]
    assert by_trust((done.name, future.name), NOW)[-1] == done.name
    judged = judge(BackupWork(last=future), answers(done))
    assert judged.due == () and f"the newest is {done.name}" in judged.findings.hints[0]


def test_one_that_can_t_be_read_is_reported_and_a_backup_is_due_by_the_next_older_one() -> None:
    told = replace(answers(record(EVERY)), unreadable=("x.json: not a backup's metadata",))
    judged = judge(answer=told)
    assert judged.due and "15 minutes old" in judged.due[0].reason
    assert rules(judged) == {"store/unreadable": False}


@pytest.mark.parametrize(
    ("newest", "expected"),
    [
        (record(10), {}),
        (record(10, proven=False), {"etcd/backup-unproven": False}),
        (record(3 * EVERY), {}),
        (record(3 * EVERY + 1), {"etcd/backup-late": False}),
        (record(TROUBLE + 1), {"etcd/backup-late": True}),
    ],
)
def test_what_is_late_or_unproven_is_reported(newest: BackupRecord, expected: dict[str, bool]) -> None:
    assert rules(judge(answer=answers(newest, leads=False))) == expected


def test_a_cluster_that_never_had_one_is_late_as_well() -> None:
    assert rules(judge(before=answers(None, leads=False), waited=3 * EVERY)) == {}
    assert rules(judge(before=answers(None, leads=False), waited=3 * EVERY + 1)) == {"etcd/backup-late": False}


def names(*ages: float) -> tuple[BackupName, ...]:
    return tuple(sorted(BackupName(int(NOW - age), 1) for age in ages))


def test_the_newest_and_one_of_each_day_are_kept() -> None:
    start = NOW - NOW % DAY
    hours = tuple(BackupName(start - 5 * DAY + hour * 3600, 1) for hour in range(5 * 24))
    gone = expired(Listing(hours), replace(SETTINGS, keep=4, keep_daily=3), NOW)
    assert len(gone) == MOST and gone == hours[:MOST]
    left = [name for name in hours if name not in gone]
    while gone := expired(Listing(tuple(left)), replace(SETTINGS, keep=4, keep_daily=3), NOW):
        left = [name for name in left if name not in gone]
    # The last of each of three days; the last four are of the last day.
    assert left == [hours[71], hours[95], *hours[116:]]


def test_backups_of_a_wrong_clock_push_out_no_real_one_and_are_bounded_themselves() -> None:
    future = tuple(BackupName(NOW + 400 * DAY + number, 1) for number in range(9))
    real = names(10, 20, 30)
    assert expired(Listing((*real, *future)), SETTINGS, NOW) == future[:5]
    # This node's own clock may be the wrong one: the days of the others are kept as well.
    real = names(*(number * DAY for number in range(9)))
    assert expired(Listing(real), SETTINGS, NOW - 400 * DAY) == real[:5]


def test_the_backups_of_an_older_cluster_are_kept_however_many_the_new_one_takes() -> None:
    older, own = names(*range(DAY, DAY + 40, 10)), names(*range(0, 200, 10))
    gone = expired(Listing((*older, *own)), replace(SETTINGS, keep=4), NOW, (), frozenset(older))
    assert gone == own[:16]
    told = replace(answers(record(10)), listing=Listing((*older, *own)), older=Unknown("not a list"))
    judged = judge(answer=told)
    assert judged.removals == () and rules(judged) == {"store/unreadable": False}


def test_the_backup_of_a_restore_is_kept_and_nothing_goes_while_that_isn_t_known() -> None:
    old, *others = names(*range(0, 200 * DAY, 2 * DAY))
    told = replace(answers(record(10)), listing=Listing((old, *others)))

    def gone(restoring: BackupName | Unknown | None) -> set[BackupName]:
        judged = judge(answer=replace(told, restoring=restoring))
        return {name for removal in judged.removals for name in removal.names}

    assert old in gone(None)
    assert old not in gone(old) and gone(old)
    assert gone(Unknown("not a wish")) == set()


def test_an_incomplete_one_is_deleted_when_nobody_can_be_at_work_on_it() -> None:
    young, old = names(INCOMPLETE_FOR - 1, INCOMPLETE_FOR + 1)[::-1]
    listing = Listing(names(10), (old, young))
    assert expired(listing, SETTINGS, NOW) == (old,)
    assert expired(listing, SETTINGS, NOW, (old,)) == ()
    assert expired(Listing((), (old,)), SETTINGS, NOW) == ()


@given(st.lists(st.integers(0, 40 * DAY), unique=True), st.integers(1, 9), st.integers(1, 9))
def test_the_newest_is_never_deleted_whatever_a_store_lists(ages: list[int], keep: int, daily: int) -> None:
    complete, incomplete = names(*ages[::2]), names(*ages[1::2])
    gone = expired(Listing(complete, incomplete), BackupSettings(EVERY, keep, daily), NOW)
    assert len(set(complete) - set(gone)) >= min(keep, len(complete))
    assert not complete or all(name < complete[-1] for name in gone)
    assert len(gone) <= MOST


@given(st.integers(0, 250_000_000_000), st.integers(0, 2**63))
def test_a_name_says_when_and_sorts_by_it(at: int, revision: int) -> None:
    name = BackupName(at, revision)
    assert parse_name(str(name)) == name


def test_names_are_dates() -> None:
    assert str(BackupName(0, 7)) == "19700101T000000Z-7"
    assert str(BackupName(1_709_210_096, 12)) == "20240229T123456Z-12"
    for text in ("", "20240230T123456Z-12", "20240229T123456Z", "20240229T126056Z-1", "20240229T123456Z-01", "x"):
        assert parse_name(text) is None


def test_only_a_backup_with_its_metadata_counts() -> None:
    one, two, three = (BackupName(NOW + number, 1) for number in range(3))
    objects = [f"c/backups/main/{name}" for name in (f"{one}.db", f"{two}.db", f"{two}.json", f"{three}.json")]
    objects += ["c/backups/main/readme.txt", "c/backups/main/x.db"]
    assert read_listing(objects) == Listing((two,), (one, three))


@pytest.mark.parametrize(
    ("tool", "etcd", "problem"),
    [
        ((3, 4, 23), (3, 4, 23), "can't raise the revision"),
        ((3, 4, 27), (3, 4, 23), None),
        ((3, 5, 9), (3, 5, 9), "can't raise the revision"),
        ((3, 5, 10), (3, 5, 9), None),
        ((3, 5, 30), (3, 4, 23), None),
        ((3, 4, 45), (3, 5, 30), "another version"),
        ((3, 6, 0), (3, 5, 30), "another version"),
        ((3, 6, 0), (3, 6, 6), None),
        ((3, 3, 99), (3, 3, 99), "can't raise the revision"),
    ],
)
def test_which_tool_restores_for_which_etcd(
    tool: tuple[int, int, int], etcd: tuple[int, int, int], problem: str | None
) -> None:
    found = why_not("etcdutl", tool, etcd)
    assert (found is None) if problem is None else (found is not None and problem in found)
    assert can_bump(tool) == (found is None or "another" in found)


def test_tools_tell_their_version() -> None:
    assert parse_tool_version("etcdutl version: 3.5.30\nAPI version: 3.5\n") == (3, 5, 30)
    assert parse_tool_version("etcdctl version: 3.4.23\nAPI version: 3.4\n") == (3, 4, 23)
    assert parse_tool_version("error") is None
