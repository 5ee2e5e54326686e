"""Makes authorities, certificates and keys with `cryptography`. Import it when something is issued, not before."""

from __future__ import annotations

import binascii
import hashlib
import ipaddress
import re
from collections.abc import Mapping
from datetime import UTC, datetime

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from protokube.core.objects.requests import RequestNames
from protokube.core.pki.document import KeyPair, ServiceAccountKey, StoredAuthority
from protokube.core.pki.model import AUTHORITY_LIFE, BACKDATED, LEAF_LIFE, Certificate, CertificateWanted
from protokube.errors import ProviderError

_REQUEST = re.compile(
    rb"-----BEGIN CERTIFICATE REQUEST-----\r?\n([A-Za-z0-9+/\r\n]+={0,2}\r?\n)-----END CERTIFICATE REQUEST-----\s*"
)
_EXTENSIONS = x509.ObjectIdentifier("1.2.840.113549.1.9.14")
"""PKCS #9, extensionRequest: the only attribute from which the signer takes extensions (Go, crypto/x509)."""


def make_authority(name: str, now: float) -> KeyPair:
    """A new authority that signs itself. Its name ends with a part of its serial number, so that two differ."""
    key = ec.generate_private_key(ec.SECP256R1())
    serial = x509.random_serial_number()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{name[:48]}-{serial:040x}"[:64])])
    begins, ends = _whole(now - BACKDATED), _whole(now + AUTHORITY_LIFE)
    public = key.public_key()
    made = (
        x509.CertificateBuilder(subject, subject, public, serial, _time(begins), _time(ends))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(key_usage(authority=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .sign(key, hashes.SHA256())
    )
    return KeyPair(_fingerprint(made), begins, ends, _pem(made), _private(key))


def make_service_account_key() -> ServiceAccountKey:
    """A new key for service-account tokens."""
    key = ec.generate_private_key(ec.SECP256R1())
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    return ServiceAccountKey(hashlib.sha256(public.encode()).hexdigest()[:16], public, _private(key))


def issue(wanted: CertificateWanted, authority: StoredAuthority, now: float) -> tuple[Certificate, Mapping[str, str]]:
    """A certificate with a new key, and its files. It ends no later than its authority.

    Raises ProviderError when the authority has ended.
    """
    issuer = authority.active
    begins, ends = _whole(now - BACKDATED), _whole(min(now + LEAF_LIFE, issuer.ends))
    if ends <= now:
        raise ProviderError(
            f"issue the certificate {wanted.name}: its authority {wanted.authority} has ended; replace it: "
            f"protokube pki rotate --authority {wanted.authority}"
        )
    signer = x509.load_pem_x509_certificate(issuer.certificate.encode())
    signing_key = load_pem_private_key(issuer.key.encode(), None)
    assert isinstance(signing_key, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    serial = x509.random_serial_number()
    builder = (
        x509.CertificateBuilder(
            signer.subject, _subject(wanted), key.public_key(), serial, _time(max(begins, issuer.begins)), _time(ends)
        )
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(key_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(_purposes(wanted)), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signing_key.public_key()), critical=False)
    )
    if names := _names(wanted):
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    trusted = tuple(one.id for one in authority.trusted)
    about = Certificate(wanted, f"{serial:x}", max(begins, issuer.begins), ends, issuer.id, issuer.ends, trusted)
    return about, {
        "tls.crt": _pem(builder.sign(signing_key, hashes.SHA256())),
        "tls.key": _private(key),
        "ca.crt": "".join(one.certificate for one in authority.trusted),
    }


def read_request(pem: bytes) -> RequestNames | str:
    """The names in a PKCS #10 request; a text that says why it can't be read, or doesn't sign itself.

    What is judged must be what is signed. Libraries differ in which of two requests in a text they take, and from
    which of two attributes they take extensions; so there must be one of each.
    """
    block = _REQUEST.fullmatch(pem)
    if block is None:
        return "it isn't one PEM block CERTIFICATE REQUEST and nothing else"
    try:
        request = x509.load_der_x509_csr(binascii.a2b_base64(re.sub(rb"[\r\n]", b"", block[1]), strict_mode=True))
        if not request.is_signature_valid:
            return "it isn't signed by its own key"
        attributes = [one.oid for one in request.attributes]
        if attributes not in ([], [_EXTENSIONS]):
            found = ", ".join(one.dotted_string for one in attributes)
            return f"its attributes are {found} (expected at most one, {_EXTENSIONS.dotted_string})"
        names: list[x509.GeneralName] = []
        for extension in request.extensions:
            if isinstance(extension.value, x509.SubjectAlternativeName):
                names = list(extension.value)
        common = [str(one.value) for one in request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
        organizations = [str(one.value) for one in request.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]
    except (ValueError, x509.DuplicateExtension, UnsupportedAlgorithm) as error:
        return str(error) or type(error).__name__
    if len(common) != 1 or len(request.subject) != 1 + len(organizations):
        return "its subject has other parts than one common name and organizations"
    dns = tuple(one.value for one in names if isinstance(one, x509.DNSName))
    values = [one.value for one in names if isinstance(one, x509.IPAddress)]
    # A name of twice an address's length is a network.
    addresses = tuple(str(one) for one in values if isinstance(one, ipaddress.IPv4Address | ipaddress.IPv6Address))
    return RequestNames(common[0], tuple(organizations), dns, addresses, len(names) - len(dns) - len(addresses))


def _subject(wanted: CertificateWanted) -> x509.Name:
    organizations = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, one) for one in wanted.organizations]
    return x509.Name([*organizations, x509.NameAttribute(NameOID.COMMON_NAME, wanted.common_name)])


def _names(wanted: CertificateWanted) -> list[x509.GeneralName]:
    addresses = [x509.IPAddress(ipaddress.ip_address(one)) for one in wanted.addresses]
    return [*(x509.DNSName(one) for one in wanted.dns), *addresses]


def _purposes(wanted: CertificateWanted) -> list[x509.ObjectIdentifier]:
    purposes = [ExtendedKeyUsageOID.SERVER_AUTH] if wanted.server else []
    return purposes + ([ExtendedKeyUsageOID.CLIENT_AUTH] if wanted.client else [])


def key_usage(*, authority: bool) -> x509.KeyUsage:
    """What a certificate's key may be used for: signatures, and an authority's for certificates as well."""
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _whole(seconds: float) -> float:
    """X.509 knows no parts of a second."""
    return float(int(seconds))


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _fingerprint(certificate: x509.Certificate) -> str:
    return certificate.fingerprint(hashes.SHA256()).hex()[:32]


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()


def _private(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
