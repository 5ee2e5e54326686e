"""The authority `kubernetes` is replaced while a worker runs pods, and a client writes all the time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from cryptography import x509

from protokube.core.controlplane.names import API_SERVER, MANAGER, PROXY, SCHEDULER
from protokube.core.controlplane.paths import good_path, pod_path
from protokube.core.pki.model import PKI_DIR
from tests.lab.kube_cluster import KubeCluster, is_ready
from tests.lab.kube_node import KubeNode
from tests.lab.kube_objects import all_answer, apply, client, pods, server
from tests.lab.kube_writer import ApiWriter
from tests.lab.unit_node import UNIT

pytestmark = [pytest.mark.root, pytest.mark.kubelet]

JOINED = "/var/lib/kubelet/pki/kubelet-client-current.pem"
ROTATE = ("protokube", "pki", "rotate", "--authority", "kubernetes", "--yes")
LEASE = ("get", "lease", "-n", "kube-node-lease", "node-w", "-o", "jsonpath={.spec.renewTime}")


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[KubeCluster]:
    with KubeCluster(tmp_path, "a", {"interval": 5}) as cluster:
        yield cluster


def issuer(node: KubeNode, path: str) -> bytes | None:
    """The key of the authority that has issued a certificate; None while there is none."""
    done = node.run("cat", path, check=False)
    if done.returncode:
        return None
    one = x509.load_pem_x509_certificate(done.stdout.encode())
    return one.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier


def containers(node: KubeNode, *programs: str) -> set[str]:
    """The containers of these programs that run."""
    return {one for one, program in node.containers().items() if program in programs}


def lives(cluster: KubeCluster, a: KubeNode, w: KubeNode, names: set[str]) -> None:
    """The worker's kubelet renews its lease, its logs are read, and its pods answer through the Service."""
    before = cluster.kubectl(a, *LEASE).stdout

    def renewed() -> bool:
        done = cluster.kubectl(a, *LEASE)
        return done.returncode == 0 and done.stdout != before

    def reads_logs() -> bool:
        return all(cluster.kubectl(a, "logs", name).stdout == f"serving as {name}\n" for name in names)

    cluster.until("the worker's kubelet speaks with the API server", w, renewed)
    cluster.until("the worker is ready", w, lambda: cluster.ready(a) == {"node-a", "node-w"})
    cluster.until("its logs are read", w, reads_logs)
    all_answer(cluster, a, "client", names)
    all_answer(cluster, a, "inside", names)


def ready_servers(cluster: KubeCluster, a: KubeNode) -> set[str]:
    """The pods of the Deployment that are ready."""
    return {name for name, one in pods(cluster, a, "-l", "app=server").items() if is_ready(one)}


def stage(a: KubeNode) -> str:
    """How far the authority's replacement is."""
    found = json.loads(a.run("protokube", "pki", "status", "-o", "json").stdout)
    return str(next(one["stage"] for one in found["authorities"] if one["name"] == "kubernetes"))


def take_step(cluster: KubeCluster, a: KubeNode, *more: str) -> None:
    """The next step, and whoever reads authorities at its start alone has started again with it."""
    before = {one: a.path(pod_path(one)).read_text() for one in (API_SERVER, MANAGER, SCHEDULER, PROXY)}
    a.run(*ROTATE, *more)
    a.run("systemctl", "reload", UNIT)

    def follows(component: str) -> bool:
        text = a.path(pod_path(component)).read_text()
        return a.path(good_path(component)).read_text() == text != before[component]

    # The second step changes who issues, and what is trusted stays.
    for component in before if stage(a) != "reissue" else ():
        cluster.until(f"{component} has started again, and is well", a, partial(follows, component))
    cluster.until("it is converged", a, lambda: a.show("StatusText") == "converged")


