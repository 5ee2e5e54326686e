"""Commands over loopback: once or unknown, cut anywhere; locks, forgeries, cancelling, rounds."""

from __future__ import annotations

import asyncio
import base64
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from protokube.core.model import Fault
from protokube.errors import ProviderError
from protokube.hub.core.audit import verify
from protokube.hub.core.checks import Mode, Order
from protokube.hub.core.course import Course, Outcome, Stage
from protokube.hub.core.messages import Event, Send
from protokube.hub.core.policy import Policy
from protokube.hub.core.rounds import Strategy
from protokube.hub.handlers import End, Handler, Say
from protokube.hub.pki import make_signing_key, sign
from tests.hub.lab import Hub, Lab, Node, fleet, until

HUB = Policy(Mode.HUB)


class Work:
    """Handlers that count, and that end when they may."""

    def __init__(self) -> None:
        self.runs: Counter[str] = Counter()
        self.at_once = self.most = 0
        self.go = asyncio.Event()

    def handlers(self) -> Mapping[str, Handler]:
        return {"sync": self.change, "hold": self.change, "plan": self.read, "status": self.quick, "logs": self.lines}

    async def change(self, order: Order, say: Say, _limit: float) -> End:
        self.runs[order.body.id] += 1
        say.progress("begun")
        await self.go.wait()
        return End(Outcome.OK, "changed")

    async def read(self, order: Order, _say: Say, _limit: float) -> End:
        self.runs[order.body.id] += 1
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        try:
            await self.go.wait()
        finally:
            self.at_once -= 1
        return End(Outcome.OK)

    async def quick(self, order: Order, _say: Say, _limit: float) -> End:
        self.runs[order.body.id] += 1
        return End(Outcome.OK, result={"protokube": "active"})

    async def lines(self, _order: Order, say: Say, _limit: float) -> End:
        for number in range(200):
            say.output(f"{number}\n")
            await asyncio.sleep(0.01)
        return End(Outcome.OK)


def tell(folder: Path, story: Callable[[Hub, list[Node], Work], Awaitable[None]], nodes: int = 1) -> None:
    async def test() -> None:
        work = Work()
        names = [f"n{number}" for number in range(nodes)]
        async with fleet(folder / "hub", names, work.handlers(), policy=HUB) as (hub, made):
            await story(hub, made, work)
            assert not isinstance(verify(hub.audit.lines()), Fault)

    asyncio.run(test())


def test_a_command_s_way_from_its_issue_to_its_end(tmp_path: Path) -> None:
    async def story(hub: Hub, _nodes: list[Node], work: Work) -> None:
        name = hub.submit(["n0"], "status")
        course = await hub.ended(name, "n0")
        assert (course.stage, course.outcome) == (Stage.DONE, Outcome.OK)
        kinds = [event.kind for event in hub.events(name, "n0")]
        assert kinds == ["accepted", "started", "done"]
        assert hub.events(name, "n0")[-1].data["result"] == {"protokube": "active"}
        assert work.runs[name] == 1
        await until(lambda: not hub.store.open_commands())

    tell(tmp_path, story)


def test_scenario_13_one_change_at_a_time_and_four_reads(tmp_path: Path) -> None:
    async def story(hub: Hub, nodes: list[Node], work: Work) -> None:
        first = hub.submit(["n0"], "sync")
        await until(lambda: hub.course(first, "n0").stage is Stage.STARTED)
        # The hub itself waits for a change's end; one that is sent all the same is refused.
        kept = hub.store.command(hub.submit(["n0"], "hold", reason="x", minutes=1))
        assert kept is not None
        hub.desk.links["n0"].put(Send(kept.body, "anna"))
        await until(lambda: b"hold refused (lock)" in (hub.lab.folder / "n0" / "audit.jsonl").read_bytes())
        reads = [hub.submit(["n0"], "plan") for _ in range(21)]
        await until(lambda: hub.course(reads[20], "n0").stage is Stage.REFUSED)
        assert hub.course(reads[20], "n0").why.startswith("lock: ") and work.most == 4
        work.go.set()
        for name in (first, *reads[:20]):
            assert (await hub.ended(name, "n0")).outcome is Outcome.OK
        assert work.most == 4

    tell(tmp_path, story)


