"""An image made by `nodeup --target image` from a Debian of debootstrap's, and two machines that boot from it.

Not part of the default test run: `make test-vm` fetches the Debian and runs it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.lab import inside
from tests.lab.kubelet_standin import kubelet_script
from tests.lab.systemd_node import SystemdNode
from tests.lab.trial import CHECKOUT, until

pytestmark = [pytest.mark.root, pytest.mark.slow]

DEBIAN = CHECKOUT / "build/image/root"
LIMIT = 240.0
RECORD = "/var/kubelet-argv.jsonl"
UNITS = ("nodeup.service", "containerd.service", "protokube.service", "kubelet.service", "ssh.service")

CONFIG = """
cluster: dev.example.com
files:
- {path: /etc/protokube/inventory.yaml, content: "cluster: dev.example.com\\n"}
units:
# The lab's machines have loopback alone, and a node needs an address.
- name: lab-address.service
  enabled: true
  content: |
    [Unit]
    Before=network.target
    [Service]
    Type=oneshot
    RemainAfterExit=yes
    ExecStart=/bin/sh -c "ip link set lo up; ip addr add 10.9.8.7/24 dev lo; ip route add default dev lo src 10.9.8.7"
    [Install]
    WantedBy=multi-user.target
protokube: {cloud: local, dns: none, interval: 3600}
"""


def nodeup(*arguments: str, code: int = 0) -> str:
    command = [sys.executable, "-m", "nodeup", *arguments]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=LIMIT, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The tree, made an image. It lies over debootstrap's, which stays as it is."""
    base = tmp_path_factory.mktemp("image")
    subprocess.run(["mount", "-t", "tmpfs", "image", base], check=True)
    tree, upper, work = base / "tree", base / "upper", base / "work"
    for folder in (tree, upper, work):
        folder.mkdir()
    options = f"lowerdir={DEBIAN},upperdir={upper},workdir={work}"
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, tree], check=True)
    for name in ("protokube", "nodeup"):
        program = f'#!/bin/sh\ncd {inside.CHECKOUT} && exec {inside.PYTHON} -m {name} "$@"\n'
        (tree / "usr/bin" / name).write_text(program)
    (tree / "usr/bin/kubelet").write_text(kubelet_script(record=RECORD))
    for name in ("protokube", "nodeup", "kubelet"):
        (tree / "usr/bin" / name).chmod(0o755)
    (base / "node.yaml").write_text(CONFIG)
    yield tree
    subprocess.run(["umount", "-R", base], check=True)


def test_a_tree_of_debootstrap_becomes_an_image_and_its_machines_become_nodes(image: Path, tmp_path: Path) -> None:
    given = ("--target", "image", "--root", str(image), "--config", str(image.parent / "node.yaml"))
    found = nodeup("image-check", "--root", str(image), code=1)
    assert "/etc/ssh/ssh_host_ed25519_key: image/identity" in found and "/etc/hostname: image/identity" in found
    report = json.loads(nodeup(*given, "-o", "json"))
    assert report["settled"], report
    assert "nothing that must not be" in nodeup("image-check", "--root", str(image))
    assert json.loads(nodeup(*given, "-o", "json"))["steps"] == []

    with ExitStack() as open_:
        nodes = [
            open_.enter_context(
                SystemdNode(
                    tmp_path / name, name, image=image, all_capabilities=True, args=["--hostname=localhost"]
                ).persist()
            )
            for name in ("one", "two")
        ]
        for node in nodes:
            becomes_a_node(node)
        assert_different(nodes)
        names = [node.run("uname", "-n").stdout for node in nodes]
        nodes[0].reboot()
        becomes_a_node(nodes[0], starts=2)
        assert nodes[0].run("cat", "/etc/hostname").stdout == names[0]


def becomes_a_node(node: SystemdNode, *, starts: int = 1) -> None:
    """kubelet is started, once a boot, and by protokube alone."""

    def kubelets() -> int:
        record = node.path(RECORD)
        return len(record.read_text().splitlines()) if record.exists() else 0

    def states() -> dict[str, str]:
        return {unit: node.run("systemctl", "show", "-P", "ActiveState", unit).stdout.strip() for unit in UNITS}

    try:
        until("all units are active", lambda: set(states().values()) == {"active"}, LIMIT)
        until("kubelet has started", lambda: kubelets() == starts, LIMIT)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{states()}\n{node.run('journalctl', '--no-pager', '-b').stdout}") from None
    assert node.run("systemctl", "show", "-P", "NRestarts", "nodeup.service").stdout == "0\n", node.journal("nodeup")
    wanted = node.run("systemctl", "show", "-P", "WantedBy", "-P", "RequiredBy", "kubelet.service").stdout
    assert wanted.strip() == ""
    assert "start kubelet.service" in node.journal("protokube.service")
    assert "ordering cycle" not in node.run("journalctl", "--no-pager", "-b").stdout
    assert "SystemdCgroup = true" in node.run("containerd", "config", "dump").stdout


def assert_different(nodes: list[SystemdNode]) -> None:
    """Nothing that tells machines apart is the same on two of them."""
    for path in (
        "/etc/machine-id",
        "/etc/hostname",
        "/etc/ssh/ssh_host_ed25519_key.pub",
        "/etc/ssh/ssh_host_rsa_key",
    ):
        one, two = (node.run("cat", path).stdout for node in nodes)
        assert one.strip() and two.strip() and one != two, path
    one, two = (node.run("uname", "-n").stdout for node in nodes)
    assert one.startswith("node-") and two.startswith("node-") and one != two
