"""What a node's certificate says, what makes one be refused, and the TLS in which it is shown."""

from __future__ import annotations

import asyncio
import datetime
import ssl
from pathlib import Path

import aiohttp
import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from protokube.core.model import Fault
from protokube.hub.core.membership import Issued
from protokube.hub.core.names import Identity
from protokube.hub.hubclient import client_context, own_context
from protokube.hub.pki import make_authority, make_key, make_request, make_server, requested_key, sign_request
from tests.hub.lab import HOST, Lab, Node

NOW, DAY = 1_800_000_000.0, 86400.0


def test_a_node_s_certificate_is_what_the_contract_says() -> None:
    authority = make_authority("hub", NOW)
    issued = sign_request(authority, make_request(make_key(), "node-a"), Identity("hub", "node", "node-a"), NOW, DAY)
    assert isinstance(issued, Issued)
    made = x509.load_pem_x509_certificate(issued.pem.encode())
    made.verify_directly_issued_by(x509.load_pem_x509_certificate(authority.certificate.encode()))
    assert [one.value for one in made.subject.get_attributes_for_oid(NameOID.COMMON_NAME)] == ["node-a"]
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == ["protokube://hub/node/node-a"]
    usage = made.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    issued_at = datetime.datetime.fromtimestamp(NOW, datetime.UTC)
    assert made.not_valid_before_utc == issued_at - datetime.timedelta(minutes=5)
    assert made.not_valid_after_utc == issued_at + datetime.timedelta(hours=24)
    # Python 3.13 checks these strictly.
    own = x509.load_pem_x509_certificate(authority.certificate.encode())
    assert own.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    assert own.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    assert made.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)


def test_a_request_for_another_name_or_that_was_altered_is_none() -> None:
    request = make_request(make_key(), "node-a")
    assert isinstance(requested_key(request, "node-a"), str)
    assert isinstance(requested_key(request, "node-b"), Fault)
    assert isinstance(requested_key("nonsense", "node-a"), Fault)
    lines = request.splitlines()
    middle = len(lines) // 2
    lines[middle] = lines[middle][:-4] + ("AAAA" if lines[middle][-4:] != "AAAA" else "BBBB")
    assert isinstance(requested_key("\n".join(lines), "node-a"), Fault)


async def asked(port: int, context: ssl.SSLContext) -> int:
    connector = aiohttp.TCPConnector(ssl=context)
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.get(f"https://{HOST}:{port}/v1/ca") as answer,
    ):
        return answer.status


def test_the_hub_speaks_tls_1_3_and_no_older_one(tmp_path: Path) -> None:
    async def test() -> None:
        lab = Lab(tmp_path / "hub")
        async with lab.hub():
            context = client_context(lab.authority.certificate)
            assert await asked(lab.port, context) == 200
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            context.maximum_version = ssl.TLSVersion.TLSv1_2
            with pytest.raises(aiohttp.ClientConnectorError):
                await asked(lab.port, context)

    asyncio.run(test())


def test_a_server_s_certificate_of_the_same_authority_is_no_node_s(tmp_path: Path) -> None:
    async def test() -> None:
        lab = Lab(tmp_path / "hub")
        async with lab.hub() as hub:
            own = await Node(lab, "n0", {}).enrol(hub.token("n0"))
            assert await asked(lab.port, own_context(own)) == 200
            pair = make_server(lab.authority, "hub", [HOST], lab.clock(), DAY)
            (tmp_path / "server.pem").write_text(pair.certificate + pair.key)
            context = client_context(lab.authority.certificate)
            context.load_cert_chain(tmp_path / "server.pem")
            with pytest.raises(aiohttp.ClientError):
                await asked(lab.port, context)

    asyncio.run(test())
