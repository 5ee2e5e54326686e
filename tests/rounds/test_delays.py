"""How long the daemon sleeps when no event comes."""

from __future__ import annotations

import asyncio

import pytest

from protokube.alarm import Alarm
from protokube.config.load import Settings, read
from protokube.daemon.pace import calm_after, delay_after, tries_in_vain
from protokube.daemon.sleep import Sleep
from protokube.errors import ProviderError
from protokube.report.model import Report
from tests.rounds.process import Process, node_config
from tests.rounds.world import World


@pytest.fixture
def settings() -> Settings:
    found, faults = read(["--interval", "600", "--cloud", "aws", "--dns", "none"], {})
    assert not faults
    return found


def report(*, broken: str | None = None) -> Report:
    """Of a node without a unit, past its gate's deadline, so that nothing else sets the pace."""
    world = World()
    world.volume("vol-m", "a/a")
    process = Process(world, world.node("n1"), node_config(kubelet_unit=None), uptime=1000)
    process.rounds()
    if broken is not None:
        process.broken[broken] = ProviderError("request limit exceeded")
    return process.round()


def longest(told: Report, in_vain: int, settings: Settings) -> float:
    return max(delay_after(told, in_vain, settings) for _ in range(200))


def test_a_converged_node_sleeps_for_the_interval(settings: Settings) -> None:
    assert delay_after(report(), 0, settings) == 600


def test_the_end_of_passing_trouble_is_seen_within_seconds(settings: Settings) -> None:
    told = report(broken="volumes")
    assert longest(told, 0, settings) <= 0.25
    assert all(longest(told, in_vain, settings) <= 10 for in_vain in range(20))


def test_rest_is_no_try_in_vain(settings: Settings) -> None:
    """A node that has been converged for hours looks again as soon as a new one."""
    in_vain = 0
    for told in [*[report()] * 100, report(broken="volumes")]:
        in_vain = tries_in_vain(told, in_vain)
    assert in_vain == 1


async def woken(calm: float, *reasons: str) -> list[str]:
    """What a sleep of an hour tells, after these rings."""
    alarm = Alarm()
    sleeper = Sleep(asyncio.get_running_loop(), alarm)
    for reason in reasons:
        alarm.ring(reason)
    waiting = asyncio.ensure_future(sleeper.until_rung(3600, calm))
    done, _ = await asyncio.wait({waiting}, timeout=0.3)
    waiting.cancel()
    return waiting.result() if done else ["asleep"]


def test_events_of_the_node_end_no_back_off() -> None:
    """A directory that changes all the time, say. A person's signal does, and so do events where all is well."""
    assert asyncio.run(woken(0, "/dev changed")) == ["/dev changed"]
    assert asyncio.run(woken(3600, "/dev changed")) == ["asleep"]
    assert asyncio.run(woken(3600, "/dev changed", "SIGUSR1")) == ["SIGUSR1", "/dev changed"]
    assert calm_after(report(broken="volumes"), 8.0) == 4.0 and calm_after(report(), 8.0) == 0.0


def test_what_tells_most_is_told_first() -> None:
    """A burst's first few reasons are logged: many files must not hide an address, a unit or a disk."""
    files = [f"/disks/main-{letter}.img.state changed" for letter in "abcdef"]
    addresses = "addresses: 10.77.0.13 → 10.77.0.23"
    rung = [*files, "/dev/nvme1n1 changed", addresses, "kubelet.service: active → inactive", "SIGUSR1"]
    told = ["SIGUSR1", addresses, "kubelet.service: active → inactive", "/dev/nvme1n1 changed", *files]
    assert asyncio.run(woken(0, *rung)) == told


def test_lasting_trouble_is_asked_about_ever_less(settings: Settings) -> None:
    told = report(broken="volumes")
    assert 10 < longest(told, 20, settings) <= 600


def test_delays_are_spread(settings: Settings) -> None:
    told = report(broken="volumes")
    found = [delay_after(told, 5, settings) for _ in range(200)]
    assert min(found) >= 4 and max(found) <= 8 and len(set(found)) > 100
