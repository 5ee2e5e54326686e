"""Chooses the providers of cloud, names and store. A provider is imported when it is chosen, and not before.

This belongs to the configuration: it reads every file that adapters are made of, and finds every fault.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from msgspec import Struct
from msgspec.structs import replace

from protokube.config.load import Settings
from protokube.core.model import Fault
from protokube.core.settings import NodeConfig
from protokube.errors import ConfigError
from protokube.ports import CloudProvider, DNSProvider
from protokube.store.place import StorePlace, find_store

T = TypeVar("T")
Vpc = Callable[[], tuple[str, str] | None]
Cloud = tuple[CloudProvider, tuple[Path, ...], Vpc]
"""The cloud, the directories whose changes matter to it, and how to ask for this machine's VPC."""
MakeDns = Callable[[CloudProvider, Vpc], DNSProvider | None]
STATE_DIR = "var/lib/protokube"
HOSTS = "etc/hosts"


class Chosen(Struct, frozen=True):
    """The configuration with its open questions answered, and how to make the chosen providers from it."""

    settings: Settings
    config: NodeConfig
    cloud: Callable[[], Cloud]
    dns: MakeDns
    store: StorePlace


def choose(settings: Settings, known: Sequence[Fault] = ()) -> Chosen:
    """Choose the providers, and read their files: inventory and TSIG key. Touches nothing.

    Raises ConfigError with every fault, the `known` ones first.
    """
    name = settings.cloud or _detected()
    names = settings.dns or ("route53" if name == "aws" else "hosts")
    config = _with_names(settings.node, names)
    faults = list(known)
    if name == "aws" or names == "route53":
        from protokube.awsenv import environment_faults

        faults += environment_faults(os.environ)
    cloud = _or_faults(lambda: _cloud(settings, name), faults)
    dns = _or_faults(lambda: _dns(settings, names), faults)
    store = _or_faults(lambda: _store(settings), faults)
    if faults or cloud is None or dns is None or store is None:
        raise ConfigError(faults)
    return Chosen(settings, config, cloud, dns, store)


def _detected() -> str:
    from protokube.cloudprovider.detect import detect_cloud

    return detect_cloud()


def _store(settings: Settings) -> StorePlace:
    default = Path(settings.root, STATE_DIR, "store")
    return find_store(settings.store, settings.store_key, default, imds_v1=settings.imds_v1)


def _with_names(config: NodeConfig, names: str) -> NodeConfig:
    """The configuration with the settings that follow from the DNS provider."""
    private, kept = names == "hosts", names != "none"
    return replace(
        config,
        dns=replace(config.dns, private=private, kept=kept),
        etcd=replace(config.etcd, private_names=private, names_kept=kept),
    )


def _or_faults(read: Callable[[], T], faults: list[Fault]) -> T | None:
    try:
        return read()
    except ConfigError as error:
        faults += error.faults
        return None


def _cloud(settings: Settings, name: str) -> Callable[[], Cloud]:
    if name == "aws":

        def aws() -> Cloud:
            from protokube.cloudprovider.aws import AwsCloud

            cloud = AwsCloud(cluster_id=settings.node.volumes.cluster_id, allow_imds_v1=settings.imds_v1)
            return cloud, (), cloud.vpc

        return aws
    from protokube.cloudprovider.local import local_cloud
    from protokube.cloudprovider.static.provider import load_inventory, own_node
    from protokube.host.network import default_addresses

    inventory = load_inventory(settings.inventory)
    node = own_node(inventory, settings.node_name or os.uname().nodename)
    images = tuple(sorted({Path(volume.image).parent for volume in inventory.volumes if volume.image}))
    manifests = settings.node.etcd.manifest_dir

    def local() -> Cloud:
        cloud = local_cloud(inventory, node, default_addresses, root=settings.root, manifests=manifests)
        return cloud, images, lambda: None

    return local


def _dns(settings: Settings, names: str) -> MakeDns:
    if names == "rfc2136" and not settings.dns_server:
        raise ConfigError([Fault("--dns rfc2136", "needs --dns-server HOST[:PORT]")])
    if names == "none" or not settings.node.master:
        return lambda _cloud, _vpc: None
    if names == "hosts":
        from protokube.dnsprovider.hosts import HostsFile

        return lambda _cloud, _vpc: HostsFile(str(Path(settings.root, HOSTS)), str(Path(settings.root, STATE_DIR)))
    if names == "rfc2136":
        from protokube.dnsprovider.rfc2136 import Rfc2136, load_server

        assert settings.dns_server is not None
        server = load_server(settings.dns_server, Path(settings.dns_keyfile) if settings.dns_keyfile else None)
        return lambda _cloud, _vpc: Rfc2136(server, zone=settings.dns_zone)

    def route53(cloud: CloudProvider, vpc: Vpc) -> DNSProvider:
        from protokube.dnsprovider.route53 import Route53

        def suffix() -> str:
            return settings.node.dns.full_suffix(settings.node.volumes.cluster_id or cloud.cluster_id())

        return Route53(internal_suffix=suffix, zone=settings.dns_zone, vpc=vpc, imds_v1=settings.imds_v1)

    return route53
