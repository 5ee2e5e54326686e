"""Hub, nokubelet and protokube as their units on a real systemd: what an operator asks a real daemon for."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.hub.real_node import CONFIG, HUB, TRIAL, Machine, program
from tests.lab.systemd_node import SystemdNode
from tests.lab.trial import CHECKOUT
from tests.lab.unit_node import UNIT

CAPABILITIES = {
    **{"CHOWN": 0, "DAC_OVERRIDE": 1, "DAC_READ_SEARCH": 2, "FOWNER": 3, "KILL": 5, "LINUX_IMMUTABLE": 9},
    **{"NET_BIND_SERVICE": 10, "SYS_ADMIN": 21},
}
"""The kernel's numbers (linux/capability.h)."""

pytestmark = [pytest.mark.root, pytest.mark.xdist_group("hub-real-node")]


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with Machine(tmp_path_factory.mktemp("hub")) as machine:
        machine.set_up()
        yield machine


def ended(going: subprocess.Popen[str]) -> Any:
    """What nokubectl said of node-a at the end."""
    out, errors = going.communicate(timeout=400)
    assert out, errors
    return json.loads(out)["nodes"]["node-a"]


def test_the_units_run_and_say_so(machine: Machine) -> None:
    for unit, status in (
        ("protokube-hub.service", "hub hub on 127.0.0.1:7443"),
        ("nokubelet.service", "linked to hub"),
    ):
        assert machine.show("ActiveState", unit) == "active" and machine.show("NRestarts", unit) == "0"
        assert status in machine.show("StatusText", unit)
    mode = machine.path(f"{HUB}/ca.key").stat().st_mode & 0o777
    assert mode == 0o600 and machine.path(HUB).stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("unit", "memory", "capabilities"),
    [
        ("protokube-hub.service", 4 << 30, {"NET_BIND_SERVICE"}),
        (
            "nokubelet.service",
            1 << 30,
            {
                *("CHOWN", "SYS_ADMIN", "LINUX_IMMUTABLE", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "KILL"),
            },
        ),
    ],
)
def test_the_running_programs_are_bounded(machine: Machine, unit: str, memory: int, capabilities: set[str]) -> None:
    """By the kernel's own word of the process that systemd has started."""
    status = machine.path(f"/proc/{machine.show('MainPID', unit)}/status").read_text()
    told = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    names = {name for name, bit in CAPABILITIES.items() if int(told["CapBnd"], 16) >> bit & 1}
    # What the node's own machine hasn't got, no unit has.
    machine_has = int(machine.path("/proc/1/status").read_text().split("CapBnd:\t")[1].split()[0], 16)
    assert names == {name for name in capabilities if machine_has >> CAPABILITIES[name] & 1}
    assert int(told["CapBnd"], 16).bit_count() == len(names)
    assert told["NoNewPrivs"] == "1" and told["Seccomp"] == "2"
    assert machine.show("MemoryMax", unit) == str(memory)
    group = machine.show("ControlGroup", unit)
    limits = list(machine.path("/sys/fs/cgroup").glob(f"**{group}/memory.max"))
    assert all(limit.read_text().strip() == str(memory) for limit in limits)


def test_plan_logs_status_and_sync_of_a_real_daemon(machine: Machine) -> None:
    told = json.loads(machine.ctl("-o", "json", "plan", "--on", "edge").stdout)
    report = json.loads(told["output"]["node-a"])
    assert report["version"] == 1 and report["settled"] is True and report["steps"] == []
    assert "node-a: nothing to do" in machine.ctl("plan", "--on", "all").stdout
    assert re.search(r"node-a: .*converged", machine.ctl("logs", "--on", "all", "--lines", "50").stdout)
    assert "node-a: protokube: active" in machine.ctl("status", "--on", "all").stdout
    machine.path("/var/lib/kubelet/config.yaml").unlink()
    assert machine.ctl("sync", "--on", "node-a").returncode == 0
    assert machine.path("/var/lib/kubelet/config.yaml").exists()


def test_a_hold_stops_the_daemon_until_it_is_released(machine: Machine) -> None:
    machine.ctl("hold", "--on", "node-a", "--reason", "disk swap", "--minutes", "30")
    assert machine.show("ActiveState") == "inactive" and machine.show("LoadState") == "masked"
    assert machine.run("systemctl", "start", UNIT, check=False).returncode != 0
    assert machine.nodes()[0]["held"] is True
    machine.ctl("release", "--on", "node-a")
    machine.until("it is active", lambda: machine.show("ActiveState") == "active")
    machine.until("the hub knows", lambda: machine.nodes()[0]["held"] is False)


