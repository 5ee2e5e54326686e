"""Two hubs with nodes of the same names and one operator: what she signs for one hub is nothing at the other."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from protokube.hub.core.course import Outcome
from protokube.hub.core.messages import Event, Send
from protokube.hub.hubclient import renew
from protokube.hub.keyring import Own
from tests.hub.lab import Lab, Node, command, until
from tests.hub.test_commands import Work
from tests.hub.test_threats import SIGNED, frame, signed


@pytest.mark.parametrize("boasts", [False, True])
def test_who_has_another_hub_cannot_pass_on_what_was_signed_for_this_one(tmp_path: Path, boasts: bool) -> None:
    """Two clusters; the second one's hub was taken over, and has heard what anna sent to the first."""

    async def test() -> None:
        works = [Work(), Work()]
        labs = [Lab(tmp_path / name) for name in ("first", "second")]
        nodes = [Node(lab, "n0", work.handlers(), SIGNED) for lab, work in zip(labs, works, strict=True)]
        for work in works:
            work.go.set()
        async with AsyncExitStack() as stack:
            hubs = [await stack.enter_async_context(lab.hub()) for lab in labs]
            for hub, node in zip(hubs, nodes, strict=True):
                await node.enrol(hub.token("n0"))
            if boasts:
                # It says that its authority is the first one's as well, and the node keeps that, over a renewal too.
                hubs[1].gate.bundle = labs[0].authority.certificate + labs[1].authority.certificate
                own = nodes[1].keyring.load()
                assert isinstance(own, Own)
                await renew(nodes[1].keyring, own)
            for hub, node in zip(hubs, nodes, strict=True):
                await stack.enter_async_context(node.running())
                await until(lambda hub=hub, node=node: node.linked(hub))  # type: ignore[misc]
            true = signed(labs[0].command(["n0"], "sync"))
            name = hubs[0].desk.submit(true, "operator anna")
            assert isinstance(name, str) and (await hubs[0].ended(name, "n0")).outcome is Outcome.OK
            heard: list[Event] = []
            hubs[1].desk.hear = lambda _link, event: heard.append(event)  # type: ignore[method-assign, assignment]
            hubs[1].desk.links["n0"].put(frame(true))
            await until(lambda: heard)
            assert (heard[0].kind, heard[0].data["check"]) == ("refused", "nodes")
            assert heard[0].data["faults"][0].startswith("hub: it is for nodes of the hub")
            assert works[0].runs[name] == 1 and not works[1].runs

    asyncio.run(test())


def test_who_has_a_hub_gains_nothing_from_a_signature_that_names_none(tmp_path: Path) -> None:
    async def test() -> None:
        lab, work = Lab(tmp_path / "hub"), Work()
        work.go.set()
        node = Node(lab, "n0", work.handlers(), SIGNED)
        async with lab.hub() as hub:
            await node.enrol(hub.token("n0"))
            async with node.running():
                await until(lambda: node.linked(hub))
                heard: list[Event] = []
                hub.desk.hear = lambda _link, event: heard.append(event)  # type: ignore[method-assign, assignment]
                made: Send = frame(signed(command(["n0"], "sync", {}, lab.clock())))
                hub.desk.links["n0"].put(made)
                await until(lambda: heard)
                assert (heard[0].kind, heard[0].data["check"]) == ("refused", "signature")
                assert "names no hub" in heard[0].data["faults"][0] and not work.runs

    asyncio.run(test())
