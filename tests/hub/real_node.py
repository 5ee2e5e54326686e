"""A hub and a real protokube node in one machine, as their units on a real systemd."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from tests.lab import inside
from tests.lab.kubelet_standin import kubelet_script
from tests.lab.unit_node import RECORD, UnitNode

CONFIG = "/etc/protokube/config.yaml"
TRIAL = "/var/lib/protokube/nokubelet/trial.json"
HUB = "/var/lib/protokube/hub"
INVENTORY = "{cluster: dev.example.com, nodes: [{name: node-a, internalAddress: 10.1.2.3}]}\n"
DISLIKES = 'case "$(cat /var/lib/kubelet/config.yaml 2>/dev/null)" in *"maxPods: 13"*) exit 1 ;; esac\nexec '
"""kubelet refuses what its schema allows: no dry run can foresee that."""


def program(name: str, module: str) -> dict[str, str]:
    start = f"import sys; from protokube.hub.{module} import main; sys.exit(main())"
    # Not from the checkout's directory: paths that are given stay the caller's.
    script = f"#!/bin/sh\nexport PYTHONPATH={inside.CHECKOUT}\nexec {inside.PYTHON} -c '{start}' \"$@\"\n"
    return {f"/usr/bin/{name}": script}


class Machine(UnitNode):
    """A hub and a node in one; the node is a worker, so that kubelet is all there is to it."""

    def __init__(self, base: Path) -> None:
        files = {
            **program("protokube-hub", "cli_hub"),
            **program("nokubelet", "cli_node"),
            **program("nokubectl", "cli_operator"),
            "/etc/protokube/inventory.yaml": INVENTORY,
            "/usr/bin/kubelet": kubelet_script("1.36.2", RECORD).replace("exec ", DISLIKES),
            "/etc/systemd/system/kubelet.service.d/quick.conf": "[Service]\nRestartSec=300ms\n",
            # The machine's Python may lie in a home directory, where no package would put it.
            "/etc/systemd/system/nokubelet.service.d/quick.conf": "[Service]\nRestartSec=100ms\nProtectHome=no\n",
            "/etc/systemd/system/protokube-hub.service.d/python.conf": "[Service]\nProtectHome=no\n",
            "/etc/sysconfig/protokube-hub": "PROTOKUBE_HUB_OPTIONS=--listen 127.0.0.1:7443\n",
        }
        own = {"master": False, "cloud": "local", "kubelet": {"maxPods": 40}, "kubeletRestartsPerHour": 60}
        super().__init__(base, "node-a", own, files=files)

    def set_up(self) -> None:
        """Make and serve the hub, enrol the node, let anna in, and start everything as units."""
        self.run("protokube-hub", "init", "--name", "hub", "--address", "127.0.0.1")
        self.launch("protokube-hub.service")
        self.run("protokube-hub", "operator", "anna", "--out", "/root/anna")
        printed = self.run("nokubectl", "--identity", "/root/anna", "keygen", "anna").stdout
        self.path("/etc/protokube/nokubelet.yaml").write_text(printed[printed.index("policy:") :])
        token = self.run("protokube-hub", "token", "node-a", "--group", "edge").stdout
        self.run(
            *("nokubelet", "enrol", "--hub", "127.0.0.1:7443", "--node", "node-a", "--token-file", "-"), stdin=token
        )
        self.bring_up()
        self.launch("nokubelet.service")
        self.until("it is linked", lambda: self.nodes()[0]["linked"])

    def launch(self, unit: str) -> None:
        """Start a unit."""
        started = self.run("systemctl", "start", unit, check=False)
        assert started.returncode == 0, self.journal(unit)

    def ctl(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run nokubectl."""
        return self.run(
            *("nokubectl", "--hub", "127.0.0.1:7443", "--identity", "/root/anna", *arguments),
            check=check,
            timeout=400.0,
        )

    def nodes(self) -> Any:
        """The fleet, as scripts see it."""
        return json.loads(self.ctl("-o", "json", "nodes").stdout)

    def begin(self, *arguments: str) -> subprocess.Popen[str]:
        """Run nokubectl beside the test."""
        words = ("nokubectl", "--hub", "127.0.0.1:7443", "--identity", "/root/anna", "-o", "json", *arguments)
        return subprocess.Popen(self.command(*words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def put(self, pods: int) -> tuple[subprocess.Popen[str], str]:
        """Put a configuration with other maxPods on trial; the running nokubectl, and the command's id."""
        text = json.dumps(self.config | {"kubelet": {"maxPods": pods}})
        self.path("/root/new.yaml").write_text(text)
        words = ("--on", "node-a", "--file", "/root/new.yaml", "--base", self.current(), "--confirm-within", "30")
        going = self.begin("config.put", *words)
        self.until("it is on trial", lambda: self.path(TRIAL).exists() and self.pods() == pods)
        command: str = json.loads(self.path(TRIAL).read_text())["command"]
        return going, command

    def current(self) -> str:
        """The current revision of protokube's configuration."""
        told = json.loads(self.ctl("-o", "json", "config.list", "--on", "node-a").stdout)
        return str(told["results"]["node-a"]["current"])

    def pods(self) -> int:
        """maxPods of protokube's configuration."""
        found: int = json.loads(self.path(CONFIG).read_text())["kubelet"]["maxPods"]
        return found

    def last_pods(self) -> int | None:
        """maxPods of the kubelet that started last."""
        found: int | None = self.kubelets()[-1]["config"].get("maxPods")
        return found

    def back(self, kubelet: bool = True) -> None:
        """Wait until the configuration from before is there, and protokube runs with it."""
        self.until("the old configuration is back", lambda: self.pods() == 40 and not self.path(TRIAL).exists())
        self.until("protokube is active", lambda: self.show("ActiveState") == "active")
        if kubelet:
            self.until("kubelet runs with it", lambda: self.last_pods() == 40)
            self.until("kubelet stays", lambda: self.show("ActiveState", "kubelet.service") == "active")