def test_what_protokube_refuses_is_never_put(machine: Machine) -> None:
    machine.path("/root/bad.yaml").write_text("colour: red\n")
    words = ("--on", "node-a", "--file", "/root/bad.yaml", "--base", machine.current())
    end = ended(machine.begin("config.put", *words))
    assert end["outcome"] == "failed" and "colour" in end["why"]
    assert machine.pods() == 40


def test_scenario_11_a_confirmed_configuration_stays(machine: Machine) -> None:
    os.chown(machine.path(CONFIG), 12, 34)  # the unit has what it needs to keep that
    machine.path(CONFIG).chmod(0o640)
    going, command = machine.put(41)
    machine.ctl("config.confirm", "--on", "node-a", "--of", command)
    assert ended(going)["outcome"] == "ok"
    machine.until("kubelet runs with it", lambda: machine.last_pods() == 41)
    back = machine.begin("rollback", "--on", "node-a", "--of", command)
    machine.until("it is on trial", lambda: machine.path(TRIAL).exists() and machine.pods() == 40)
    machine.ctl("config.confirm", "--on", "node-a", "--of", json.loads(machine.path(TRIAL).read_text())["command"])
    assert ended(back)["outcome"] == "ok"
    machine.back()
    kept = machine.path(CONFIG).stat()
    assert (kept.st_uid, kept.st_gid, kept.st_mode & 0o777) == (12, 34, 0o640)


def test_scenario_11_one_that_breaks_the_node_comes_back_by_itself(machine: Machine) -> None:
    going, _command = machine.put(13)
    machine.until("kubelet is down", lambda: machine.show("ActiveState", "kubelet.service") != "active")
    end = ended(going)
    assert end["outcome"] == "failed" and "not confirmed within 30 s" in end["why"]
    machine.back()


def test_scenario_11_one_that_breaks_the_node_comes_back_while_the_hub_is_dead(machine: Machine) -> None:
    going, command = machine.put(13)
    machine.run("systemctl", "kill", "--signal=SIGKILL", "protokube-hub")
    machine.run("systemctl", "stop", "protokube-hub")
    going.communicate(timeout=400)
    machine.back()
    assert machine.show("ActiveState", "protokube-hub.service") != "active"
    machine.run("systemctl", "start", "protokube-hub")

    def told() -> Any:
        return json.loads(machine.ctl("-o", "json", "show", command).stdout)[0]["nodes"]["node-a"]

    machine.until("the hub learns of its end", lambda: told()["outcome"] == "failed")
    assert "not confirmed" in told()["why"]


def test_scenario_11_one_that_the_daemon_dies_of_comes_back(machine: Machine) -> None:
    quick = machine.path(f"/etc/systemd/system/{UNIT}.d/dies.conf")
    quick.write_text("[Service]\nRestart=no\n")
    machine.run("systemctl", "daemon-reload")
    going, _command = machine.put(42)
    machine.run("systemctl", "kill", "--signal=SIGKILL", "--kill-whom=main", UNIT)
    end = ended(going)
    assert end["outcome"] == "failed" and "didn't stay active" in end["why"]
    machine.back()
    quick.unlink()
    machine.run("systemctl", "daemon-reload")


def test_nokubelet_killed_during_a_trial_takes_it_back_at_its_start(machine: Machine) -> None:
    going, _command = machine.put(43)
    machine.run("systemctl", "kill", "--signal=SIGKILL", "nokubelet")
    end = ended(going)
    assert end["outcome"] == "unknown" and "ended while it ran" in end["why"]
    machine.back()


@pytest.mark.parametrize(("unit", "most"), [("protokube-hub.service", 20), ("nokubelet.service", 45)])
def test_the_units_may_do_little_more_than_they_need(unit: str, most: int) -> None:
    command = ["systemd-analyze", "security", "--no-pager", "--offline=true", f"--threshold={most}"]
    done = subprocess.run([*command, str(CHECKOUT / "systemd" / unit)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_systemd_finds_no_fault(tmp_path: Path) -> None:
    units = ("protokube-hub.service", "nokubelet.service")
    files = {f"/etc/systemd/system/{unit}": (CHECKOUT / "systemd" / unit).read_text() for unit in units}
    programs = program("protokube-hub", "cli_hub") | program("nokubelet", "cli_node")
    with SystemdNode(tmp_path / "node", files=files | programs) as node:
        verify = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no"]
        for unit in units:
            done = node.run(*verify, f"/etc/systemd/system/{unit}")
            assert done.stdout + done.stderr == ""
