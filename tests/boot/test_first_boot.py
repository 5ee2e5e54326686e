"""Stock Debians, with our user-data and nothing else of ours, become nodes at their first boot, and stay nodes.

Real in the virtual machine: kernel, udev, NVMe disks, systemd, cloud-init, containerd, the time service, the program.
Only kubelet is a stand-in, which is fetched like the real one. Debian 13 runs in a container, with disk images.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import stock
from tests.lab.first_boot import Checks, provide, seed
from tests.lab.netns import Network
from tests.lab.site import ADDRESS, BITS, MACHINE, NETWORK, Site, make_tap
from tests.lab.systemd_node import SystemdNode
from tests.lab.trial import tags, volume
from tests.lab.unit_node import LOOPS
from tests.lab.vm import Vm, make_image

pytestmark = [pytest.mark.root, pytest.mark.slow]

DISKS = {"main-a": "vol0main", "events-a": "vol0events"}
"""Volume → its disk's serial."""
MOUNTS = {f"/mnt/master-{name}" for name in DISKS}


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
        volumes = [{**volume(name, name.removesuffix("-a"), "a/a"), "file": f"/srv/{name}.img"} for name in DISKS]
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


class Emulated(Vm):
    """A virtual machine with a stock Debian 12 and two blank disks."""

    def __init__(self, base: Path, files: dict[str, str]) -> None:
        base.mkdir()
        with stock.copy_of("bookworm", base / "stock") as root:
            stock.inside(root, "systemctl", "enable", "systemd-networkd")
            image = make_image(root, files, {}, base / "root.img", stock=True)
            kernel = shutil.copy(next((root / "boot").glob("vmlinuz-*")), base / "kernel")
        super().__init__(base, image, Path(kernel), "tap0")
        for serial in DISKS.values():
            disk = base / f"{serial}.img"
            subprocess.run(["truncate", "-s", "256M", disk], check=True)
            self.disks.append((disk, serial))


def test_a_virtual_machine(tap_site: Site, tmp_path: Path) -> None:
    by_id = "/dev/disk/by-id/nvme-QEMU_NVMe_Ctrl_"
    volumes = [
        {"id": name, "device": by_id + serial, "size": "256MiB", "tags": tags(name.removesuffix("-a"), "a/a")}
        for name, serial in DISKS.items()
    ]
    files = seed(tap_site, volumes, tmp_path) | {"/etc/systemd/network/eth0.network": NETWORK}
    with Emulated(tmp_path / "vm", files) as machine:
        becomes_a_node_and_stays_one(machine, tap_site, tmp_path)
        serials = machine.run("cat /sys/block/nvme1n1/device/serial /sys/block/nvme2n1/device/serial").split()
        assert sorted(serials) == sorted(DISKS.values())
        assert machine.run("systemctl is-active containerd").strip() == "active"
        assert machine.run("timedatectl show --property=NTPSynchronized --value").strip() == "yes"
        assert machine.run("systemctl --failed --no-legend").split() == []
    shutil.rmtree(tmp_path / "vm")


@pytest.fixture
def tap_site() -> Iterator[Site]:
    make_tap("tap0")
    with Site() as site:
        provide(site)
        yield site


def becomes_a_node_and_stays_one(machine: Container | Emulated, site: Site, folder: Path) -> None:
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
