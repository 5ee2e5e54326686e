"""The operator's day of docs/hub.md, word by word, on a real systemd with a real protokube."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.hub.real_node import TRIAL, Machine
from tests.lab.trial import CHECKOUT
from tests.lab.unit_node import UNIT

pytestmark = [pytest.mark.root, pytest.mark.xdist_group("hub-real-node")]

SECTIONS = ("Set up a hub", "Enrol a node", "The operator's day")
POD = "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {containers: [{name: c, image: 'web:1'}]}\n"


def documented() -> list[str]:
    """The commands of these sections, in order, without prompts and comments."""
    text = (CHECKOUT / "docs/hub.md").read_text()
    found: list[str] = []
    for section in SECTIONS:
        body = text.split(f"\n## {section}\n", 1)[1].partition("\n## ")[0]
        for line in "\n".join(re.findall(r"^```\n(.*?)^```", body, re.M | re.S)).splitlines():
            command = re.sub(r"^(hub|node)# +", "", re.sub(r"\s+# .*", "", line)).strip()
            found += [part.strip() for part in command.split(";") if part.strip()]
    return found


class Day:
    """One machine in which the commands are run, as root in root's home."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.exported: list[str] = []
        self.putting: subprocess.Popen[str] | None = None
        self.put_by = ""
        self.ran: list[str] = []

    def shell(self, command: str) -> list[str]:
        return ["bash", "-c", "\n".join(["set -eu", "export HOME=/root", "cd", *self.exported, command])]

    def run(self, command: str) -> str:
        """Run a documented command to its end."""
        return self.machine.run(*self.shell(command), timeout=400.0).stdout

    def begin(self, command: str) -> subprocess.Popen[str]:
        """Run it beside the test."""
        argv = self.machine.command(*self.shell(command))
        return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def do(self, command: str) -> None:
        """Run it as an operator would."""
        self.ran.append(command)
        for word, how in self.special().items():
            if word in command:
                how(command)
                return
        self.run(command)

    def special(self) -> dict[str, Callable[[str], None]]:
        """What needs more than to be run to its end."""
        return {
            "export ": self.exported.append,
            "config.put": self.on_trial,
            "rollback": self.on_trial,
            "config.confirm": self.confirm,
            "nokubectl show": self.shown,
            "nokubectl cancel": self.cancel,
            "nokubectl page": self.page,
            "keygen": self.keygen,
            "enable --now nokubelet": self.start,
        }

    def keygen(self, command: str) -> None:
        """Its lines go to the node's policy."""
        printed = self.run(command)
        policy = printed[printed.index("policy:") :] + "manifests: /etc/kubernetes/manifests\n"
        self.machine.path("/etc/protokube/nokubelet.yaml").write_text(policy)
        self.run("mkdir -p /etc/kubernetes/manifests; systemctl restart nokubelet")
        self.linked()

    def start(self, command: str) -> None:
        self.run(command)
        self.machine.until(
            "it is linked", lambda: self.machine.show("StatusText", "nokubelet.service") == "linked to hub.example"
        )

    def linked(self) -> None:
        export = "export NOKUBECTL_HUB=hub.example:7443; nokubectl -o json nodes"
        self.machine.until("it is linked", lambda: json.loads(self.run(export))[0]["linked"])

    def on_trial(self, command: str) -> None:
        """It runs until its configuration is confirmed, which is the next command."""
        base = json.loads(self.run("nokubectl -o json config.list --on node-a"))["results"]["node-a"]["current"]
        asked = re.sub(r"--base \d+", f"--base {base}", command).replace("ID", self.put_by)
        self.putting = self.begin(asked)
        self.machine.until("it is on trial", self.machine.path(TRIAL).exists)
        self.put_by = str(json.loads(self.machine.path(TRIAL).read_text())["command"])
        if "rollback" in command:
            self.confirm("nokubectl config.confirm --on edge --of ID")

    def confirm(self, command: str) -> None:
        assert self.putting is not None
        self.run(command.replace("ID", self.put_by))
        out, errors = self.putting.communicate(timeout=400)
        assert self.putting.returncode == 0, out + errors

    def shown(self, command: str) -> None:
        assert self.put_by in self.run(command.replace("ID", self.put_by))

    def cancel(self, command: str) -> None:
        logs = self.begin("nokubectl logs --on node-a --follow 300")
        assert logs.stderr is not None
        own = logs.stderr.readline().removeprefix("command ").strip()
        self.run(command.replace("ID", own))
        logs.communicate(timeout=400)
        assert logs.returncode == 1

    def page(self, command: str) -> None:
        going = self.begin(f"echo $$ >/run/page.pid; exec {command}")
        assert going.stdout is not None
        url = going.stdout.readline().split()[0]
        try:
            assert "1 of 1 nodes are linked" in self.run(f"curl --silent --fail {url}")
        finally:
            # Its own pid in the node: the process out here is nsenter's.
            self.run("kill -INT $(cat /run/page.pid)")
            going.communicate(timeout=400)
        assert going.returncode == 0


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with Machine(tmp_path) as machine:
        with machine.path("/etc/hosts").open("a") as hosts:
            hosts.write("127.0.0.1 hub.example\n")
        machine.path("/root/new.yaml").write_text(json.dumps(machine.config | {"kubelet": {"maxPods": 42}}))
        machine.path("/root/web.yaml").write_text(POD)
        machine.bring_up()
        yield machine


def test_every_command_of_the_operator_s_day(machine: Machine) -> None:
    day = Day(machine)
    for command in documented():
        day.do(command)
    assert len(day.ran) > 20
    assert machine.path("/etc/kubernetes/manifests/hub-web.yaml").read_text() == POD
    assert machine.pods() == 40 and machine.show("ActiveState", UNIT) == "active"
