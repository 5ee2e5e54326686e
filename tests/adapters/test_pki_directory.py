"""The node's certificates on disk: who can read them, crashes at every point, and files that don't fit."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import pytest

from protokube.core.model import Unknown
from protokube.core.pki.document import StoredAuthority
from protokube.core.pki.model import Certificate, CertificateWanted, Damaged
from protokube.errors import ProviderError
from protokube.pki.directory import CertificateDirectory
from protokube.pki.x509 import issue, make_authority
from tests.lab.crashes import CrashError, crashing

NOW = 1_800_000_000.0
WANTED = CertificateWanted("etcd-client", "etcd-clients", "kube-apiserver", client=True)
AUTHORITY = StoredAuthority(make_authority("etcd-clients", NOW))

RACE = """
import sys
from pathlib import Path
from protokube.core.pki.actions import IssueCertificate, MakeAuthorities
from protokube.core.pki.model import CertificateWanted
from protokube.pki.node import NodePki
from protokube.store.file import FileStore
node = NodePki(sys.argv[1], lambda: FileStore(Path(sys.argv[2]), make=True))
print("ready", flush=True)
sys.stdin.readline()
node.make_authorities(MakeAuthorities("c.test", ("etcd-clients",), True))
node.issue(IssueCertificate("c.test", CertificateWanted("etcd-client", "etcd-clients", "x", client=True)))
"""


@pytest.fixture
def directory(tmp_path: Path) -> CertificateDirectory:
    return CertificateDirectory(tmp_path / "lib/pki")


def written(directory: CertificateDirectory) -> Certificate:
    certificate, files = issue(WANTED, AUTHORITY, NOW)
    directory.write(certificate, files)
    return certificate


def fits(folder: Path) -> bool:
    """Whether the certificate and the key belong together, as openssl says."""
    public = [
        subprocess.run(["openssl", *argv], capture_output=True, check=True).stdout
        for argv in (
            ("x509", "-noout", "-pubkey", "-in", str(folder / "tls.crt")),
            ("pkey", "-pubout", "-in", str(folder / "tls.key")),
        )
    ]
    return public[0] == public[1] != b""


def test_what_is_written_is_read_and_nobody_else_reads_it(directory: CertificateDirectory) -> None:
    before = os.umask(0)
    try:
        made = written(directory)
    finally:
        os.umask(before)
    assert directory.read() == {"etcd-client": made}
    link = directory.top / "etcd-client"
    assert str(link.readlink()) == "etcd-client.d/current", "a relative link holds inside a container as well"
    assert str((directory.top / "etcd-client.d/current").readlink()) == made.serial
    for path in (directory.top, *directory.top.rglob("*")):
        if not path.is_symlink():
            assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path


def test_a_node_without_certificates_has_none(directory: CertificateDirectory) -> None:
    assert directory.read() == {}


def test_old_directories_go_but_for_the_last_one(directory: CertificateDirectory) -> None:
    serials = [written(directory).serial for _ in range(4)]
    assert {path.name for path in directory.top.iterdir()} == {"etcd-client", "etcd-client.d"}
    assert {path.name for path in (directory.top / "etcd-client.d").iterdir()} == {"current", *serials[-2:]}


def test_who_sees_one_certificate_s_directory_alone_sees_what_is_exchanged(directory: CertificateDirectory) -> None:
    written(directory)
    mounted = directory.top / "etcd-client.d"
    opened = os.open(mounted, os.O_RDONLY)  # as a mount holds it
    try:
        made = written(directory)
        assert os.readlink("current", dir_fd=opened) == made.serial
        assert sorted(os.listdir(f"/proc/self/fd/{opened}/current/")) == [
            "about.json",
            "ca.crt",
            "tls.crt",
            "tls.key",
        ]
    finally:
        os.close(opened)


def test_a_certificate_in_no_directory_of_its_own_is_issued_again(directory: CertificateDirectory) -> None:
    made = written(directory)
    (directory.top / "etcd-client").unlink()
    (directory.top / "etcd-client").symlink_to(f"etcd-client.d/{made.serial}")
    assert isinstance(directory.read()["etcd-client"], Damaged)
    again = written(directory)
    assert directory.read() == {"etcd-client": again}


def test_another_name_s_directories_stay(directory: CertificateDirectory) -> None:
    other = CertificateWanted("etcd-client-2", "etcd-clients", "x", client=True)
    certificate, files = issue(other, AUTHORITY, NOW)
    directory.write(certificate, files)
    for _ in range(3):
        written(directory)
    assert directory.read()["etcd-client-2"] == certificate


@pytest.mark.parametrize("after", [False, True])
def test_a_crash_at_any_point_never_leaves_a_certificate_beside_another_one_s_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    first, second = issue(WANTED, AUTHORITY, NOW), issue(WANTED, AUTHORITY, NOW)
    points = 0
    for at in range(1, 200):
        directory = CertificateDirectory(tmp_path / f"{at}")
        directory.write(*issue(WANTED, AUTHORITY, NOW))
        directory.write(*issue(WANTED, AUTHORITY, NOW))
        directory.write(*first)
        with monkeypatch.context() as patch:
            crashed = crashing(patch, at, after=after)
            with suppress(CrashError):
                directory.write(*second)
        found = directory.read()["etcd-client"]
        assert found in (first[0], second[0])
        assert fits(directory.top / "etcd-client")
        if not crashed():
            break
        points += 1
        last = written(directory)
        assert directory.read() == {"etcd-client": last}
        assert not list(directory.top.rglob(".new-*")), "a crash's rest is removed"
    assert points > 20


@pytest.mark.parametrize("file", ["tls.crt", "tls.key", "ca.crt", "about.json"])
def test_a_file_that_is_missing_or_changed_is_told(directory: CertificateDirectory, file: str) -> None:
    written(directory)
    path = directory.top / "etcd-client" / file
    path.write_text("something else")
    changed = directory.read()["etcd-client"]
    assert isinstance(changed, Damaged) and file in changed.reason
    path.unlink()
    missing = directory.read()["etcd-client"]
    assert isinstance(missing, Damaged) and f"{file} is missing" in missing.reason


def test_another_one_s_directory_and_a_link_that_leads_nowhere_are_told(directory: CertificateDirectory) -> None:
    written(directory)
    (directory.top / "etcd-server-main").symlink_to("etcd-server-main.d/current")
    (directory.top / "etcd-server-main.d").symlink_to("etcd-client.d")
    (directory.top / "proxy").symlink_to("proxy.d/current")
    found = directory.read()
    assert isinstance(found["etcd-server-main"], Damaged) and isinstance(found["proxy"], Damaged)


def test_what_can_t_be_read_is_unknown(directory: CertificateDirectory) -> None:
    written(directory)
    about = directory.top / "etcd-client" / "about.json"
    about.unlink()
    about.mkdir()
    assert isinstance(directory.read()["etcd-client"], Unknown)


def test_a_file_in_the_way_is_an_error_that_names_the_certificate(tmp_path: Path) -> None:
    (tmp_path / "lib").write_text("")
    with pytest.raises(ProviderError, match="write the certificate etcd-client"):
        written(CertificateDirectory(tmp_path / "lib/pki"))


def test_processes_that_race_on_real_directories_make_one_pki(tmp_path: Path) -> None:
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACE, tmp_path / name, tmp_path / "store"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in "abc"
    ]
    for racer in racers:
        assert racer.stdout is not None and racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("\n")
        racer.stdin.flush()
    for racer in racers:
        racer.communicate(timeout=60)
        assert racer.returncode == 0
    found: list[Mapping[str, object]] = [
        CertificateDirectory(tmp_path / name / "var/lib/protokube/pki").read() for name in "abc"
    ]
    issuers = {one.issuer for read in found for one in read.values() if isinstance(one, Certificate)}
    assert len(issuers) == 1 and all(read.keys() == {"etcd-client"} for read in found)