def test_what_waits_is_cancelled_and_a_read_is_ended_but_not_a_change(tmp_path: Path) -> None:
    async def story(hub: Hub, nodes: list[Node], work: Work) -> None:
        reads = [hub.submit(["n0"], "plan") for _ in range(5)]
        change = hub.submit(["n0"], "sync")
        await until(lambda: hub.course(change, "n0").stage is Stage.STARTED and work.at_once == 4)
        for name in (reads[0], reads[4], change):
            assert hub.desk.cancel(name, "operator anna") is None
        for name in (reads[0], reads[4]):
            assert (await hub.ended(name, "n0")).outcome is Outcome.CANCELLED
        work.go.set()
        assert (await hub.ended(change, "n0")).outcome is Outcome.OK
        assert work.runs[reads[4]] == 0

    tell(tmp_path, story)


@pytest.mark.parametrize(
    ("check", "verb", "changed"),
    [
        ("signature", "sync", {"sig": None, "key": None}),
        ("signature", "sync", {"key": "bob"}),
        ("signature", "sync", {"body": lambda text: text.replace('"x"', '"y"')}),
        ("nodes", "sync", {"nodes": ["n1"]}),
        ("deadline", "sync", {"ago": 900.0}),
        ("id", "sync", {"again": True}),
        ("verb", "exec", {}),
        ("json", "sync", {"body": lambda text: text[:-1]}),
        ("taken", "sync", {}),
    ],
)
def test_scenario_14_what_a_hub_forges_is_refused_by_its_check(
    tmp_path: Path, check: str, verb: str, changed: dict[str, Any]
) -> None:
    """The hub is taken over: it puts whatever it likes on the link."""

    async def test() -> None:
        work = Work()
        work.go.set()
        key, public = make_signing_key()
        policy = Policy(Mode.SIGNED, {"anna": public})
        async with fleet(tmp_path / "hub", ["n0"], work.handlers(), policy=policy) as (hub, _nodes):
            heard: list[Event] = []
            hub.desk.hear = lambda _link, event: heard.append(event)
            args = {"reason": "x", "minutes": 1} if verb == "hold" else {}
            text = hub.lab.command(changed.get("nodes", ["n0"]), verb, args, changed.get("ago", 0.0))
            if "again" in changed:
                hub.desk.links["n0"].put(_signed(text, key))
                await until(lambda: any(event.kind == "done" for event in heard))
                text = text.replace('"sync"', '"hold"').replace('"args": {}', '"args": {"reason": "x", "minutes": 1}')
            if verb == "sync" and "body" in changed and check == "signature":
                text = hub.lab.command(["n0"], "hold", {"reason": "x", "minutes": 1})
            sent = _signed(text, key)
            put = Send(
                changed["body"](sent.body) if "body" in changed else sent.body,
                "anna",
                changed.get("key", sent.key),
                changed.get("sig", sent.sig),
            )
            before = len(heard)
            hub.desk.links["n0"].put(put)
            wanted = "done" if check == "taken" else "refused"
            await until(lambda: any(event.kind == wanted for event in heard[before:]))
            if check != "taken":
                (refusal,) = heard[before:]
                assert refusal.data["check"] == check and refusal.data["faults"]
                assert sum(work.runs.values()) == ("again" in changed)

    asyncio.run(test())


def _signed(text: str, key: str) -> Send:
    return Send(text, "anna", "anna", base64.b64encode(sign(key, text.encode())).decode())


