"""Who can do what: an attacker of each row of docs/hub.md's table, and where each is stopped."""

from __future__ import annotations

import asyncio
import base64
import json
import random
import re
import shutil
import ssl
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import aiohttp.web
import msgspec
import pytest
from msgspec import structs

from protokube.errors import ProviderError
from protokube.hub.core.access import Denied
from protokube.hub.core.audit import NOTHING, Head, append
from protokube.hub.core.checks import Mode
from protokube.hub.core.course import Outcome, Stage
from protokube.hub.core.membership import Issued, Member, Standing
from protokube.hub.core.messages import LARGEST, Ack, Event, NodeHello, Send, encode
from protokube.hub.core.policy import Policy
from protokube.hub.core.tokens import Token
from protokube.hub.desk import Submit
from protokube.hub.gate import REFUSALS, Enrol
from protokube.hub.hubclient import client_context, enrol, own_context, renew
from protokube.hub.keyring import Own
from protokube.hub.nodelink import OutError
from protokube.hub.peer import WAITING, Peer
from protokube.hub.pki import make_key, make_request, make_signing_key, sign
from protokube.hub.store import QUOTA
from tests.hub.lab import HOST, Hub, Lab, Node, operator, until
from tests.hub.proxy import Proxy
from tests.hub.test_commands import Work
from tests.lab.trial import CHECKOUT

KEY, PUBLIC = make_signing_key()
SIGNED = Policy(Mode.SIGNED, {"anna": PUBLIC})
Story = Callable[[Lab, Hub, Work], Awaitable[None]]


def tell(folder: Path, story: Story) -> None:
    async def test() -> None:
        lab, work = Lab(folder / "hub"), Work()
        work.go.set()
        async with lab.hub() as hub:
            await story(lab, hub, work)

    asyncio.run(test())


def signed(text: str, key: str = KEY) -> Submit:
    return Submit(text, key="anna", sig=base64.b64encode(sign(key, text.encode())).decode())


def frame(submit: Submit) -> Send:
    return Send(submit.body, "operator anna", submit.key, submit.sig)


async def refused(work: Awaitable[object]) -> str:
    with pytest.raises(ProviderError) as raised:
        await work
    return str(raised.value)


def test_every_row_of_the_table_has_its_test() -> None:
    text = (CHECKOUT / "docs/hub.md").read_text()
    rows = re.findall(r"^\| ([^|]+) \|", text[text.index("## Who can do what") :].partition("\n## ")[0], re.M)
    named = [row.replace("'", "_").replace(" ", "_").lower() for row in rows if row not in ("attacker", "---")]
    assert len(named) == 9
    tests = [name for name in globals() if name.startswith("test_who_")]
    for row in named:
        assert any(f"_{row}_" in name for name in tests), row


def test_every_scenario_of_the_page_has_its_test() -> None:
    text = (CHECKOUT / "docs/hub.md").read_text().split("\n## Scenarios\n")[1].partition("\n## ")[0]
    numbers = re.findall(r"^\| (\d+) \|", text, re.M)
    tests = "".join(path.read_text() for path in (CHECKOUT / "tests/hub").rglob("test_*.py"))
    assert numbers == [str(number) for number in range(1, 16)]
    for number in numbers:
        assert f"def test_scenario_{number}_" in tests, number


def test_who_is_in_between_reads_nothing_and_changes_nothing(tmp_path: Path) -> None:
    async def story(lab: Lab, hub: Hub, work: Work) -> None:
        proxy, node, token = Proxy(lab.port), Node(lab, "n0", work.handlers(), SIGNED), hub.token("n0")
        async with proxy.running():
            await enrol(node.keyring, HOST, proxy.port, "n0", token)
            async with node.running():
                await until(lambda: node.linked(hub))
                text = lab.command(["n0"], "hold", {"reason": "hunter2", "minutes": 1})
                own = hub.desk.submit(signed(text), "operator anna")
                assert isinstance(own, str) and (await hub.ended(own, "n0")).outcome is Outcome.OK
                before = hub.desk.links["n0"]
                proxy.flip = True
                again = hub.submit(["n0"], "status")
                assert (await hub.ended(again, "n0")).outcome is Outcome.OK  # over another link
                await until(lambda: hub.desk.links.get("n0") not in (None, before))
            for secret in (token.secret, "hunter2", own):  # long ones: any two bytes are there by chance
                assert secret.encode() not in proxy.passed

    tell(tmp_path, story)


