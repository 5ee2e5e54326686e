"""From files and answers to pods: kubelet's rules, and where we deviate on purpose."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from protokube.agent.core.model import Pod
from protokube.agent.core.names import static_pod
from protokube.agent.core.pods import annotation, uid_of
from protokube.agent.core.static import Heard, pods_of_answer, pods_of_files, read_pod
from protokube.core.model import Fault
from tests.agent.pods import UIDS, manifest


def text(pod: Any) -> bytes:
    return yaml.safe_dump(pod).encode()


def faults(**spec: Any) -> str:
    read = read_pod(text(manifest(**spec)), "x.yaml")
    return "\n".join(map(str, read)) if isinstance(read, tuple) else ""


def test_names_uid_and_annotations_are_kubelet_s() -> None:
    pod = manifest()
    made = static_pod(pod, node="Node-A", owner="file:x.yaml", place="file:x.yaml")
    canonical = json.dumps(pod, sort_keys=True, separators=(",", ":"))
    uid = hashlib.sha256(f"{canonical}host:Node-Afile:x.yaml".encode()).hexdigest()[:32]
    assert made["metadata"]["name"] == "web-node-a" and made["metadata"]["namespace"] == "default"
    assert uid_of(made) == uid == annotation(made, "kubernetes.io/config.hash")
    assert annotation(made, "kubernetes.io/config.source") == "file"
    assert annotation(made, "protokube.io/source") == "file:x.yaml"
    assert made["spec"]["nodeName"] == "Node-A"
    assert {"operator": "Exists", "effect": "NoExecute"} in made["spec"]["tolerations"]
    assert pod == manifest(), "what was handed over is never changed"


def test_a_uid_of_its_own_is_kept() -> None:
    pod = manifest()
    pod["metadata"]["uid"] = UIDS[3]
    assert uid_of(static_pod(pod, node="a", owner="file:x", place="file:x")) == UIDS[3]


@given(st.randoms())
def test_white_space_and_the_order_of_keys_are_no_other_pod(chance: Any) -> None:
    pod = manifest()
    shuffled = list(pod.items())
    chance.shuffle(shuffled)
    spaced = json.dumps(dict(shuffled), indent=chance.randrange(5)).encode()
    one, other = (pods_of_files({"x": content}, "n") for content in (text(pod), spaced))
    assert list(one.pods) == list(other.pods)


def test_another_file_or_node_is_another_pod() -> None:
    content = text(manifest())
    places = (("a", "n"), ("b", "n"), ("a", "m"))
    uids = {uid for name, node in places for uid in pods_of_files({name: content}, node).pods}
    assert len(uids) == 3


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "it is empty"),
        (b"\xff", "no UTF-8"),
        (b"a: [", "neither JSON nor YAML"),
        (b"[1]", "a pod was expected, got list"),
        (b"a: 2001-01-01", "neither JSON nor YAML"),
        (b"x" * ((10 << 20) + 1), "larger than 10 MiB"),
        (text({**manifest(), "kind": "Deployment"}), "kind: Pod was expected"),
        (text({**manifest(), "metadata": {"name": "Big"}}), "metadata.name"),
        (text({**manifest(), "metadata": {"name": "a", "uid": "../x"}}), "metadata.uid"),
        (text({**manifest(), "spec": None}), "spec: a mapping was expected, got nothing"),
        (text(manifest()) + b"---\n" + text(manifest()), "neither JSON nor YAML"),
    ],
)
def test_what_is_no_pod_is_told(content: bytes, said: str) -> None:
    read = read_pod(content, "x.yaml")
    assert isinstance(read, tuple) and said in str(read[0])


C = {"name": "c", "image": "host"}


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"serviceAccountName": "x"}, "spec.serviceAccountName: only an API server"),
        ({"volumes": [{"name": "v", "secret": {"secretName": "s"}}]}, "volumes[0].secret: only an API server"),
        ({"volumes": [{"name": "v", "configMap": {"name": "s"}}]}, "volumes[0].configMap"),
        ({"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "s"}}]}, "persistentVolumeClaim"),
        ({"volumes": [{"name": "v", "csi": {"driver": "s"}}]}, "volumes[0].csi"),
        ({"volumes": [{"name": "v", "projected": {"sources": []}}]}, "volumes[0].projected"),
        ({"volumes": [{"name": "v", "nfs": {"server": "s"}}]}, "volumes[0].nfs: such a volume doesn't run here"),
        ({"ephemeralContainers": [C]}, "spec.ephemeralContainers"),
        ({"containers": []}, "spec.containers: a list of containers"),
        ({"containers": [C, dict(C)]}, "containers[1].name: a DNS label of its own"),
        ({"containers": [{"name": "c"}]}, "containers[0].image: it is missing"),
        ({"containers": [{**C, "command": "sh"}]}, "spec.containers[0]: Expected `array`"),
        ({"containers": [{**C, "envFrom": [{"secretRef": {}}]}]}, "containers[0].envFrom"),
        ({"containers": [{**C, "volumeMounts": [{"name": "v", "mountPath": "/x"}]}]}, "there is no volume 'v'"),
        ({"containers": [{**C, "livenessProbe": {}}]}, "exactly one of httpGet, tcpSocket and exec"),
        ({"containers": [{**C, "livenessProbe": {"grpc": {"port": 1}}}]}, "livenessProbe.grpc: it doesn't run here"),
        ({"containers": [{**C, "livenessProbe": {"tcpSocket": {"port": "x"}}}]}, "there is no port 'x'"),
        ({"containers": [{**C, "restartPolicy": "Always"}]}, "only an init container may have one"),
        ({"restartPolicy": "Sometimes"}, "restartPolicy: Always, OnFailure or Never was expected, got 'Sometimes'"),
        ({"volumes": [{"name": "v", "hostPath": {"path": "x/../y"}}]}, "hostPath.path: an absolute path"),
    ],
)
def test_what_no_static_pod_may_ask_for(spec: dict[str, Any], said: str) -> None:
    assert said in faults(**spec)


def test_all_faults_come_at_once() -> None:
    said = faults(serviceAccountName="x", containers=[{"name": "C"}, {"name": "d", "image": 1}], restartPolicy="x")
    assert said.count("\n") == 4, said


def test_null_is_absent() -> None:
    """The Go client writes creationTimestamp: null, .NET writes every unset field so."""
    pod = manifest(serviceAccountName=None, volumes=None)
    pod["metadata"]["creationTimestamp"] = None
    assert not isinstance(read_pod(text(pod), "x"), tuple)


def test_a_file_that_can_not_be_used_holds_its_pod() -> None:
    """A deviation: kubelet ends the pod of a file that turned invalid."""
    heard = pods_of_files({"a": text(manifest("a")), "b": b"a: [", "c": Fault("c", "it can't be read")}, "n")
    assert [pod["metadata"]["name"] for pod in heard.pods.values()] == ["a-n"]
    assert heard.held == {"file:b", "file:c"}
    assert [fault.place for fault in heard.faults] == ["b", "c"]


def test_of_two_files_with_one_name_the_first_runs_and_both_are_named() -> None:
    heard = pods_of_files({"b": text(manifest(restartPolicy="Never")), "a": text(manifest())}, "n")
    assert [annotation(pod, "protokube.io/source") for pod in heard.pods.values()] == ["file:a"]
    (fault,) = heard.faults
    assert fault.place == "b" and "in a already" in fault.message


@pytest.mark.parametrize(
    ("content", "names"),
    [
        (manifest("a"), ["a-n"]),
        ({"apiVersion": "v1", "kind": "PodList", "items": [manifest("a"), manifest("b")]}, ["a-n", "b-n"]),
        ({"apiVersion": "v1", "kind": "PodList", "items": []}, []),
    ],
    ids=["pod", "list", "empty list"],
)
def test_an_answer_is_a_pod_or_a_list(content: Pod, names: list[str]) -> None:
    heard = pods_of_answer(json.dumps(content).encode(), "http://x/", "n")
    assert isinstance(heard, Heard)
    assert [pod["metadata"]["name"] for pod in heard.pods.values()] == names
    assert {annotation(pod, "protokube.io/source") for pod in heard.pods.values()} <= {"http"}


@pytest.mark.parametrize(
    "content", [b"", b"{}", b'{"kind":"PodList"}', b'{"kind":"PodList","items":[{}]}', b"<html>"]
)
def test_an_answer_that_says_nothing_is_unknown(content: bytes) -> None:
    """A deviation: an empty body is Unknown; only an empty list clears."""
    assert isinstance(pods_of_answer(content, "http://x/", "n"), tuple)
