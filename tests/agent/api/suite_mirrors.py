"""Static pods as an API server shows them: the same suite for the fake one and the real one."""

from __future__ import annotations

import asyncio
from pathlib import Path

from protokube.agent.core.apipods import MIRROR
from protokube.agent.core.model import Json, Pod
from protokube.agent.core.names import static_pod
from protokube.agent.core.pods import annotation, uid_of
from protokube.agent.http.kube import object_path
from protokube.core.model import Unknown
from tests.agent.api.world import Server, World, until
from tests.agent.harness import Spoken
from tests.agent.pods import manifest


def static(world: World, image: str = "host") -> Pod:
    pod = manifest("etcd", containers=[{"name": "c", "image": image, "command": ["etcd"]}])
    pod["metadata"]["namespace"] = world.namespace
    return static_pod(pod, node=world.name, owner="file:etcd.yaml", place="file:etcd.yaml")


class MirrorSuite:
    """`server` is a fixture."""

    def test_a_static_pod_has_a_mirror_with_its_status(self, server: Server, tmp_path: Path) -> None:
        async def test() -> None:
            async with World(server, tmp_path) as world:
                source = Spoken("file")
                world.sources = [source]
                name = f"etcd-{world.name}"

                async def shown(hash_: str) -> Json | None:
                    mirror = await world.pod(name)
                    if mirror is None or annotation(mirror, MIRROR) != hash_:
                        return None
                    return mirror if mirror["status"].get("phase") == "Running" else None

                async with world.agent(server.node(world.name)):
                    pod = static(world)
                    source.say([pod])
                    mirror = await until("it is shown", lambda: shown(uid_of(pod)))
                    (owner,) = mirror["metadata"]["ownerReferences"]
                    assert owner["kind"] == "Node" and owner["controller"] and uid_of(mirror) != uid_of(pod)
                    # Deleted there, it is made again, and nothing ends.
                    await world.delete(name)

                    async def again() -> bool:
                        now = await shown(uid_of(pod))
                        return now is not None and uid_of(now) != uid_of(mirror)

                    await until("it is there again", again)
                    assert world.provider.calls["delete_pod"] == 0
                    changed = static(world, "host:2")
                    source.say([changed])
                    await until("another content, another mirror", lambda: shown(uid_of(changed)))
                source.say(Unknown("its disk hangs"))
                async with world.agent(server.node(world.name)):
                    await until("the node is ready", lambda: world.node_is("True"))
                    assert await world.pod(name) is not None
                    source.say([])
                    await until("it is gone", lambda: _gone(world, name))

        asyncio.run(test())

    def test_no_pod_of_the_server_can_claim_to_be_static(self, server: Server, tmp_path: Path) -> None:
        async def test() -> None:
            async with World(server, tmp_path) as world, world.agent():
                forged = {"protokube.io/source": "file:etcd.yaml", "protokube.io/content": "x"}
                pod = await world.create(metadata={"annotations": forged})
                await until("it runs", lambda: world.provider.pods)
                assert annotation(world.provider.pods[uid_of(pod)], "protokube.io/source") == "api"
                await world.admin.delete(object_path("pods", world.namespace, "web"), uid=uid_of(pod))
                await until("it has ended", lambda: not world.provider.pods)

        asyncio.run(test())


async def _gone(world: World, name: str) -> bool:
    return await world.pod(name) is None
