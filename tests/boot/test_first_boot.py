"""Stock Debians, with our user-data and nothing else of ours, become nodes at their first boot, and stay nodes.

Real: systemd, cloud-init, containerd, the program, disk images. The kernel is this machine's, and kubelet a stand-in
that is fetched like the real one.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lab import stock
from tests.lab.first_boot import Checks, provide, seed
from tests.lab.netns import Network
from tests.lab.site import ADDRESS, BITS, MACHINE, Site
from tests.lab.systemd_node import SystemdNode
from tests.lab.trial import volume
from tests.lab.unit_node import LOOPS

pytestmark = [pytest.mark.root, pytest.mark.slow]

VOLUMES = ("main-a", "events-a")
MOUNTS = {f"/mnt/master-{name}" for name in VOLUMES}


class Container(SystemdNode):
    """A container that runs a stock Debian."""

    def run(self, command: str, *, check: bool = True) -> str:  # type: ignore[override]
        return super().run("sh", "-c", command, check=check).stdout


@pytest.mark.parametrize("suite", stock.SUITES)
def test_a_container(suite: str, tmp_path: Path) -> None:
    with Network(f"{ADDRESS}/{BITS}") as network:
        space = network.node(f"{MACHINE}/{BITS}", gateway=ADDRESS)
        with network.switch.inside():
            site = Site()
        provide(site)
        volumes = [{**volume(name, name.removesuffix("-a"), "a/a"), "file": f"/srv/{name}.img"} for name in VOLUMES]
        files = seed(site, volumes, tmp_path)
        machine = Container(
            tmp_path / "node",
            "node-a",
            files=files,
            binds=LOOPS,
            netns=space.name,
            all_capabilities=True,
            image=stock.ROOTS / suite,
            bare=True,
        ).persist()
        with site, machine:
            becomes_a_node_and_stays_one(machine, site, tmp_path)


def becomes_a_node_and_stays_one(machine: Container, site: Site, folder: Path) -> None:
    checks = Checks(machine, folder)
    config = checks.is_a_node()
    assert checks.cycles() == ""
    volumes = checks.volumes()
    assert volumes.keys() == MOUNTS
    assert machine.run("stat -c %a /etc/protokube/nodeup.yaml /var/cache/protokube").split() == ["600", "700"]
    assert sorted(site.requests) == ["/kubelet", "/protokube.pyz"]
    machine_id = machine.run("cat /etc/machine-id")
    files = machine.run("find /etc/systemd /etc/protokube /etc/kubernetes -type f | sort | xargs stat -c '%n %Y'")

    machine.reboot()

    assert checks.is_a_node() == config
    assert checks.cycles() == ""
    assert checks.volumes() == volumes
    assert len(site.requests) == 2, "nothing is fetched twice"
    assert machine.run("cat /etc/machine-id") == machine_id
    again = machine.run("find /etc/systemd /etc/protokube /etc/kubernetes -type f | sort | xargs stat -c '%n %Y'")
    assert again == files, "nothing is written twice"
    assert "format (" not in checks.journal("protokube")
