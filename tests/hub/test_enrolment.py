"""Enrolment and renewal over loopback: tokens, pins, lost answers, clocks, copied keys, and who is out."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from msgspec import structs

from protokube.core.model import Fault
from protokube.errors import ProviderError
from protokube.hub.core.audit import Head, verify
from protokube.hub.core.course import Outcome, Stage
from protokube.hub.core.membership import Standing
from protokube.hub.core.tokens import make_token
from protokube.hub.hubclient import HubRefusedError, WrongHubError, renew
from protokube.hub.keyring import Own
from protokube.hub.nodelink import OutError
from protokube.hub.pki import make_authority, pin, shown_pem
from tests.hub.lab import Hub, Lab, Node, until
from tests.hub.test_commands import Work

Story = Callable[[Lab, Hub, Node], Awaitable[None]]


def tell(folder: Path, story: Story, life: float = 86400.0) -> None:
    async def test() -> None:
        lab = Lab(folder / "hub", life)
        async with lab.hub() as hub:
            await story(lab, hub, Node(lab, "node-a", {}))

    asyncio.run(test())


async def refused(work: Awaitable[object]) -> str:
    with pytest.raises(ProviderError) as raised:
        await work
    return str(raised.value)


def test_scenario_1_a_node_enrols_once_and_links(tmp_path: Path) -> None:
    async def story(lab: Lab, hub: Hub, node: Node) -> None:
        token = hub.token("node-a")
        own = await node.enrol(token)
        assert own.hub.name == "hub" and own.hub.node == "node-a"
        shown = shown_pem(own.certificate.read_text())
        assert shown.identity is not None and shown.identity.uri() == "protokube://hub/node/node-a"
        assert own.key.stat().st_mode & 0o777 == 0o600 and own.folder.stat().st_mode & 0o777 == 0o700
        kept = hub.store.token(token.id)
        assert kept is not None and kept.used_by is not None
        async with node.running():
            await until(lambda: node.linked(hub))
        head = verify(hub.audit.lines())
        assert isinstance(head, Head) and head.n == 1
        everything = b"".join(path.read_bytes() for path in lab.folder.rglob("*") if path.is_file())
        assert token.secret.encode() not in everything

    tell(tmp_path, story)


def test_scenario_2_each_refusal_names_its_reason_and_leaves_a_working_pair_alone(tmp_path: Path) -> None:
    async def story(lab: Lab, hub: Hub, node: Node) -> None:
        token = hub.token("node-a")
        await node.enrol(token)
        before = {path: path.read_bytes() for path in node.folder.rglob("*.pem")}
        assert "used already" in await refused(node.enrol(token))
        assert "expired" in await refused(node.enrol(hub.token("node-a", life=-1)))
        assert "it is for node node-b" in await refused(node.enrol(hub.token("node-b")))
        assert "is enrolled since" in await refused(node.enrol(hub.token("node-a")))
        good = hub.token("node-c")
        wrong = structs.replace(good, secret="a" * 26)
        other = Node(lab, "node-c", {})
        for left in (4, 3, 2, 1, 0):
            assert f"{left} tries are left" in await refused(other.enrol(wrong))
        assert "void after 5" in await refused(other.enrol(good))
        assert before.items() <= {path: path.read_bytes() for path in node.folder.rglob("*.pem")}.items()
        await node.enrol(hub.token("node-a", replace=True))

    tell(tmp_path, story)


def test_scenario_3_an_answer_that_was_lost_is_given_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(_lab: Lab, hub: Hub, node: Node) -> None:
        token = hub.token("node-a")
        take = node.keyring.take

        def killed(*_given: object) -> Own:
            raise ProviderError("killed before the pair was written")

        node.keyring.take = killed  # type: ignore[method-assign, assignment]
        await refused(node.enrol(token))
        node.keyring.take = take  # type: ignore[method-assign]
        first = hub.store.member("node-a")
        assert first is not None
        own = await node.enrol(token)
        assert own.serial == first.current.serial and hub.store.member("node-a") == first

    tell(tmp_path, story)


def test_scenario_4_another_hub_s_authority_stops_the_node_before_it_sends_its_secret(tmp_path: Path) -> None:
    async def story(lab: Lab, hub: Hub, node: Node) -> None:
        stranger = make_authority("hub", lab.clock())
        token = make_token(b"12345", b"0123456789abcdef", pin(stranger.certificate))
        with pytest.raises(WrongHubError, match="nothing was sent"):
            await node.enrol(token)
        assert list(hub.audit.lines()) == []  # a refused secret would have its line
        assert not (node.folder / "keys").exists()

    tell(tmp_path, story)


def test_a_hub_with_another_key_behind_the_pinned_bundle_is_not_spoken_to(tmp_path: Path) -> None:
    """In between: it shows the true bundle, and its own certificate."""

    async def test() -> None:
        true = make_authority("hub", Lab(tmp_path / "x").clock())
        lab = Lab(tmp_path / "hub")
        async with lab.hub() as hub:
            hub.gate.bundle = true.certificate
            with pytest.raises(WrongHubError, match="isn't the hub"):
                await Node(lab, "node-a", {}).enrol(make_token(b"12345", b"0" * 16, pin(true.certificate)))
            assert list(hub.audit.lines()) == []

    asyncio.run(test())


def test_renewal_under_a_running_link_goes_on_by_itself(tmp_path: Path) -> None:
    async def story(_lab: Lab, hub: Hub, node: Node) -> None:
        keys: set[str] = set()
        await node.enrol(hub.token("node-a"))
        async with node.running() as task:
            while len(keys) < 4:
                assert not task.done()
                member = hub.store.member("node-a")
                assert member is not None and member.standing is Standing.ENROLLED
                if member.next is None:
                    keys.add(member.current.key)
                await asyncio.sleep(0.05)
            await until(lambda: node.linked(hub))
        folders = sorted(path.name for path in (node.folder / "keys").iterdir() if path.name.isdecimal())
        assert len(folders) == 2

    tell(tmp_path, story, life=6.0)


def test_a_node_that_was_off_for_three_weeks_comes_back_and_after_two_months_it_is_told_how(tmp_path: Path) -> None:
    async def story(lab: Lab, hub: Hub, node: Node) -> None:
        await node.enrol(hub.token("node-a"))
        lab.ahead = 21 * 86400.0
        async with node.running():
            await until(lambda: node.linked(hub))
        lab.ahead += 60 * 86400.0
        async with node.running() as task:
            with pytest.raises(OutError, match=r"ended 59 days ago.*nokubelet enrol"):
                await asyncio.wait_for(task, 120)

    tell(tmp_path, story)


@pytest.mark.parametrize("standing", [Standing.EVICTED, Standing.BANNED])
def test_who_is_out_is_out_at_once_and_doesn_t_renew(tmp_path: Path, standing: Standing) -> None:
    async def story(lab: Lab, hub: Hub, node: Node) -> None:
        own = await node.enrol(hub.token("node-a"))
        async with node.running() as task:
            await until(lambda: node.linked(hub))
            # By another process, as `protokube-hub node evict` does it.
            other = await asyncio.to_thread(expel, lab, standing)
            assert other is None
            with pytest.raises(OutError, match=f"{standing}: sold"):
                await asyncio.wait_for(task, 120)
        assert not node.linked(hub)
        with pytest.raises(HubRefusedError, match=str(standing)):
            await renew(node.keyring, own)
        again = hub.token("node-a", replace=True)
        if standing is Standing.BANNED:
            assert "no token lets it in" in await refused(node.enrol(again))
        else:
            await node.enrol(again)

    tell(tmp_path, story)


def test_a_command_is_sent_to_who_is_let_in_at_that_moment_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("protokube.hub.server.SWEEP", 1e6)  # no look comes to the link's end before the command

    async def story(lab: Lab, hub: Hub, node: Node) -> None:
        await node.enrol(hub.token("node-a"))
        work = Work()
        work.go.set()
        node.handlers = work.handlers()
        async with node.running() as task:
            await until(lambda: node.linked(hub))
            lab.ahead = 86400.0 + 1.0
            late = hub.submit(["node-a"], "status")  # the certificate has ended: it comes over the next link
            assert (await hub.ended(late, "node-a")).outcome is Outcome.OK
            assert any(b"renewed" in line for line in hub.audit.lines())
            assert await asyncio.to_thread(expel, lab, Standing.EVICTED) is None
            never = hub.submit(["node-a"], "status")
            with pytest.raises(OutError, match="evicted: sold"):
                await asyncio.wait_for(task, 120)
            assert hub.course(never, "node-a").stage is Stage.SENT and set(work.runs) == {late}

    tell(tmp_path, story)


def expel(lab: Lab, standing: Standing, node: str = "node-a") -> object:
    """Put a node out by another connection to the database, as protokube-hub's own commands do."""
    from protokube.hub.auditfile import AuditFile
    from protokube.hub.gate import Gate
    from protokube.hub.store import Store

    store = Store(lab.folder / "hub.db")
    audit = AuditFile(lab.folder / "audit.jsonl", lab.clock)
    denied = Gate("hub", lab.authority, store, audit, lab.clock).expel(node, standing, "sold", "root")
    store.close()
    return denied


