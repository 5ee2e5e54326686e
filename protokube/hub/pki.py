"""Keys, certificates and signatures of hub, nodes and operators. Nothing else here imports `cryptography`."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Sequence
from datetime import UTC, datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from msgspec import Struct

from protokube.core.model import Fault
from protokube.hub.core.membership import Issued
from protokube.hub.core.names import Identity, identity_of
from protokube.hub.core.renewal import BACKDATED, Validity
from protokube.pki.x509 import key_usage

AUTHORITY_LIFE = 10 * 365 * 86400.0
HUB_BACKDATED = 86400.0
"""Seconds by which the hub's own certificates begin earlier: a node whose clock is behind must still know its hub."""


class Pair(Struct, frozen=True):
    """A key and its certificate, PEM. A secret."""

    key: str
    certificate: str

    def __repr__(self) -> str:
        return "Pair(…)"


class Shown(Struct, frozen=True):
    """What a certificate says."""

    serial: str
    identity: Identity | None
    validity: Validity


def make_authority(hub: str, now: float, life: float = AUTHORITY_LIFE) -> Pair:
    """A new authority of a hub, which signs itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{hub[:40]} nodes")])
    made = _builder(subject, subject, key.public_key(), now - HUB_BACKDATED, now + life)
    made = made.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    made = made.add_extension(key_usage(authority=True), critical=True)
    made = made.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    return Pair(_private(key), _pem(made.sign(key, hashes.SHA256())))


def make_server(authority: Pair, hub: str, names: Sequence[str], now: float, life: float) -> Pair:
    """The hub's own certificate, for its names and addresses."""
    key = ec.generate_private_key(ec.SECP256R1())
    general = [_general(name) for name in names]
    made = _leaf(authority, hub, key.public_key(), now - HUB_BACKDATED, now + life, general, server=True)
    return Pair(_private(key), _pem(made))


def make_client(authority: Pair, identity: Identity, now: float, life: float) -> Pair:
    """A key and certificate of an operator."""
    key = ec.generate_private_key(ec.SECP256R1())
    names = [x509.UniformResourceIdentifier(identity.uri())]
    return Pair(
        _private(key), _pem(_leaf(authority, identity.name, key.public_key(), now - BACKDATED, now + life, names))
    )


def sign_request(authority: Pair, request: str, identity: Identity, now: float, life: float) -> Issued | Fault:
    """A node's certificate for its request (PEM): who it is says `identity`, and nothing in the request."""
    csr = _request(request)
    if isinstance(csr, Fault):
        return csr
    names = [x509.UniformResourceIdentifier(identity.uri())]
    public = csr.public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    made = _leaf(authority, identity.name, public, now - BACKDATED, now + life, names)
    validity = _validity(made)
    return Issued(f"{made.serial_number:x}", _fingerprint(public), _pem(made), validity.begins, validity.ends)


