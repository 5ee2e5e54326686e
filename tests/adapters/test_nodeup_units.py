"""nodeup's unit in a boot with cloud-init: one order, and no cycle, by a real systemd.

The cloud-init units have the ordering of Debian's packages 22.4.2 (bookworm) and 25.1 (trixie), and note their turn.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.lab.systemd_node import SystemdNode
from tests.lab.trial import CHECKOUT, until

pytestmark = pytest.mark.root

FOLDER = "/etc/systemd/system"
OURS = ("nodeup.service", "containerd.service", "protokube.service", "ssh-host-keys.service")


def unit(name: str, ordering: str) -> str:
    """A unit that notes its turn."""
    turn = f"[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/sh -c 'echo {name} >>/run/turns'\n"
    return f"[Unit]\n{ordering}\n{turn}"


def cloud_init(network: str) -> dict[str, str]:
    """cloud-init's units. `network`: the name of the stage that writes user-data's files."""
    stage = "Wants=network-online.target cloud-config.target\n"
    early = "DefaultDependencies=no\nBefore=sysinit.target shutdown.target\nConflicts=shutdown.target\n"
    return {
        "cloud-init-local.service": unit("local", f"{early}Wants=network-pre.target\nBefore=network-pre.target"),
        network: unit(
            "network",
            f"{early}Wants=cloud-init-local.service\n"
            "After=cloud-init-local.service systemd-networkd-wait-online.service\n"
            "Before=network-online.target sshd.service systemd-user-sessions.service",
        ),
        "cloud-config.target": f"[Unit]\nWants=cloud-init-local.service {network}\n"
        f"After=cloud-init-local.service {network}\n",
        "cloud-config.service": unit("config", f"{stage}After=network-online.target cloud-config.target"),
        "cloud-final.service": unit(
            "final",
            f"{stage}After=network-online.target time-sync.target cloud-config.service rc-local.service\n"
            "After=multi-user.target\nBefore=apt-daily.service",
        ),
        "cloud-init.target": "[Unit]\nAfter=multi-user.target\n"
        f"Wants=cloud-init-local.service {network} cloud-config.service cloud-final.service\n",
    }


def files(network: str) -> dict[str, str]:
    """A machine whose boot starts cloud-init and all of ours; our programs only note their turn."""
    found = {f"{FOLDER}/{name}": text for name, text in cloud_init(network).items()}
    found |= {f"{FOLDER}/{name}": (CHECKOUT / "systemd" / name).read_text() for name in (*OURS, "kubelet.service")}
    for name in OURS:
        turn = f"[Service]\nType=oneshot\nRestart=no\nExecStart=\nExecStart=/bin/sh -c 'echo {name} >>/run/turns'\n"
        found[f"{FOLDER}/{name}.d/lab.conf"] = turn
    wants = " ".join(("cloud-init.target", *OURS))
    found[f"{FOLDER}/multi-user.target.d/lab.conf"] = f"[Unit]\nWants={wants}\n"
    found["/etc/protokube/nodeup.yaml"] = "cluster: dev.example.com\n"
    return found


def said_of_cycles(node: SystemdNode) -> str:
    verify = ("systemd-analyze", "verify", "--man=no", "multi-user.target")
    done = node.run(*verify, check=False)
    return "\n".join(line for line in (done.stdout + done.stderr).splitlines() if "cycle" in line)


@pytest.mark.parametrize("network", ["cloud-init.service", "cloud-init-network.service"])
def test_a_boot_with_cloud_init_has_one_order(tmp_path: Path, network: str) -> None:
    with SystemdNode(tmp_path, files=files(network)) as node:
        assert said_of_cycles(node) == ""
        node.run("systemctl", "start", "--no-block", "multi-user.target")
        turns: list[str] = []

        def all_had_theirs() -> bool:
            record = node.path("/run/turns")
            turns[:] = record.read_text().split() if record.exists() else []
            return {"final", *OURS} <= set(turns)

        until("every unit had its turn", all_had_theirs, 60.0)
        place: Mapping[str, int] = {name: turns.index(name) for name in turns}
        assert place["local"] < place["network"] < place["nodeup.service"]
        assert place["nodeup.service"] < min(place["containerd.service"], place["protokube.service"])
        assert place["nodeup.service"] < place["final"], "cloud-init's last stage comes after multi-user.target"
        assert "ordering cycle" not in node.run("journalctl", "--no-pager", "-b").stdout


def test_waiting_for_cloud_init_s_last_stage_would_be_a_cycle(tmp_path: Path) -> None:
    """What the unit's comment warns of, and that the check above would see it."""
    wrong = files("cloud-init.service")
    path = f"{FOLDER}/nodeup.service"
    wrong[path] = wrong[path].replace("After=cloud-config.target", "After=cloud-final.service")
    with SystemdNode(tmp_path, files=wrong) as node:
        assert "ordering cycle" in said_of_cycles(node)


@pytest.mark.parametrize("name", OURS)
def test_systemd_finds_no_fault(tmp_path: Path, name: str) -> None:
    programs = {f"/usr/bin/{one}": "#!/bin/sh\n" for one in ("nodeup", "protokube", "ssh-keygen")}
    programs["/usr/local/bin/containerd"] = "#!/bin/sh\n"
    shipped = {f"{FOLDER}/{name}": (CHECKOUT / "systemd" / name).read_text()}
    with SystemdNode(tmp_path, files=shipped | programs) as node:
        verify = ("systemd-analyze", "verify", "--man=no", "--recursive-errors=no", f"{FOLDER}/{name}")
        done = node.run(*verify, check=False)
        assert (done.returncode, done.stdout + done.stderr) == (0, "")
