"""Links that are cut, below TCP as well, hubs that are away, and nodes that are put out in the middle."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from protokube.hub.core.checks import Mode, Order
from protokube.hub.core.course import Outcome, Stage
from protokube.hub.core.membership import Standing
from protokube.hub.core.policy import Policy
from protokube.hub.handlers import End, Say
from protokube.hub.hubclient import HubRefusedError, enrol, renew
from protokube.hub.nodelink import OutError
from tests.hub.lab import HOST, Hub, Lab, Node, until
from tests.hub.proxy import Proxy
from tests.hub.test_commands import Work
from tests.hub.test_enrolment import expel

POLICY = Policy(Mode.HUB)
CUTS, NODES = 100, 4


@pytest.fixture
def quick_pings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A link that is silent is dead after seconds: the tests wait for that often."""
    for side in ("links", "nodelink"):
        monkeypatch.setattr(f"protokube.hub.{side}.PING", 1.0)
    yield


async def through(proxy: Proxy, hub: Hub, node: Node) -> None:
    """Enrol a node that reaches its hub by way of the proxy."""
    await enrol(node.keyring, HOST, proxy.port, node.name, hub.token(node.name))


@pytest.mark.usefixtures("quick_pings")
def test_scenario_10_a_hundred_cuts_and_each_command_is_done_once(tmp_path: Path) -> None:
    async def test() -> None:
        lab, work = Lab(tmp_path / "hub"), Work()
        work.go.set()
        async with AsyncExitStack() as stack:
            hub = await stack.enter_async_context(lab.hub())
            proxies, sent = [], {f"n{number}": list[str]() for number in range(NODES)}
            for name in sent:
                proxy, node = Proxy(lab.port), Node(lab, name, work.handlers(), POLICY)
                await stack.enter_async_context(proxy.running())
                await through(proxy, hub, node)
                await stack.enter_async_context(node.running())
                proxies.append(proxy)

            async def cutting(proxy: Proxy, name: str) -> None:
                cuts = 0
                while cuts < CUTS // NODES:
                    # Those that gather while it is cut off come all at once, and a node takes twenty reads.
                    if len(hub.store.unfinished(name)) < 10:
                        sent[name].append(hub.submit([name], random.choice(("sync", "status")), seconds=3000.0))
                    await asyncio.sleep(random.uniform(0.0, 0.3))
                    cuts += proxy.cut_somehow()

            await asyncio.gather(*map(cutting, proxies, sent))
            for name, commands in sent.items():
                for own in commands:
                    assert (await hub.ended(own, name)).outcome is Outcome.OK
                    kinds = [event.kind for event in hub.events(own, name)]
                    assert kinds.count("done") == kinds.count("started") == 1 and work.runs[own] == 1
                    assert [event.seq for event in hub.events(own, name)] == list(range(1, len(kinds) + 1))

    asyncio.run(test())


@pytest.mark.usefixtures("quick_pings")
def test_scenario_10_with_the_node_and_then_the_hub_started_again(tmp_path: Path) -> None:
    async def test() -> None:
        lab, work = Lab(tmp_path / "hub"), Work()
        work.go.set()
        node, names = Node(lab, "n0", work.handlers(), POLICY), list[str]()
        async with lab.hub() as hub:
            await node.enrol(hub.token("n0"))
        for _ in range(6):
            async with lab.hub() as hub:
                for _ in range(3):
                    async with node.running():
                        names.append(hub.submit(["n0"], random.choice(("sync", "status")), seconds=3000.0))
                        await asyncio.sleep(random.uniform(0.0, 0.3))
        async with lab.hub() as hub, node.running():
            for own in names:
                course = await hub.ended(own, "n0")
                events = hub.events(own, "n0")
                assert sum(event.kind == "done" for event in events) == 1
                kept = hub.store.command(own)
                assert kept is not None and (kept.verb == "status" or work.runs[own] <= 1)
                if course.outcome is Outcome.UNKNOWN:
                    assert events[-1].data["result"]["facts"] == {"protokube": "active"}

    asyncio.run(test())


def test_scenario_5_ten_renewals_under_a_log_that_is_followed(tmp_path: Path) -> None:
    async def test() -> None:
        lab, keys, said, go = Lab(tmp_path / "hub", life=6.0), set[str](), [0], asyncio.Event()

        async def follow(_order: Order, say: Say, _limit: float) -> End:
            while not go.is_set():
                say.output(f"{said[0]}\n")
                said[0] += 1
                await asyncio.sleep(0.05)
            return End(Outcome.OK)

        async with lab.hub() as hub:
            node = Node(lab, "n0", {"logs": follow}, POLICY)
            await node.enrol(hub.token("n0"))
            async with node.running() as task:
                own = hub.submit(["n0"], "logs", seconds=3000.0, unit="protokube", follow=600)
                while len(keys) < 11:
                    assert not task.done()
                    member = hub.store.member("n0")
                    assert member is not None and member.standing is Standing.ENROLLED
                    if member.next is None:
                        keys.add(member.current.key)
                    await asyncio.sleep(0.05)
                go.set()
                assert (await hub.ended(own, "n0")).outcome is Outcome.OK
            assert hub.output(own, "n0") == "".join(f"{number}\n" for number in range(said[0]))

    asyncio.run(test())


def test_scenario_6_a_hub_that_is_away_until_the_certificate_has_ended(tmp_path: Path) -> None:
    async def test() -> None:
        lab = Lab(tmp_path / "hub")
        node = Node(lab, "n0", {}, POLICY)
        async with lab.hub() as hub:
            await node.enrol(hub.token("n0"))
            before = hub.store.member("n0")
        assert before is not None
        async with node.running() as task:
            await until(lambda: any("no link" in text for text in node.said))
            lab.ahead += 2 * lab.life
            async with lab.hub() as hub:
                await until(lambda: node.linked(hub))
                after = hub.store.member("n0")
                assert after is not None and after.current.key != before.current.key
            lab.ahead += 32 * 86400.0
            async with lab.hub():
                with pytest.raises(OutError, match="make a new token and enrol the node again"):
                    await asyncio.wait_for(task, 120)

    asyncio.run(test())


def test_scenario_9_a_node_that_is_put_out_during_a_command(tmp_path: Path) -> None:
    async def test() -> None:
        lab, work = Lab(tmp_path / "hub"), Work()
        async with lab.hub() as hub:
            node = Node(lab, "n0", work.handlers(), POLICY)
            own = await node.enrol(hub.token("n0"))
            async with node.running() as task:
                command = hub.submit(["n0"], "sync")
                await until(lambda: hub.course(command, "n0").stage is Stage.STARTED)
                assert await asyncio.to_thread(expel, lab, Standing.EVICTED, "n0") is None
                with pytest.raises(OutError, match="evicted: sold"):
                    await asyncio.wait_for(task, 120)
            assert not node.linked(hub)
            lab.ahead = 400.0
            assert (await hub.ended(command, "n0")).outcome is Outcome.UNKNOWN
            with pytest.raises(HubRefusedError, match="evicted") as refused:
                await renew(node.keyring, own)
            assert refused.value.status == 403

    asyncio.run(test())
