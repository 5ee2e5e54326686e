"""Three machines with a shared store become an etcd cluster with TLS, keep strangers out, renew under load, and move.

One cluster goes through all of it: its birth takes most of the time.

Real disks, real etcd, a network namespace for each machine.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from protokube.core.etcd.tls import peer_certificate, server_certificate
from protokube.core.pki.actions import IssueCertificate
from protokube.core.pki.model import ETCD_CLIENTS, Certificate, CertificateWanted, etcd_peers
from protokube.errors import ProviderError
from protokube.etcdclient.peers import HttpEtcdPeers
from protokube.etcdclient.transport import Tls
from protokube.pki.node import NodePki
from protokube.store.file import FileStore
from tests.lab.cluster import (
    ADDRESSES,
    LIMIT,
    Cluster,
    acknowledged,
    cluster_id,
    etcd_pid,
    healthy,
    holders,
    members,
    three_members,
    value,
)
from tests.lab.load import Writer
from tests.lab.trial import CLUSTER, TrialNode, until

pytestmark = pytest.mark.root

PEERS = "peers.etcd.internal.dev.example.com"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    directory = tmp_path / "store"
    directory.mkdir(0o700)
    return directory


@pytest.fixture
def cluster(tmp_path: Path, store: Path) -> Iterator[Cluster]:
    options = ("--store", f"file://{store}", "--trust-clock")
    with Cluster(tmp_path, three_members(), options=options) as cluster:
        yield cluster


def pki(node: TrialNode, store: Path) -> NodePki:
    return NodePki(str(node.root), lambda: FileStore(store))


def certificate(node: TrialNode, store: Path, name: str) -> Certificate:
    found = pki(node, store).certificates()[name]
    assert isinstance(found, Certificate)
    return found


def test_a_cluster_with_tls_from_its_birth_on(cluster: Cluster, store: Path, tmp_path: Path) -> None:
    a, b, c = (cluster.start(letter) for letter in "abc")
    until("the cluster forms", lambda: healthy(a, b, c), LIMIT)
    forms(a, b, c, store)
    keeps_strangers_out(cluster, a, b, store, tmp_path)
    exchanges_certificates_under_load(a, b, c, store)
    identity = cluster_id(a)
    (lost,) = (member for member, node in holders(a, b, c).items() if node is b)
    b.power_cut()
    acknowledged(a, "after", "the exchange")
    d = cluster.start("d")
    until("the member has moved to another machine", lambda: healthy(a, c, d), LIMIT)
    assert holders(d) == {lost: d} and cluster_id(d) == identity and value(d, "from") == "a"


def forms(a: TrialNode, b: TrialNode, c: TrialNode, store: Path) -> None:
    """All members are there, with TLS alone, and their certificates serve the JSON gateway."""
    assert set(members(a)) == {"etcd-a", "etcd-b", "etcd-c"}
    acknowledged(a, "from", "a")
    assert value(c, "from") == "a" and value(b, "from") == "a"
    assert [path.name for path in (store / CLUSTER / "pki").iterdir()] == ["v1.json"]
    listed = json.loads(a.etcdctl("member", "list", "-w", "json").stdout)["members"]
    assert all(one["peerURLs"][0].startswith("https://etcd-") for one in listed)
    assert all(one["clientURLs"][0].startswith("https://etcd-") for one in listed)

    plain = a.run("etcdctl", "--endpoints=http://127.0.0.1:4001", "--command-timeout=2s", "get", "from")
    assert plain.returncode != 0
    without = a.run("curl", "-sk", "https://127.0.0.1:4001/health")
    assert without.returncode != 0, "a client without a certificate is served"
    client = a.root / "var/lib/protokube/pki/etcd-client"
    files = ["--cacert", f"{client}/ca.crt", "--cert", f"{client}/tls.crt", "--key", f"{client}/tls.key"]
    gateway = a.run("curl", "-s", *files, "https://127.0.0.1:4001/v3/kv/range", "-d", '{"key":"ZnJvbQ=="}')
    assert json.loads(gateway.stdout)["count"] == "1", "the gateway dials its own port with the server's certificate"


def stranger(folder: Path, store: Path, wanted: CertificateWanted) -> Path:
    """A certificate of the cluster's own authorities that no node asked for."""
    other = NodePki(str(folder), lambda: FileStore(store))
    other.issue(IssueCertificate(CLUSTER, wanted))
    return other.directory.top / wanted.name


def keeps_strangers_out(cluster: Cluster, a: TrialNode, b: TrialNode, store: Path, tmp_path: Path) -> None:
    """A stranger with a certificate of the same authority is no peer."""
    url = f"https://{ADDRESSES['a']}:2380"
    ours = Tls(a.root / "var/lib/protokube/pki" / peer_certificate("main"), PEERS)
    alien = CertificateWanted(
        "alien", etcd_peers("main"), "alien", dns=("etcd-a.internal.dev.example.com",), server=True, client=True
    )
    server_only = CertificateWanted("blind", etcd_peers("main"), "blind", dns=(PEERS,), server=True)
    of_clients = CertificateWanted("client", ETCD_CLIENTS, "client", dns=(PEERS,), server=True, client=True)
    with cluster.inside(b):
        assert {one.name for one in HttpEtcdPeers(tls=ours).members(url)} == {"etcd-a", "etcd-b", "etcd-c"}
        for wanted in (alien, server_only, of_clients):
            files = stranger(tmp_path / "elsewhere", store, wanted)
            with pytest.raises(ProviderError):
                HttpEtcdPeers(tls=Tls(files, PEERS)).members(url)
        with pytest.raises(ProviderError, match="CERTIFICATE_VERIFY_FAILED"):
            HttpEtcdPeers(tls=Tls(ours.directory, "peers.of.another.cluster")).members(url)


def exchanges_certificates_under_load(a: TrialNode, b: TrialNode, c: TrialNode, store: Path) -> None:
    """No member restarts for a certificate."""
    nodes = (a, b, c)
    running = {node: etcd_pid(node) for node in nodes}
    before = {node: certificate(node, store, server_certificate("main")).serial for node in nodes}
    with Writer(a) as writer:
        writer.more()
        for node in nodes:
            for name in (server_certificate("main"), peer_certificate("main"), "etcd-client"):
                wanted = certificate(node, store, name).wanted
                pki(node, store).issue(IssueCertificate(CLUSTER, wanted))
                writer.more(2)
            assert _shown(node) == certificate(node, store, server_certificate("main")).serial
        writer.more()
    print(f"longest gap between two acknowledged writes: {writer.longest:.2f} s of {len(writer.kept)} writes")
    for key in writer.kept:
        assert value(c, key) == "x"
    assert {node: etcd_pid(node) for node in nodes} == running
    after = {node: certificate(node, store, server_certificate("main")).serial for node in nodes}
    assert all(before[node] != after[node] for node in nodes)


def _shown(node: TrialNode) -> str:
    """The serial number of the certificate that etcd shows now."""
    client = node.root / "var/lib/protokube/pki/etcd-client"
    files = ["-cert", f"{client}/tls.crt", "-key", f"{client}/tls.key"]
    argv = node.command("openssl", "s_client", "-connect", "127.0.0.1:4001", *files)
    shown = subprocess.run(argv, input="", capture_output=True, text=True, timeout=60, check=False).stdout
    serial = subprocess.run(
        ["openssl", "x509", "-noout", "-serial"], input=shown, capture_output=True, text=True, timeout=60, check=True
    )
    return f"{int(serial.stdout.strip().partition('=')[2], 16):x}"
