"""Scenarios 12 and 13: the master dies or freezes, and Sentinels make another one."""

from __future__ import annotations

import signal
from pathlib import Path

from redis.exceptions import RedisError

from tests.kubeleet.programs import lab
from tests.lab.redis_server import Fleet, RedisServer, until

NAMES = ("w1", "w2")


def request(number: int) -> dict[str, object]:
    return {"name": f"web{number}", "image": "img", "replica": 3, "uuid": f"u{number}"}


def test_scenario_12_a_master_dies_in_a_burst_of_services(tmp_path: Path) -> None:
    """A master counts as down after 5 s: a busy machine would take one that lives for dead within 1 s."""
    with (
        Fleet(tmp_path, replicas_to_write=1, down_after=5000).running() as fleet,
        lab(tmp_path, fleet.url) as programs,
    ):
        workers = programs.workers(*NAMES)
        scheduler = programs.scheduler()
        programs.service("--replicas", "1")
        for number in range(8):
            assert programs.post(request(number))[0] in (200, 201)
        # One replica has them. Sentinels may take the other: it needs them too, or they are lost as the limits say.
        fleet.replicated()
        fleet.servers[0].kill()
        for number in range(8, 16):
            assert programs.post(request(number))[0] in (200, 201)
        assert fleet.master() is not fleet.servers[0]
        seen: dict[str, object] = {}

        def whole() -> bool:
            """Every pod stands once in Redis: what a failover has put at two places, an audit drops from one."""
            status = programs.status()
            seen.update(status)
            services = status["services"]
            counts = [status[key] for key in ("queued", "missing", "doubles", "dead")]
            return (
                len(services) == 16
                and all(one["running"] == one["wanted"] == 3 for one in services)
                and counts == [0, 0, 0, 0]
                and sorted(programs.running(*NAMES).values()) == [1] * 48
            )

        try:
            until(whole, every=1.0)
        except AssertionError:
            raise AssertionError(f"not whole: {seen}") from None
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
