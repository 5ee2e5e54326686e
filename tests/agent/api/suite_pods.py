"""An API server's pods on the agent's node: the same suite for the fake one and the real one."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

from protokube.agent.core.pods import uid_of
from protokube.agent.http.kube import object_path
from protokube.agent.ports import RefusedError
from protokube.errors import ProviderError
from tests.agent.api.world import NODES, Server, World, until


class PodSuite:
    """`server` is a fixture."""

    def test_a_pod_runs_and_is_reported_once(self, server: Server, tmp_path: Path) -> None:
        async def test() -> None:
            async with World(server, tmp_path) as world, world.agent():
                pod = await world.create()
                await until("it runs", lambda: _is(world, "Running"))
                now = await world.pod()
                assert now is not None and uid_of(now) == uid_of(pod)
                (status,) = now["status"]["containerStatuses"]
                assert status["ready"] and status["state"]["running"]
                version = now["metadata"]["resourceVersion"]
                await world.create("other")
                await until("another runs", lambda: _is(world, "Running", "other"))
                now = await world.pod()
                assert now is not None and now["metadata"]["resourceVersion"] == version, "unchanged: not patched"
                assert world.provider.calls["create_pod"] == 2 and world.provider.calls["update_pod"] == 0

        asyncio.run(test())

    def test_a_deletion_ends_it_and_then_confirms_its_end(self, server: Server, tmp_path: Path) -> None:
        async def test() -> None:
            async with World(server, tmp_path) as world, world.agent():
                world.provider.linger = True
                pod = await world.create(metadata={"finalizers": ["example.com/wait"]})
                await until("it runs", lambda: _is(world, "Running"))
                await world.delete(gracePeriodSeconds=7)
                await until("it is asked to end", lambda: world.provider.calls["delete_pod"])
                asked = world.provider.pods[uid_of(pod)]["metadata"]
                assert asked["deletionGracePeriodSeconds"] == 7
                assert await world.phase() == "Running"
                world.provider.end(uid_of(pod))
                await until("its end is told", lambda: _is(world, "Succeeded"))

                async def confirmed() -> bool:
                    now = await world.pod()
                    return now is not None and now["metadata"]["deletionGracePeriodSeconds"] == 0

                await until("its end is confirmed", confirmed)
                await world.admin.patch(
                    object_path("pods", world.namespace, "web"), {"metadata": {"finalizers": None}}
                )
                await until("it is gone", lambda: _is(world, "gone"))

        asyncio.run(test())

    def test_the_same_name_again_waits_for_the_first_one_s_end(self, server: Server, tmp_path: Path) -> None:
        async def test() -> None:
            async with World(server, tmp_path) as world, world.agent():
                world.provider.linger = True
                first = await world.create()
                await until("it runs", lambda: _is(world, "Running"))
                await world.delete(gracePeriodSeconds=0)
                second = await world.create()
                await until("the first is asked to end", lambda: world.provider.calls["delete_pod"])
                assert list(world.provider.pods) == [uid_of(first)]
                world.provider.end(uid_of(first))
                await until("the second runs", lambda: list(world.provider.pods) == [uid_of(second)])
                await until("and is told to", lambda: _is(world, "Running"))

        asyncio.run(test())

    def test_a_refused_pod_fails_with_every_reason_and_an_event(self, server: Server, tmp_path: Path) -> None:
        async def test() -> None:
            async with World(server, tmp_path) as world, world.agent():

                def refuse(called: str) -> None:
                    if called == "create_pod":
                        raise RefusedError(["no such thing", "nor that"])

                world.provider.obstacle = refuse
                await world.create()
                await until("it has failed", lambda: _is(world, "Failed"))
                now = await world.pod()
                assert now is not None and now["status"]["reason"] == "ProviderFailed"
                assert now["status"]["message"] == "no such thing; nor that"
                events = await until("an event tells", world.events)
                assert events[0]["reason"] == "ProviderCreateFailed" and events[0]["type"] == "Warning"
                assert events[0]["involvedObject"]["uid"] == uid_of(now)
                await world.delete()
                await until("it is gone", lambda: _is(world, "gone"))

        asyncio.run(test())

    def test_a_create_that_fails_is_told_and_tried_again(self, server: Server, tmp_path: Path) -> None:
        async def test() -> None:
            async with World(server, tmp_path) as world, world.agent():

                def fail(called: str) -> None:
                    if called == "create_pod":
                        raise ProviderError("not now")

                world.provider.obstacle = fail
                await world.create()

                async def told() -> bool:
                    now = await world.pod()
                    return now is not None and now["status"].get("message") == "not now"

                await until("the trouble is told", told)
                world.provider.obstacle = None
                await until("it runs", lambda: _is(world, "Running"))
                now = await world.pod()
                assert now is not None and "message" not in now["status"] and "reason" not in now["status"]

        asyncio.run(test())

    def test_a_lost_pod_has_failed_and_stays_to_be_seen(self, server: Server, tmp_path: Path) -> None:
        async def test() -> None:
            async with World(server, tmp_path) as world:
                async with world.agent():
                    pod = await world.create()
                    await until("it runs", lambda: _is(world, "Running"))
                    world.provider.lose(uid_of(pod))
                    await until("it has failed", lambda: _is(world, "Failed"))
                    now = await world.pod()
                    assert now is not None and now["status"]["reason"] == "NotFound"
                    assert now["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 137
                    second = await world.create("second")
                    await until("another runs", lambda: _is(world, "Running", "second"))
                world.provider.pods.clear()
                async with world.agent():
                    await until("lost meanwhile", lambda: _is(world, "Failed", "second"))
                    assert uid_of(second) not in world.provider.pods
                    await world.delete()
                    await until("it is gone", lambda: _is(world, "gone"))

        asyncio.run(test())

    def test_pods_run_on_while_the_server_is_out_of_reach(self, server: Server, tmp_path: Path) -> None:
        async def test() -> None:
            async with World(server, tmp_path) as world, world.agent() as side:
                world.provider.linger = True
                pod = await world.create()
                other = await world.create("other")
                await until("both run", lambda: len(world.provider.pods) == 2)
                await until("it is told", lambda: _is(world, "Running"))
                world.proxy.stop()
                await until("it is noticed", lambda: side.facts.sources["api"].unknown)
                await world.delete()
                third = await world.create("third")
                world.provider.set_phase(uid_of(other), "Failed")
                await until("the end is told here", lambda: world.kept.told[-1][1] == "Failed")
                assert world.provider.calls["delete_pod"] == 0 and uid_of(third) not in world.provider.pods
                world.proxy.down = False
                await until("the deletion is heard", lambda: world.provider.calls["delete_pod"])
                world.provider.end(uid_of(pod))
                await until("it is gone", lambda: _is(world, "gone"))
                await until("the failed one is told", lambda: _is(world, "Failed", "other"))
                await until("the new one runs", lambda: _is(world, "Running", "third"))

        asyncio.run(test())

    def test_a_cut_watch_is_taken_up_again(self, server: Server, tmp_path: Path) -> None:
        async def test() -> None:
            async with World(server, tmp_path) as world, world.agent():
                for number in range(5):
                    await world.create(f"p{number}")
                    await until("it runs", partial(_is, world, "Running", f"p{number}"))
                    world.proxy.cut()
                await world.delete("p0")
                await until("it is gone", lambda: _is(world, "gone", "p0"))

        asyncio.run(test())

    def test_an_emptied_server_ends_no_pod(self, server: Server, tmp_path: Path) -> None:
        """Node and pods vanished while nobody looked: as if etcd were new, or another cluster's."""

        async def test() -> None:
            async with World(server, tmp_path) as world:
                async with world.agent() as side:
                    pod = await world.create()
                    await until("it runs", lambda: _is(world, "Running"))
                    world.proxy.stop()
                    await until("it is noticed", lambda: side.facts.sources["api"].unknown)
                    node = await world.node()
                    assert node is not None
                    await world.admin.delete(object_path("pods", world.namespace, "web"), uid=uid_of(pod))
                    await world.admin.delete(f"{NODES}/{world.name}", uid=node["metadata"]["uid"])
                    world.proxy.down = False
                    node = await until("it says that it isn't ready", lambda: world.node_is("False"))
                    (condition,) = [one for one in node["status"]["conditions"] if one["type"] == "Ready"]
                    assert condition["reason"] == "AnotherCluster"
                    assert "--accept-new-cluster" in condition["message"]
                    assert uid_of(pod) in world.provider.pods and world.provider.calls["delete_pod"] == 0
                async with world.agent() as side:  # a new agent still knows
                    await until("it says so", lambda: side.registration.distrusted)
                    assert uid_of(pod) in world.provider.pods
                world.options = ["--accept-new-cluster"]
                async with world.agent():
                    await until("now it ends", lambda: not world.provider.pods)
                    await until("it is ready", lambda: world.node_is("True"))

        asyncio.run(test())

    def test_another_namespace_s_pods_get_an_event(self, server: Server, tmp_path: Path) -> None:
        async def test() -> None:
            async with World(server, tmp_path) as world:
                world.options = ["--namespace", "elsewhere"]
                async with world.agent():
                    await world.create()
                    events = await until("an event tells", world.events)
                    assert events[0]["reason"] == "NamespaceNotServed"
                    assert world.provider.pods == {}

        asyncio.run(test())


async def _is(world: World, phase: str, name: str = "web") -> bool:
    return await world.phase(name) == phase
