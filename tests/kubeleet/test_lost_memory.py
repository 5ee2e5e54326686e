"""A worker beside a real Redis that has forgotten something: what the worker has is put back, and no pod ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from protokube.agent.core.model import Pod
from protokube.agent.core.status import synthesized
from protokube.core.model import Fault, Unknown
from protokube.kubeleet.connect import Connector
from protokube.kubeleet.core.pod import Wanted, agent_pod
from protokube.kubeleet.core.pod import uid_of as pod_uid
from protokube.kubeleet.core.score import Load
from protokube.kubeleet.core.settings import read_target
from protokube.kubeleet.generation import Generation
from protokube.kubeleet.keys import Keys
from protokube.kubeleet.worker import Worker
from tests.lab.redis_server import LIMIT, RedisServer, redis_server

A, B, C = (Wanted(name, f"u{name}", "img", 1).encode() for name in "abc")


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path / "redis", appendonly="no") as server:
        yield server


class Heard:
    """What the worker has said is wanted, in order."""

    def __init__(self) -> None:
        self.wanted: list[set[str]] = []

    def __call__(
        self, pods: Mapping[str, Pod] | Unknown, held: Collection[str] = (), faults: Sequence[Fault] = ()
    ) -> None:
        if not isinstance(pods, Unknown):
            self.wanted.append(set(pods))

    def lacks(self, raw: bytes) -> bool:
        """Whether this pod, once wanted, was ever not wanted: it would have ended."""
        first = next((n for n, uids in enumerate(self.wanted) if pod_uid(raw) in uids), len(self.wanted))
        return any(pod_uid(raw) not in uids for uids in self.wanted[first:])


def made(raw: bytes) -> Pod:
    pod = agent_pod(raw)
    assert not isinstance(pod, Fault)
    return pod


def pending(raw: bytes) -> Pod:
    """A pod of which the provider has a record, and no container."""
    return synthesized(made(raw), "Pending", "Waiting", "its image is pulled again")


@asynccontextmanager
async def working(redis: RedisServer, *records: Pod) -> AsyncIterator[tuple[Worker, Heard]]:
    heard = Heard()

    async def running() -> Sequence[Pod]:
        return records

    generation = Generation(redis.folder / "generation")
    worker = Worker("w", Connector(read_target(redis.url)), Keys(), running, Load, generation)
    task = asyncio.create_task(worker.run(heard))
    try:
        yield worker, heard
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(LIMIT):
        while not condition():
            await asyncio.sleep(0.05)


def check(test: Callable[[], Awaitable[None]]) -> None:
    async def run() -> None:
        await test()

    asyncio.run(run())


def belongs(redis: RedisServer, *raws: bytes) -> bool:
    return set(redis.do("SMEMBERS", "cs:w")) == set(raws)


def test_after_a_power_cut_of_both_every_recorded_pod_is_put_back(redis: RedisServer) -> None:
    async def test() -> None:
        async with working(redis, pending(A), pending(B)) as (_, heard):
            await until(lambda: bool(heard.wanted))
            assert belongs(redis, A, B) and not heard.lacks(A)
            assert heard.wanted[0] == {pod_uid(A), pod_uid(B)}

    check(test)


def test_an_emptied_redis_gets_back_what_belonged_and_what_starts(redis: RedisServer) -> None:
    async def test() -> None:
        redis.do("SET", "ep:w", 1)
        redis.do("SADD", "cs:w", A)
        redis.do("LPUSH", "pq:w", C)
        async with working(redis) as (_, heard):  # A's image is pulled again: the provider has nothing of it
            await until(lambda: bool(heard.wanted) and pod_uid(C) in heard.wanted[-1])
            redis.do("FLUSHALL")
            redis.do("CLIENT", "KILL", "TYPE", "NORMAL", "SKIPME", "yes")
            await until(lambda: belongs(redis, A) and redis.do("LRANGE", "rq:w", 0, -1) == [C])
            before = len(heard.wanted)
            await until(lambda: len(heard.wanted) > before)
            assert not heard.lacks(A) and not heard.lacks(C)

    check(test)


def test_a_redis_that_went_back_gets_back_what_was_accepted_since(
    redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        redis.do("SET", "ep:w", 1)
        redis.do("SADD", "cs:w", A)
        async with working(redis, pending(A)) as (worker, heard):
            await until(lambda: bool(heard.wanted))
            redis.do("SAVE")
            redis.do("LPUSH", "pq:w", B)
            await until(lambda: pod_uid(B) in heard.wanted[-1])
            await worker.pod({**made(B), "status": {"phase": "Running"}})
            await until(lambda: belongs(redis, A, B))
            redis.kill()
            redis.start()
            await until(lambda: belongs(redis, A, B))
            before = len(heard.wanted)
            await until(lambda: len(heard.wanted) > before)
            assert not heard.lacks(B)
            assert pod_uid(B) in heard.wanted[-1]

    check(test)
    assert "Redis went back to an earlier state: 2 pods" in caplog.text


def test_a_worker_that_restarts_while_redis_goes_back_puts_back_what_was_accepted_since(
    redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        async with working(redis, pending(A)) as (worker, heard):
            await until(lambda: belongs(redis, A))
            redis.do("SAVE")
            redis.do("LPUSH", "pq:w", B)
            await until(lambda: pod_uid(B) in heard.wanted[-1])
            await worker.pod({**made(B), "status": {"phase": "Running"}})
            await until(lambda: belongs(redis, A, B))
        redis.kill()
        redis.start()
        assert belongs(redis, A)
        async with working(redis, pending(A), pending(B)) as (_, heard):
            await until(lambda: bool(heard.wanted))
            assert belongs(redis, A, B)
            assert heard.wanted[0] == {pod_uid(A), pod_uid(B)}

    check(test)
    assert "Redis went back to an earlier state: 2 pods" in caplog.text


def test_a_generation_that_can_not_be_read_or_written_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "generation").write_text("garbage")
    kept = Generation(tmp_path / "generation")
    kept.grow(7)
    kept.grow(3)
    assert kept.highest == Generation(tmp_path / "generation").highest == 7
    lost = Generation(tmp_path / "none/generation")
    lost.grow(1)
    lost.grow(2)
    assert lost.highest == 2
    assert caplog.text.count("can't be read") == caplog.text.count("can't be written") == 1
