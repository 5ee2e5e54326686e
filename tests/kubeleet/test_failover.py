"""Scenarios 12 and 13: the master dies or freezes, and Sentinels make another one."""

from __future__ import annotations

import signal
from pathlib import Path

from redis.exceptions import RedisError

from tests.kubeleet.programs import Lab, lab
from tests.lab.redis_server import Fleet, RedisServer, until

NAMES = ("w1", "w2")


def post(programs: Lab, number: int) -> bool:
    body = {"name": f"web{number}", "image": "img", "replica": 3, "uuid": f"u{number}"}
    status, answer = programs.ask("POST", "/service", body)
    assert status in (200, 201, 503), answer
    return status != 503


def test_scenario_12_a_master_dies_in_a_burst_of_services(tmp_path: Path) -> None:
    with Fleet(tmp_path, replicas_to_write=1).running() as fleet, lab(tmp_path, fleet.url) as programs:
        workers = programs.workers(*NAMES)
        scheduler = programs.scheduler()
        programs.service("--replicas", "1")
        for number in range(8):
            until(lambda: post(programs, number))
        fleet.servers[0].kill()
        for number in range(8, 16):
            until(lambda: post(programs, number), every=0.2)
        assert fleet.master() is not fleet.servers[0]

        def whole() -> bool:
            services = programs.status()["services"]
            return len(services) == 16 and all(one["running"] == one["wanted"] == 3 for one in services)

        until(whole, every=1.0)
        until(lambda: sorted(programs.running(*NAMES).values()) == [1] * 48)
        status = programs.status()
        assert (status["queued"], status["missing"], status["doubles"], status["dead"]) == (0, 0, 0, 0)
        assert all(one.process.poll() is None for one in (*workers, scheduler))


def _is(one: RedisServer, role: bytes) -> bool:
    try:
        return bool(one.do("ROLE")[0] == role)
    except RedisError:  # its clients lose their connections when it changes its role
        return False


def _follows(one: RedisServer, master: RedisServer) -> bool:
    try:
        info = one.do("INFO", "replication")
    except RedisError:
        return False
    return bool(info["role"] == "slave" and info["master_port"] == master.port and info["master_link_status"] == "up")


def test_scenario_13_a_frozen_master_takes_no_write_that_is_lost(tmp_path: Path) -> None:
    with Fleet(tmp_path, replicas_to_write=1, max_lag=2).running() as fleet, lab(tmp_path, fleet.url) as programs:
        programs.workers("w1")
        old = fleet.servers[0]
        taken, refused = [], []

        def push(number: int) -> None:
            try:
                with old.client() as client:
                    client.execute_command("LPUSH", "written", number)
                taken.append(number)
            except RedisError as error:
                refused.append(str(error))

        for number in range(50):
            push(number)
        assert len(taken) == 50
        old.signal(signal.SIGSTOP)
        new = until(lambda: next((one for one in fleet.servers[1:] if _is(one, b"master")), None))
        # Until the other replica has left it, a master that thaws may take writes that are lost: see the limits.
        until(lambda: all(one is new or _follows(one, new) for one in fleet.servers[1:]))
        old.signal(signal.SIGCONT)
        for number in range(50, 250):  # the client knows nobody else
            push(number)
        until(lambda: _is(old, b"slave"))
        assert any("NOREPLICAS" in text for text in refused), refused[:3]
        assert set(map(int, new.do("LRANGE", "written", 0, -1))) >= set(taken)
        # The worker has found the new master.
        new.do("LPUSH", "pq:w1", '{"name":"late","uuid":"u","image":"img","replica":1}')
        until(lambda: new.do("SCARD", "cs:w1") == 1)
        assert len(programs.running("w1")) == 1
