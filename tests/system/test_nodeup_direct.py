"""nodeup on a machine with a real systemd, a real apt and the real protokube: from a bare machine to a kubelet.

A container has limits: this kernel takes no modules, and nspawn mounts /proc/sys read-only, so both are only told of.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import inside
from tests.lab.apt_repository import index, package
from tests.lab.kubelet_standin import kubelet_script
from tests.lab.systemd_node import SystemdNode
from tests.lab.trial import CHECKOUT, until

pytestmark = pytest.mark.root

LIMIT = 180.0
RECORD = "/run/kubelet-argv.jsonl"
VERSION = "1.6.20~ds1-1+deb12u1"
PROGRAM = f'#!/bin/sh\ncd {inside.CHECKOUT} && exec {inside.PYTHON} -m NAME "$@"\n'
CONFIG = """
cluster: dev.example.com
hostname: node-b
files:
- path: /etc/protokube/inventory.yaml
  content: |
    cluster: dev.example.com
    nodes: [{name: node-b, internalAddress: 10.9.8.7}]
units:
- name: extra.service
  enabled: true
  content: "[Service]\\nExecStart=/bin/sleep infinity\\n[Install]\\nWantedBy=multi-user.target\\n"
protokube: {cloud: local, dns: none, interval: 3600}
"""
CONTAINERD = {
    "usr/bin/containerd": "#!/bin/sh\nexec sleep infinity\n",
    "lib/systemd/system/containerd.service": "[Service]\nExecStart=/usr/bin/containerd\n"
    "[Install]\nWantedBy=multi-user.target\n",
}
# What dh_installsystemd puts into packages: it starts the unit, and waits for that.
POSTINST = """[ "$1" = configure ] || exit 0
deb-systemd-helper enable containerd.service
deb-systemd-invoke start containerd.service"""

COUNT = """
import sys
starts = []
names = {"subprocess.Popen", "os.posix_spawn", "os.fork", "os.exec", "os.system"}
sys.addaudithook(lambda name, given: starts.append(name) if name in names else None)
from nodeup.cli import main
code = main(["--config", "/etc/protokube/nodeup.yaml", "-o", "json"])
print(code, starts, file=sys.stderr)
"""


@pytest.fixture
def node(tmp_path: Path) -> Iterator[SystemdNode]:
    """A machine on which nodeup's unit is enabled, as user-data or an image leave it."""
    repository = tmp_path / "repository"
    repository.mkdir()
    package(repository, "containerd", VERSION, CONTAINERD, {"postinst": POSTINST})
    index(repository)
    files = {
        "/usr/bin/protokube": PROGRAM.replace("NAME", "protokube"),
        "/usr/bin/nodeup": PROGRAM.replace("NAME", "nodeup"),
        "/usr/bin/kubelet": kubelet_script(record=RECORD),
        "/etc/protokube/nodeup.yaml": CONFIG,
        "/etc/systemd/system/nodeup.service": (CHECKOUT / "systemd/nodeup.service").read_text(),
        "/etc/apt/sources.list": "deb [trusted=yes] file:/srv/repository ./\n",
    }
    binds = [f"{repository}:/srv/repository"]
    machine = SystemdNode(tmp_path / "node", "node-a", files=files, binds=binds, all_capabilities=True)
    with machine.persist():
        machine.run("sh", "-c", "rm -rf /etc/apt/sources.list.d/* /var/lib/apt/lists/* /usr/sbin/policy-rc.d")
        machine.run("systemctl", "set-default", "multi-user.target")
        machine.run("systemctl", "enable", "nodeup.service")
        yield machine


def state(node: SystemdNode, unit: str) -> str:
    return node.run("systemctl", "show", "-P", "ActiveState", unit).stdout.strip()


def kubelets(node: SystemdNode) -> int:
    record = node.path(RECORD)
    return len(record.read_text().splitlines()) if record.exists() else 0


def wait_for_kubelet(node: SystemdNode) -> None:
    try:
        until("kubelet is up", lambda: kubelets(node), LIMIT)
    except AssertionError as error:
        logs = "\n".join(node.journal(unit) for unit in ("nodeup.service", "protokube.service"))
        jobs = node.run("systemctl", "list-jobs").stdout
        raise AssertionError(f"{error}\n{logs}\n{jobs}") from None


