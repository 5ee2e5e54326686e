"""virtual-kubelet as a node of a real cluster: a Deployment's pods, logs, a lost node, an API server that is away."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from protokube.core.kubelet.identity import kubeconfig
from protokube.core.pki.model import CertificateWanted
from tests.lab.agent_node import UNIT, AgentNode, pod
from tests.lab.api_server import ApiServer
from tests.lab.netns import Namespace, Network
from tests.lab.podman import PODMAN_FILES, make_image

pytestmark = pytest.mark.root

NAME, ADDRESS = "edge", "10.77.0.12"
PKI = "/etc/kubernetes/pki"
IMAGES = {"systemd": "host", "podman": "localhost/tools:1"}
AWAY = 150.0
"""Seconds for which the API server is away: far more than the 40 s after which a silent node counts as lost."""
ETCD = ["/usr/bin/etcd", "--data-dir=/data", "--listen-client-urls=http://127.0.0.1:2379"]
ETCD += ["--advertise-client-urls=http://127.0.0.1:2379", "--unsafe-no-fsync"]


def agent_files(server: ApiServer, api: str, provider: str, address: str = ADDRESS) -> dict[str, str]:
    """The agent's credentials, its kubelet API's certificate, and its unit."""
    groups = ("system:nodes",)
    server.certificate(CertificateWanted("node", "kubernetes", f"system:node:{NAME}", groups, client=True))
    serving = CertificateWanted("serving", "kubernetes", f"system:node:{NAME}", groups, (NAME,), (address,), True)
    server.certificate(serving)
    files = {f"{PKI}/ca.crt": (server.base / "ca.crt").read_text()}
    for folder in ("node", "serving"):
        for file in ("tls.crt", "tls.key", "ca.crt"):
            if (server.base / folder / file).exists():
                files[f"{PKI}/{folder}/{file}"] = (server.base / folder / file).read_text()
    options = [f"--kubeconfig=/etc/kubernetes/{NAME}.kubeconfig", f"--nodename={NAME}", f"--provider={provider}"]
    options += [f"--client-ca-file={PKI}/ca.crt", f"--tls-cert-file={PKI}/serving/tls.crt"]
    options += [f"--tls-key-file={PKI}/serving/tls.key", "--disable-taint"]
    unit = f"[Service]\nExecStart=\nExecStart=/usr/bin/virtual-kubelet {' '.join(options)}\n"
    return files | {
        f"/etc/kubernetes/{NAME}.kubeconfig": kubeconfig(api, f"{PKI}/node"),
        f"/etc/systemd/system/{UNIT}.d/node.conf": unit,
    }


class Cluster:
    """An API server with its controllers and scheduler, and a machine that the agent makes a node."""

    def __init__(self, server: ApiServer, node: AgentNode) -> None:
        self.server, self.node = server, node

    def until(self, what: str, holds: Callable[[], Any]) -> None:
        try:
            self.server.until(what, holds)
        except AssertionError as still:
            listed = self.server.kubectl("get", "nodes,pods,events", "-A", "-o", "wide", check=False)
            raise AssertionError(f"{still}\n{listed}\n{self.node.journal(UNIT)[-5000:]}") from None

    def objects(self, kind: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.server.kubectl("get", kind, "-o", "json"))["items"]
        return found

    def ready(self) -> str:
        """The status of the node's condition Ready."""
        nodes = [one for one in self.objects("nodes") if one["metadata"]["name"] == NAME]
        found = [
            each["status"] for one in nodes for each in one["status"].get("conditions", ()) if each["type"] == "Ready"
        ]
        return found[0] if found else ""

    def running(self) -> list[str]:
        """The names of the pods that are ready."""
        return [one["metadata"]["name"] for one in self.objects("pods") if is_ready(one)]


def is_ready(one: dict[str, Any]) -> bool:
    conditions = one["status"].get("conditions") or []
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


