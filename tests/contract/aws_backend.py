"""AWS for the cloud contract: two instances of one cluster on a strict EC2, each with a metadata service."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

from protokube.cloudprovider.aws import AwsCloud
from tests.lab.ec2 import REGION, StrictEc2
from tests.lab.imds import ImdsServer, Metadata

CLUSTER = "dev.example.com"
ZONE = "us-east-1a"
ADDRESSES = {"node-a": "10.0.0.1", "node-b": "10.0.0.2"}


class AwsBackend:
    """A region where an attachment takes two looks."""

    def __init__(self, _folder: Path) -> None:
        self._open = ExitStack()
        self._environment = dict(os.environ)
        self._ec2 = self._open.enter_context(StrictEc2())
        self._ec2.attaching_looks = 2
        os.environ.update(self._ec2.environment())
        self._nodes: dict[str, AwsCloud] = {}
        self._volumes = {
            name: self._ec2.create_volume(
                ZONE,
                {"KubernetesCluster": CLUSTER, "k8s.io/role/master": "1", "k8s.io/etcd/main": "a/a,b"},
                size=1,
            )
            for name in ("main-a", "main-b")
        }

    def node(self, name: str) -> AwsCloud:
        """The cloud as the instance `name` sees it, through a metadata service of its own."""
        if name not in self._nodes:
            made = self._ec2.run_instance(ZONE, {"KubernetesCluster": CLUSTER}, ADDRESSES[name])
            told = Metadata(made["InstanceId"], REGION, ZONE, ADDRESSES[name])
            imds = self._open.enter_context(ImdsServer(told))
            os.environ.update(imds.environment())
            self._nodes[name] = AwsCloud()
            assert self._nodes[name].region() == REGION  # from here on it asks this service
        return self._nodes[name]

    def volume_id(self, name: str) -> str:
        """Ids are chosen by EC2."""
        return self._volumes[name]

    def detach(self, name: str) -> None:
        """Take a volume from whoever has it, as an operator does."""
        self._ec2.detach(self.volume_id(name))

    def close(self) -> None:
        """End everything, and leave the environment as it was."""
        for node in self._nodes.values():
            node.close()
        self._open.close()
        os.environ.clear()
        os.environ.update(self._environment)
