"""kubeleet at the size that its limits name: 1,000 workers and 10,000 pods on one real Redis.

Workers are simulated by what they say to Redis, with the scripts of real ones: they join, beat, take and accept.
The scheduler is the real one, in this process.
"""

from __future__ import annotations

import asyncio
import resource
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any

from protokube.kubeleet.connect import Connector, Link, Word
from protokube.kubeleet.core.pod import Wanted, attempts_key, pods_of
from protokube.kubeleet.core.settings import read_target
from protokube.kubeleet.keys import Keys
from protokube.kubeleet.reading import read_census
from protokube.kubeleet.scheduler import Scheduler
from tests.lab.guard import bring_loopback_up
from tests.lab.redis_server import RedisServer, redis_server

WORKERS, PODS, SERVICES = 1_000, 10_000, 10
NAMES = [f"w{n:04}" for n in range(WORKERS)]
KEYS = Keys()
LOAD = b'{"psi":true,"cpu":1.0,"memory":0.0,"io":0.0,"memory_full":0.0,"pods":10,"at":0}'


@contextmanager
def measured(redis: RedisServer, what: str, per: int = 1) -> Iterator[None]:
    """Print the time of a block, Redis's CPU and our own, each for `per` things."""
    cpu, own, since = _cpu(redis), _own(), time.monotonic()
    yield
    took = time.monotonic() - since
    each = f"; each {took / per * 1000:.2f} ms" if per > 1 else ""
    print(f"{what:44} {took:7.2f} s, CPU of Redis {_cpu(redis) - cpu:6.2f} s, own {_own() - own:6.2f} s{each}")


def _cpu(redis: RedisServer) -> float:
    info = redis.do("INFO", "cpu")
    return float(info["used_cpu_user"]) + float(info["used_cpu_sys"])


def _sent(redis: RedisServer) -> int:
    """How many commands clients have sent, as far as kubeleet is concerned."""
    stats = redis.do("INFO", "commandstats")
    return sum(stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("evalsha", "blmove"))


def _own() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def heartbeat(link: Link, w: str) -> Any:
    names = [KEYS.epoch(w), KEYS.beat(w), KEYS.load(w), KEYS.running(w), KEYS.starting(w)]
    return await link.run("heartbeat", [*names, KEYS.generation(w)], [1, 0, LOAD])


async def accept_all(link: Link, names: Sequence[str]) -> None:
    """Take and accept what was placed, as workers do."""
    for w in names:
        accepting = [KEYS.epoch(w), KEYS.generation(w), KEYS.running(w), KEYS.starting(w), KEYS.attempts]
        while pod := await link.call("LMOVE", KEYS.pending(w), KEYS.starting(w), "RIGHT", "LEFT"):
            await link.run("accept", accepting, [1, 0, pod, attempts_key(pod)])


async def placed(link: Link) -> None:
    while await link.call("LLEN", KEYS.queue) or await link.call("LLEN", KEYS.placing("s1")):
        await asyncio.sleep(0.02)


