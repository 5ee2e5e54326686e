"""An API server that refuses: each request on its own, and races that were lost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from protokube.agent.core.model import Json
from protokube.agent.core.pods import uid_of
from protokube.agent.http import webcodec
from protokube.errors import ProviderError
from tests.agent.api.test_source import lists, with_fake
from tests.agent.api.world import LEASES, World, until
from tests.lab.kube_fake import KubeFake
from tests.lab.kube_store import ApiError


def refusing(method: str, end: str, error: ApiError, times: int = -1) -> Callable[[str, str], None]:
    """Refuses so many requests of this method whose path ends so; -1: all."""
    left = times

    def obstacle(asked: str, path: str) -> None:
        nonlocal left
        if asked == method and path.endswith(end) and left:
            left -= 1
            raise error

    return obstacle


def ready(node: Json | None) -> Json:
    assert node is not None
    (condition,) = [one for one in node["status"]["conditions"] if one["type"] == "Ready"]
    return dict(condition)


def test_a_refused_status_keeps_no_lease_from_being_renewed(tmp_path: Path) -> None:
    """Without one the node is Unknown, and its pods are evicted."""

    async def test(world: World, fake: KubeFake) -> None:
        fake.obstacle = refusing("PATCH", f"/{world.name}/status", ApiError(422, "Invalid", "no"))
        async with world.agent():
            path = f"{LEASES}/{world.name}"
            lease = await until("there is a lease", lambda: world.admin.get(path))

            async def renewed() -> bool:
                now = await world.admin.get(path)
                return now is not None and now["spec"]["renewTime"] > lease["spec"]["renewTime"]

            await until("it is renewed", renewed)
            fake.obstacle = lambda method, path: None
            await until("the status is told", lambda: world.node_is("True"))

    with_fake(test, tmp_path)


def test_a_failed_beat_is_no_transition(tmp_path: Path) -> None:
    async def test(world: World, fake: KubeFake) -> None:
        async with world.agent():
            first = before = ready(await until("it is ready", lambda: world.node_is("True")))

            async def later() -> Json | None:
                now = ready(await world.node())
                return now if now["lastHeartbeatTime"] > before["lastHeartbeatTime"] else None

            before = await until("a second has passed", later)
            refuse = refusing("PUT", f"/{world.name}", ApiError(500, "InternalError", "no"), 1)
            fake.requests.clear()
            fake.obstacle = refuse
            await until("beats go on", lambda: sum(method == "PUT" for method, _ in fake.requests) >= 3)
            now = await until("the status is told again", later)
            assert now["lastTransitionTime"] == first["lastTransitionTime"]

    with_fake(test, tmp_path)


@pytest.mark.parametrize("content", [b'[{"Type":"Ready","Status":"True"}]', b'[{"type":"Ready","status":true}]'])
def test_a_condition_without_type_and_status_is_refused_where_it_is_read(content: bytes) -> None:
    with pytest.raises(ProviderError, match="expected an object with type and status, got"):
        webcodec.read_conditions(content, "GET /nodeConditions")


def test_a_status_that_lost_a_race_is_told_again(tmp_path: Path) -> None:
    """409 isn't only what another pod of that name gets."""

    async def test(world: World, fake: KubeFake) -> None:
        async with world.agent():
            pod = await world.create()
            await until("it runs", lambda: _is(world, "Running"))
            fake.obstacle = refusing("PATCH", "/web/status", ApiError(409, "Conflict", "try again"), 1)
            world.provider.set_phase(uid_of(pod), "Failed")
            await until("its end is told", lambda: _is(world, "Failed"))

    with_fake(test, tmp_path)


def test_a_deletion_that_lost_a_race_is_confirmed_again(tmp_path: Path) -> None:
    async def test(world: World, fake: KubeFake) -> None:
        async with world.agent():
            world.provider.linger = True
            pod = await world.create()
            await until("it runs", lambda: _is(world, "Running"))
            await world.delete()
            await until("it is asked to end", lambda: world.provider.calls["delete_pod"])
            fake.obstacle = refusing("DELETE", "/web", ApiError(409, "Conflict", "try again"), 1)
            world.provider.end(uid_of(pod))
            await until("it is gone", lambda: _is(world, "gone"))

    with_fake(test, tmp_path)


def test_a_watch_that_ends_at_once_is_followed_by_a_list_and_its_pause(tmp_path: Path) -> None:
    async def test(world: World, fake: KubeFake) -> None:
        fake.short_watches = True
        async with world.agent():

            def watches() -> int:
                return sum("watch=true" in path for _, path in fake.requests)

            await until("it has watched four times", lambda: watches() >= 4)
            assert watches() <= len(lists(fake)), "each watch comes after a list of its own"
            pod = await world.create()
            await until("a list shows a new pod", lambda: uid_of(pod) in world.provider.pods)

    with_fake(test, tmp_path)


async def _is(world: World, phase: str) -> bool:
    return await world.phase() == phase
