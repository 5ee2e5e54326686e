"""Secrets and config maps at an API server: the same suite for the fake one and the real one."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path

from protokube.agent.core.pods import uid_of
from protokube.agent.http.kube import object_path
from tests.agent.api.world import Server, World, until


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


class ReferenceSuite:
    """`server` is a fixture."""

    def test_variables_are_filled_and_a_missing_one_is_waited_for(self, server: Server, tmp_path: Path) -> None:
        """By a node's own credentials, which read what its pods refer to alone."""

        async def test() -> None:
            async with World(server, tmp_path) as world, world.agent(server.node(world.name)) as side:
                env = [
                    {"name": "WHO", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                    {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "s", "key": "password"}}},
                    {
                        "name": "LEVEL",
                        "valueFrom": {"configMapKeyRef": {"name": "none", "key": "x", "optional": True}},
                    },
                    {"name": "SAID", "value": "$(WHO) $(PASSWORD)"},
                ]
                source = [{"configMapRef": {"name": "c"}, "prefix": "APP_"}]
                container = {"name": "c", "image": "host", "env": env, "envFrom": source}
                maps = object_path("configmaps", world.namespace)
                await world.admin.create(maps, {"metadata": {"name": "c"}, "data": {"COLOUR": "red"}})
                pod = await world.create(containers=[container])

                async def told() -> bool:
                    now = await world.pod()
                    return now is not None and "secret" in now["status"].get("message", "")

                await until("the missing secret is told", told)
                assert world.provider.pods == {}
                secret = {"metadata": {"name": "s"}, "data": {"password": encoded("$(x)")}}
                await world.admin.create(object_path("secrets", world.namespace), secret)
                await until("it runs", lambda: uid_of(pod) in world.provider.pods)
                (made,) = world.provider.pods[uid_of(pod)]["spec"]["containers"]
                assert "envFrom" not in made
                assert {one["name"]: one["value"] for one in made["env"]} == {
                    "APP_COLOUR": "red",
                    "WHO": "web",
                    "PASSWORD": "$$(x)",
                    "SAID": "web $$(x)",
                }

                async def running() -> bool:
                    return await world.phase() == "Running"

                await until("it is told", running)
                shown = await until("it is reported", lambda: world.kept.pods.get(uid_of(pod)))
                for seen in (shown, *side._pods()):
                    assert seen["spec"]["containers"] == pod["spec"]["containers"], "no value is shown to others"
                assert world.provider.calls["update_pod"] == 0, "values that were filled in are no change"

        asyncio.run(test())