def requested_key(request: str, name: str) -> str | Fault:
    """The fingerprint of a request's key. Its signature, key and name are checked."""
    csr = _request(request)
    if isinstance(csr, Fault):
        return csr
    names = [one.value for one in csr.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    if names != [name]:
        return Fault("csr", f"common name {name} was expected, got {', '.join(map(str, names)) or 'none'}")
    public = csr.public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    return _fingerprint(public)


def make_key() -> str:
    """A new P-256 key, PEM."""
    return _private(ec.generate_private_key(ec.SECP256R1()))


def make_request(key: str, name: str) -> str:
    """A request (PEM) for a key and a name."""
    private = load_pem_private_key(key.encode(), None)
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    made = x509.CertificateSigningRequestBuilder(subject).sign(private, hashes.SHA256())
    return made.public_bytes(Encoding.PEM).decode()


def pin(certificate: str) -> bytes:
    """The SHA-256 of a certificate's public key (its SPKI). Raises ValueError for what is no certificate."""
    public = x509.load_pem_x509_certificate(certificate.encode()).public_key()
    return hashlib.sha256(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()


def pinned(bundle: str, wanted: bytes) -> str | None:
    """The certificate of a bundle (PEM) that has the pinned key, None when there is none."""
    try:
        found = x509.load_pem_x509_certificates(bundle.encode())
    except ValueError:
        return None
    return next((_pem(one) for one in found if pin(_pem(one)) == wanted), None)


def shown(der: bytes) -> Shown:
    """What the certificate of a connection says."""
    return _shown(x509.load_der_x509_certificate(der))


def shown_pem(pem: str) -> Shown:
    """What a certificate of a file says. Raises ValueError for what is none."""
    return _shown(x509.load_pem_x509_certificate(pem.encode()))


def belong_together(pair: Pair) -> bool:
    """Whether key and certificate are of one pair. Raises ValueError for what is neither."""
    key = load_pem_private_key(pair.key.encode(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return _fingerprint(key.public_key()) == pin(pair.certificate).hex()


def make_signing_key() -> tuple[str, bytes]:
    """A new Ed25519 key of an operator: PEM, and the public key's 32 bytes."""
    key = Ed25519PrivateKey.generate()
    return _private(key), key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def sign(key: str, data: bytes) -> bytes:
    """Sign with an operator's key (PEM). Raises ValueError for a key of another kind."""
    private = load_pem_private_key(key.encode(), None)
    if not isinstance(private, Ed25519PrivateKey):
        raise ValueError("an Ed25519 key was expected; make one: nokubectl keygen")
    return private.sign(data)


def verified(public: bytes, signature: bytes, data: bytes) -> bool:
    """Whether a signature is this key's over these bytes."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, data)
    except InvalidSignature:
        return False
    return True


def _request(text: str) -> x509.CertificateSigningRequest | Fault:
    try:
        csr = x509.load_pem_x509_csr(text.encode())
        public = csr.public_key()
        valid = csr.is_signature_valid
    except (ValueError, UnicodeError) as error:
        return Fault("csr", f"it can't be read: {error}")
    if not isinstance(public, ec.EllipticCurvePublicKey) or not isinstance(public.curve, ec.SECP256R1):
        return Fault("csr", "a P-256 key was expected")
    return csr if valid else Fault("csr", "its signature isn't its key's")


def _leaf(
    authority: Pair,
    name: str,
    public: ec.EllipticCurvePublicKey,
    begins: float,
    ends: float,
    names: Sequence[x509.GeneralName],
    *,
    server: bool = False,
) -> x509.Certificate:
    issuer = x509.load_pem_x509_certificate(authority.certificate.encode())
    signer = load_pem_private_key(authority.key.encode(), None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    ends = min(ends, issuer.not_valid_after_utc.timestamp())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    purpose = ExtendedKeyUsageOID.SERVER_AUTH if server else ExtendedKeyUsageOID.CLIENT_AUTH
    made = _builder(subject, issuer.subject, public, begins, ends)
    made = made.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    made = made.add_extension(key_usage(authority=False), critical=True)
    made = made.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
    own = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    made = made.add_extension(own, critical=False)
    made = made.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return made.sign(signer, hashes.SHA256())


def _builder(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, begins: float, ends: float
) -> x509.CertificateBuilder:
    serial = x509.random_serial_number()
    return x509.CertificateBuilder(issuer, subject, public, serial, _time(begins), _time(ends))


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _shown(certificate: x509.Certificate) -> Shown:
    identity = None
    for extension in certificate.extensions:
        if isinstance(extension.value, x509.SubjectAlternativeName):
            uris = extension.value.get_values_for_type(x509.UniformResourceIdentifier)
            identity = identity_of(uris[0]) if len(uris) == 1 else None
    return Shown(f"{certificate.serial_number:x}", identity, _validity(certificate))


def _validity(certificate: x509.Certificate) -> Validity:
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return Validity(begins.timestamp(), ends.timestamp())


def _fingerprint(public: ec.EllipticCurvePublicKey) -> str:
    return hashlib.sha256(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(int(seconds), UTC)  # X.509 knows no parts of a second


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()


def _private(key: ec.EllipticCurvePrivateKey | Ed25519PrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