def test_a_known_command_is_answered_from_its_record_and_never_run_again(tmp_path: Path) -> None:
    async def story(hub: Hub, _nodes: list[Node], work: Work) -> None:
        work.go.set()
        name = hub.submit(["n0"], "sync")
        await hub.ended(name, "n0")
        heard: list[Event] = []
        hub.desk.hear = lambda _link, event: heard.append(event)  # type: ignore[method-assign, assignment]
        kept = hub.store.command(name)
        assert kept is not None
        hub.desk.links["n0"].put(Send(kept.body, "anna"))
        await until(lambda: len(heard) >= 3)
        assert [event.kind for event in heard] == ["accepted", "started", "done"]
        assert work.runs[name] == 1

    tell(tmp_path, story)


def test_output_goes_on_over_lost_links_without_a_gap_or_a_repeat(tmp_path: Path) -> None:
    async def story(hub: Hub, nodes: list[Node], _work: Work) -> None:
        name = hub.submit(["n0"], "logs", unit="protokube")
        cuts = 0
        while hub.course(name, "n0").outcome is None:
            await asyncio.sleep(random.uniform(0.05, 0.4))
            link = hub.desk.links.get("n0")
            if link is not None and cuts < 6:
                _cut(link)
                cuts += 1
        assert cuts > 1
        assert hub.output(name, "n0") == "".join(f"{number}\n" for number in range(200))

    tell(tmp_path, story)


def _cut(link: Any) -> None:
    """Cut the connection below: no close frame, no goodbye."""
    (peer,) = link.put.args
    peer.frames.put_nowait(None)


def test_what_was_done_once_stays_done_once_over_restarts_of_the_node_at_random_points(tmp_path: Path) -> None:
    """Kill the node's program at random points; every command is done once, or unknown with facts."""

    async def test() -> None:
        lab, work = Lab(tmp_path / "hub"), Work()
        work.go.set()
        lab.folder.mkdir(exist_ok=True)
        async with lab.hub() as hub:
            node = Node(lab, "n0", work.handlers(), HUB)
            await node.enrol(hub.token("n0"))
            names: list[str] = []
            for turn in range(25):
                names.append(hub.submit(["n0"], "sync" if turn % 3 else "status"))
                async with node.running():
                    await asyncio.sleep(random.uniform(0.0, 0.15))
            async with node.running():
                for name in names:
                    await hub.ended(name, "n0")
            for name in names:
                course = hub.course(name, "n0")
                kept = hub.store.command(name)
                assert kept is not None
                assert sum(event.kind == "done" for event in hub.events(name, "n0")) == 1
                if kept.verb == "sync":
                    assert work.runs[name] <= 1
                    if course.outcome is Outcome.UNKNOWN:
                        facts = hub.events(name, "n0")[-1].data["result"]["facts"]
                        assert facts == {"protokube": "active"}
                    else:
                        assert course.outcome is Outcome.OK and work.runs[name] == 1

    asyncio.run(test())


def test_a_hub_that_is_started_again_goes_on_with_its_commands(tmp_path: Path) -> None:
    async def test() -> None:
        lab, work = Lab(tmp_path / "hub"), Work()
        async with lab.hub() as hub:
            node = Node(lab, "n0", work.handlers(), HUB)
            await node.enrol(hub.token("n0"))
            task = asyncio.create_task(node.link().run())
            name = hub.submit(["n0"], "sync")
            await until(lambda: hub.course(name, "n0").stage is Stage.STARTED)
        work.go.set()
        async with lab.hub() as hub:
            assert (await hub.ended(name, "n0")).outcome is Outcome.OK
            assert work.runs[name] == 1
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(test())


def test_rolling_goes_on_node_by_node_and_stops_at_a_failure(tmp_path: Path) -> None:
    async def story(hub: Hub, nodes: list[Node], work: Work) -> None:
        names = [node.name for node in nodes]
        good = hub.submit(names, "sync", Strategy(2))
        await until(lambda: sum(hub.course(good, name).stage is Stage.STARTED for name in names) == 2)
        assert sum(work.runs.values()) == 2
        work.go.set()
        for name in names:
            assert (await hub.ended(good, name)).outcome is Outcome.OK
        bad = hub.submit(names, "release", Strategy(1))  # these nodes can't: each refuses
        await until(lambda: bad not in {kept.id for kept in hub.store.open_commands()})
        stages = Counter(hub.course(bad, name).stage for name in names)
        assert stages == {Stage.REFUSED: 1, Stage.SKIPPED: 4}

    tell(tmp_path, story, nodes=5)