async def measure(redis: RedisServer) -> None:
    connector = Connector(read_target(redis.url))
    async with connector.link() as link, connector.link() as other:
        with measured(redis, f"{WORKERS} workers join", WORKERS):
            for w in NAMES:
                joining = [KEYS.epoch(w), KEYS.beat(w), KEYS.workers, KEYS.running(w), KEYS.starting(w)]
                await link.run("join", [*joining, KEYS.generation(w)], [w, 0, 0])
        with measured(redis, "a heartbeat of each, one after the other", WORKERS):
            for w in NAMES:
                await heartbeat(link, w)
        future = (await link.call("TIME"))[0] + 10_000
        for w in NAMES:  # nobody falls silent while others are measured
            await link.call("SET", KEYS.beat(w), future)
        services = [Wanted(f"web{n}", f"u{n}", "img", PODS // SERVICES) for n in range(SERVICES)]
        with measured(redis, f"{SERVICES} services of {PODS // SERVICES} pods taken in", SERVICES):
            for one in services:
                words: list[Word] = [KEYS.prefix, one.uuid, one.encode(), "NEW", *pods_of(one)]
                await link.run("service", KEYS.of_service, words)
        scheduler = asyncio.create_task(Scheduler("s1", connector, KEYS).run())
        with measured(redis, f"{PODS} pods placed by one scheduler", PODS):
            await placed(other)
        with measured(redis, f"{PODS} pods taken and accepted", PODS):
            await accept_all(other, NAMES)
        scheduler.cancel()
        await asyncio.gather(scheduler, return_exceptions=True)
        counts = [await link.call("SCARD", KEYS.running(w)) for w in NAMES]
        print(f"pods on a worker: {min(counts)} to {max(counts)}, {sum(counts)} in all")
        with measured(redis, "one census"):
            census = await read_census(link, KEYS)
        assert len(census.workers) == WORKERS
        with measured(redis, "one look"):
            await link.run("look", [KEYS.scheduler_beat("s1"), KEYS.schedulers, KEYS.workers], [KEYS.prefix, "s1"])

        await rebalance(redis, link, connector, NAMES[:1], "a dead worker")
        await rebalance(redis, link, connector, NAMES[1:101], "100 dead workers")
        await idle(redis, connector, link)
        print(f"memory of Redis: {int(redis.do('INFO', 'memory')['used_memory']) / 1e6:.1f} MB")


async def rebalance(redis: RedisServer, link: Link, connector: Connector, dead: Sequence[str], what: str) -> None:
    """From the moment in which they are known to be silent: their pods are queued, and placed on others."""
    for w in dead:
        await link.call("SET", KEYS.beat(w), 1)
    moved = 0
    with measured(redis, f"{what}: pods taken from it"):
        for w in dead:
            lists = [KEYS.beat(w), KEYS.pending(w), KEYS.starting(w), KEYS.running(w)]
            moved += await link.run("rebalance", [*lists, KEYS.queue, KEYS.epoch(w), KEYS.workers], [w, 20])
    scheduler = asyncio.create_task(Scheduler("s1", connector, KEYS).run())
    with measured(redis, f"{what}: its {moved} pods placed again"):
        await placed(link)
    scheduler.cancel()
    await asyncio.gather(scheduler, return_exceptions=True)
    await accept_all(link, [w for w in NAMES if w not in dead])


async def idle(redis: RedisServer, connector: Connector, link: Link) -> None:
    """Thirty seconds in which nothing happens: heartbeats every 5 s, blocking moves of 4 s, one scheduler."""
    names = NAMES[101:]

    async def beats(w: str, at: float) -> None:
        await asyncio.sleep(at)
        while True:
            await heartbeat(link, w)
            await asyncio.sleep(5.0)

    async def moves(w: str, own: Link) -> None:
        while True:
            await own.call("BLMOVE", KEYS.pending(w), KEYS.starting(w), "RIGHT", "LEFT", 4)

    async with AsyncExitStack() as links:
        own = [await links.enter_async_context(connector.blocking()) for _ in names]
        tasks = [asyncio.create_task(Scheduler("s1", connector, KEYS).run())]
        tasks += [asyncio.create_task(beats(w, n * 5.0 / len(names))) for n, w in enumerate(names)]
        tasks += [asyncio.create_task(moves(w, one)) for w, one in zip(names, own, strict=True)]
        await asyncio.sleep(15.0)
        before, sent = redis.do("INFO", "stats")["total_commands_processed"], _sent(redis)
        cpu, since = _cpu(redis), time.monotonic()
        await asyncio.sleep(30.0)
        took = time.monotonic() - since
        commands = redis.do("INFO", "stats")["total_commands_processed"] - before
        print(
            f"idle, {len(names)} workers, one scheduler: {(_sent(redis) - sent) / took:.0f} commands a second, "
            f"{commands / took:.0f} with those in scripts; Redis takes {(_cpu(redis) - cpu) / took:.1%} of a CPU"
        )
        assert not any(task.done() for task in tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def main() -> None:
    bring_loopback_up()
    with tempfile.TemporaryDirectory() as folder, redis_server(Path(folder)) as redis:
        asyncio.run(measure(redis))
