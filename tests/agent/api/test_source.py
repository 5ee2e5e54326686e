"""What only a server that lies can show: broken lines, forgotten versions, a restored etcd, newer fields."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from protokube.agent.core.pods import uid_of
from protokube.agent.http.kube import object_path
from protokube.agent.http.kubeconfig import KubeConfig
from tests.agent.api.world import Server, World, until
from tests.lab.kube_fake import KubeFake, serving

Test = Callable[[World, KubeFake], Awaitable[None]]


def with_fake(test: Test, base: Path) -> None:
    async def run() -> None:
        fake = KubeFake()
        async with serving(fake) as url:
            config = KubeConfig(url, token="admin")
            async with World(Server(config, lambda _: config), base) as world:
                await test(world, fake)

    asyncio.run(run())


def lists(fake: KubeFake) -> list[str]:
    """The queries of every list of pods."""
    return [path for method, path in fake.requests if method == "GET" and "pods?" in path and "watch=" not in path]


def test_half_a_line_of_a_watch_is_no_pod(tmp_path: Path) -> None:
    async def test(world: World, fake: KubeFake) -> None:
        async with world.agent():
            await until("it lists", lambda: lists(fake))
            fake.half_a_line = True
            pod = await world.create()
            await until("it runs nevertheless", lambda: uid_of(pod) in world.provider.pods)
            assert not fake.half_a_line
            await until("it listed again", lambda: "resourceVersion=" in lists(fake)[-1])

    with_fake(test, tmp_path)


def test_a_forgotten_version_is_listed_anew(tmp_path: Path) -> None:
    async def test(world: World, fake: KubeFake) -> None:
        async with world.agent() as side:
            await until("it lists", lambda: lists(fake))
            world.proxy.stop()
            await until("it is noticed", lambda: side.facts.sources["api"].unknown)
            pod = await world.create()
            fake.store.compact()
            world.proxy.down = False
            await until("it runs", lambda: uid_of(pod) in world.provider.pods)
            fake.store.version += 10
            fake.store.compact()
            other = await world.create("other")
            await until("the other runs", lambda: uid_of(other) in world.provider.pods)

    with_fake(test, tmp_path)


def test_a_restored_etcd_is_listed_from_its_own_version(tmp_path: Path) -> None:
    """Its versions are older than those that were seen; a watch from there would be silent for ever."""

    async def test(world: World, fake: KubeFake) -> None:
        async with world.agent() as side:
            pod = await world.create()
            await until("it runs", lambda: uid_of(pod) in world.provider.pods)
            await until("it is told", lambda: world.node_is("True"))
            saved, version = copy.deepcopy(fake.store.objects), fake.store.version
            fake.store.version += 500
            await world.create("lost")
            await until("both run", lambda: len(world.provider.pods) == 2)
            world.proxy.stop()
            await until("it is noticed", lambda: side.facts.sources["api"].unknown)
            fake.store.objects, fake.store.version, fake.store.history = saved, version, []
            world.proxy.down = False
            third = await world.create("third")
            await until("what the backup lists runs", lambda: uid_of(third) in world.provider.pods)
            assert uid_of(pod) in world.provider.pods

    with_fake(test, tmp_path)


def test_fields_of_newer_servers_reach_the_provider(tmp_path: Path) -> None:
    async def test(world: World, fake: KubeFake) -> None:
        del fake
        async with world.agent():
            pod = await world.create(futureField={"deep": [1, {"x": None}]})
            await until("it runs", lambda: uid_of(pod) in world.provider.pods)
            assert world.provider.pods[uid_of(pod)]["spec"]["futureField"] == {"deep": [1, {"x": None}]}

    with_fake(test, tmp_path)


def test_an_idle_node_asks_for_little(tmp_path: Path) -> None:
    """Per beat a renewed lease, and now and then a status: no pod is asked for."""

    async def test(world: World, fake: KubeFake) -> None:
        async with world.agent():
            await world.create()
            await until("it runs", lambda: world.provider.pods)

            async def told() -> bool:
                return await world.phase() == "Running"

            await until("it is told", told)
            fake.requests.clear()

            def beats() -> int:
                return sum(method == "PUT" for method, _ in fake.requests)

            await until("five beats", lambda: beats() >= 5)
            kinds = {(method, path.partition("?")[0].rpartition("/")[2]) for method, path in fake.requests}
            assert kinds <= {("PUT", world.name), ("PATCH", "status"), ("POST", "events")}
            assert not any("/pods" in path for _, path in fake.requests)

    with_fake(test, tmp_path)


def test_a_watch_has_its_length_and_goes_on_from_a_bookmark(tmp_path: Path) -> None:
    """A bookmark alone moves the version on: an idle node never asks for what an API server has forgotten."""

    def watches(fake: KubeFake) -> list[dict[str, list[str]]]:
        asked = [path for method, path in fake.requests if method == "GET" and "watch=" in path and "/pods?" in path]
        return [parse_qs(urlsplit(path).query) for path in asked]

    async def test(world: World, fake: KubeFake) -> None:
        async with world.agent() as side:
            (first, *_) = await until("it watches", lambda: watches(fake))
            assert first["fieldSelector"] == [f"spec.nodeName={world.name}"]
            assert first["allowWatchBookmarks"] == ["true"] and 300 <= int(first["timeoutSeconds"][0]) <= 600
            for number in range(3):  # what is none of the node's business
                body = {"metadata": {"name": f"m{number}"}}
                await world.admin.create(object_path("configmaps", world.namespace), body)
            version = fake.store.version
            await until("a bookmark has come", lambda: int(side.source._version or 0) >= version)

    with_fake(test, tmp_path)
