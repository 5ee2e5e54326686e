"""One AWS region with one instance, ours: a strict EC2 and its metadata service, and what tests do with them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import pytest

from protokube import awsclient
from protokube.cloudprovider.aws import AwsCloud
from protokube.core.model import Unknown
from protokube.core.volumes.model import CloudVolume, Instance, Peer
from protokube.errors import ProviderError
from tests.lab.ec2 import REGION, StrictEc2
from tests.lab.imds import ImdsServer, Metadata

T = TypeVar("T")

CLUSTER = "c.example.com"
ZONE = "us-east-1a"


def etcd_tags(key: str = "main", spec: str = "a/a", cluster: str = CLUSTER) -> dict[str, str]:
    """The tags of an etcd volume."""
    return {"KubernetesCluster": cluster, "k8s.io/role/master": "1", f"k8s.io/etcd/{key}": spec}


@dataclass
class Lab:
    """The region. `node` is our instance's id."""

    ec2: StrictEc2
    imds: ImdsServer
    node: str

    def volume(self, key: str = "main", spec: str = "a/a", zone: str = ZONE) -> str:
        """Make an etcd volume of our cluster."""
        return self.ec2.create_volume(zone, etcd_tags(key, spec))

    def another_node(self, zone: str = ZONE, cluster: str = CLUSTER) -> str:
        """Start another instance and return its id."""
        return str(self.ec2.run_instance(zone, {"KubernetesCluster": cluster})["InstanceId"])


@contextmanager
def aws_lab(monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    """A region, with the environment that leads the code under test there."""
    with StrictEc2() as ec2:
        node = ec2.run_instance(ZONE, {"KubernetesCluster": CLUSTER})
        told = Metadata(node["InstanceId"], REGION, ZONE, node["PrivateIpAddress"], public_ipv4="203.0.113.9")
        with ImdsServer(told) as imds:
            for name, value in {**ec2.environment(), **imds.environment()}.items():
                monkeypatch.setenv(name, value)
            forget_credentials()
            yield Lab(ec2, imds, node["InstanceId"])
    forget_credentials()


def forget_credentials() -> None:
    """A process has one session, which keeps the credentials that it found first."""
    awsclient._session.cache_clear()


def known(part: T | Unknown) -> T:
    """A part of a snapshot; ProviderError with the reason when it is unknown."""
    if isinstance(part, Unknown):
        raise ProviderError(part.reason)
    return part


def instance_of(cloud: AwsCloud) -> Instance:
    """This machine, as a snapshot without volumes tells it."""
    return known(cloud.snapshot(volumes=False).instance)


def volumes_of(cloud: AwsCloud) -> tuple[CloudVolume, ...]:
    """The volumes of a snapshot."""
    return known(cloud.snapshot(volumes=True).volumes)


def peers_of(cloud: AwsCloud) -> tuple[Peer, ...]:
    """The peers of a snapshot."""
    return known(cloud.snapshot(volumes=True).peers)


def one_reconcile(cloud: AwsCloud) -> tuple[Instance, tuple[CloudVolume, ...]]:
    """A snapshot in which all is known."""
    told = cloud.snapshot(volumes=True)
    known(told.peers)
    return known(told.instance), known(told.volumes)


def only(volumes: Sequence[CloudVolume]) -> CloudVolume:
    """The one volume there is."""
    (volume,) = volumes
    return volume
