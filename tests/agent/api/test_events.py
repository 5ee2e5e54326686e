"""Events are few, and a lost one harms nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

from protokube.agent.core.model import Json
from protokube.agent.http.kube import KubeClient
from protokube.agent.reporters.events import Events
from protokube.errors import ProviderError
from tests.agent.api.world import until
from tests.agent.pods import wanted


class Server:
    """Takes events; `down` refuses them."""

    def __init__(self) -> None:
        self.created: list[Json] = []
        self.changed: list[tuple[str, Json]] = []
        self.down = False

    async def create(self, path: str, body: Json) -> Json:
        if self.down:
            raise ProviderError("away")
        self.created.append(body)
        return {**body, "metadata": {"name": f"e{len(self.created)}"}}

    async def patch(self, path: str, body: Json) -> Json:
        self.changed.append((path, body))
        return {"metadata": {"name": path.rpartition("/")[2]}, **body}


def with_events(test: Callable[[Events, Server, list[float]], Awaitable[None]]) -> None:
    async def run() -> None:
        server, now = Server(), [100.0]
        events = Events(cast("KubeClient", server), "n1", lambda: now[0], lambda: 1e9 + now[0])
        task = asyncio.create_task(events.run())
        try:
            await test(events, server, now)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(run())


def test_a_pod_and_a_reason_have_one_event_a_minute() -> None:
    async def test(events: Events, server: Server, now: list[float]) -> None:
        pod: Any = wanted("a", owner="api")
        for _ in range(5):
            events.happened(pod, "Create", "no such image")
        events.happened(pod, "Create", None)
        events.happened(wanted("static"), "Create", "a static pod's events would be nobody's")
        await until("two are told", lambda: len(server.created) == 2)
        told = [(one["reason"], one["type"], one["source"]["host"]) for one in server.created]
        assert told == [("ProviderCreateFailed", "Warning", "n1"), ("ProviderCreateSuccess", "Normal", "n1")]
        now[0] += 60.0
        events.happened(pod, "Create", "no such image")
        await until("it is counted", lambda: server.changed)
        ((path, change),) = server.changed
        assert path.endswith("/events/e1") and change["count"] == 2 and len(server.created) == 2

    with_events(test)


def test_an_event_that_is_refused_is_dropped_and_the_next_one_told() -> None:
    async def test(events: Events, server: Server, now: list[float]) -> None:
        server.down = True
        events.tell(wanted("a", owner="api"), "One", "lost")
        await until("it was tried", lambda: events._due.empty())
        server.down = False
        events.tell(wanted("b", owner="api"), "Two", "told")
        await until("the next one is told", lambda: [one["reason"] for one in server.created] == ["Two"])

    with_events(test)


def test_more_events_than_can_wait_are_dropped() -> None:
    async def run() -> None:
        events = Events(cast("KubeClient", Server()), "n1")
        for number in range(1000):
            events.tell(wanted("a", owner="api"), f"Reason{number}", "x")
        assert events._due.qsize() == 100

    asyncio.run(run())