def enrolled(hub: Hub, token: Token, node: str = "n0") -> Denied:
    made = hub.gate.enrol(Enrol(token.id, token.secret, node, make_request(make_key(), node)))
    assert isinstance(made, Denied)
    return made


def test_who_reaches_its_port_without_a_certificate_does_not_fill_the_audit(tmp_path: Path) -> None:
    async def test() -> None:
        lab = Lab(tmp_path / "hub")
        async with lab.hub() as hub:
            token = hub.token("n1")
            for _ in range(3):
                assert "doesn't know" in enrolled(hub, structs.replace(token, id="invented")).reason
            assert list(hub.audit.lines()) == []
            for _ in range(3):
                enrolled(hub, token)
            assert len(list(hub.audit.lines())) == 1
            for _ in range(7):  # of five, each tells of somebody who guesses; then the token is void
                enrolled(hub, structs.replace(token, secret="a" * 26))
            assert len(list(hub.audit.lines())) == 6
            lab.ahead += REFUSALS + 1
            enrolled(hub, token)
            assert len(list(hub.audit.lines())) == 7

    asyncio.run(test())


def test_who_has_a_token_enrols_that_one_name_once_and_is_noticed(tmp_path: Path) -> None:
    async def story(lab: Lab, hub: Hub, _work: Work) -> None:
        token = hub.token("n0")
        thief, node = Node(lab, "n0", {}, folder=tmp_path / "thief"), Node(lab, "n0", {})
        assert "it is for node n0" in await refused(Node(lab, "n1", {}).enrol(token))
        await thief.enrol(token)
        assert "used already, with another key; if that wasn't this node, revoke n0" in await refused(
            node.enrol(token)
        )
        assert hub.gate.expel("n0", Standing.EVICTED, "a token was stolen", "root") is None
        assert "used already" in await refused(thief.enrol(token))
        await node.enrol(hub.token("n0"))

    tell(tmp_path, story)


def test_who_has_the_hub_cannot_change_a_signed_node(tmp_path: Path) -> None:
    async def story(lab: Lab, hub: Hub, work: Work) -> None:
        nodes = [Node(lab, name, work.handlers(), SIGNED) for name in ("n0", "n1")]
        for node in nodes:
            await node.enrol(hub.token(node.name))
        heard: list[Event] = []
        async with nodes[0].running(), nodes[1].running():
            await until(lambda: all(node.linked(hub) for node in nodes))
            true = signed(lab.command(["n0"], "sync"))
            own = hub.desk.submit(true, "operator anna")
            assert isinstance(own, str)
            await hub.ended(own, "n0")
            hub.desk.hear = lambda _link, event: heard.append(event)  # type: ignore[method-assign, assignment]
            put = {name: link.put for name, link in hub.desk.links.items()}
            forged, other = (lab.command(["n0"], "sync") for _ in range(2))
            for name, sent, check in (
                ("n0", Send(forged, "operator anna"), "signature"),
                ("n0", frame(signed(other, make_signing_key()[0])), "signature"),
                ("n0", structs.replace(frame(true), body=true.body.replace('"sync"', '"hold"')), "args"),
                ("n1", frame(true), "nodes"),  # a command of anna's own, aimed elsewhere
                ("n0", frame(signed(lab.command(["n0"], "sync", late=4000))), "deadline"),
            ):
                seen = len(heard)
                put[name](sent)
                await until(lambda: len(heard) > seen)
                assert (heard[-1].kind, heard[-1].data["check"]) == ("refused", check)
            seen = len(heard)
            put["n0"](frame(true))  # once more: it is answered from the record
            await until(lambda: len(heard) >= seen + 3)
        assert work.runs[own] == 1 and sum(work.runs.values()) == 1

    tell(tmp_path, story)


@pytest.mark.parametrize("how", ["cut", "rewritten"])
def test_who_has_the_hub_is_seen_by_the_nodes_when_its_audit_changes(tmp_path: Path, how: str) -> None:
    async def test() -> None:
        lab = Lab(tmp_path / "hub")
        audit, node = lab.folder / "audit.jsonl", Node(lab, "n0", {})
        async with lab.hub() as hub:
            await node.enrol(hub.token("n0"))
            hub.audit.write("operator anna", "something that was never to be seen", "n0")
            async with node.running():
                await until(lambda: node.linked(hub))
        lines = audit.read_bytes().splitlines(keepends=True)
        if how == "cut":
            audit.write_bytes(b"".join(lines[:-1]))
        else:
            last = json.loads(lines[-1])
            made, _ = append(Head(last["n"] - 1, last["prev"] or NOTHING), last["at"], "hub", "nothing", "n0")
            audit.write_bytes(b"".join(lines[:-1]) + made + b"\n")
        async with lab.hub() as hub, node.running():
            word = "lines were removed" if how == "cut" else "it was rewritten"
            await until(lambda: any(word in text for text in node.said))
            assert not node.linked(hub)

    asyncio.run(test())


