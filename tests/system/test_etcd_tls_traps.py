"""What etcd's TLS gets wrong by itself: held against the real thing, and against what protokube does about it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest
from msgspec.structs import replace

from protokube.core.etcd.actions import UpdateMember
from protokube.core.etcd.model import LocalMember, PeerChange
from protokube.core.pki.actions import IssueCertificate
from protokube.core.pki.model import Certificate
from protokube.errors import ProviderError
from protokube.etcdclient.client import EtcdClient
from protokube.etcdclient.own import OwnMembers
from protokube.etcdclient.transport import Server
from protokube.pki.node import NodePki
from protokube.store.file import FileStore
from tests.lab.cluster import etcd_pid
from tests.lab.etcd_process import Etcd
from tests.lab.trial import CLUSTER, ETCD_IMAGE, FOR_ETCD, TrialNode, until, volume, write_inventory

pytestmark = pytest.mark.root

SERVER = "etcd-server-main"


@pytest.fixture
def node(tmp_path: Path) -> Iterator[TrialNode]:
    (tmp_path / "store").mkdir(0o700)
    options = ("--store", f"file://{tmp_path}/store", "--trust-clock", "--etcd-image", ETCD_IMAGE)
    inventory = write_inventory(tmp_path, volume("main-a", "main", "a/a", FOR_ETCD))
    with TrialNode(tmp_path / "a", inventory, options=options) as node:
        assert node.once().returncode == 0
        yield node


def pki(node: TrialNode) -> NodePki:
    return NodePki(str(node.root), lambda: FileStore(node.root.parents[1] / "store"))


def gateway(node: TrialNode) -> dict[str, object]:
    """What the JSON gateway answers to a read."""
    files = node.root / "var/lib/protokube/pki/etcd-client"
    secrets = ["--cacert", f"{files}/ca.crt", "--cert", f"{files}/tls.crt", "--key", f"{files}/tls.key"]
    url = "https://127.0.0.1:4001/v3/kv/range"
    done = node.run("curl", "-s", "--max-time", "10", *secrets, url, "-d", '{"key":"eA=="}')
    answer: dict[str, object] = json.loads(done.stdout or "{}")
    return answer


def test_a_certificate_without_client_auth_silences_the_gateway_until_it_is_replaced(
    node: TrialNode,
) -> None:
    found = pki(node).certificates()[SERVER]
    assert isinstance(found, Certificate)
    pki(node).issue(IssueCertificate(CLUSTER, replace(found.wanted, client=False)))
    node.start_pods()
    until("etcd serves etcdctl", node.healthy)
    until("the gateway is refused by its own server", lambda: gateway(node).get("code") == 14)
    process = etcd_pid(node)
    node.start_daemon("--interval", "1")
    until("the gateway answers", lambda: "header" in gateway(node))
    assert etcd_pid(node) == process, "it reads the certificate again by itself"


def test_a_certificate_beside_another_one_s_key_keeps_clients_out_until_both_are_exchanged(node: TrialNode) -> None:
    node.start_pods()
    until("etcd serves", node.healthy)
    process = etcd_pid(node)
    files = node.root / "var/lib/protokube/pki"
    (files / SERVER / "tls.crt").write_bytes((files / "etcd-client/tls.crt").read_bytes())
    until("no new client gets in", lambda: not node.healthy())
    node.start_daemon("--interval", "1")
    until("etcd serves again", node.healthy)
    assert etcd_pid(node) == process
    assert (files / SERVER).is_symlink(), "certificate and key are exchanged together, by a link"


def test_clients_of_other_nodes_come_by_tls_and_with_a_certificate_alone(tmp_path: Path) -> None:
    address = "10.1.2.3"
    (tmp_path / "store").mkdir(0o700)
    options = ("--store", f"file://{tmp_path}/store", "--trust-clock", "--etcd-image", ETCD_IMAGE)
    inventory = write_inventory(tmp_path, volume("main-a", "main", "a/a", FOR_ETCD))
    with TrialNode(tmp_path / "a", inventory, options=(*options, "--etcd-clients-listen", "node")) as node:
        assert node.run("ip", "address", "add", f"{address}/32", "dev", "lo").returncode == 0
        assert node.once().returncode == 0
        node.start_pods()
        until("etcd serves at 127.0.0.1", node.healthy)
        files = node.root / "var/lib/protokube/pki/etcd-client"
        secrets = ["--cert", f"{files}/tls.crt", "--key", f"{files}/tls.key"]
        ask = ["curl", "-s", "--max-time", "20", "--cacert", f"{files}/ca.crt", "-d", '{"key":"eA=="}']
        url = f"https://{address}:4001/v3/kv/range"
        assert "header" in json.loads(node.run(*ask, *secrets, url).stdout), "the certificate has the address"
        assert node.run(*ask, url).returncode != 0, "a client without a certificate is served"
        assert node.run(*ask, f"http://{address}:4001/v3/kv/range").returncode != 0
        assert "header" in gateway(node), "and the gateway of the first port goes on"


@pytest.fixture
def etcd(tmp_path: Path) -> Iterator[Etcd]:
    member = Etcd(tmp_path)
    try:
        yield member
    finally:
        member.close()


def listed(etcd: Etcd, url: str) -> dict[str, object]:
    """A member as the peer port lists it, without asking a quorum."""
    with urlopen(f"{etcd.peer}/members", timeout=20) as answer:
        found: dict[str, object] = next(one for one in json.load(answer) if url in one["peerURLs"])
    return found


def test_a_learner_s_url_is_never_changed_since_etcd_promotes_it_then(etcd: Etcd, tmp_path: Path) -> None:
    client, old, new = EtcdClient(Server(etcd.client)), "http://127.0.0.1:1", "http://127.0.0.1:2"
    learner = client.add_learner(old)
    own = OwnMembers(tmp_path)
    at = LocalMember("main", "etcd-a", etcd.client, 0)
    with pytest.raises(ProviderError, match="a learner"):
        own.update_member(UpdateMember(at, PeerChange(learner.id, (old,), new)))
    with pytest.raises(ProviderError, match="no longer http://other"):
        own.update_member(UpdateMember(at, PeerChange(learner.id, ("http://other:1",), new)))
    assert listed(etcd, old).get("isLearner")
    client.update(learner.id, new)
    assert not listed(etcd, new).get("isLearner"), "etcd has mended it: the caution is no longer needed"


def test_a_process_tells_when_it_was_started(etcd: Etcd, tmp_path: Path) -> None:
    """By metrics, which the client port of a member without TLS has, too; up to a second too early."""
    port = int(etcd.client.rpartition(":")[2])
    served = OwnMembers(tmp_path).served(LocalMember("main", "etcd-a", etcd.client, port))
    assert served.started is not None and time.time() - 300 < served.started <= time.time()
    assert [one.name for one in served.members] == ["etcd-a"] and served.told == {}