@contextmanager
def cluster(base: Path, provider: str) -> Iterator[Cluster]:
    podman = provider == "podman"
    more: dict[str, Any] = {"seccomp": False, "delegate": True, "binds": ["/dev/fuse"]} if podman else {}
    with ExitStack() as stack:
        network = stack.enter_context(Network())
        space = network.node("10.77.0.11/24", gateway="10.77.0.1")
        server = stack.enter_context(ApiServer(base / "api", space))
        server.start_controller_manager()
        server.start_scheduler()
        files = agent_files(server, "https://10.77.0.11:6443", provider) | (PODMAN_FILES if podman else {})
        place = network.node(f"{ADDRESS}/24", gateway="10.77.0.1")
        node = stack.enter_context(AgentNode(base / "node", files=files, netns=place.name, **more))
        if podman:
            make_image(node, IMAGES[provider], "/bin/sh", "/bin/sleep", "/bin/cat")
        node.start_agent()
        made = Cluster(server, node)
        made.until("the node is ready", lambda: made.ready() == "True")
        yield made


def deployment(provider: str, replicas: int) -> str:
    """A Deployment that says what it was given: a variable of a config map, and its service account's token."""
    script = (
        'echo "hello $WHO, token of $(cat /var/run/secrets/kubernetes.io/serviceaccount/namespace)"; exec sleep 9999'
    )
    container = {
        "name": "c",
        "image": IMAGES[provider],
        "imagePullPolicy": "Never",
        "command": ["sh", "-c", script] if provider == "podman" else ["/bin/sh", "-c", script],
        "env": [{"name": "WHO", "valueFrom": {"configMapKeyRef": {"name": "who", "key": "who"}}}],
    }
    spec = {
        "hostNetwork": True,
        "nodeSelector": {"type": "virtual-kubelet"},
        "terminationGracePeriodSeconds": 2,
        "containers": [container],
    }
    labels = {"app": "web"}
    made = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }
    return json.dumps(made)


@pytest.mark.parametrize("provider", ["systemd", "podman"])
def test_a_deployment_runs_on_the_agent_s_node(tmp_path: Path, provider: str) -> None:
    with cluster(tmp_path, provider) as made:
        server = made.server
        (tmp_path / "web.json").write_text(deployment(provider, 2))
        server.kubectl("create", "configmap", "who", "--from-literal=who=world")
        server.kubectl("apply", "-f", str(tmp_path / "web.json"))
        made.until("both pods are ready", lambda: len(made.running()) == 2)
        (first, *_) = made.running()

        made.until("its log tells", lambda: server.kubectl("logs", first, check=False).startswith("hello world, "))
        assert server.kubectl("logs", first) == "hello world, token of default\n"
        said = server.kubectl("exec", first, "--", "true", check=False)
        assert "error" in said.lower(), "there is no exec"

        server.kubectl("delete", "pod", first, "--wait=false")
        going = [one["metadata"] for one in made.objects("pods") if one["metadata"]["name"] == first]
        assert [one["deletionGracePeriodSeconds"] for one in going] in ([2], []), "it has its grace, or has used it"
        made.until(
            "another one has taken its place", lambda: len(made.running()) == 2 and first not in made.running()
        )
        server.kubectl("scale", "deployment", "web", "--replicas=0")
        made.until("all are gone", lambda: made.objects("pods") == [])
        if provider == "systemd":
            assert made.node.units() == []
        reasons = {one["reason"] for one in made.objects("events")}
        assert "ProviderCreateSuccess" in reasons and "ProviderCreateFailed" not in reasons


