"""Who gets a pod, who is silent, what is missing, and which settings are weak."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from protokube.errors import ConfigError
from protokube.kubeleet.core.census import (
    Census,
    Place,
    SchedulerSeen,
    WorkerSeen,
    dead_pods,
    doubles,
    missing,
    states,
    unserved,
)
from protokube.kubeleet.core.pod import Wanted, pods_of
from protokube.kubeleet.core.score import Candidate, Choice, Load, read_load, read_pressure
from protokube.kubeleet.core.settings import OLDEST, Target, read_target, version_of, weak_settings
from protokube.kubeleet.core.watch import Look, Watch, watch

# --- score ---


def test_pressure_is_read_and_what_is_absent_is_absent() -> None:
    text = "some avg10=1.50 avg60=0.00 avg300=0.00 total=1\nfull avg10=0.25 avg60=0 avg300=0 total=0\n"
    assert read_pressure(text) == {"some": 1.5, "full": 0.25}
    assert read_pressure("some avg10=2.00 avg60=0 avg300=0 total=9\n") == {"some": 2.0}
    assert read_pressure("nonsense\n\n some avg10=x") == {}
    assert read_load(b"nonsense") == read_load(None) == Load()


def test_the_score_weighs_memory_most() -> None:
    assert Candidate(3, Load(cpu=10, memory=10, io=10)).score == 3 + 1 + 1 + 3


def placed(candidates: Mapping[str, Candidate], count: int) -> list[str]:
    choice = Choice(candidates)
    return [w for n in range(count) if (w := choice(b"pod %d" % n)) is not None]


def test_a_burst_is_spread() -> None:
    chosen = placed({w: Candidate(0) for w in "abc"}, 30)
    assert [chosen.count(w) for w in "abc"] == [10, 10, 10]


def test_a_worker_under_pressure_gets_the_fewest() -> None:
    chosen = placed({"a": Candidate(0), "b": Candidate(0, Load(memory=90))}, 20)
    assert chosen.count("b") == 0


def test_a_crowded_worker_is_put_aside_while_another_can_take_a_pod() -> None:
    crowded = Candidate(0, Load(memory_full=10))
    assert set(placed({"a": Candidate(500), "b": crowded}, 5)) == {"a"}
    assert set(placed({"b": crowded}, 5)) == {"b"}
    assert placed({}, 1) == []


def test_ties_fall_by_the_pod() -> None:
    firsts = {Choice({w: Candidate(0) for w in "abcd"})(b"pod %d" % n) for n in range(40)}
    assert firsts == set("abcd")


# --- silence ---


def looks(*given: tuple[float, float, int | None]) -> list[bool]:
    """Whether w is stale after each look of (boot, time, heartbeat)."""
    seen, found = Watch(), []
    for boot, time, beat in given:
        seen, stale = watch(seen, Look(boot, time, {"w": beat}))
        found.append("w" in stale)
    return found


def steps(
    count: int, beat: int | None = 100, start: float = 0.0, time: float = 200.0
) -> list[tuple[float, float, int | None]]:
    return [(start + 5.0 * n, time + 5.0 * n, beat) for n in range(count)]


def test_an_old_heartbeat_is_stale_only_after_it_was_watched_for_as_long() -> None:
    assert looks(*steps(6)) == [False] * 5 + [True]
    assert looks(*steps(6, beat=None)) == [False] * 5 + [True]


def test_one_that_moves_is_not_stale_however_old_it_looks() -> None:
    assert not any(looks(*((5.0 * n, 1000.0 + 5 * n, n) for n in range(12))))


def test_a_jump_of_redis_clock_and_a_gap_of_ours_begin_the_watch_again() -> None:
    jump = [*steps(5), *steps(5, start=25.0, time=900.0)]
    assert not any(looks(*jump))
    gap = [*steps(5), *steps(5, start=65.0, time=265.0)]
    assert not any(looks(*gap))


def test_standing_still_is_not_enough_while_redis_calls_it_young() -> None:
    assert not any(looks(*((5.0 * n, 100.0 + 3.5 * n, 100) for n in range(5))))


# --- census ---

SERVICE = Wanted("web", "u1", "img", 4)
A, B, C, D = pods_of(SERVICE)


def census(**given: object) -> Census:
    workers = {"w1": WorkerSeen(100, None, 1, [A], [], [B]), "w2": WorkerSeen(100, None, 1, [], [C], [])}
    return Census(**{"time": 100, "services": {"u1": SERVICE.encode()}, "workers": workers, **given})  # type: ignore[arg-type]


def test_what_stands_nowhere_is_missing() -> None:
    assert missing(census()) == {D: "u1"}
    assert missing(census(queue=[D])) == {}
    assert missing(census(schedulers={"s": SchedulerSeen(100, [D])})) == {}


def test_what_was_given_up_is_not_missing() -> None:
    letter = b'{"pod":"%s","worker":"w","error":"e","attempts":5,"at":1}' % D.replace(b'"', b'\\"')
    assert missing(census(dead=[letter, b"nonsense"])) == {}
    assert states(census(dead=[letter]), SERVICE)[D] == "dead"


def test_every_pod_has_a_place_in_words() -> None:
    assert states(census(), SERVICE) == {A: "pending@w1", B: "on@w1", C: "starting@w2", D: "missing"}
    assert states(census(queue=[D]), SERVICE)[D] == "queued"


def test_of_two_places_the_running_one_stays() -> None:
    workers = {
        "w1": WorkerSeen(100, None, 1, [A], [B], [C]),
        "w2": WorkerSeen(100, None, 1, [], [A], [B]),
        "w3": WorkerSeen(100, None, 1, [D, D], [D], []),
    }
    assert sorted(doubles(census(workers=workers))) == [
        (A, Place(1, "starting", "w2"), Place(2, "pending", "w1")),
        (B, Place(0, "on", "w2"), Place(1, "starting", "w1")),
    ]
    assert doubles(census(queue=[B])) == [(B, Place(0, "on", "w1"), Place(3, "queued"))]


def test_pods_without_a_service_are_unserved() -> None:
    assert {uuid: set(found) for uuid, found in unserved(census(services={})).items()} == {"u1": {A, B, C}}
    assert unserved(census()) == {}


def test_garbage_of_others_is_none_of_ours() -> None:
    nested = b"[" * 100_000 + b"]" * 100_000
    letter = b'{"pod":"p","worker":"w","error":"e","attempts":5,"at":1,"z":%s}'
    garbage = [b"\xff", nested, letter % nested, letter % b'"\xff"']
    found = census(dead=garbage, services={"u1": SERVICE.encode()[:-1] + b',"z":' + nested + b"}"}, queue=garbage)
    assert missing(found) == {} and doubles(found) == [] and dead_pods(found) == {}
    assert set(unserved(census(services={}, queue=garbage))) == {"u1"}
    assert read_load(nested) == read_load(b'{"z":"\xff"}') == Load()


# --- where Redis is, and how it is set up ---


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("redis://h", Target("h")),
        ("redis://h:7/3", Target("h", 7, 3)),
        ("rediss://h", Target("h", tls=True)),
        ("unix:///run/redis.sock", Target(path="/run/redis.sock")),
        ("redis+sentinel://a,b:7/pods/2", Target(db=2, sentinels=(("a", 26379), ("b", 7)), master="pods")),
    ],
)
def test_a_url_says_where_redis_is(url: str, target: Target) -> None:
    assert read_target(url) == target


@pytest.mark.parametrize(
    "url", ["", "http://h", "redis://", "redis://h:x", "redis://h/x", "redis+sentinel://a", "redis://u:secret@h"]
)
def test_other_urls_are_refused_and_no_secret_is_repeated(url: str) -> None:
    with pytest.raises(ConfigError) as error:
        read_target(url)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(("text", "old"), [("6.0.16", True), ("6.2.0", False), ("7.0.15", False)])
def test_the_oldest_redis_is_6_2(text: str, *, old: bool) -> None:
    assert (version_of(text) < OLDEST) == old


def test_weak_settings_are_named() -> None:
    good = {"appendonly": "yes", "appendfsync": "everysec", "maxmemory-policy": "noeviction"}
    lag = {"min-replicas-to-write": "1", "min-replicas-max-lag": "10"}
    assert weak_settings(good, sentinel=False) == weak_settings(good | lag, sentinel=True) == []
    assert len(weak_settings({}, sentinel=True)) == 4
    assert weak_settings(good | {"appendonly": "no"}, sentinel=False)[0].startswith("appendonly is no")
    assert "max-lag is 60" in weak_settings(good | lag | {"min-replicas-max-lag": "60"}, sentinel=True)[0]
