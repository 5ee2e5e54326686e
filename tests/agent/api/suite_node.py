"""The agent's node at an API server: the same suite for the fake one and the real one."""

from __future__ import annotations

import asyncio
from pathlib import Path

from protokube.agent.http.kube import object_path
from protokube.errors import ProviderError
from tests.agent.api.world import LEASES, NODES, Server, World, until


class NodeSuite:
    """`server` is a fixture."""

    def test_the_node_is_registered_ready_and_holds_a_lease(self, server: Server, tmp_path: Path) -> None:
        async def test() -> None:
            async with World(server, tmp_path) as world, world.agent() as side:
                node = await until("it is ready", lambda: world.node_is("True"))
                labels = node["metadata"]["labels"]
                assert labels["type"] == "virtual-kubelet" and labels["kubernetes.io/hostname"] == world.name
                assert labels["kubernetes.io/os"] == "linux" and labels["kubernetes.io/role"] == "agent"
                taint = {"key": "virtual-kubelet.io/provider", "value": "memory", "effect": "NoSchedule"}
                assert taint in node["spec"]["taints"]
                status = node["status"]
                assert {"type": "InternalIP", "address": "10.1.2.3"} in status["addresses"]
                assert status["capacity"]["pods"] == "110" == status["allocatable"]["pods"]
                path = f"{LEASES}/{world.name}"
                lease = await until("there is a lease", lambda: world.admin.get(path))
                assert lease["spec"]["holderIdentity"] == world.name
                assert (
                    lease["metadata"]["ownerReferences"][0]["uid"] == node["metadata"]["uid"] == side.registration.uid
                )

                async def later() -> bool:
                    now = await world.admin.get(path)
                    return now is not None and now["spec"]["renewTime"] > lease["spec"]["renewTime"]

                await until("it is renewed", later)

        asyncio.run(test())

    def test_conditions_of_others_stay_and_addresses_are_replaced(self, server: Server, tmp_path: Path) -> None:
        async def test() -> None:
            async with World(server, tmp_path) as world:
                await world.admin.create(NODES, {"metadata": {"name": world.name, "labels": {"mine": "yes"}}})
                foreign = {
                    "conditions": [{"type": "DiskSick", "status": "True"}],
                    "addresses": [
                        {"type": "InternalIP", "address": "10.9.9.9"},
                        {"type": "ExternalIP", "address": "1.1.1.1"},
                    ],
                }
                await world.admin.patch(f"{NODES}/{world.name}/status", {"status": foreign})
                async with world.agent():
                    node = await until("it is ready", lambda: world.node_is("True"))
                assert node["metadata"]["labels"]["mine"] == "yes"
                assert node["metadata"]["labels"]["type"] == "virtual-kubelet"
                assert {one["type"] for one in node["status"]["conditions"]} == {"DiskSick", "Ready"}
                assert {one["type"]: one["address"] for one in node["status"]["addresses"]} == {
                    "InternalIP": "10.1.2.3",
                    "Hostname": world.name,
                }

        asyncio.run(test())

    def test_a_node_that_was_deleted_is_made_again(self, server: Server, tmp_path: Path) -> None:
        async def test() -> None:
            async with World(server, tmp_path) as world, world.agent():
                node = await until("it is ready", lambda: world.node_is("True"))
                uid = node["metadata"]["uid"]
                await world.admin.delete(f"{NODES}/{world.name}", uid=uid)

                async def anew() -> bool:
                    now = await world.node_is("True")
                    return now is not None and now["metadata"]["uid"] != uid

                await until("it is there again", anew)

        asyncio.run(test())

    def test_a_provider_out_of_reach_makes_it_not_ready(self, server: Server, tmp_path: Path) -> None:
        async def test() -> None:
            async with World(server, tmp_path) as world, world.agent():
                await until("it is ready", lambda: world.node_is("True"))

                def broken(called: str) -> None:
                    raise ProviderError(f"{called}: no answer")

                world.provider.obstacle = broken
                node = await until("it is not ready", lambda: world.node_is("False"))
                (condition,) = [one for one in node["status"]["conditions"] if one["type"] == "Ready"]
                assert condition["reason"] == "ProviderUnreachable" and "no answer" in condition["message"]
                world.provider.obstacle = None
                await until("it is ready again", lambda: world.node_is("True"))

        asyncio.run(test())

    def test_a_node_s_own_credentials_suffice(self, server: Server, tmp_path: Path) -> None:
        """NodeRestriction refuses the role label, other nodes, and pods that aren't its own."""

        async def test() -> None:
            async with World(server, tmp_path) as world, world.agent(server.node(world.name)):
                node = await until("it is ready", lambda: world.node_is("True"))
                assert "kubernetes.io/role" not in node["metadata"]["labels"]
                await world.create()
                await until("it runs", lambda: _is(world, "Running"))
                await world.delete()
                await until("it is gone", lambda: _is(world, "gone"))
                lease = await world.admin.get(f"{LEASES}/{world.name}")
                assert lease is not None
                await until("it is told", lambda: world.admin.get(object_path("events", world.namespace)))

        asyncio.run(test())


async def _is(world: World, phase: str) -> bool:
    return await world.phase() == phase
