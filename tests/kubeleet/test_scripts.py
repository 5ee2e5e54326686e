"""Every script against a real Redis: each is one step, and none does its work twice."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from protokube.errors import OutcomeUnknownError, ProviderError
from protokube.kubeleet import connect
from protokube.kubeleet.connect import Connector, Link
from protokube.kubeleet.core.census import SchedulerSeen, WorkerSeen
from protokube.kubeleet.core.pod import MOST_DEAD
from protokube.kubeleet.core.settings import read_target
from protokube.kubeleet.keys import Keys
from protokube.kubeleet.reading import read_census
from tests.lab.redis_server import RedisServer, redis_server

POD, OTHER = b'{"name":"a"}', b"\xff\x00 any bytes"
KEYS = Keys("x:")
Step = Callable[[Link], Awaitable[Any]]


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(autouse=True)
def empty(redis: RedisServer) -> None:
    redis.do("FLUSHALL")


def with_link(redis: RedisServer, step: Step) -> Any:
    async def run() -> Any:
        async with Connector(read_target(redis.url)).link() as link:
            return await step(link)

    return asyncio.run(run())


def run(redis: RedisServer, script: str, keys: list[str], *args: Any) -> Any:
    return with_link(redis, lambda link: link.run(script, keys, args))


def pod_keys(w: str = "w") -> list[str]:
    names = [KEYS.epoch(w), KEYS.beat(w), KEYS.load(w), KEYS.running(w), KEYS.starting(w)]
    return [*names, KEYS.generation(w)]


def join(
    redis: RedisServer, *belongs: bytes, w: str = "w", generation: int = 0, starting: tuple[bytes, ...] = ()
) -> Any:
    names = [KEYS.epoch(w), KEYS.beat(w), KEYS.workers, KEYS.running(w), KEYS.starting(w), KEYS.generation(w)]
    return run(redis, "join", names, w, generation, len(belongs), *belongs, *starting)


def heartbeat(redis: RedisServer, epoch: int, generation: int = 0, load: str = "{}") -> Any:
    return run(redis, "heartbeat", pod_keys(), epoch, generation, load)


def rebalance(redis: RedisServer, w: str = "w") -> Any:
    lists = [KEYS.beat(w), KEYS.pending(w), KEYS.starting(w), KEYS.running(w)]
    return run(redis, "rebalance", [*lists, KEYS.queue, KEYS.epoch(w), KEYS.workers], w, 20)


def silence(redis: RedisServer, key: str) -> None:
    redis.do("SET", key, int(redis.do("TIME")[0]) - 21)


def test_a_join_begins_a_new_epoch(redis: RedisServer) -> None:
    assert join(redis) == [1, 1, 1]
    assert join(redis) == [2, 0, 1]
    assert redis.do("SMEMBERS", "x:workers") == {b"w"}
    assert abs(int(redis.do("GET", "x:hb:w")) - int(redis.do("TIME")[0])) <= 60
    assert redis.do("TTL", "x:hb:w") == -1


def test_what_a_worker_has_is_put_back_into_a_redis_that_lost_it_alone(redis: RedisServer) -> None:
    join(redis, POD, OTHER, starting=(b"new",))
    assert set(redis.do("SMEMBERS", "x:cs:w")) == {POD, OTHER}
    assert redis.do("LRANGE", "x:rq:w", 0, -1) == [b"new"]
    redis.do("DEL", "x:cs:w", "x:rq:w")
    join(redis, POD, starting=(b"new",))
    assert redis.do("EXISTS", "x:cs:w", "x:rq:w") == 0


def test_a_redis_that_went_back_is_told_from_one_that_fenced(redis: RedisServer) -> None:
    join(redis, POD)
    _, generation, *_ = heartbeat(redis, 1)
    earlier = redis.do("DUMP", "x:gen:w")
    redis.do("LPUSH", "x:rq:w", OTHER)
    _, later = accept(redis, generation=generation, pod=OTHER)
    assert later > generation
    redis.do("RESTORE", "x:gen:w", 0, earlier, "REPLACE")
    redis.do("SREM", "x:cs:w", OTHER)
    assert heartbeat(redis, 1, later) == accept(redis, generation=later) == [b"BACK"]
    assert heartbeat(redis, 7, later) == [b"BACK"]  # the epoch went back as well
    redis.do("LPUSH", "x:rq:w", b"new")
    epoch, back, newest = join(redis, POD, OTHER, generation=later, starting=(b"new",))
    assert (epoch, back) == (2, 2) and newest > later
    assert set(redis.do("SMEMBERS", "x:cs:w")) == {POD, OTHER}
    assert redis.do("LRANGE", "x:rq:w", 0, -1) == [b"new"]
    assert heartbeat(redis, 2, newest)[0] == b"OK" and heartbeat(redis, 1, newest) == [b"FENCED"]


def test_a_heartbeat_brings_what_belongs_there(redis: RedisServer) -> None:
    assert heartbeat(redis, 1) == [b"EMPTIED"]
    join(redis)
    redis.do("SADD", "x:cs:w", POD)
    redis.do("LPUSH", "x:rq:w", OTHER)
    redis.do("DEL", "x:hb:w")
    assert heartbeat(redis, 1, load='{"pods":1}') == [b"OK", 2, [POD], [OTHER]]
    assert redis.do("EXISTS", "x:hb:w") == 1 and redis.do("GET", "x:ld:w") == b'{"pods":1}'
    assert heartbeat(redis, 2) == [b"FENCED"]
    assert redis.do("GET", "x:ld:w") == b'{"pods":1}'


def accept(redis: RedisServer, epoch: int = 1, generation: int = 0, pod: bytes = POD) -> Any:
    names = [KEYS.epoch("w"), KEYS.generation("w"), KEYS.running("w"), KEYS.starting("w"), KEYS.attempts]
    return run(redis, "accept", names, epoch, generation, pod, "f")


def test_a_pod_is_accepted_once_and_by_the_right_epoch(redis: RedisServer) -> None:
    assert accept(redis) == [b"EMPTIED"]
    join(redis)
    redis.do("LPUSH", "x:rq:w", POD, OTHER)
    redis.do("HSET", "x:at", "f", 3)
    assert accept(redis, epoch=9) == [b"FENCED"] and redis.do("LLEN", "x:rq:w") == 2
    assert [accept(redis), accept(redis)] == [[b"OK", 2], [b"OK", 3]]  # the first answer may have got lost
    assert redis.do("LRANGE", "x:rq:w", 0, -1) == [OTHER] and redis.do("EXISTS", "x:at") == 0
    assert set(redis.do("SMEMBERS", "x:cs:w")) == {POD}


def test_a_pod_that_was_removed_meanwhile_isnt_accepted(redis: RedisServer) -> None:
    join(redis)
    assert accept(redis) == [b"GONE"] and redis.do("EXISTS", "x:cs:w") == 0


def test_a_pod_that_fails_too_often_becomes_a_dead_letter(redis: RedisServer) -> None:
    names = [KEYS.epoch("w"), KEYS.starting("w"), KEYS.attempts, KEYS.dead]
    letter = json.dumps({"pod": POD.decode(), "worker": "w", "error": "e"})[:-1]
    assert run(redis, "fail", names, 1, POD, "f", 5, letter, 9) == b"EMPTIED"
    join(redis)
    assert run(redis, "fail", names, 1, POD, "f", 5, letter, 9) == b"GONE"
    redis.do("LPUSH", "x:rq:w", POD)
    assert run(redis, "fail", names, 7, POD, "f", 5, letter, 9) == b"FENCED"
    assert [run(redis, "fail", names, 1, POD, "f", 5, letter, 9) for _ in range(5)] == [1, 2, 3, 4, -5]
    assert redis.do("LLEN", "x:rq:w") == 0 and redis.do("HLEN", "x:at") == 0
    (dead,) = redis.do("LRANGE", "x:dl", 0, -1)
    assert json.loads(dead) | {"at": 0} == {
        "pod": '{"name":"a"}',
        "worker": "w",
        "error": "e",
        "attempts": 5,
        "at": 0,
    }
    assert run(redis, "retry", [KEYS.dead, KEYS.queue, KEYS.attempts], dead, POD, "f") == 1
    assert run(redis, "retry", [KEYS.dead, KEYS.queue, KEYS.attempts], dead, POD, "f") == 0
    assert redis.do("LRANGE", "x:sq", 0, -1) == [POD]


def test_neither_dead_letters_nor_counts_grow_without_end(redis: RedisServer) -> None:
    names = [KEYS.epoch("w"), KEYS.starting("w"), KEYS.attempts, KEYS.dead]
    join(redis)
    for n in range(7):
        redis.do("LPUSH", "x:rq:w", n)
        assert run(redis, "fail", names, 1, n, f"f{n}", 1, f'{{"n":{n}', 3) == -1
    assert [json.loads(raw)["n"] for raw in redis.do("LRANGE", "x:dl", 0, -1)] == [6, 5, 4]
    for n in range(7):
        redis.do("LPUSH", "x:rq:w", n)
        assert run(redis, "fail", names, 1, n, f"f{n}", 5, "{", 3) == 1
        assert run(redis, "fail", names, 1, n, f"f{n}", 5, "{", 3) == 2  # a count that is there isn't lost by itself
        assert redis.do("HLEN", "x:at") <= 3


def test_a_census_reads_the_newest_dead_letters_alone(redis: RedisServer) -> None:
    redis.do("RPUSH", "x:dl", *range(MOST_DEAD + 5))
    found = with_link(redis, lambda link: read_census(link, KEYS))
    assert len(found.dead) == MOST_DEAD and found.dead[0] == b"0"


def test_a_pod_is_placed_once_and_on_nobody_silent(redis: RedisServer) -> None:
    join(redis)
    join(redis, w="silent")
    silence(redis, "x:hb:silent")
    redis.do("LPUSH", "x:sq", POD, OTHER)
    assert run(redis, "take", [KEYS.queue, KEYS.placing("s")], 9) == [POD, OTHER]
    words = [POD, "silent", POD, "unknown", POD, "w", POD, "w", OTHER, "w"]
    answers = [b"STALE", b"STALE", b"PLACED", b"GONE", b"PLACED"]
    assert run(redis, "place", [KEYS.placing("s")], "x:", 20, *words) == answers
    assert redis.do("LRANGE", "x:pq:w", 0, -1) == [OTHER, POD]
    assert redis.do("EXISTS", "x:pq:silent", "x:pq:unknown", "x:srq:s", "x:sq") == 0


def test_a_look_counts_pods_and_says_that_the_scheduler_lives(redis: RedisServer) -> None:
    join(redis)
    redis.do("LPUSH", "x:pq:w", POD)
    redis.do("LPUSH", "x:rq:w", POD, OTHER)
    redis.do("SADD", "x:cs:w", POD, OTHER)
    time, workers, schedulers = run(
        redis, "look", [KEYS.scheduler_beat("s"), KEYS.schedulers, KEYS.workers], "x:", "s"
    )
    assert workers == [[b"w", redis.do("GET", "x:hb:w"), None, 5]]
    assert schedulers == [[b"s", time]]


def test_a_silent_worker_loses_its_pods_once_each(redis: RedisServer) -> None:
    join(redis)
    redis.do("LPUSH", "x:pq:w", b"p2", b"p1", POD)
    redis.do("LPUSH", "x:rq:w", OTHER)
    redis.do("SADD", "x:cs:w", POD, OTHER)
    assert rebalance(redis) == -1 and redis.do("SCARD", "x:cs:w") == 2
    silence(redis, "x:hb:w")
    assert rebalance(redis) == 4
    assert sorted(redis.do("LRANGE", "x:sq", 0, -1)) == sorted([b"p1", b"p2", POD, OTHER])
    assert redis.do("EXISTS", "x:pq:w", "x:rq:w", "x:cs:w", "x:workers") == 0
    assert rebalance(redis) == 0 and redis.do("LLEN", "x:sq") == 4
    assert heartbeat(redis, 1) == [b"FENCED"]
    assert accept(redis, pod=OTHER) == [b"FENCED"]


def test_a_worker_without_a_heartbeat_is_silent(redis: RedisServer) -> None:
    redis.do("LPUSH", "x:pq:w", POD)
    assert rebalance(redis) == 1


def test_a_silent_schedulers_pods_are_queued_again(redis: RedisServer) -> None:
    names = [KEYS.scheduler_beat("s"), KEYS.placing("s"), KEYS.queue, KEYS.schedulers]
    run(redis, "look", [KEYS.scheduler_beat("s"), KEYS.schedulers, KEYS.workers], "x:", "s")
    redis.do("LPUSH", "x:srq:s", POD, OTHER)
    redis.do("LPUSH", "x:sq", b"later")
    assert run(redis, "reclaim", names, "s", 20) == -1
    silence(redis, "x:hb:s:s")
    assert run(redis, "reclaim", names, "s", 20) == 2
    assert redis.do("RPOP", "x:sq") in (POD, OTHER)
    assert redis.do("EXISTS", "x:srq:s", "x:schedulers") == 0


def service(redis: RedisServer, *words: Any) -> Any:
    return run(redis, "service", KEYS.of_service, "x:", *words)


def test_a_service_is_taken_in_whole_and_once(redis: RedisServer) -> None:
    assert service(redis, "u", "req", "NEW", POD, OTHER) == [1, b"req", 2]
    assert service(redis, "u", "req", "NEW", POD, OTHER) == [0, b"req", 0]
    assert service(redis, "u", "another", "NEW", b"p") == [0, b"req", 0]
    assert redis.do("LRANGE", "x:sq", 0, -1) == [OTHER, POD]


def everywhere(redis: RedisServer, pod: bytes) -> None:
    join(redis)
    redis.do("SADD", "x:schedulers", "s")
    for key in ("x:sq", "x:srq:s", "x:pq:w", "x:rq:w", "x:dl"):
        redis.do("LPUSH", key, pod, b"stays")
    redis.do("SADD", "x:cs:w", pod, b"stays")
    redis.do("HSET", "x:svc", "u", "req", "v", "req")


def test_a_removed_service_leaves_nothing_anywhere(redis: RedisServer) -> None:
    everywhere(redis, POD)
    names = [KEYS.services, KEYS.queue, KEYS.dead, KEYS.workers, KEYS.schedulers]
    assert run(redis, "remove", names, "x:", "u", POD) == 6
    for key in ("x:sq", "x:srq:s", "x:pq:w", "x:rq:w", "x:dl"):
        assert redis.do("LRANGE", key, 0, -1) == [b"stays"]
    assert set(redis.do("SMEMBERS", "x:cs:w")) == {b"stays"}
    assert redis.do("HKEYS", "x:svc") == [b"v"]


def test_a_census_sees_everything(redis: RedisServer) -> None:
    everywhere(redis, POD)
    found = with_link(redis, lambda link: read_census(link, KEYS))
    both = [b"stays", POD]
    assert found.queue == found.dead == both and found.services == {"u": b"req", "v": b"req"}
    (worker,) = found.workers.values()
    assert worker == WorkerSeen(worker.beat, None, 1, both, both, worker.running)
    assert set(worker.running) == set(both) and found.schedulers == {"s": SchedulerSeen(None, both)}


@pytest.mark.parametrize("key", ["x:sq", "x:srq:s", "x:pq:w", "x:rq:w", "x:cs:w", None])
def test_only_what_stands_nowhere_is_queued(redis: RedisServer, key: str | None) -> None:
    join(redis)
    redis.do("SADD", "x:schedulers", "s")
    if key is not None:
        redis.do("SADD" if key == "x:cs:w" else "LPUSH", key, POD)
    assert service(redis, "u", "req", "REPAIR", POD) == [0, b"", 0]
    redis.do("HSET", "x:svc", "u", "req")
    assert service(redis, "u", "changed", "REPAIR", POD) == [0, b"req", 0]
    assert service(redis, "u", "req", "REPAIR", POD) == [0, b"req", int(key is None)]
    redis.do("HDEL", "x:svc", "u")
    assert service(redis, "u", "req", "NEW", POD) == [1, b"req", 0]
    assert redis.do("LRANGE", "x:sq", 0, -1) == ([POD] if key in (None, "x:sq") else [])


def test_one_of_two_places_is_dropped_only_while_the_other_holds(redis: RedisServer) -> None:
    redis.do("SADD", "a", POD)
    redis.do("LPUSH", "b", POD, POD)
    redis.do("SADD", "c", POD)
    assert run(redis, "drop", ["nowhere", "a"], POD) == 0
    assert run(redis, "drop", ["a", "b"], POD) == 2
    assert run(redis, "drop", ["b", "a"], POD) == 0
    assert run(redis, "drop", ["a", "c"], POD) == 1
    assert run(redis, "drop", ["a", "b"], POD) == 0
    assert set(redis.do("SMEMBERS", "a")) == {POD}


# --- connections ---


def test_a_script_that_redis_forgot_is_sent_again(redis: RedisServer) -> None:
    join(redis)
    redis.do("SCRIPT", "FLUSH")
    assert join(redis) == [2, 0, 1]


def test_what_redis_refuses_was_not_done_and_the_connection_goes_on(redis: RedisServer) -> None:
    async def step(link: Link) -> None:
        redis.do("CONFIG", "SET", "min-replicas-to-write", 1)
        try:
            with pytest.raises(ProviderError, match="NOREPLICAS") as error:
                await link.run("service", KEYS.of_service, ["x:", "u", "req", "NEW", POD])
            assert not isinstance(error.value, OutcomeUnknownError)
        finally:
            redis.do("CONFIG", "SET", "min-replicas-to-write", 0)
        assert await link.call("EXISTS", "x:svc", "x:sq") == 0

    with_link(redis, step)


def test_a_lost_connection_is_unknown_and_isnt_used_again(redis: RedisServer) -> None:
    async def step(link: Link) -> None:
        redis.do("CLIENT", "KILL", "TYPE", "NORMAL", "SKIPME", "yes")
        with pytest.raises(OutcomeUnknownError):
            await link.call("LPUSH", "x:sq", POD)
        with pytest.raises(ProviderError):
            await link.call("LPUSH", "x:sq", POD)
        assert redis.do("LLEN", "x:sq") == 0

    with_link(redis, step)


def test_weak_settings_are_warned_of_once(redis: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    async def twice(connector: Connector) -> None:
        for _ in range(2):
            async with connector.link():
                pass

    connector = Connector(read_target(redis.url))
    asyncio.run(twice(connector))
    assert not connector.weak and not caplog.records
    redis.do("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    try:
        asyncio.run(twice(connector))
    finally:
        redis.do("CONFIG", "SET", "maxmemory-policy", "noeviction")
    assert [record.message for record in caplog.records if "maxmemory-policy" in record.message] == [
        f"redis 127.0.0.1:{redis.port}: maxmemory-policy is allkeys-lru, noeviction was expected: "
        "a full memory evicts queues"
    ]


def test_a_redis_that_is_too_old_is_refused(redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connect, "OLDEST", (99, 0))

    async def step(link: Link) -> None:
        raise AssertionError("there is no such connection")

    with pytest.raises(ProviderError, match=r"version \d.*; at least 99.0 was expected"):
        with_link(redis, step)


def test_nobody_there_is_told_plainly(tmp_path: Path) -> None:
    async def run() -> None:
        async with Connector(read_target("redis://127.0.0.1:1")).link():
            pass

    with pytest.raises(ProviderError, match=r"redis 127\.0\.0\.1:1: "):
        asyncio.run(run())
