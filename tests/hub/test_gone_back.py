"""A hub that says the same time again, or whose audit was rewritten and has grown since."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from protokube.hub import operatorviews
from protokube.hub.auditfile import AuditFile
from protokube.hub.hubword import Kept
from protokube.hub.operatorclient import HubApi
from protokube.hub.options import DONE, FAILED
from tests.hub.lab import HOST, Lab, Node, operator, until


def test_the_hub_s_time_goes_on_between_links_within_one_boot() -> None:
    kept = Kept(time=1000.0, boot="b1", boot_time=50.0)
    assert kept.least("b1", 4050.0) == 5000.0
    assert kept.least("b2", 3.0) == 1000.0


def test_a_hub_that_says_the_same_time_again_is_not_believed(tmp_path: Path) -> None:
    async def test() -> None:
        lab = Lab(tmp_path / "hub")
        node = Node(lab, "n0", {})
        async with lab.hub() as hub:
            await node.enrol(hub.token("n0"))
            async with node.running():
                await until(lambda: node.linked(hub))
            node.late = 400.0  # so long was the node without a link, by its own clock
            async with node.running():
                await until(lambda: any("the hub's clock went back by 400 s" in text for text in node.said))
                assert not node.linked(hub)

    asyncio.run(test())


def test_an_operator_hears_of_an_audit_that_was_rewritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async def test() -> None:
        lab = Lab(tmp_path / "hub")
        node = Node(lab, "n0", {})
        async with lab.hub() as hub:
            await node.enrol(hub.token("n0"))
            async with node.running():
                await until(lambda: node.linked(hub))
            anna = operator(hub, tmp_path / "anna")
            async with node.running(), HubApi(HOST, lab.port, anna) as api:
                await until(lambda: node.linked(hub))
                assert await operatorviews.audit(api) == DONE
        (lab.folder / "audit.jsonl").unlink()
        forged = AuditFile(lab.folder / "audit.jsonl", lab.clock)
        for _ in range(9):
            forged.write("hub", "nothing happened", "n0")
        async with lab.hub() as hub, node.running(), HubApi(HOST, lab.port, anna) as api:
            await until(lambda: node.linked(hub))  # longer than before, and whole
            capsys.readouterr()
            assert await operatorviews.audit(api) == FAILED
            assert "audit: n0 heard another line 1 before" in capsys.readouterr().out

    asyncio.run(test())