def test_a_bare_machine_becomes_a_node_and_stays_one(node: SystemdNode) -> None:
    assert node.run("dpkg-query", "-W", "containerd", check=False).returncode != 0
    node.run("systemctl", "start", "--no-block", "multi-user.target")
    wait_for_kubelet(node)
    until("nodeup is done", lambda: state(node, "nodeup.service") == "active", LIMIT)
    assert node.run("systemctl", "show", "-P", "NRestarts", "nodeup.service").stdout == "0\n"
    units = ("containerd.service", "protokube.service", "kubelet.service", "extra.service")
    assert {unit: state(node, unit) for unit in units} == dict.fromkeys(units, "active")
    assert node.run("dpkg-query", "-W", "-f", "${Version}", "containerd").stdout == VERSION
    assert "version = 2" in node.path("/etc/containerd/config.toml").read_text()
    assert node.run("uname", "-n").stdout.strip() == "node-b"
    assert node.path("/etc/hostname").read_text() == "node-b\n"
    enabled = ("nodeup.service", "protokube.service", "containerd.service", "extra.service")
    assert {unit: node.run("systemctl", "is-enabled", unit).stdout.strip() for unit in enabled} == dict.fromkeys(
        enabled, "enabled"
    )
    assert node.run("systemctl", "is-enabled", "kubelet.service", check=False).stdout.strip() != "enabled"
    assert node.run("systemctl", "is-enabled", "swap.target", check=False).stdout.strip() == "masked"
    # Nobody but protokube has started kubelet: nothing wants it.
    wanted = node.run("systemctl", "show", "-P", "WantedBy", "-P", "RequiredBy", "kubelet.service").stdout
    assert wanted.strip() == "" and kubelets(node) == 1

    # A second run plans no step and starts no program.
    again = node.run("sh", "-c", f"cd {inside.CHECKOUT} && exec {inside.PYTHON} -c '{COUNT}'")
    report = json.loads(again.stdout)
    assert (report["steps"], report["settled"]) == ([], True), report
    assert again.stderr.splitlines()[-1] == "0 []"

    # A boot: the same, nothing done twice, no job dropped.
    node.reboot()
    wait_for_kubelet(node)
    until("nodeup is done", lambda: state(node, "nodeup.service") == "active", LIMIT)
    assert node.run("systemctl", "show", "-P", "NRestarts", "nodeup.service").stdout == "0\n"
    assert {unit: state(node, unit) for unit in units} == dict.fromkeys(units, "active")
    said = node.run("journalctl", "--no-pager", "-b", "-o", "cat", "-u", "nodeup.service").stdout
    assert "Prepared: there was nothing left to do." in said
    assert node.run("systemctl", "show", "-P", "LoadState", "swap.target").stdout.strip() == "masked"
    assert "ordering cycle" not in node.run("journalctl", "--no-pager", "-b").stdout


def test_a_dpkg_that_was_cut_off_is_finished_and_units_start_at_once_by_hand(node: SystemdNode) -> None:
    node.run("sh", "-c", "dpkg --unpack /srv/repository/containerd*.deb")
    said = node.run("nodeup", "--config", "/etc/protokube/nodeup.yaml").stdout
    assert "✓ finish dpkg's interrupted work — dpkg was interrupted" in said
    assert "✓ start protokube.service" in said and said.endswith("\nPrepared.\n")
    status = node.run("dpkg-query", "-W", "-f", "${Status} ${Version}", "containerd").stdout
    assert status == f"install ok installed {VERSION}"
    assert {unit: state(node, unit) for unit in ("containerd.service", "extra.service")} == {
        "containerd.service": "active",
        "extra.service": "active",
    }
    node.path("/etc/protokube/nodeup.yaml").write_text(CONFIG.replace("3600", "1800"))
    said = node.run("nodeup", "--config", "/etc/protokube/nodeup.yaml").stdout
    assert "restart protokube.service — its configuration has changed since it was started" in said
    assert "restart containerd.service" not in said
