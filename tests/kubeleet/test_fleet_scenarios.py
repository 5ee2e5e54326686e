"""Several workers, schedulers and the service API on a real Redis: every pod runs somewhere, and once."""

from __future__ import annotations

import json
import signal
import socket
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from protokube.kubeleet.core.pod import Wanted
from tests.kubeleet.programs import Lab, lab
from tests.lab.redis_server import LIMIT, RedisServer, redis_server, until

STALE = 20.0


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path / "redis") as server:
        yield server


@pytest.fixture
def programs(tmp_path: Path, redis: RedisServer) -> Iterator[Lab]:
    with lab(tmp_path, redis.url) as made:
        yield made


def request(replica: int, uuid: str = "u1") -> dict[str, object]:
    return {"name": "web", "image": "img", "replica": replica, "uuid": uuid}


def settled(programs: Lab, replica: int, *names: str) -> bool:
    """Whether every pod of the service runs once, and each worker has what Redis says."""
    running = programs.running(*names)
    status, answer = programs.ask("GET", "/service/u1")
    return (
        len(running) == replica
        and set(running.values()) == {1}
        and status == 200
        and all(state.startswith("on@") for state in answer["pods"].values())
    )


def test_scenario_5_and_6_a_service_is_spread_and_taken_in_once(redis: RedisServer, programs: Lab) -> None:
    names = ("w1", "w2", "w3")
    programs.workers(*names)
    programs.scheduler()
    programs.service()
    body = json.dumps(request(30)).encode()
    with socket.create_connection(("127.0.0.1", programs.port)) as cut:
        head = b"POST /service HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        cut.sendall(head + b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        until(lambda: redis.do("HEXISTS", "svc", "u1"))  # done, and the answer is never read
    status, answer = programs.ask("POST", "/service", request(30))
    assert status == 200 and len(set(answer["pods"])) == 30
    until(lambda: settled(programs, 30, *names))
    assert [8 <= sum(programs.running(name).values()) <= 12 for name in names] == [True] * 3
    assert set(programs.running(*names)) == set(answer["pods"])
    assert sum(len(programs.ledger(name, "start")) for name in names) == 30

    assert programs.ask("POST", "/service", request(31))[0] == 409
    assert programs.ask("POST", "/service", {**request(1, "u2"), "image": "x" * 65536})[0] == 413
    status, answer = programs.ask("POST", "/service", {"name": "Web", "image": "img", "replica": 0, "port": 1})
    assert status == 400 and "port" in str(answer)
    assert [one["uuid"] for one in programs.ask("GET", "/service")[1]] == ["u1"]
    workers = programs.ask("GET", "/workers")[1]
    assert [one["name"] for one in workers] == list(names) and sum(one["running"] for one in workers) == 30
    assert programs.status()["services"] == [{"uuid": "u1", "name": "web", "wanted": 30, "running": 30}]

    assert programs.ask("DELETE", "/service/u1")[0] == 202
    until(lambda: not programs.running(*names))
    assert programs.ask("GET", "/service/u1")[0] == programs.ask("DELETE", "/service/u1")[0] == 404


def test_dead_letters_are_listed_and_tried_again(redis: RedisServer, programs: Lab) -> None:
    programs.service()
    pods = [Wanted(name, "u", "img", 1).encode() for name in ("a", "b")]
    for raw in (*pods, b"garbage"):
        letter = {"pod": raw.decode(), "worker": "w", "error": "e", "attempts": 5, "at": 1}
        redis.do("LPUSH", "dl", json.dumps(letter))
    assert [(one["n"], one["pod"]) for one in programs.ask("GET", "/dead")[1]] == [
        (0, pods[0].decode()),
        (1, pods[1].decode()),
        (2, "garbage"),
    ]
    assert programs.ask("POST", "/dead/2/retry")[0] == 409
    assert programs.ask("POST", "/dead/0/retry") == (200, {"pod": pods[0].decode()})
    assert programs.ask("POST", "/dead/7/retry")[0] == 404
    assert redis.do("LRANGE", "sq", 0, -1) == [pods[0]] and redis.do("LLEN", "dl") == 2


