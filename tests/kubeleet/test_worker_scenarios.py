"""One worker and a real Redis: nothing gets lost, nothing runs twice, whatever dies in between."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from protokube.kubeleet.connect import BLOCK, LIMIT
from protokube.kubeleet.core.pod import Wanted
from tests.kubeleet.programs import Lab, lab
from tests.lab.redis_server import RedisServer, redis_server, until

SEED = '{"name":"test","uuid":"djkfghsdjkfhjksdghfjksdjkfhsd","image":"spaster/alpine-sleep","replica":3}'
SEED_NAME = "test-3-52944516fe38bf0c"


def pod(name: str, image: str = "img") -> bytes:
    return Wanted(name, f"uuid-{name}", image, 1).encode()


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path / "redis") as server:
        yield server


@pytest.fixture
def programs(tmp_path: Path, redis: RedisServer) -> Iterator[Lab]:
    with lab(tmp_path, redis.url) as made:
        yield made


def accepted(redis: RedisServer, *pods: bytes, w: str = "worker1") -> bool:
    """Whether exactly these belong on the worker, and it has nothing in hand."""
    return set(redis.do("SMEMBERS", f"cs:{w}")) == set(pods) and redis.do("EXISTS", f"pq:{w}", f"rq:{w}") == 0


def test_scenario_1_the_originals_command(redis: RedisServer, programs: Lab) -> None:
    redis.cli("LPUSH", "pq:worker1", SEED)
    programs.worker("worker1")
    until(lambda: accepted(redis, SEED.encode()))
    assert programs.running("worker1") == {SEED_NAME: 1}
    status = programs.status()
    assert [one["name"] for one in status["workers"]] == ["worker1"] and status["redis"]["weak"] == []
    assert status["orphans"] == [{"uuid": "djkfghsdjkfhjksdghfjksdjkfhsd", "pods": 1}]


@pytest.mark.parametrize("hold", ["hold-before", "hold-after"])
def test_scenario_2_a_worker_killed_before_and_after_a_start(redis: RedisServer, programs: Lab, hold: str) -> None:
    machine = programs.machine("worker1")
    machine.mkdir(parents=True)
    (machine / hold).touch()
    redis.do("LPUSH", "pq:worker1", SEED)
    worker = programs.worker("worker1")
    until(lambda: redis.do("LLEN", "rq:worker1") == 1)
    if hold == "hold-after":
        until(lambda: programs.running("worker1") == {SEED_NAME: 1})
    assert redis.do("EXISTS", "cs:worker1") == 0
    worker.kill()
    (machine / hold).unlink()
    programs.worker("worker1")
    until(lambda: accepted(redis, SEED.encode()))
    assert programs.running("worker1") == {SEED_NAME: 1}
    assert [one.what for one in programs.ledger("worker1", "start", "stop")] == ["start"]


def test_scenario_3_garbage_delays_nothing(redis: RedisServer, programs: Lab) -> None:
    redis.do("LPUSH", "pq:worker1", b"\xff garbage")
    redis.do("LPUSH", "pq:worker1", pod("good"))
    programs.worker("worker1")
    until(lambda: accepted(redis, pod("good")))
    (letter,) = map(json.loads, until(lambda: redis.do("LRANGE", "dl", 0, -1)))
    assert letter["pod"] == "\\xff garbage" and letter["error"] and letter["worker"] == "worker1"
    assert letter["attempts"] == 1


def test_garbage_inside_of_a_pod_ends_no_program(redis: RedisServer, programs: Lab) -> None:
    odd = pod("odd")[:-1] + b',"z":"\xff"}'
    deep = pod("deep")[:-1] + b',"z":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    redis.do("HSET", "svc", "deep", deep, b"\xff", odd)
    redis.do("SADD", "workers", b"\xff")
    redis.do("LPUSH", "dl", deep, odd)
    redis.do("LPUSH", "pq:worker1", odd, deep, pod("good"))
    (worker,) = programs.workers("worker1")
    scheduler = programs.scheduler()
    programs.service()
    until(lambda: accepted(redis, pod("good")) and redis.do("LLEN", "dl") == 4)
    assert len(redis.do("LINDEX", "dl", 0)) < 5000  # of garbage a letter keeps the beginning
    redis.do("LPUSH", "sq", pod("later"))
    until(lambda: accepted(redis, pod("good"), pod("later")))
    assert [one["uuid"] for one in programs.status()["orphans"]] == ["uuid-good", "uuid-later"]
    assert programs.ask("GET", "/service")[0] == programs.ask("GET", "/dead")[0] == 200
    assert programs.ask("DELETE", "/service/uuid-good")[0] == 202
    assert worker.process.poll() is None and scheduler.process.poll() is None


def test_scenario_4_what_never_starts_is_given_up_and_delays_nobody(redis: RedisServer, programs: Lab) -> None:
    redis.do("LPUSH", "pq:worker1", pod("bad", "broken"))
    worker = programs.worker("worker1")
    worker.says("try 1 failed")
    redis.do("LPUSH", "pq:worker1", pod("good"))
    until(lambda: redis.do("SISMEMBER", "cs:worker1", pod("good")))
    (letter,) = map(json.loads, until(lambda: redis.do("LRANGE", "dl", 0, -1)))
    assert letter["attempts"] == 5 and "it never starts" in letter["error"]
    tries = programs.ledger("worker1", "try", "start")
    assert [one.what for one in tries].count("try") == 5
    assert tries[-1].what == "try"  # the good one didn't wait for it
    assert accepted(redis, pod("good")) and redis.do("EXISTS", "at") == 0


class Proxy:
    """A TCP proxy that can become a black hole: connections stay up, and nothing passes."""

    def __init__(self, port: int) -> None:
        self._target = ("127.0.0.1", port)
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self.open = threading.Event()
        self.open.set()
        self._ends: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._server.accept()
            except OSError:
                return
            far = socket.create_connection(self._target)
            self._ends += [near, far]
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=self._pass, args=(one, other), daemon=True).start()

    def _pass(self, one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(65536):
                if self.open.is_set():
                    other.sendall(data)

    def close(self) -> None:
        """End all connections."""
        for one in (self._server, *self._ends):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


def test_scenario_11_a_pod_whose_answer_was_lost_is_found(redis: RedisServer, programs: Lab) -> None:
    proxy = Proxy(redis.port)
    try:
        programs.url = f"redis://127.0.0.1:{proxy.port}"
        worker = programs.worker("worker1")
        worker.says("is in touch")
        until(lambda: b"cmd=blmove" in redis.do("CLIENT", "LIST", "TYPE", "NORMAL"))
        proxy.open.clear()
        redis.do("LPUSH", "pq:worker1", SEED)
        until(lambda: redis.do("LLEN", "rq:worker1") == 1)  # moved, and nobody heard of it
        worker.says("what runs goes on")
        assert not programs.running("worker1")
        proxy.open.set()
        until(lambda: accepted(redis, SEED.encode()))
        assert [one.what for one in programs.ledger("worker1", "start", "stop")] == ["start"]
    finally:
        proxy.close()


def test_scenario_14_a_redis_that_lost_everything_stops_nothing(tmp_path: Path) -> None:
    with redis_server(tmp_path / "redis", appendonly="no") as redis, lab(tmp_path, redis.url) as programs:
        (worker,) = programs.workers("w1")
        programs.scheduler()
        programs.service()
        assert "appendonly is no" in worker.log
        body = {"name": "web", "image": "img", "replica": 4, "uuid": "u1"}
        _, answer = programs.post(body)
        assert len(answer["pods"]) == 4
        until(lambda: redis.do("SCARD", "cs:w1") == 4)
        redis.kill()
        redis.start()
        assert redis.do("EXISTS", "svc") == 0
        until(lambda: redis.do("SCARD", "cs:w1") == 4)
        worker.says("Redis has lost everything: 4 pods")
        assert programs.running("w1") == dict.fromkeys(answer["pods"], 1)
        assert [one.what for one in programs.ledger("w1", "start", "stop")] == ["start"] * 4
        said = programs.status()
        assert said["orphans"] == [{"uuid": "u1", "pods": 4}] and said["services"] == []
        assert any("appendonly" in text for text in said["redis"]["weak"])
        # The service comes back by the same request, and its pods aren't started a second time.
        assert programs.post(body)[1] == answer
        until(lambda: programs.status()["queued"] == 0 and programs.status()["doubles"] == 0)
        until(lambda: accepted(redis, *redis.do("SMEMBERS", "cs:w1"), w="w1"))
        assert [one.what for one in programs.ledger("w1", "start", "stop")] == ["start"] * 4


def test_a_worker_that_was_frozen_for_a_while_takes_pods_again(redis: RedisServer, programs: Lab) -> None:
    """With redis-py's time-outs in the task that takes pods, that task ended without a word."""
    (worker,) = programs.workers("worker1")
    worker.signal(signal.SIGSTOP)
    time.sleep(LIMIT + BLOCK + 1)
    worker.signal(signal.SIGCONT)
    redis.do("LPUSH", "pq:worker1", SEED)
    until(lambda: accepted(redis, SEED.encode()))
