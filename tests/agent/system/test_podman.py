"""Pods as podman's containers, in a node of their own, without a registry."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.agent_node import UNIT, AgentNode, pod
from tests.lab.podman import PODMAN_FILES, make_image

pytestmark = pytest.mark.root


@pytest.fixture
def node(tmp_path: Path) -> Iterator[AgentNode]:
    with AgentNode(tmp_path, files=PODMAN_FILES, seccomp=False, delegate=True, binds=["/dev/fuse"]) as node:
        make_image(node, "localhost/tools:1", "/bin/sh", "/bin/sleep", "/bin/cat")
        yield node


def running(node: AgentNode) -> list[str]:
    """The names of the containers that run."""
    return node.run("podman", "ps", "--format", "{{.Names}}").stdout.split()


def test_a_pod_s_life(node: AgentNode) -> None:
    """Image, arguments verbatim, mounts, init container, probe, restart, the agent killed, change, end."""
    node.run("mkdir", "-p", "/mnt/data")
    literal = "%n $FOO ${FOO} 100%"
    script = 'echo "arg: $1"; echo "var: $FOO"; echo kept >/data/kept; echo part >/part/file; exec sleep 1000'
    mount = [{"name": "d", "mountPath": "/data"}]
    image = "localhost/tools:1"
    init = {"name": "i", "image": image, "command": ["sh", "-c", "echo first >/data/init"], "volumeMounts": mount}
    main = {
        "name": "c",
        "image": image,
        "command": ["sh", "-c"],
        "args": [script, "sh", literal],
        "env": [{"name": "FOO", "value": literal}],
        "volumeMounts": [*mount, {"name": "d", "mountPath": "/part", "subPath": "deep/er"}],
        "readinessProbe": {"exec": {"command": ["cat", "/data/kept"]}, "periodSeconds": 1, "timeoutSeconds": 30},
    }
    volumes = [{"name": "d", "hostPath": {"path": "/mnt/data", "type": "Directory"}}]
    node.place("p.yaml", pod("p", containers=[main], initContainers=[init], volumes=volumes))
    node.start_agent()
    node.until("it is ready", lambda: "1/1" in node.run("virtual-kubelet", "pods").stdout)
    assert node.path("/mnt/data/init").read_text() == "first\n"
    assert node.path("/mnt/data/deep/er/file").read_text() == "part\n"
    (name,) = running(node)
    said = node.run("podman", "logs", name).stdout
    assert f"arg: {literal}\n" in said and f"var: {literal}\n" in said

    node.run("systemctl", "kill", "-s", "KILL", "--kill-whom=main", UNIT)
    node.run("podman", "kill", name)
    node.until("the next attempt runs", lambda: [one for one in running(node) if one.endswith("-c-1")])
    assert len(running(node)) == 1

    main["args"] = ["exec sleep 2000"]
    del main["readinessProbe"]
    node.place("p.yaml", pod("p", containers=[main], volumes=volumes))
    node.until("the new one runs", lambda: [one for one in running(node) if one.endswith("-c-0") and one != name])
    assert len(running(node)) == 1
    node.take("p.yaml")
    node.until("it is gone", lambda: node.pods() == {})
    assert node.run("podman", "ps", "-aq").stdout == ""


def test_an_image_that_can_not_be_had_is_said_and_tried_again(node: AgentNode) -> None:
    one = {"name": "c", "image": "localhost/late:1", "imagePullPolicy": "Never", "command": ["sleep", "1000"]}
    node.place("p.yaml", pod("p", containers=[one]))
    node.start_agent()
    node.until("it is said", lambda: "CreateContainerError" in node.run("virtual-kubelet", "pods").stdout)
    node.run("podman", "tag", "localhost/tools:1", "localhost/late:1")
    node.until("it runs", lambda: node.phase("p") == "Running")
