"""The run loop and its signals, with reconciles that take as long as a test wants."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import TypeVar

import pytest

from protokube.alarm import Alarm
from protokube.config.choice import choose
from protokube.config.load import read
from protokube.config.wiring import Wired
from protokube.daemon import serve as daemon
from protokube.daemon.watches import Watches
from protokube.errors import ProviderError
from protokube.host.notify import Notifier
from protokube.host.watch import DirectoryWatcher
from protokube.reconciles import Reconciles
from protokube.report.model import Report
from protokube.together import start
from tests.rounds.process import Process
from tests.rounds.world import World

LIMIT = 120.0
T = TypeVar("T")


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    """A loop that is closed leaves the default handlers behind."""
    used = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
    before = {one: signal.getsignal(one) for one in used}
    yield
    for one, handler in before.items():
        signal.signal(one, handler)


class Slow:
    """A node whose cloud answers once it is let."""

    def __init__(self) -> None:
        world = World()
        world.volume("vol-m", "a/a")
        self.process = Process(world, world.node("n1"))
        self.process.rounds()
        self.asked, self.let = threading.Event(), threading.Event()
        self.process.hooks["volumes"] = self._wait
        settings, faults = read(["--cloud", "aws", "--dns", "none", "--interval", "3600"], {})
        assert not faults
        ports = self.process.readers, self.process.writers
        wired = Wired(self.process.config, *ports, dns=None, watch=(), running=dict, close=lambda: None)
        alarm = Alarm()
        self.reconciles = Reconciles(settings, wired, time.monotonic(), self.process.memory, alarm.ring)
        self.running = daemon.Running(choose(settings), wired, alarm, self.reconciles, self.reconciles.begin())

    def _wait(self) -> None:
        self.asked.set()
        assert self.let.wait(LIMIT)

    def serve(self, test: Callable[[asyncio.Task[bool]], Awaitable[T]]) -> T:
        """Run the daemon beside the test, which begins when the reconcile hangs."""

        async def both() -> T:
            serving = asyncio.create_task(daemon.serve(self.running, Notifier({})))
            assert await asyncio.to_thread(self.asked.wait, LIMIT)
            try:
                return await test(serving)
            finally:
                self.let.set()

        return asyncio.run(both())


async def within(seconds: float, serving: asyncio.Task[bool]) -> bool | None:
    """What the daemon has answered; None when it still runs."""
    done, _ = await asyncio.wait({serving}, timeout=seconds)
    return serving.result() if done else None


def test_a_reload_waits_for_the_reconcile(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long it takes: the next configuration's reconcile would act beside it."""
    monkeypatch.setattr(daemon, "GRACE", 0.05)
    node = Slow()

    async def test(serving: asyncio.Task[bool]) -> None:
        os.kill(os.getpid(), signal.SIGHUP)
        assert await within(0.5, serving) is None
        assert not node.running.first.done()
        node.let.set()
        assert await within(LIMIT, serving) is True
        assert node.running.first.done() and not node.reconciles.busy

    node.serve(test)


def test_a_reload_that_waits_can_be_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon, "GRACE", 0.05)
    node = Slow()

    async def test(serving: asyncio.Task[bool]) -> None:
        os.kill(os.getpid(), signal.SIGHUP)
        assert await within(0.2, serving) is None
        os.kill(os.getpid(), signal.SIGTERM)
        assert await within(LIMIT, serving) is False
        assert node.reconciles.busy, "nobody waited for it"

    node.serve(test)


def test_the_end_comes_with_the_reconcile_or_after_a_grace_time(monkeypatch: pytest.MonkeyPatch) -> None:
    for grace, let in ((10 * LIMIT, True), (0.05, False)):
        monkeypatch.setattr(daemon, "GRACE", grace)
        node = Slow()

        async def test(serving: asyncio.Task[bool], node: Slow = node, let: bool = let) -> None:
            os.kill(os.getpid(), signal.SIGTERM)
            if let:
                assert await within(0.2, serving) is None, "it waits for the action in hand"
                node.let.set()
            assert await within(LIMIT, serving) is False
            assert node.running.first.done() is let

        node.serve(test)
        assert node.running.first.result(LIMIT).observed, "a reconcile that is left behind comes to its own end"


def test_a_call_that_runs_can_not_be_taken_back() -> None:
    began, let = threading.Event(), threading.Event()

    def call() -> str:
        began.set()
        assert let.wait(LIMIT)
        return "done"

    future: Future[str] = start("call", call)
    assert began.wait(LIMIT)
    assert not future.cancel()
    let.set()
    assert future.result(LIMIT) == "done"


def test_only_volumes_that_can_be_read_are_followed(tmp_path: Path) -> None:
    world = World()
    world.volume("vol-m", "a/a")
    process = Process(world, world.node("n1"))
    seen = process.rounds()
    process.broken["contents"] = ProviderError("reading did not end")
    unread = process.round()
    wired = Wired(process.config, process.readers, process.writers, None, (), dict, lambda: None)

    async def followed(*reports: Report) -> set[str]:
        watches = Watches(asyncio.get_running_loop(), wired, Alarm())
        try:
            for report in reports:
                watches.follow(report, str(tmp_path))
            directories = watches._directories
            assert isinstance(directories, DirectoryWatcher)
            return {str(path.relative_to(tmp_path)) for path in directories._wanted}
        finally:
            watches.close()

    data = "mnt/master-vol-m/var/etcd/data"
    assert asyncio.run(followed(unread)) == {"var/lib/kubelet"}
    assert asyncio.run(followed(unread, seen)) == {"var/lib/kubelet", data}