def test_who_has_a_node_that_reads_nothing_loses_its_link() -> None:
    async def test() -> None:
        cut, issued = list[bool](), Issued("1", "k", "", 0.0, 1e12)
        peer = Peer(aiohttp.web.WebSocketResponse(), Member("n0", (), 0.0, issued), "1", lambda: cut.append(True))
        for _ in range(WAITING):
            peer.put(Ack(str(uuid.uuid4()), 1))
        assert cut == []
        for _ in range(WAITING):
            peer.put(Ack(str(uuid.uuid4()), 1))
        assert cut == [True] and peer.closing == (1008, "it reads nothing")
        assert peer.frames.qsize() == WAITING + 1  # the close alone

    asyncio.run(test())


async def speak(own: Own, frames: list[str | bytes]) -> int:
    """Say frames as a node; the code with which the hub closed the link."""
    context, url = own_context(own), f"https://{HOST}:{own.hub.port}/v1/link"
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session,
        session.ws_connect(url) as ws,
        asyncio.timeout(120),
    ):
        for one in frames:
            await (ws.send_str(one) if isinstance(one, str) else ws.send_bytes(one))
        async for _message in ws:
            pass
        return ws.close_code or 0


def test_who_has_a_node_says_garbage_and_is_cut_off_alone(tmp_path: Path) -> None:
    async def story(lab: Lab, hub: Hub, work: Work) -> None:
        own = await Node(lab, "n0", {}).enrol(hub.token("n0"))
        other = Node(lab, "n1", work.handlers(), Policy(Mode.HUB))
        await other.enrol(hub.token("n1"))
        hello = encode(NodeHello("n1", "b", "v", "hub"))
        chance = random.Random(7)
        garbage: list[list[str | bytes]] = [
            ["{"],
            [hello, "[" * 10_000],
            [hello, hello[:-2]],
            [hello, b"\x00\xff"],
            [encode(Event("x", 1, "done", 1.0))],  # no hello first
            [hello, '{"type": "event", "id": "x", "seq": -1, "kind": "done", "at": 1}'],
            [hello, '{"type": "hello", "node": 1}'],
            [hello, "x" * (300 * 1024)],
        ]
        garbage.extend([hello, chance.randbytes(chance.randrange(1, 200)).decode("latin-1")] for _ in range(12))
        async with other.running():
            await until(lambda: other.linked(hub))
            for frames in garbage:
                # Before all of a frame that is too long was sent, the hub hangs up.
                expected = (1006, 1009) if len(frames[-1]) > LARGEST else (1003, 1008)
                assert await speak(own, frames) in expected, frames
            assert (await hub.ended(hub.submit(["n1"], "status"), "n1")).outcome is Outcome.OK

    tell(tmp_path, story)


def test_who_has_a_node_speaks_for_no_other_and_fills_its_quota_alone(tmp_path: Path) -> None:
    async def story(lab: Lab, hub: Hub, work: Work) -> None:
        nodes = [Node(lab, name, work.handlers(), Policy(Mode.HUB)) for name in ("n0", "n1")]
        for node in nodes:
            await node.enrol(hub.token(node.name))
        async with nodes[0].running():
            await until(lambda: nodes[0].linked(hub))
            theirs, mine = hub.submit(["n1"], "sync"), hub.submit(["n0"], "status")
            await hub.ended(mine, "n0")
            link = hub.desk.links["n0"]
            hub.desk.hear(link, Event(theirs, 1, "done", 1.0, {"outcome": "ok"}))
            assert hub.course(theirs, "n1").stage is Stage.QUEUED and hub.events(theirs, "n1") == []
            # Its name in the hello is nothing: the certificate's counts.
            assert link.node == "n0"
            waiting = hub.submit(["n0"], "sync")
            hub.desk._quota._used["n0"] = QUOTA + 1
            await hub.ended(waiting, "n0")
            assert [event.data for event in hub.events(waiting, "n0") if event.kind == "progress"] == [{"dropped": 1}]
            # What is for operators isn't for a node.
            own = nodes[0].keyring.load()
            assert isinstance(own, Own)
            connector = aiohttp.TCPConnector(ssl=own_context(own))
            async with aiohttp.ClientSession(f"https://{HOST}:{lab.port}", connector=connector) as session:
                for path in ("/v1/nodes", "/v1/audit", "/v1/page", f"/v1/commands/{theirs}"):
                    async with session.get(path) as answer:
                        assert answer.status == 403, path
                async with session.get("/../ca.key") as answer:
                    assert answer.status == 404

    tell(tmp_path, story)