def test_scenario_15_round_robin_never_sends_elsewhere_what_was_sent(tmp_path: Path) -> None:
    async def story(hub: Hub, nodes: list[Node], work: Work) -> None:
        names = [node.name for node in nodes]
        turn = Strategy(1, single=True)
        dead = hub.submit(names, "sync", turn)
        await until(lambda: hub.course(dead, "n0").stage is Stage.STARTED)
        # n0's link dies after it was sent.
        link = hub.desk.links["n0"]
        hub.desk.detach(link)
        others = [hub.submit(names, "status", turn) for _ in range(4)]
        taken = []
        for name in others:
            await until(lambda: name not in {kept.id for kept in hub.store.open_commands()})
            taken += [node for node in names if hub.course(name, node).stage is Stage.DONE]
        assert taken == ["n1", "n2", "n3", "n4"]
        assert [node for node in names if hub.course(dead, node).stage is Stage.SKIPPED] == names[1:]
        assert work.runs[dead] == 1 and hub.course(dead, "n0").outcome is None
        work.go.set()

    tell(tmp_path, story, nodes=5)


def test_who_was_sent_a_command_and_never_says_is_unknown_after_the_deadline(tmp_path: Path) -> None:
    async def test() -> None:
        lab = Lab(tmp_path / "hub")
        async with lab.hub() as hub:
            node = Node(lab, "n0", Work().handlers(), HUB)
            await node.enrol(hub.token("n0"))
            never = hub.submit(["n0"], "status")
            sent = hub.submit(["n0"], "sync")
            hub.store.put_course(sent, "n0", Course(Stage.SENT))
        async with lab.hub() as hub:  # what it sent it knows from its database
            lab.ahead = 400.0
            assert (await hub.ended(sent, "n0")).outcome is Outcome.UNKNOWN
            await until(lambda: hub.course(never, "n0").stage is Stage.SKIPPED)

    asyncio.run(test())


def test_scenario_15_a_hub_whose_audit_was_cut_or_whose_clock_goes_back_is_left_alone(tmp_path: Path) -> None:
    async def test() -> None:
        lab = Lab(tmp_path / "hub")
        audit = lab.folder / "audit.jsonl"
        async with lab.hub() as hub:
            node = Node(lab, "n0", Work().handlers(), HUB)
            await node.enrol(hub.token("n0"))
            hub.audit.write("operator anna", "something", "n0")
            async with node.running():
                await until(lambda: node.linked(hub))
        whole = audit.read_bytes()
        audit.write_bytes(whole.splitlines(keepends=True)[0])
        async with lab.hub() as hub, node.running():
            await until(lambda: any("lines were removed" in text for text in node.said))
            assert not node.linked(hub)
        audit.write_bytes(whole)
        lab.ahead = 2000.0
        async with lab.hub() as hub, node.running():
            await until(lambda: node.linked(hub))
        lab.ahead = 1000.0
        async with lab.hub() as hub, node.running():
            await until(lambda: any("clock went back" in text for text in node.said))
            assert not node.linked(hub)

    asyncio.run(test())


def test_a_hub_whose_sweep_breaks_says_so_instead_of_going_on_without_it(tmp_path: Path) -> None:
    async def test() -> None:
        lab = Lab(tmp_path / "hub")
        async with lab.hub() as hub:

            def broken() -> None:
                raise ProviderError("the audit can't be written")

            hub.desk.tick = broken  # type: ignore[method-assign]
            with pytest.raises(ProviderError, match="can't be written"):
                await asyncio.wait_for(hub.server.failed(), 120)

    asyncio.run(test())
