"""Whole nodes on AWS: real systemd, IMDSv2 at 169.254.169.254, a strict EC2, and disks that appear by themselves.

    with AwsRegion(tmp_path) as region:                    # in the region's network from here on
        main = region.volume("main")
        with region.node() as node:
            node.bring_up()                                # the daemon as its unit, with --cloud aws

A disk is a loop device of the size that EC2 says. The node sees a /sys/block of its own in which it bears the name
and serial that the instance type would give it: NVMe with a serial (Nitro), or the very name asked for without one
(Xen). It appears `late` seconds after AttachVolume, and at once when a machine with attached volumes is switched on.
Needs root.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol, Self

from tests.lab.aws import CLUSTER, ZONE, etcd_tags
from tests.lab.disks import LoopDisk
from tests.lab.ec2 import REGION, StrictEc2
from tests.lab.imds import ImdsServer, Metadata
from tests.lab.netns import Namespace, Network
from tests.lab.unit_node import UnitNode

GIB = 1 << 30
GATEWAY = "10.77.0.1"
IMDS = "169.254.169.254"
NODE_TAGS = {"k8s.io/instance-group": "masters", "k8s.io/role/master": "1"}
_SEEN_AT = "/srv/lab-sys"


class Machine(Protocol):
    """What an instance runs on."""

    def plug_in(self, volume_id: str, asked: str) -> None:
        """Make the disk of an attached volume appear."""


class AwsRegion:
    """A region with its network: EC2, the metadata service, volumes and the disks behind them."""

    def __init__(self, base: Path) -> None:
        self._base = base
        self._open = ExitStack()
        self._disks: dict[str, LoopDisk] = {}
        self._timers: list[threading.Timer] = []
        self.nodes: dict[str, Machine] = {}
        self.late = 0.0
        self.ready: Callable[[Machine], object] = lambda node: None

    def __enter__(self) -> Self:
        with ExitStack() as opened:
            self.network = opened.enter_context(Network(f"{GATEWAY}/24"))
            self.network.switch.ip("addr", "add", f"{IMDS}/32", "dev", "br0")
            # Servers, their threads and this one: all in the region's network, so that nothing else hears them.
            opened.enter_context(self.network.switch.inside())
            self.ec2 = opened.enter_context(StrictEc2(GATEWAY))
            self.ec2.on_attach = self._attached
            self.imds = opened.enter_context(ImdsServer(Metadata("i-0", REGION, ZONE, None), IMDS, 80))
            opened.callback(self._release)
            self._open = opened.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def volume(self, key: str = "main", spec: str = "a/a", zone: str = ZONE) -> str:
        """Make an etcd volume of 1 GiB, and return its id."""
        volume_id = self.ec2.create_volume(zone, etcd_tags(key, spec), size=1)
        disk = LoopDisk(self._base / f"{volume_id}.img", GIB)
        self._disks[volume_id] = disk.__enter__()
        return volume_id

    def node(
        self,
        *,
        nitro: bool = True,
        config: Mapping[str, Any] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> AwsNode:
        """An instance that isn't switched on yet. `config` and `environment` are the daemon's, beside the usual."""
        instance_id, address = self.instance()
        place = self.network.node(f"{address}/24", gateway=GATEWAY)
        variables = {"AWS_ENDPOINT_URL_EC2": self.ec2.url, **(environment or {})}
        node = AwsNode(self, self._base / instance_id, instance_id, place, nitro, config or {}, variables)
        self.nodes[instance_id] = node
        return node

    def instance(self) -> tuple[str, str]:
        """Start an instance of the cluster, of which nobody has made a machine yet: its id and address."""
        number = len(self.imds.by_address) + 11
        address = f"10.77.0.{number}"
        made = self.ec2.run_instance(ZONE, {"KubernetesCluster": CLUSTER, **NODE_TAGS}, address)
        told = Metadata(made["InstanceId"], REGION, ZONE, address, public_ipv4=f"203.0.113.{number}")
        self.imds.by_address[address] = told
        return told.instance_id, address

    def held(self, instance_id: str) -> dict[str, str]:
        """The volumes that EC2 says an instance holds, with the device names asked for."""
        volumes = self.ec2._backend.volumes.values()
        mine = (volume.attachment for volume in volumes if volume.attachment and volume.id in self._disks)
        return {one.volume.id: one.device for one in mine if one.instance.id == instance_id}

    def heal(self, volume_id: str) -> None:
        """Let a volume of `ec2.falls_back` attach like any other from now on."""
        self.ec2.falls_back.discard(volume_id)
        instance_id = self.ec2.holder(volume_id) or ""
        node = self.nodes.get(instance_id)
        if node is not None:
            node.plug_in(volume_id, self.held(instance_id)[volume_id])

    def disk(self, volume_id: str) -> LoopDisk:
        """The disk behind a volume."""
        return self._disks[volume_id]

    def _attached(self, volume_id: str, instance_id: str, device: str) -> None:
        node = self.nodes.get(instance_id)
        if node is not None and volume_id not in self.ec2.falls_back:
            timer = threading.Timer(self.late, self._appear, (node, volume_id, device))
            self._timers.append(timer)
            timer.start()

    def _appear(self, node: Machine, volume_id: str, device: str) -> None:
        self.ready(node)
        node.plug_in(volume_id, device)

    def _release(self) -> None:
        for timer in self._timers:
            timer.cancel()
            timer.join()
        for disk in self._disks.values():
            disk.detach()


class AwsNode(UnitNode):
    """One instance. `nitro`: its disks are NVMe; else they are Xen's. `appeared` maps volumes to device nodes."""

    def __init__(
        self,
        region: AwsRegion,
        base: Path,
        instance_id: str,
        place: Namespace,
        nitro: bool,
        config: Mapping[str, Any],
        environment: Mapping[str, str],
    ) -> None:
        self.instance_id = instance_id
        self.appeared: dict[str, str] = {}
        self._region = region
        self._nitro = nitro
        self._sys = base / "sys"
        self._power = threading.RLock()
        self._on = False
        for folder in ("block", "dev-block", "making"):
            (self._sys / folder).mkdir(parents=True)
        variables = "".join(f"{name}={value}\n" for name, value in environment.items())
        super().__init__(
            base / "node",
            f"node-{place.name.rpartition('-')[2]}",
            {"cloud": "aws", "dns": "none", **config},
            files={"/etc/sysconfig/protokube": variables},
            binds=[f"{self._sys}:{_SEEN_AT}"],
            netns=place.name,
        )

    def start(self) -> Self:
        """Boot; the disks of attached volumes are there from the start."""
        with self._power:
            self._unplug_all()
            super().start()
            for seen, real in (("block", "/sys/block"), ("dev-block", "/sys/dev/block")):
                self.run("mount", "--bind", f"{_SEEN_AT}/{seen}", real)
            self._on = True
            for volume_id, device in self._region.held(self.instance_id).items():
                self.plug_in(volume_id, device)
        return self

    def kill(self) -> None:
        """Power cut. The volumes stay attached."""
        with self._power:
            self._on = False
            super().kill()

    def plug_in(self, volume_id: str, asked: str) -> None:
        """Make a volume's disk appear, under the name that this kind of instance gives it."""
        with self._power:
            if self._on and volume_id not in self.appeared:  # else it is there when the machine is switched on
                self._plug_in(volume_id, asked)

    def _plug_in(self, volume_id: str, asked: str) -> None:
        number = os.stat(self._region.disk(volume_id).device).st_rdev
        name = f"nvme{len(self.appeared) + 1}n1" if self._nitro else asked.removeprefix("/dev/")
        text = f"{os.major(number)}:{os.minor(number)}"
        self._make_disk(name, text, GIB, volume_id.replace("-", "") if self._nitro else "")
        self.appeared[volume_id] = f"/dev/{name}"
        os.mknod(self.path(f"/dev/{name}"), stat.S_IFBLK | 0o660, number)

    def command_line(self, *options: str) -> list[str]:
        """`protokube` on the node with the unit's environment, for `run`."""
        script = 'set -a; . /etc/sysconfig/protokube; exec protokube "$@"'
        return ["env", "-i", f"PATH={os.environ['PATH']}", "sh", "-c", script, "protokube", *options]

    def woken_for(self, volume_id: str) -> str:
        """What woke the daemon before it first did something to a volume's disk."""
        woken = ""
        for line in self.journal("protokube.service").splitlines():
            if line.startswith("woken by "):
                woken = line
            if re.match(rf"(format|check|mount) .*{volume_id}", line):
                return woken
        raise AssertionError(f"nothing was done to {volume_id}:\n{self.journal('protokube.service')}")

    def _unplug_all(self) -> None:
        """Leave the root disk alone in the machine."""
        self.appeared.clear()
        for disk in (self._sys / "block").iterdir():
            shutil.rmtree(disk)
        for link in (self._sys / "dev-block").iterdir():
            link.unlink()
        root, number, serial = ("nvme0n1", "259:0", "vol0root") if self._nitro else ("xvda", "202:0", "")
        self._make_disk(root, number, 8 * GIB, serial)

    def _make_disk(self, name: str, number: str, size: int, serial: str) -> None:
        made, there = self._sys / "making" / name, self._sys / "block" / name
        (made / "holders").mkdir(parents=True)
        (made / "dev").write_text(f"{number}\n")
        (made / "size").write_text(f"{size // 512}\n")
        (made / "diskseq").write_text(f"{len(list(there.parent.iterdir())) + 1}\n")
        if serial:
            (made / "device").mkdir()
            (made / "device/serial").write_text(f"{serial:20}\n")
        (self._sys / "dev-block" / number).symlink_to(f"../../block/{name}")
        made.rename(there)