def test_who_copied_a_node_s_key_is_out_once_the_real_one_renews(tmp_path: Path) -> None:
    async def story(lab: Lab, hub: Hub, _work: Work) -> None:
        node = Node(lab, "n0", {})
        own = await node.enrol(hub.token("n0"))
        shutil.copytree(node.folder, tmp_path / "copy")
        copy = Node(lab, "n0", {}, folder=tmp_path / "copy")
        async with copy.running() as copied:
            await until(lambda: copy.linked(hub))  # until then it may
            await renew(node.keyring, own)
            async with node.running() as real:
                for task in (copied, real):
                    with pytest.raises(OutError, match="cloned"):
                        await asyncio.wait_for(task, 120)
        assert any(b"alarm: cloned" in line for line in hub.audit.lines())

    tell(tmp_path, story)


def test_who_has_the_hub_s_database_has_no_token_and_no_key(tmp_path: Path) -> None:
    async def story(lab: Lab, hub: Hub, work: Work) -> None:
        used, unused = hub.token("n0"), hub.token("n1")
        node = Node(lab, "n0", work.handlers(), Policy(Mode.HUB))
        own = await node.enrol(used)
        async with node.running():
            await hub.ended(hub.submit(["n0"], "status"), "n0")
        stolen = b"".join(path.read_bytes() for path in lab.folder.glob("*") if path.is_file())
        for secret in (used.secret, unused.secret, own.key.read_text(), KEY):
            assert secret.encode() not in stolen
        # A certificate of the database's is worth nothing without its key.
        (tmp_path / "key.pem").write_text(make_key())
        with pytest.raises(ssl.SSLError):
            ssl.create_default_context().load_cert_chain(own.certificate, tmp_path / "key.pem")

    tell(tmp_path, story)


def test_who_has_a_web_page_that_an_operator_visits_sends_no_command(tmp_path: Path) -> None:
    async def story(lab: Lab, hub: Hub, _work: Work) -> None:
        await Node(lab, "n0", {}).enrol(hub.token("n0"))
        body = msgspec.json.encode(Submit(lab.command(["n0"], "sync")))
        anna = operator(hub, tmp_path / "anna")
        context = client_context((anna / "bundle.pem").read_text())
        context.load_cert_chain(anna / "cert.pem", anna / "key.pem")  # as her browser would
        connector = aiohttp.TCPConnector(ssl=context)
        async with aiohttp.ClientSession(f"https://{HOST}:{lab.port}", connector=connector) as browser:
            for headers, status in (
                ({"Content-Type": "text/plain", "Origin": "https://evil.example"}, 403),
                ({"Content-Type": "application/json", "Sec-Fetch-Site": "cross-site"}, 403),
                ({"Content-Type": "text/plain"}, 415),
            ):
                async with browser.post("/v1/commands", data=body, headers=headers) as answer:
                    assert answer.status == status, headers
            # Before a page may send JSON, its browser asks with OPTIONS.
            async with browser.options("/v1/commands", headers={"Origin": "https://evil.example"}) as answer:
                assert answer.status == 404
        assert not hub.store.commands()

    tell(tmp_path, story)


def test_who_has_an_operator_s_signing_key_and_certificate_is_in_both_audits(tmp_path: Path) -> None:
    async def story(lab: Lab, hub: Hub, work: Work) -> None:
        bob = make_signing_key()[1]
        lists = Node(lab, "n0", work.handlers(), SIGNED)
        others = Node(lab, "n1", work.handlers(), Policy(Mode.SIGNED, {"bob": bob}))
        for node in (lists, others):
            await node.enrol(hub.token(node.name))
        async with lists.running(), others.running():
            await until(lambda: lists.linked(hub) and others.linked(hub))
            own = hub.desk.submit(signed(lab.command(["n0", "n1"], "sync")), "operator anna")
            assert isinstance(own, str)
            assert (await hub.ended(own, "n0")).outcome is Outcome.OK
            assert "signature: " in (await hub.ended(own, "n1")).why and work.runs[own] == 1
        for audit in (lab.folder / "audit.jsonl", lists.folder / "audit.jsonl", others.folder / "audit.jsonl"):
            assert any(own in line for line in audit.read_text().splitlines())

    tell(tmp_path, story)
