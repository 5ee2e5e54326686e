"""Chooses the adapters and puts them behind the ports. Adapters are imported when chosen, and not before."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING

from protokube.config import Settings
from protokube.core.model import EtcdPeerMember, Fault, UnitState
from protokube.core.settings import NodeConfig
from protokube.core.value import dataclass, replace
from protokube.errors import ConfigError
from protokube.host.blockdev import BlockDevices
from protokube.host.files import NodeFiles
from protokube.host.kubelet import InstalledKubelet
from protokube.ports import CloudProvider, DNSProvider, Readers, Writers

if TYPE_CHECKING:
    import asyncio

    from protokube.host.systemd import SystemBus

RUN_DIR = "run/protokube"
HOSTS = "etc/hosts"
BUS = "run/dbus/system_bus_socket"

Wake = Callable[[str], None]
Vpc = Callable[[], tuple[str, str] | None]


class _Peers:
    """etcd's peers; what asking takes is loaded when there is somebody to ask."""

    def members(self, peer_url: str) -> Sequence[EtcdPeerMember]:
        """See ports.EtcdPeers."""
        from protokube.etcdpeers import HttpEtcdPeers

        return HttpEtcdPeers().members(peer_url)


class _Bus:
    """The service manager; its library is loaded, and the event loop waited for, when it is first asked."""

    def __init__(self, loop: Future[asyncio.AbstractEventLoop], address: str, wake: Wake) -> None:
        self._loop = loop
        self._address = address
        self._wake = wake
        self._made: SystemBus | None = None
        self._lock = threading.Lock()

    def _bus(self) -> SystemBus:
        from protokube.host.systemd import SystemBus

        with self._lock:
            if self._made is None:
                self._made = SystemBus(self._loop.result(), self._address, on_change=self._wake)
            return self._made

    def state(self, unit: str) -> UnitState:
        """See ports.ServiceManager."""
        return self._bus().state(unit)

    def start(self, unit: str) -> None:
        """See ports.ServiceManager."""
        self._bus().start(unit)

    def restart(self, unit: str) -> None:
        """See ports.ServiceManager."""
        self._bus().restart(unit)

    def close(self) -> None:
        """Let go of the bus, if it was ever asked."""
        if self._made is not None:
            self._made.close()


@dataclass(frozen=True)
class Wired:
    """The configuration with its open questions answered, and the ports. `watch` are directories whose changes
    matter; `running` maps volumes to the process that works on each; `close` lets everything go."""

    config: NodeConfig
    readers: Readers
    writers: Writers
    watch: tuple[Path, ...]
    running: Callable[[], Mapping[str, int]]
    close: Callable[[], None]


def wire(settings: Settings, loop: Future[asyncio.AbstractEventLoop], wake: Wake) -> Wired:
    """Make the adapters. Raises ConfigError when the inventory or a key file is wrong. Touches nothing yet.

    `loop` is the event loop of the main thread, which need not be there before an adapter is asked that lives in it.
    """
    cloud_name, dns_name = _names(settings)
    config = replace(settings.node, dns=dns_name)
    cloud, cloud_watch, vpc = _cloud(settings, cloud_name)
    dns = _dns(settings, config, cloud, vpc)
    disks = BlockDevices(settings.root, str(Path(settings.root, RUN_DIR)))
    files = NodeFiles(settings.root)
    services = None
    if config.kubelet_unit is not None:
        address = os.environ.get("DBUS_SYSTEM_BUS_ADDRESS") or f"unix:path={Path(settings.root, BUS)}"
        services = _Bus(loop, address, wake)
    manifests = Path(settings.root, config.manifest_dir.lstrip("/"))
    watch = [Path("/dev"), Path("/dev/disk/by-id"), manifests, *cloud_watch]
    if services is not None:
        watch.append(Path(settings.root, BUS).parent)  # a bus that comes late is no reason to wait for the clock

    def close() -> None:
        if services is not None:
            services.close()
        cloud.close()

    return Wired(
        config,
        Readers(cloud, disks, files, _Peers(), InstalledKubelet(settings.root), dns, services),
        Writers(cloud, disks, files, dns, services),
        tuple(watch),
        disks.running,
        close,
    )


def cloud_faults(settings: Settings) -> tuple[Fault, ...]:
    """What is wrong with the inventory, or with what the environment says to whoever talks to AWS, for a report of
    all faults at once. Touches nothing."""
    name, dns = _names(settings)
    faults: tuple[Fault, ...] = ()
    if name == "aws" or dns == "route53":
        from protokube.awsenv import environment_faults

        faults = environment_faults(os.environ)
    if name == "local":
        try:
            _cloud(settings, name)
        except ConfigError as error:
            faults += error.faults
    return faults


def _names(settings: Settings) -> tuple[str, str]:
    """The cloud and the DNS provider, found out where they are not configured."""
    cloud = settings.cloud or detect_cloud()
    return cloud, settings.dns or ("route53" if cloud == "aws" else "hosts")


def detect_cloud() -> str:
    """EC2 by its DMI strings (Xen: the product UUID starts with ec2; Nitro: the vendor), else the local cloud."""
    for name, sign in (("sys_vendor", "amazon ec2"), ("product_uuid", "ec2"), ("bios_version", "amazon")):
        try:
            value = Path("/sys/class/dmi/id", name).read_text(encoding="ascii", errors="replace").strip().lower()
        except OSError:
            continue
        if value.startswith(sign) or (name == "bios_version" and sign in value):
            return "aws"
    return "local"


def _cloud(settings: Settings, name: str) -> tuple[CloudProvider, tuple[Path, ...], Vpc]:
    """The cloud, the directories whose changes matter to it, and how to ask for this machine's VPC."""
    if name == "aws":
        from protokube.cloudprovider.aws import AwsCloud

        aws = AwsCloud(cluster_id=settings.node.cluster_id, allow_imds_v1=settings.imds_v1)
        return aws, (), aws.vpc
    from protokube.cloudprovider.local import LocalCloud, load_inventory
    from protokube.host.network import default_addresses

    inventory = load_inventory(settings.inventory)
    node = settings.node_name or socket.gethostname()
    images = sorted({Path(volume.image).parent for volume in inventory.volumes if volume.image})
    return LocalCloud(inventory, node, default_addresses, settings.root), tuple(images), lambda: None


def _dns(settings: Settings, config: NodeConfig, cloud: CloudProvider, vpc: Vpc) -> DNSProvider | None:
    if config.dns == "none" or not config.master:
        return None
    if config.dns == "hosts":
        from protokube.dnsprovider.hosts import HostsFile

        return HostsFile(str(Path(settings.root, HOSTS)))
    if config.dns == "rfc2136":
        from protokube.dnsprovider.rfc2136 import Rfc2136

        assert settings.dns_server is not None, "config.py refuses rfc2136 without a server"
        keyfile = Path(settings.dns_keyfile) if settings.dns_keyfile else None
        return Rfc2136(server=settings.dns_server, keyfile=keyfile, zone=settings.dns_zone)
    from protokube.dnsprovider.route53 import Route53

    def suffix() -> str:
        return config.suffix(config.cluster_id or cloud.instance().cluster_id)

    return Route53(internal_suffix=suffix, zone=settings.dns_zone, vpc=vpc, imds_v1=settings.imds_v1)