def test_a_node_that_is_lost_comes_back_with_its_pods(tmp_path: Path) -> None:
    with cluster(tmp_path, "systemd") as made:
        server, node = made.server, made.node
        (tmp_path / "web.json").write_text(deployment("systemd", 1))
        server.kubectl("create", "configmap", "who", "--from-literal=who=world")
        server.kubectl("apply", "-f", str(tmp_path / "web.json"))
        made.until("its pod is ready", lambda: len(made.running()) == 1)
        units = node.units()
        node.run("ip", "link", "set", "eth0", "down")
        made.until("the node is lost", lambda: made.ready() == "Unknown")
        assert node.units() == units
        node.run("systemctl", "kill", "-s", "KILL", "--kill-whom=main", UNIT)
        node.run("ip", "link", "set", "eth0", "up")
        node.run("ip", "route", "replace", "default", "via", "10.77.0.1")
        made.until("it is back", lambda: made.ready() == "True")
        made.until("its pod is ready again", lambda: len(made.running()) == 1)
        assert node.units() == units, "nothing was started again"


@contextmanager
def etcd_on_the_agent(base: Path, space: Namespace) -> Iterator[Cluster]:
    """The agent runs etcd as a static pod, and the API server that uses it is its own."""
    server = ApiServer(base / "api", space, own_etcd=False)
    server.write_pki()
    files = agent_files(server, "https://127.0.0.1:6443", "systemd", server.address)
    with ExitStack() as stack:
        node = stack.enter_context(AgentNode(base / "node", files=files, netns=space.name))
        node.run("mkdir", "-p", "/mnt/etcd")
        node.place("etcd.yaml", etcd())
        node.start_agent()
        node.until("etcd runs before there is an API server", lambda: len(node.units()) == 1)
        stack.enter_context(server)
        server.start_controller_manager()
        server.start_scheduler()
        made = Cluster(server, node)
        made.until("the node is ready", lambda: made.ready() == "True")
        yield made


def etcd(*more: str) -> dict[str, Any]:
    volumes = [{"name": "data", "hostPath": {"path": "/mnt/etcd", "type": "Directory"}}]
    container = {
        "name": "etcd",
        "image": "host",
        "command": [*ETCD, *more],
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }
    made = pod("etcd", containers=[container], volumes=volumes)
    made["metadata"]["namespace"] = "kube-system"
    return made


def test_etcd_s_static_pod_is_replaced_while_the_api_server_is_away(tmp_path: Path) -> None:
    with (
        Network() as network,
        etcd_on_the_agent(tmp_path, network.node("10.77.0.11/24", gateway="10.77.0.1")) as made,
    ):
        server, node = made.server, made.node

        def mirror() -> dict[str, Any]:
            listed = json.loads(server.kubectl("get", "pods", "-n", "kube-system", "-o", "json"))["items"]
            return next((one for one in listed if one["metadata"]["name"] == f"etcd-{NAME}"), {})

        made.until("etcd has a mirror", lambda: mirror() and is_ready(mirror()))
        first = mirror()["metadata"]["annotations"]["kubernetes.io/config.mirror"]
        (tmp_path / "web.json").write_text(deployment("systemd", 1))
        server.kubectl("create", "configmap", "who", "--from-literal=who=world")
        server.kubectl("apply", "-f", str(tmp_path / "web.json"))
        made.until("a pod is ready", lambda: len(made.running()) == 1)
        old = [one for one in node.units() if "-etcd-" in one]
        web = [one for one in node.units() if "-etcd-" not in one]

        server.pause("kube-apiserver")
        node.place("etcd.yaml", etcd("--snapshot-count=5000"))
        node.until(
            "the new etcd runs, and the old one is gone",
            lambda: (now := [one for one in node.units() if "-etcd-" in one]) and len(now) == 1 and now != old,
        )
        node.until("the agent says that it is away", lambda: "source api: unknown" in node.journal(UNIT))
        time.sleep(AWAY)
        assert [one for one in node.units() if "-etcd-" not in one] == web, "a Deployment's pod runs on"
        server.pause("kube-apiserver", paused=False)

        made.until("the node is ready", lambda: made.ready() == "True")
        made.until(
            "the mirror shows the new one",
            lambda: (
                (found := mirror())
                and is_ready(found)
                and found["metadata"]["annotations"]["kubernetes.io/config.mirror"] != first
            ),
        )
        assert [one for one in node.units() if "-etcd-" not in one] == web
