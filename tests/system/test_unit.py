"""The daemon as its unit on a real systemd, with real disks, from a bare machine to a started kubelet and beyond."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.lab.disks import LoopDisk, digest, run
from tests.lab.trial import both, write_inventory
from tests.lab.unit_node import LINKS, LOOPS, SAW, UNIT, UnitNode

pytestmark = pytest.mark.root

DISKS = "/var/lib/disks"


class Machine(UnitNode):
    """A node with two volumes in files."""

    def __init__(self, base: Path, **config: Any) -> None:
        self.disks = base / "disks"
        write_inventory(self.disks, *both())
        (self.disks / "volumes").mkdir()
        inventory = (self.disks / "inventory.yaml").read_text().replace('"volumes/', f'"{DISKS}/volumes/')
        files = {"/etc/protokube/inventory.yaml": inventory}
        binds = [*LOOPS, f"{self.disks}:{DISKS}"]
        super().__init__(base / "node", "node-a", {"cloud": "local", **config}, files=files, binds=binds)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with Machine(tmp_path) as machine:
        yield machine


VOLUMES = {"/mnt/master-main-a", "/mnt/master-events-a"}


def assert_it_is_a_node(machine: Machine) -> None:
    assert set(machine.mounts()) == VOLUMES
    for name in LINKS:
        link = machine.path(f"/etc/kubernetes/manifests/{name}")
        assert link.is_symlink() and not os.readlink(link).startswith("/")
    assert machine.show("ActiveState", "kubelet.service") == "active"


def test_a_bare_machine_becomes_a_node(machine: Machine) -> None:
    assert not machine.kubelets() and not machine.mounts()

    machine.bring_up()

    assert machine.show("ActiveState") == "active" and machine.show("StatusText") == "converged"
    assert_it_is_a_node(machine)
    (kubelet,) = machine.kubelets()
    assert "--config=/var/lib/kubelet/config.yaml" in kubelet["argv"]
    assert kubelet["config"]["staticPodPath"] == "/etc/kubernetes/manifests"
    assert len(machine.path(SAW).read_text().splitlines()) == len(LINKS), "the manifests stood before kubelet started"
    hosts = machine.path("/etc/hosts").read_text()
    assert "etcd-a.internal.dev.example.com" in hosts and "etcd-events-a.internal.dev.example.com" in hosts
    assert machine.show("NRestarts") == "0"


def test_an_event_brings_a_stopped_kubelet_back(machine: Machine) -> None:
    """The next poll of a converged node is an hour away, so only an event explains it."""
    machine.bring_up()
    before = len(machine.journal(UNIT))
    for again in (2, 3):
        machine.run("systemctl", "stop", "kubelet")
        machine.until("kubelet is back", lambda: len(machine.kubelets()) == again)
    machine.until("it is active", lambda: machine.show("ActiveState", "kubelet.service") == "active")
    log = machine.journal(UNIT)[before:]
    assert re.search(r"woken by .*kubelet\.service", log), log


def test_stopping_the_daemon_leaves_the_node_as_it_is(machine: Machine) -> None:
    machine.bring_up()
    kubelet, mounts = machine.show("MainPID", "kubelet.service"), machine.mounts()

    machine.run("systemctl", "stop", UNIT)

    assert machine.show("ActiveState") == "inactive"
    assert (machine.show("Result"), machine.show("ExecMainStatus")) == ("success", "0")
    assert machine.mounts() == mounts and set(mounts) == VOLUMES
    assert machine.show("MainPID", "kubelet.service") == kubelet
    assert_it_is_a_node(machine)

    machine.run("systemctl", "start", UNIT)
    machine.converged(2)
    assert machine.mounts() == mounts
    assert machine.show("MainPID", "kubelet.service") == kubelet, "a new daemon restarts no kubelet"


def test_a_hanging_daemon_is_replaced(tmp_path: Path) -> None:
    with Machine(tmp_path) as machine:
        quick = machine.path(f"/etc/systemd/system/{UNIT}.d/quick.conf")
        quick.write_text("[Service]\nRestartSec=100ms\nWatchdogSec=10s\n")
        machine.run("systemctl", "daemon-reload")
        machine.bring_up()
        first, uuids = machine.show("MainPID"), machine.filesystems()
        kubelet = machine.show("MainPID", "kubelet.service")

        machine.run("kill", "-STOP", first)
        machine.until("systemd has another one", lambda: machine.show("MainPID") not in ("0", first))
        machine.converged(2)

        assert "Watchdog timeout" in machine.journal(UNIT)
        assert machine.filesystems() == uuids
        assert machine.show("MainPID", "kubelet.service") == kubelet
        assert machine.said("format (") == 2
        assert_it_is_a_node(machine)


def test_kill_9_of_the_daemon(machine: Machine) -> None:
    """systemd starts it again, as often as it takes, while it makes a node of the machine."""
    machine.run("systemctl", "start", "--no-block", UNIT)
    for words in ("attach main-a", "format (", "mount ", "link "):
        machine.until(f"it said {words}", lambda: machine.said(words))
        machine.run("systemctl", "kill", "--kill-who=main", "--signal=KILL", UNIT, check=False)
    machine.until("it is converged", lambda: machine.show("StatusText") == "converged")
    assert_it_is_a_node(machine)
    assert int(machine.show("NRestarts")) >= 1
    assert machine.said("refused") == 0, machine.journal(UNIT)


def test_a_changed_configuration_restarts_kubelet_once(machine: Machine) -> None:
    machine.bring_up()
    daemon = machine.show("MainPID")
    machine.configure(kubelet={"maxPods": 42})

    machine.run("systemctl", "reload", UNIT)
    machine.until("kubelet has started again", lambda: len(machine.kubelets()) >= 2)
    machine.converged(2)
    assert [one["config"].get("maxPods") for one in machine.kubelets()][1:] == [42]

    machine.run("systemctl", "reload", UNIT)
    machine.converged(3)
    assert len(machine.kubelets()) == 2, "nothing has changed since"
    assert machine.show("MainPID") == daemon


def test_a_wrong_configuration_is_reported_and_the_old_one_kept(machine: Machine) -> None:
    machine.bring_up()
    machine.configure(intervall=5)
    machine.run("systemctl", "reload", UNIT)
    machine.converged(2)
    assert machine.said("the new configuration is not used: ") == 1
    assert machine.said("unknown key 'intervall': did you mean 'interval'?") == 1
    assert len(machine.kubelets()) == 1
    assert machine.show("ActiveState") == "active"


def test_a_wrong_configuration_at_the_start_is_not_tried_again(machine: Machine) -> None:
    machine.configure(intervall=5)
    assert machine.run("systemctl", "start", UNIT, check=False).returncode != 0
    assert (machine.show("ActiveState"), machine.show("ExecMainStatus")) == ("failed", "78")
    assert machine.show("NRestarts") == "0"
    assert not machine.mounts() and not machine.kubelets()


def test_a_reboot(tmp_path: Path) -> None:
    """It comes up by itself, with what it had: nothing is formatted again."""
    machine = Machine(tmp_path)
    try:
        machine.persist().start()
        machine.run("systemctl", "set-default", "multi-user.target")
        machine.run("systemctl", "enable", UNIT)
        machine.bring_up()
        uuids = machine.filesystems()
        machine.path("/mnt/master-main-a/var/etcd/data/kept").write_text("data")

        for _ in range(2):
            machine.reboot()
            machine.converged()
            machine.until("kubelet is up", machine.kubelets)

            assert machine.filesystems() == uuids and set(uuids) == VOLUMES
            assert machine.path("/mnt/master-main-a/var/etcd/data/kept").read_text() == "data"
            assert_it_is_a_node(machine)
            assert len(machine.kubelets()) == 1
            assert machine.said("format (") == 0 and machine.said("check") > 0, machine.journal(UNIT)
    finally:
        machine.close()


def test_a_power_cut_and_another_boot(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    try:
        machine.persist().start()
        machine.bring_up()
        uuids = machine.filesystems()
        machine.kill()
        machine.start()
        assert not machine.mounts()
        machine.bring_up()
        assert machine.filesystems() == uuids
        assert_it_is_a_node(machine)
    finally:
        machine.close()


def test_a_masked_kubelet_is_reported_and_never_fought(machine: Machine) -> None:
    machine.run("systemctl", "mask", "kubelet.service")
    machine.run("systemctl", "start", UNIT)
    machine.until("it is refused", lambda: machine.said("refused: kubelet.service: kubelet/unit"))
    assert machine.said("kubelet.service is masked") >= 1
    assert "kubelet/unit" in machine.show("StatusText")
    machine.until("everything else is done", lambda: machine.links() == set(LINKS))

    machine.run("systemctl", "kill", "--kill-who=main", "--signal=USR1", UNIT)
    machine.until("it looked again", lambda: machine.said("woken by SIGUSR1"))
    assert machine.show("LoadState", "kubelet.service") == "masked" and not machine.kubelets()

    machine.run("systemctl", "unmask", "kubelet.service")
    machine.until("kubelet runs", machine.kubelets)
    machine.converged()


def test_the_gate_holds_kubelet_back_and_opens_loudly(machine: Machine, tmp_path: Path) -> None:
    image = machine.disks / "volumes/main-a.img"
    with LoopDisk(image) as disk:
        run("mkswap", "-q", disk.device)
    before = digest(image)
    machine.configure(kubeletGateTimeout=100_000)
    machine.run("systemctl", "start", UNIT)
    waiting = "waiting: kubelet.service: not started before main-a is mounted"
    machine.until("it says what kubelet waits for", lambda: machine.said(waiting))
    machine.until("the other volume is up", lambda: "/mnt/master-events-a" in machine.mounts())
    assert not machine.kubelets() and machine.show("ActiveState", "kubelet.service") == "inactive"
    assert machine.said("refused: main-a: format/not-blank") >= 1

    machine.configure(kubeletGateTimeout=1)
    machine.run("systemctl", "reload", UNIT)

    machine.until("the gate has opened", machine.kubelets)
    opened = "the gate opened after 1 s, before main-a is "
    machine.until("it says so", lambda: machine.said(opened))
    assert machine.path(SAW).read_text().count("\n") == 1, "kubelet starts with what there is"
    machine.run("systemctl", "stop", UNIT)
    assert digest(image) == before


def test_no_bus_no_kubelet_and_it_comes_later(machine: Machine) -> None:
    """The system bus is away when the daemon starts: it says so, and starts kubelet when the bus is there."""
    machine.run("systemctl", "stop", "dbus.service", "dbus.socket")
    machine.run("systemctl", "start", UNIT)
    machine.until("it is told", lambda: machine.said("unknown: kubelet.service"))
    machine.until("everything else is done", lambda: machine.links() == set(LINKS))
    assert not machine.kubelets()
    machine.run("systemctl", "start", "dbus.socket")
    machine.until("kubelet runs", machine.kubelets)
    machine.converged()


def test_sigterm_while_mkfs_is_at_work(machine: Machine) -> None:
    """The daemon ends at once and cleanly; mkfs goes on by itself, and the next daemon finds its filesystem."""
    machine.run("systemctl", "start", "--no-block", UNIT)
    machine.until("mkfs was started", lambda: machine.said("format ("))
    machine.run("systemctl", "stop", UNIT)
    assert (machine.show("Result"), machine.show("ExecMainStatus")) == ("success", "0")
    machine.bring_up()
    assert_it_is_a_node(machine)
    assert machine.said("refused") == 0


def test_signals_are_those_of_a_service(machine: Machine) -> None:
    machine.bring_up()
    machine.run("systemctl", "kill", "--kill-who=main", "--signal=INT", UNIT)
    machine.until("it has ended", lambda: machine.said("SIGINT: ending"))
    machine.converged(2)
    assert_it_is_a_node(machine)


def test_what_kubelet_reads_is_what_protokube_wrote(machine: Machine) -> None:
    machine.configure(kubelet={"evictionHard": {"memory.available": "100Mi"}}, nodeLabels={"example.com/rack": "r1"})
    machine.bring_up()
    (kubelet,) = machine.kubelets()
    assert kubelet["config"]["evictionHard"]["memory.available"] == "100Mi"
    assert any("example.com/rack=r1" in word for word in kubelet["argv"])
    written = yaml.safe_load(machine.path("/var/lib/kubelet/config.yaml").read_text())
    assert {key: written[key] for key in kubelet["config"]} == kubelet["config"]