def test_scenario_8_a_copied_key_raises_the_alarm_and_both_are_out(tmp_path: Path) -> None:
    async def story(lab: Lab, hub: Hub, node: Node) -> None:
        own = await node.enrol(hub.token("node-a"))
        shutil.copytree(node.folder, lab.folder / "copy")
        copy = Node(lab, "node-a", {}, folder=lab.folder / "copy")
        await renew(node.keyring, own)
        async with node.running() as real:
            await until(lambda: node.linked(hub))
            async with copy.running() as copied:
                for task in (copied, real):
                    with pytest.raises(OutError, match="cloned"):
                        await asyncio.wait_for(task, 120)
        member = hub.store.member("node-a")
        assert member is not None and member.standing is Standing.CLONED
        assert any(b"alarm: cloned" in line for line in hub.audit.lines())
        assert not isinstance(verify(hub.audit.lines()), Fault)

    tell(tmp_path, story)


def test_a_foreign_authority_s_certificate_does_not_get_in(tmp_path: Path) -> None:
    async def test() -> None:
        lab, other = Lab(tmp_path / "hub"), Lab(tmp_path / "other")
        async with other.hub() as foreign:
            node = Node(other, "node-a", {})
            own = await node.enrol(foreign.token("node-a"))
        async with lab.hub() as hub:
            hub.token("node-a")
            own.bundle.write_text(lab.authority.certificate)  # it trusts the hub, but the hub not it
            stranger = structs.replace(own, hub=structs.replace(own.hub, port=lab.port))
            with pytest.raises(ProviderError):
                await renew(node.keyring, stranger)
            assert hub.store.members() == []

    asyncio.run(test())
