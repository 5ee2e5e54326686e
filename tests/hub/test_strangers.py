"""Who has no certificate, or is put out, doesn't stop the hub for others."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Any

import pytest

from protokube.hub import strangers
from protokube.hub.core.membership import Member, Shut, Standing
from protokube.hub.hubclient import HubRefusedError, renew
from protokube.hub.keyring import Own
from protokube.hub.strangers import MOST, PATIENCE, Strangers
from tests.hub.lab import HOST, Lab, Node, until


class Connection:
    """A transport, and whether it was closed."""

    def __init__(self, certificate: dict[str, str] | None = None) -> None:
        self.certificate, self.closed = certificate, False

    def get_extra_info(self, name: str) -> object:
        """The certificate."""
        return {"peercert": self.certificate}[name]

    def abort(self) -> None:
        """Close it."""
        self.closed = True


def test_strangers_are_closed_in_time_and_the_oldest_of_too_many_at_once() -> None:
    known: list[Any] = [Connection({"serialNumber": "1"})]
    early: list[Any] = [Connection() for _ in range(MOST - 1)]
    late: list[Any] = [Connection() for _ in range(3)]
    swept = Strangers()
    swept.sweep(known + early, 100.0)
    assert not any(one.closed for one in early)
    swept.sweep(known + early + late, 100.0 + PATIENCE - 1)
    assert [one.closed for one in early] == [True] * 2 + [False] * (MOST - 3)
    swept.sweep(known + early[2:] + late, 100.0 + PATIENCE)
    assert all(one.closed for one in early) and not any(one.closed for one in known + late)


@pytest.mark.parametrize("said", [b"", b"POST /v1/enrol HTTP/1.1\r\nContent-Le"])
def test_who_connects_and_says_nothing_whole_is_hung_up_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    monkeypatch.setattr(strangers, "PATIENCE", 0.2)

    async def test() -> None:
        async with Lab(tmp_path / "hub").hub() as hub, asyncio.timeout(120):
            trusting = ssl.create_default_context()
            trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
            reader, writer = await asyncio.open_connection(HOST, hub.lab.port, ssl=trusting)
            writer.write(said)
            with pytest.raises(ConnectionError):
                assert await reader.read() == b""
                raise ConnectionError
            writer.close()

    asyncio.run(test())


def test_a_renewal_that_is_refused_concerns_its_own_node_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        lab = Lab(tmp_path / "hub")
        async with lab.hub() as hub:
            nodes = [Node(lab, name, {}) for name in ("n0", "n1")]
            for node in nodes:
                await node.enrol(hub.token(node.name))
            async with nodes[1].running():
                await until(lambda: nodes[1].linked(hub))
                hub.gate.expel("n0", Standing.EVICTED, "sold", "root")
                judged: list[str] = []
                admit = hub.gate.admit

                def counting(node: str, serial: str) -> Member | Shut:
                    judged.append(node)
                    return admit(node, serial)

                monkeypatch.setattr(hub.gate, "admit", counting)
                own = nodes[0].keyring.load()
                assert isinstance(own, Own)
                with pytest.raises(HubRefusedError, match="evicted"):
                    await renew(nodes[0].keyring, own)
                assert judged == []

    asyncio.run(test())
