"""What is issued is what openssl takes: purposes, names, chains, ends; and what shows no key."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from protokube.core.pki.document import VERSION, Document, StoredAuthority, parse_document
from protokube.core.pki.model import DAY, CertificateWanted
from protokube.errors import ProviderError
from protokube.pki.x509 import issue, make_authority, make_service_account_key

NOW = 1_800_000_000.0
BOTH = CertificateWanted(
    "etcd-server-main", "etcd-clients", "etcd-a", ("org",), ("a.example.com", "localhost"), ("127.0.0.1", "::1"),
    server=True, client=True,
)  # fmt: skip


def verify(folder: Path, purpose: str, *options: str) -> bool:
    argv = ["openssl", "verify", "-attime", str(int(NOW)), "-purpose", purpose, "-CAfile", str(folder / "ca.crt")]
    return (
        subprocess.run([*argv, *options, str(folder / "tls.crt")], capture_output=True, check=False).returncode == 0
    )


def issued(folder: Path, wanted: CertificateWanted, authority: StoredAuthority) -> x509.Certificate:
    for name, text in issue(wanted, authority, NOW)[1].items():
        (folder / name).write_text(text)
    return x509.load_pem_x509_certificate((folder / "tls.crt").read_bytes())


@pytest.mark.parametrize(("server", "client"), [(True, False), (False, True), (True, True)])
def test_a_certificate_serves_its_purposes_and_no_other(tmp_path: Path, server: bool, client: bool) -> None:
    wanted = CertificateWanted("x", "ca", "x", dns=("x",), server=server, client=client)
    issued(tmp_path, wanted, StoredAuthority(make_authority("ca", NOW)))
    assert verify(tmp_path, "sslserver") is server
    assert verify(tmp_path, "sslclient") is client


def test_names_subject_key_and_times(tmp_path: Path) -> None:
    made = issued(tmp_path, BOTH, StoredAuthority(make_authority("ca", NOW)))
    assert made.subject.rfc4514_string() == "CN=etcd-a,O=org"
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["a.example.com", "localhost"]
    assert [str(one) for one in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "::1"]
    key = made.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name == "secp256r1"
    assert made.not_valid_before_utc.timestamp() == NOW - 300
    assert made.not_valid_after_utc.timestamp() == NOW + 365 * DAY
    for host in ("a.example.com", "localhost"):
        assert verify(tmp_path, "sslserver", "-verify_hostname", host)
    assert verify(tmp_path, "sslserver", "-verify_ip", "127.0.0.1")
    assert not verify(tmp_path, "sslserver", "-verify_hostname", "b.example.com")


def test_no_certificate_outlives_its_authority_and_none_is_of_a_dead_one() -> None:
    old = StoredAuthority(make_authority("ca", NOW - 3650 * DAY))
    certificate, _ = issue(BOTH, old, NOW)
    assert certificate.ends == old.active.ends == certificate.issuer_ends
    with pytest.raises(ProviderError, match="has ended; replace it"):
        issue(BOTH, old, old.active.ends + 1)


def test_while_an_authority_is_replaced_both_are_trusted_and_the_active_one_issues(tmp_path: Path) -> None:
    old, new = make_authority("ca", NOW), make_authority("ca", NOW)
    issued(tmp_path, BOTH, StoredAuthority(new, previous=old))
    assert verify(tmp_path, "sslserver")
    assert (tmp_path / "ca.crt").read_text() == new.certificate + old.certificate
    (tmp_path / "ca.crt").write_text(old.certificate)
    assert not verify(tmp_path, "sslserver")


def test_each_certificate_has_a_key_of_its_own() -> None:
    authority = StoredAuthority(make_authority("ca", NOW))
    assert issue(BOTH, authority, NOW)[1]["tls.key"] != issue(BOTH, authority, NOW)[1]["tls.key"]


def test_no_value_shows_a_key_when_it_is_printed() -> None:
    document = Document(
        VERSION, "c", {"ca": StoredAuthority(make_authority("ca", NOW))}, (make_service_account_key(),)
    )
    assert "PRIVATE" in document.render().decode()
    assert "PRIVATE" not in repr(document) and "BEGIN" not in repr(document)
    assert parse_document(document.render(), "c") == document


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "no PKI of this program"),
        (b'{"version": 1, "secret": "PRIVATE"}', "no PKI of this program"),
        (b'{"version":2,"cluster":"c","authorities":{},"service_account":[]}', "version 2 (expected 1)"),
        (b'{"version":1,"cluster":"d","authorities":{},"service_account":[]}', "the PKI of 'd' (expected 'c')"),
    ],
)
def test_an_object_that_is_none_is_a_fault_without_its_content(content: bytes, said: str) -> None:
    fault = str(parse_document(content, "c"))
    assert fault.startswith("c/pki/v1.json: ") and said in fault and "PRIVATE" not in fault


def test_the_way_to_the_daemon_loads_no_cryptography() -> None:
    code = (
        "import sys\nfrom protokube import cli, daemon, reconciles\n"
        "assert 'protokube.pki.node' not in sys.modules and 'protokube.store.file' not in sys.modules\n"
        "from protokube.pki.node import NodePki\n"
        "NodePki('/nowhere', lambda: None).certificates()\n"
        "sys.exit(sorted(m for m in sys.modules if m.split('.')[0] in ('cryptography', 'botocore')) != [])"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0
