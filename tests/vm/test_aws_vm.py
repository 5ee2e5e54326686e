"""A virtual machine as an EC2 instance: real udev, NVMe disks plugged in with EBS's serials, a reboot.

Not part of the default test run: `make test-vm` fetches what the machine is made of and runs it.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.lab import inside
from tests.lab.aws_node import GATEWAY, AwsRegion
from tests.lab.kubelet_standin import kubelet_script
from tests.lab.trial import CHECKOUT, ETCD_IMAGE, until
from tests.lab.unit_node import LINKS, UNIT
from tests.lab.vm import Vm, make_image

pytestmark = [pytest.mark.root, pytest.mark.slow]

PARTS = CHECKOUT / "build/vm"
INSIDE = "/opt/protokube"
LIMIT = 240.0


class Ec2Machine(Vm):
    """The instance's machine: its disks are NVMe, with the volume's id as serial."""

    def __init__(self, region: AwsRegion, base: Path, tap: str, instance_id: str, files: dict[str, str]) -> None:
        base.mkdir()
        self._region = region
        region.nodes[instance_id] = self
        config: dict[str, Any] = {"master": True, "cloud": "aws", "dns": "none", "interval": 3600}
        config["etcdImage"] = ETCD_IMAGE
        kubelet = kubelet_script().replace(inside.PYTHON, "/usr/bin/python3").replace(inside.CHECKOUT, INSIDE)
        kubelet = kubelet.replace("#!/bin/sh\n", f"#!/bin/sh\nexport PYTHONPATH={INSIDE}/lib\n")
        program = f'#!/bin/sh\ncd {INSIDE} && PYTHONPATH={INSIDE}/lib exec python3 -m protokube "$@"\n'
        units = {f"/lib/systemd/system/{one.name}": one.read_text() for one in (CHECKOUT / "systemd").iterdir()}
        own = {
            "/etc/protokube/config.yaml": json.dumps(config),
            "/etc/sysconfig/protokube": f"AWS_ENDPOINT_URL_EC2={region.ec2.url}\n",
            "/usr/bin/kubelet": kubelet,
            "/usr/bin/protokube": program,
        }
        root = PARTS / "root"
        trees = {f"{INSIDE}/{name}": CHECKOUT / name for name in ("protokube", "templates", "tests/lab")}
        image = make_image(root, units | own | files, trees | {f"{INSIDE}/lib": PARTS / "lib"}, base / "root.img")
        super().__init__(base, image, next((root / "boot").glob("vmlinuz-*")), tap)

    def plug_in(self, volume_id: str, asked: str) -> None:
        self.plug_in_disk(self._region.disk(volume_id).image, volume_id.replace("-", ""))

    def journal(self) -> str:
        return self.run(f"journalctl --no-pager -b -o cat -u {UNIT}")

    def becomes_a_node(self, volumes: list[str]) -> dict[str, str]:
        """Wait until the daemon is content; mount point → device."""
        try:
            until("it is converged", lambda: "converged" in self.journal().splitlines(), LIMIT)
        except AssertionError as still:
            raise AssertionError(f"{still}\n{self.journal()}") from None
        assert self.run("systemctl is-active kubelet.service").strip() == "active"
        for name in LINKS:
            assert self.run(f"head -n 1 /etc/kubernetes/manifests/{name}").strip()
        mounts = dict(re.findall(r"(/mnt/master-\S+) .* - ext4 (\S+)", self.run("cat /proc/1/mountinfo")))
        assert mounts.keys() == {f"/mnt/master-{one}" for one in volumes}
        for target, device in mounts.items():
            serial = self.run(f"cat /sys/block/{device.removeprefix('/dev/')}/device/serial").strip()
            assert serial == target.removeprefix("/mnt/master-").replace("-", "")
        return mounts


def test_an_instance_with_a_real_udev_becomes_a_node_and_stays_one(tmp_path: Path) -> None:
    assert (PARTS / "made").exists(), "`make test-vm` fetches what the machine is made of"
    with AwsRegion(tmp_path) as region:
        volumes = [region.volume("main"), region.volume("events")]
        instance_id, address = region.instance()
        region.network.switch.ip("tuntap", "add", "dev", "tap0", "mode", "tap")
        region.network.switch.ip("link", "set", "tap0", "master", "br0", "up")
        network = f"[Match]\nName=eth0\n[Network]\nAddress={address}/24\nGateway={GATEWAY}\n"
        files = {"/etc/systemd/network/eth0.network": network}
        with Ec2Machine(region, tmp_path / "vm", "tap0", instance_id, files) as vm:
            vm.run("systemctl enable --now systemd-networkd")
            region.late = 2.0
            vm.run(f"systemctl enable {UNIT} && systemctl start --no-block {UNIT}")

            vm.becomes_a_node(volumes)
            assert re.search(r"woken by .*/dev/\S*nvme", vm.journal())
            vm.run(f"echo kept > /mnt/master-{volumes[0]}/var/etcd/data/kept")
            uuids = vm.run("blkid -s UUID -o value /dev/nvme1n1 /dev/nvme2n1")
            by_id = vm.run("ls /dev/disk/by-id")
            assert all(one.replace("-", "") in by_id for one in volumes), "it is a real udev"

            vm.reboot()

            vm.becomes_a_node(volumes)
            assert vm.run(f"cat /mnt/master-{volumes[0]}/var/etcd/data/kept") == "kept\n"
            assert sorted(vm.run("blkid -s UUID -o value /dev/nvme1n1 /dev/nvme2n1").split()) == sorted(uuids.split())
            assert "format (" not in vm.journal()
    shutil.rmtree(tmp_path / "vm")