def test_who_may_ask_is_asked_for_a_token(redis: RedisServer, programs: Lab, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret\n")
    programs.service("--token-file", str(tmp_path / "token"))
    assert programs.ask("GET", "/service")[0] == 401
    asked = urllib.request.Request(
        f"http://127.0.0.1:{programs.port}/service", headers={"Authorization": "Bearer secret"}
    )
    with urllib.request.urlopen(asked, timeout=LIMIT) as answer:
        assert json.loads(answer.read()) == []
    # Who shows it is no web page: it needs no more.
    shown = {"Authorization": "Bearer secret", "Host": "fleet.example", "Content-Type": "text/plain"}
    assert programs.ask("POST", "/service", request(2), shown)[0] == 201
    refused = programs.start("open", "service", "--listen", "0.0.0.0:0")
    assert refused.process.wait(LIMIT) == 78 and "--token-file" in refused.log


def test_a_web_page_cant_ask_in_the_name_of_who_looks_at_it(redis: RedisServer, programs: Lab) -> None:
    programs.service()
    form = {"Content-Type": "text/plain"}  # what a page of another origin may send without asking
    assert programs.ask("POST", "/service", request(2), form)[0] == 415
    assert programs.ask("POST", "/dead/0/retry", headers=form)[0] == 415
    for host in ("evil.example", f"evil.example:{programs.port}", "127.0.0.1.evil.example", "[::1", "10.0.0.1"):
        for method, path in (("POST", "/service"), ("GET", "/workers"), ("DELETE", "/service/u1")):
            assert programs.ask(method, path, request(2), {"Host": host})[0] == 403, host
    assert redis.do("EXISTS", "svc", "sq") == 0
    for host in ("localhost", f"127.0.0.1:{programs.port}", "[::1]:80"):
        assert programs.ask("GET", "/service", headers={"Host": host}) == (200, [])


def test_a_service_api_without_redis_says_so(redis: RedisServer, programs: Lab) -> None:
    programs.service("--replicas", "1")
    # Written, and no replica has it: nobody can say whether it will last.
    status, answer = programs.ask("POST", "/service", request(2))
    assert status == 503 and answer["outcome"] == "unknown" and answer["uuid"] == "u1"
    redis.do("CONFIG", "SET", "min-replicas-to-write", 1)
    status, answer = programs.ask("POST", "/service", request(2, "u2"))
    assert status == 503 and "NOREPLICAS" in answer["error"] and "outcome" not in answer
    redis.kill()
    status, answer = programs.ask("POST", "/service", request(2, "u3"))
    assert status == 503 and "outcome" not in answer


def test_scenario_7_a_dead_machines_pods_go_to_the_others(redis: RedisServer, programs: Lab) -> None:
    _, _, dead = programs.workers("w1", "w2", "w3")
    programs.scheduler()
    programs.service()
    assert programs.post(request(12))[0] in (200, 201)
    until(lambda: settled(programs, 12, "w1", "w2", "w3"))
    moved = set(programs.running("w3"))
    assert moved
    programs.lose_machine("w3", dead)
    last = int(redis.do("GET", "hb:w3"))
    until(lambda: settled(programs, 12, "w1", "w2"))
    later = [one for name in ("w1", "w2") for one in programs.ledger(name, "start") if one.name in moved]
    assert sorted(one.name for one in later) == sorted(moved)
    assert all(one.at - last >= STALE for one in later)
    assert set(redis.do("SMEMBERS", "workers")) == {b"w1", b"w2"}


def test_scenario_8_a_frozen_worker_comes_back_fenced(redis: RedisServer, programs: Lab) -> None:
    _, frozen = programs.workers("w1", "w2")
    programs.scheduler()
    programs.service()
    assert programs.post(request(6))[0] in (200, 201)
    until(lambda: settled(programs, 6, "w1", "w2"))
    twice = set(programs.running("w2"))
    frozen.signal(signal.SIGSTOP)
    until(lambda: len(programs.running("w1")) == 6)
    assert set(programs.running("w2")) == twice  # for a while there are two copies
    frozen.signal(signal.SIGCONT)
    frozen.says("fenced: worker w2")
    until(lambda: settled(programs, 6, "w1", "w2"))
    assert {one.name for one in programs.ledger("w2", "stop")} >= twice
    # Joined, fenced, joined again: and it takes pods as before.
    until(lambda: redis.do("GET", "ep:w2") == b"3")
    assert programs.post(request(6, "u2"))[0] in (200, 201)
    until(lambda: len(programs.running("w2")) >= 6 and set(programs.running("w1", "w2").values()) == {1})


def test_scenario_10_schedulers_that_die_place_everything_once(redis: RedisServer, programs: Lab) -> None:
    pods = [Wanted("job", f"u{n}", "img", 1).encode() for n in range(500)]
    now = int(redis.do("TIME")[0])
    for w in ("w1", "w2"):  # workers that nobody has to run: what is placed on them stays to be counted
        redis.do("SADD", "workers", w)
        redis.do("SET", f"hb:{w}", now + 10_000)
        redis.do("SET", f"ep:{w}", 1)
    # A scheduler that died long ago, with pods in its hands.
    redis.do("SADD", "schedulers", "dead")
    redis.do("SET", "hb:s:dead", now - 1000)
    redis.do("LPUSH", "srq:dead", *pods[:20])
    schedulers = {name: programs.scheduler(name) for name in ("s1", "s2")}

    def placed() -> list[bytes]:
        return [*redis.do("LRANGE", "pq:w1", 0, -1), *redis.do("LRANGE", "pq:w2", 0, -1)]

    for number, start in enumerate(range(20, 500, 80)):
        redis.do("LPUSH", "sq", *pods[start : start + 80])
        time.sleep(1.0)
        name = ("s1", "s2")[number % 2]
        schedulers[name].kill()
        if number < 5:  # the last one stays dead
            schedulers[name] = programs.scheduler(name)
    until(lambda: len(placed()) >= 500)
    assert sorted(placed()) == sorted(pods)
    assert redis.do("EXISTS", "sq", "srq:dead", "srq:s1", "srq:s2") == 0
    until(lambda: set(redis.do("SMEMBERS", "schedulers")) == {b"s1"})


def test_scenario_15_pressure_and_live_counts_decide(redis: RedisServer, programs: Lab) -> None:
    names = ("w1", "w2", "w3")
    workers = [programs.worker(name, pressure=90.0 if name == "w3" else 0.0) for name in names]
    for one in workers:
        one.says("is in touch")
    load = json.loads(redis.do("GET", "ld:w3"))
    assert load["psi"] is True and load["memory"] == 90.0
    # Frozen, with heartbeats of later: on a busy machine one of them may be silent for too long to get anything.
    for name, one in zip(names, workers, strict=True):
        one.signal(signal.SIGSTOP)
        redis.do("SET", f"hb:{name}", int(redis.do("TIME")[0]) + 10_000)
    programs.scheduler()
    redis.do("LPUSH", "sq", *(Wanted("job", f"u{n}", "img", 1).encode() for n in range(20)))

    def counts() -> list[int]:
        return [redis.do("LLEN", f"pq:{name}") + redis.do("LLEN", f"rq:{name}") for name in names]

    until(lambda: sum(counts()) == 20)
    assert counts() == [10, 10, 0]
    for one in workers:
        one.signal(signal.SIGCONT)
    until(lambda: len(programs.running(*names)) == 20)


def test_what_stands_twice_is_dropped_and_what_is_missing_comes_back(redis: RedisServer, programs: Lab) -> None:
    programs.workers("w1", "w2")
    programs.scheduler()
    programs.service()
    assert programs.post(request(4))[0] in (200, 201)
    until(lambda: settled(programs, 4, "w1", "w2"))
    (raw, *_) = redis.do("SMEMBERS", "cs:w1")
    redis.do("SADD", "cs:w2", raw)  # as two workers put it back that Redis has forgotten
    until(lambda: set(programs.running("w1", "w2").values()) == {1, 2})
    until(lambda: settled(programs, 4, "w1", "w2"))
    redis.do("SREM", "cs:w1", *redis.do("SMEMBERS", "cs:w1"))  # as a failover loses it
    until(lambda: not programs.running("w1"))
    until(lambda: settled(programs, 4, "w1", "w2"))
