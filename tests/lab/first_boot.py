"""A stock machine's first boot with our user-data: what it finds, and what it must have become."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from tests.lab.kubelet_standin import VERSIONS, check, help_text
from tests.lab.site import MACHINE, Site
from tests.lab.trial import CHECKOUT, CLUSTER, until

LIMIT = 1800.0
"""Seconds that only a hang exceeds: an emulated machine on a busy one takes minutes to boot."""
SEED = "/var/lib/cloud/seed/nocloud"
KUBELET = f"""#!/bin/sh
case "$*" in
--version) echo Kubernetes v{VERSIONS[-1]}; exit ;;
--help) cat <<'END'
{help_text(VERSIONS[-1])}
END
exit ;;
esac
printf '%s\\n' start "$@" >>/run/kubelet-argv
(cd /etc/kubernetes/manifests && head -qn 1 *.manifest) >>/run/kubelet-saw
exec sleep infinity
"""


class Machine(Protocol):
    """What both kinds of machine can do: run a shell command, which must succeed unless `check` is false."""

    def run(self, command: str, *, check: bool = True) -> str: ...


def provide(site: Site) -> None:
    """Put on the site what a machine fetches: the program, and a stand-in for kubelet in one file."""
    site.files["/protokube.pyz"] = (CHECKOUT / "build/protokube.pyz").read_bytes()
    site.files["/kubelet"] = KUBELET.encode()


def seed(site: Site, volumes: Sequence[Mapping[str, Any]], folder: Path) -> dict[str, str]:
    """The files of a NoCloud seed, with user-data as an operator makes it."""
    inventory = {
        "cluster": CLUSTER,
        "zone": "local",
        "nodes": [{"name": "node-a", "internalAddress": MACHINE}],
        "volumes": list(volumes),
    }
    config = {
        "cluster": CLUSTER,
        "role": "control-plane",
        "kubernetesVersion": VERSIONS[-1],
        "assets": [
            {
                "path": f"/usr/bin/{name[1:].removesuffix('.pyz')}",
                "sha256": site.sha256(name),
                "urls": [site.url(name)],
            }
            for name in site.files
        ],
        "files": [{"path": "/etc/protokube/inventory.yaml", "content": json.dumps(inventory)}],
        "protokube": {"cloud": "local", "dns": "hosts", "interval": 3600},
    }
    file = folder / "node.yaml"
    file.write_text(json.dumps(config, indent=1))
    command = [sys.executable, "-m", "nodeup", "--config", str(file), "--target", "cloudinit"]
    user_data = subprocess.run(command, cwd=CHECKOUT, check=True, capture_output=True, text=True).stdout
    return {
        f"{SEED}/user-data": user_data,
        f"{SEED}/meta-data": "instance-id: node-a\nlocal-hostname: node-a\n",
        # The lab's networks have no DHCP.
        "/etc/cloud/cloud.cfg.d/99-network.cfg": "network: {config: disabled}\n",
    }


class Checks:
    """What a test asks of a machine in its present boot."""

    def __init__(self, machine: Machine, folder: Path) -> None:
        self._run = machine.run
        self._folder = folder

    def is_a_node(self) -> dict[str, Any]:
        """Wait until it is one, and return kubelet's configuration after all that the real kubelet checks."""
        self._until("protokube is converged", lambda: "converged" in self.journal("protokube").splitlines())
        units = "nodeup protokube kubelet"
        self._until(
            "all units run", lambda: {*self._run(f"systemctl is-active {units} || true").split()} == {"active"}
        )
        self._until("kubelet has started", lambda: self._run("cat /run/kubelet-saw || true"))
        assert len(self._run("cat /run/kubelet-saw").splitlines()) == 2, "both manifests were there when it started"
        _, *argv = self._run("cat /run/kubelet-argv").splitlines()
        assert "start" not in argv, "kubelet was started twice"
        root = self._folder / "checked"
        (root / "var/lib/kubelet").mkdir(parents=True, exist_ok=True)
        (root / "var/lib/kubelet/config.yaml").write_text(self._run("cat /var/lib/kubelet/config.yaml"))
        config = check(argv, VERSIONS[-1], root)
        assert config["staticPodPath"] == "/etc/kubernetes/manifests"
        return config

    def volumes(self) -> dict[str, str]:
        """Mount point → UUID of the filesystem there."""
        found = self._run("findmnt -rnt ext4 -o TARGET,UUID | grep ^/mnt/ || true")
        return dict(line.split() for line in found.splitlines())

    def journal(self, unit: str) -> str:
        """What a unit has logged in this boot."""
        return self._run(f"journalctl --no-pager -b -o cat -u {unit}")

    def cycles(self) -> str:
        """What systemd said of ordering cycles in this boot."""
        return self._run("journalctl --no-pager -b -o cat | grep 'ordering cycle' || true")

    def _until(self, what: str, holds: Callable[[], object]) -> None:
        """Wait; when it doesn't come, the journal tells why."""
        try:
            until(what, holds, LIMIT)
        except AssertionError as still:
            raise AssertionError(f"{still}\n{self._run('journalctl --no-pager -b -o short-monotonic')}") from None