def gives_authorities(cluster: KubeCluster, a: KubeNode, w: KubeNode) -> None:
    """The worker trusts what the control plane trusts, as docs/pki.md says."""
    proxy = containers(w, PROXY)
    w.path("/etc/protokube/ca.crt").write_bytes(a.path(f"{PKI_DIR}/protokube/ca.crt").read_bytes())
    w.run("systemctl", "reload", UNIT)
    cluster.until("its kube-proxy is another one", w, lambda: (now := containers(w, PROXY)) and not now & proxy)


def joins_again(cluster: KubeCluster, a: KubeNode, w: KubeNode) -> None:
    """The worker gets certificates of the new authority, as docs/pki.md says."""
    made = a.run("protokube", "token", "create", "--for", "node-w", "-o", "json")
    w.path("/etc/protokube/token").write_text(json.loads(made.stdout)["token"])
    w.run("systemctl", "stop", "kubelet")
    w.path("/var/lib/kubelet/kubeconfig").unlink()
    for file in w.path("/var/lib/kubelet/pki").iterdir():
        file.unlink()
    w.run("systemctl", "start", "kubelet")
    wanted = issuer(a, f"{PKI_DIR}/protokube/tls.crt")
    cluster.until("the worker has a certificate of the new authority", w, lambda: issuer(w, JOINED) == wanted)


def test_a_worker_and_its_pods_stay_while_the_authority_is_replaced(cluster: KubeCluster) -> None:
    a = cluster.control_plane("a")
    a.run("systemctl", "start", UNIT)
    cluster.until("the node is ready", a, lambda: cluster.ready(a) == {"node-a"})
    cluster.until("it is converged", a, lambda: a.show("StatusText") == "converged")
    made = a.run("protokube", "token", "create", "--ttl", "1h", "-o", "json")
    w = cluster.worker("w", json.loads(made.stdout))
    w.run("systemctl", "start", UNIT)
    cluster.until("the worker is ready", w, lambda: cluster.ready(a) == {"node-a", "node-w"})
    apply(cluster, a, *server(2), client("client", "node-a"), client("inside", "node-w"))
    cluster.until("the pods are ready", w, lambda: len(ready_servers(cluster, a)) == 2)
    names = ready_servers(cluster, a)
    cluster.until("kube-proxy runs there", w, lambda: PROXY in w.running())
    lives(cluster, a, w, names)
    serving, first = containers(w, "pod-program"), issuer(a, f"{PKI_DIR}/apiserver/tls.crt")
    assert issuer(w, JOINED) == first

    with ApiWriter(cluster, a) as writer:
        writer.more()
        writer.phase("both authorities are trusted")
        take_step(cluster, a)
        lives(cluster, a, w, names)
        refused = a.run(*ROTATE, check=False)
        assert refused.returncode and "node-w" in refused.stderr, "it would lock the worker out"
        gives_authorities(cluster, a, w)
        lives(cluster, a, w, names)

        writer.phase("the new one issues")
        api_server = containers(a, API_SERVER)
        take_step(cluster, a, "--workers-moved")
        assert containers(a, API_SERVER) == api_server, "it reads its new certificate without a restart"
        assert all(issuer(a, f"{PKI_DIR}/{one}/tls.crt") != first for one in ("apiserver", "controller-manager"))
        lives(cluster, a, w, names)
        joins_again(cluster, a, w)
        lives(cluster, a, w, names)
        writer.more()

        writer.phase("the old one is forgotten")
        take_step(cluster, a, "--workers-moved")
        lives(cluster, a, w, names)
        assert containers(w, "pod-program") == serving, "no pod of the worker has ended"
        apply(cluster, a, *server(3))
        cluster.until("a further pod is ready", w, lambda: len(ready_servers(cluster, a)) == 3)
        lives(cluster, a, w, ready_servers(cluster, a))
        gives_authorities(cluster, a, w)
        lives(cluster, a, w, ready_servers(cluster, a))
        writer.more()
        writer.check(a)
    assert len(containers(a, API_SERVER)) == 1
