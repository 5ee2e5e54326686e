"""Pods as transient units of a real systemd."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.agent_node import UNIT, AgentNode, pod

pytestmark = pytest.mark.root

TWO_LINES = "`a`\t# \"b\"\n\\n = 'c'\\\n"
LITERAL = "%n $FOO ${FOO} 100% \\x41 'a b'"


@pytest.fixture
def node(tmp_path: Path) -> Iterator[AgentNode]:
    with AgentNode(tmp_path) as node:
        node.run("busctl", "get-property", "org.freedesktop.systemd1", "/org/freedesktop/systemd1",
                 "org.freedesktop.systemd1.Manager", "Version")  # fmt: skip
        yield node


def test_a_pod_s_life(node: AgentNode) -> None:
    """Arguments and variables verbatim, mounts, init container, restart, the agent killed, change, end."""
    node.run("mkdir", "-p", "/mnt/data")
    script = 'echo "arg: $1"; echo "var: $FOO"; printf "%s" "$TWO" >/data/two; echo kept >/data/kept; '
    script += "echo part >/part/file; exec sleep 1000"
    init = {"name": "i", "image": "host", "command": ["sh", "-c", "echo first >/mnt/data/init"]}
    main = {
        "name": "c",
        "image": "/bin/sh",
        "args": ["-c", script, "sh", LITERAL],
        "env": [{"name": "FOO", "value": LITERAL}, {"name": "TWO", "value": TWO_LINES}],
        "volumeMounts": [
            {"name": "d", "mountPath": "/data"},
            {"name": "d", "mountPath": "/part", "subPath": "deep/er"},
        ],
        "readinessProbe": {"exec": {"command": ["cat", "/data/kept"]}, "periodSeconds": 1},
        "resources": {"limits": {"memory": "256Mi"}},
    }
    volumes = [{"name": "d", "hostPath": {"path": "/mnt/data", "type": "Directory"}}]
    node.place("p.yaml", pod("p", containers=[main], initContainers=[init], volumes=volumes))
    node.start_agent()
    node.until("it is ready", lambda: "1/1" in node.run("virtual-kubelet", "pods").stdout)
    assert node.path("/mnt/data/init").read_text() == "first\n"
    assert node.path("/mnt/data/kept").read_text() == "kept\n"
    assert node.path("/mnt/data/two").read_text() == TWO_LINES
    assert node.path("/mnt/data/deep/er/file").read_text() == "part\n"
    (unit,) = node.units()
    assert node.run("systemctl", "show", "-P", "Environment", unit).stdout.strip() == "", "every user may read it"
    assert list(node.path("/run/protokube/agent/environments").iterdir()) == []
    said = node.journal(unit)
    assert f"arg: {LITERAL}\n" in said and f"var: {LITERAL}\n" in said
    assert node.run("systemctl", "show", "-P", "MemoryMax", unit).stdout.strip() == str(256 << 20)

    node.run("systemctl", "kill", "-s", "KILL", "--kill-whom=main", UNIT)
    node.run("systemctl", "kill", "-s", "KILL", unit)
    node.until("the next attempt runs", lambda: [one for one in node.units() if one.endswith("-c-1.service")])
    assert len(node.units()) == 1
    node.until("it is told", lambda: node.pods()["p-node"]["status"]["containerStatuses"][0]["restartCount"] == 1)

    main["args"] = ["-c", "exec sleep 2000"]
    del main["readinessProbe"]
    node.place("p.yaml", pod("p", containers=[main], initContainers=[init], volumes=volumes))

    def new_one() -> bool:
        running = node.units()
        return bool(running) and running != [unit] and "-c-0" in running[0]

    node.until("the new one runs", new_one)
    assert len(node.units()) == 1
    node.take("p.yaml")
    node.until("it is gone", lambda: node.pods() == {})
    assert node.units() == [] and list(node.path("/var/lib/protokube/agent/pods").iterdir()) == []
    assert list(node.path("/run/protokube/agent/subpaths").iterdir()) == []
    assert node.path("/mnt/data/deep/er/file").exists(), "it was mounted; it isn't removed"


def test_a_pod_that_ends_is_final_and_exit_codes_are_told(node: AgentNode) -> None:
    node.place("good.yaml", pod("good", "true", restartPolicy="Never"))
    node.place("bad.yaml", pod("bad", "sh", "-c", "exit 7", restartPolicy="Never"))
    node.start_agent()
    node.until("both have ended", lambda: (node.phase("good"), node.phase("bad")) == ("Succeeded", "Failed"))
    (one,) = node.pods()["bad-node"]["status"]["containerStatuses"]
    assert one["state"]["terminated"]["exitCode"] == 7
    node.run("systemctl", "restart", UNIT)
    node.until("it is reported again", lambda: node.phase("bad") == "Failed")
    assert node.pods()["bad-node"]["status"]["containerStatuses"][0]["restartCount"] == 0


def test_what_systemd_can_not_run_is_refused_with_every_reason(node: AgentNode) -> None:
    spec = pod("x", "true")
    spec["spec"] |= {"hostNetwork": False}
    spec["spec"]["containers"][0] |= {"image": "busybox", "securityContext": {"readOnlyRootFilesystem": True}}
    node.place("x.yaml", spec)
    node.start_agent()
    node.until("it is refused", lambda: node.phase("x") == "Failed")
    said = node.run("virtual-kubelet", "pods").stdout
    assert all(word in said for word in ("hostNetwork", "busybox", "readOnlyRootFilesystem"))


def test_a_container_that_ignores_term_is_killed_within_its_grace(node: AgentNode) -> None:
    node.place("s.yaml", pod("s", "sh", "-c", "trap '' TERM; while :; do sleep 1; done"))
    node.start_agent()
    node.until("it runs", lambda: node.phase("s") == "Running")
    node.take("s.yaml")
    node.until("it is gone", lambda: node.pods() == {})
    assert node.units() == []


def test_alone_on_its_directory(node: AgentNode) -> None:
    """Exit code 78 beside another agent and beside a kubelet, and nothing was done."""
    node.place("p.yaml", pod("p", "sleep", "1000"))
    kubelet = "/usr/local/bin/kubelet"
    node.path(kubelet).write_text("#!/bin/sh\nsleep 1000\n")
    node.path(kubelet).chmod(0o755)
    node.run("systemd-run", "--unit", "kubelet", kubelet, "--pod-manifest-path=/etc/kubernetes/manifests")
    agent = ("virtual-kubelet", "--standalone", "--provider", "systemd")
    done = node.run(*agent, check=False)
    assert done.returncode == 78 and "kubelet (pid" in done.stderr
    assert "create default/p-node" in node.run(*agent, "--dry-run").stdout
    node.run("systemctl", "stop", "kubelet")
    node.start_agent()
    node.until("it runs", lambda: node.phase("p") == "Running")
    done = node.run(*agent, check=False)
    assert done.returncode == 78 and "runs its pods already" in done.stderr
    assert len(node.units()) == 1
