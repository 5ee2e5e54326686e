"""A kubelet's request is read as its signer reads it, or refused."""

from __future__ import annotations

import ipaddress
from base64 import b64encode

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from protokube.core.objects.requests import RequestNames
from protokube.pki.x509 import read_request

KEY = ec.generate_private_key(ec.SECP256R1())
MICROSOFT = bytes.fromhex("060a2b06010401823702010e")
PKCS9 = bytes.fromhex("06092a864886f70d01090e")
SAN = bytes.fromhex("0603551d11")
ECDSA_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")
NODE = x509.Name(
    [
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, "system:nodes"),
        x509.NameAttribute(NameOID.COMMON_NAME, "system:node:w1"),
    ]
)
INSIDE = ("kubernetes.default.svc", "10.96.0.1")


def tlv(tag: int, *parts: bytes) -> bytes:
    """A value in DER."""
    content = b"".join(parts)
    size = len(content)
    if size < 128:
        return bytes([tag, size]) + content
    octets = (size.bit_length() + 7) // 8
    return bytes([tag, 0x80 + octets]) + size.to_bytes(octets, "big") + content


def extensions(*names: str) -> bytes:
    san = x509.SubjectAlternativeName([general(one) for one in names])
    return tlv(0x30, tlv(0x30, SAN, tlv(0x04, san.public_bytes())))


def general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_network(name) if "/" in name else ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def attribute(kind: bytes, *values: bytes) -> bytes:
    return tlv(0x30, kind, tlv(0x31, *values))


def request(*attributes: bytes) -> bytes:
    public = KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    info = tlv(0x30, bytes.fromhex("020100"), NODE.public_bytes(), public, tlv(0xA0, *attributes))
    signature = KEY.sign(info, ec.ECDSA(hashes.SHA256()))
    return pem(tlv(0x30, info, ECDSA_SHA256, tlv(0x03, b"\0", signature)))


def pem(der: bytes, label: str = "CERTIFICATE REQUEST") -> bytes:
    text = b64encode(der).decode()
    lines = "\n".join(text[at : at + 64] for at in range(0, len(text), 64))
    return f"-----BEGIN {label}-----\n{lines}\n-----END {label}-----\n".encode()


GOOD = request(attribute(PKCS9, extensions("w1", "10.0.0.1")))


def test_what_kubelet_sends_is_read() -> None:
    expected = RequestNames("system:node:w1", ("system:nodes",), ("w1",), ("10.0.0.1",))
    assert read_request(GOOD) == expected
    assert read_request(GOOD.replace(b"\n", b"\r\n")) == expected
    assert read_request(request()) == RequestNames("system:node:w1", ("system:nodes",))
    builder = x509.CertificateSigningRequestBuilder(NODE).add_extension(
        x509.SubjectAlternativeName([x509.DNSName("w1"), general("10.0.0.1")]), critical=False
    )
    assert read_request(builder.sign(KEY, hashes.SHA256()).public_bytes(Encoding.PEM)) == expected


@pytest.mark.parametrize(
    "attributes",
    [
        (attribute(MICROSOFT, extensions("w1")), attribute(PKCS9, extensions(*INSIDE))),
        (attribute(PKCS9, extensions("w1")), attribute(MICROSOFT, extensions(*INSIDE))),
        (attribute(PKCS9, extensions("w1")), attribute(PKCS9, extensions(*INSIDE))),
        (attribute(MICROSOFT, extensions("w1")),),
        (attribute(PKCS9, extensions("w1"), extensions(*INSIDE)),),
    ],
)
def test_extensions_that_the_signer_reads_otherwise_are_refused(attributes: tuple[bytes, ...]) -> None:
    read = read_request(request(*attributes))
    assert isinstance(read, str) and ("attribute" in read.lower())


@pytest.mark.parametrize(
    "text",
    [
        b"",
        GOOD + GOOD,
        b"x\n" + GOOD,
        GOOD + b"x",
        pem(b"", "CERTIFICATE") + GOOD,
        GOOD.replace(b"CERTIFICATE REQUEST", b"NEW CERTIFICATE REQUEST"),
        GOOD.replace(b"REQUEST-----\n", b"REQUEST-----\nProc-Type: 4\n\n", 1),
    ],
)
def test_a_text_that_is_more_than_one_request_is_refused(text: bytes) -> None:
    read = read_request(text)
    assert isinstance(read, str) and "one PEM block" in read


def test_a_network_is_no_address() -> None:
    read = read_request(request(attribute(PKCS9, extensions("w1", "10.0.0.0/8"))))
    assert isinstance(read, RequestNames) and (read.addresses, read.others) == ((), 1)
