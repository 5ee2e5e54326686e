"""What every cloud must do, whatever it is. A backend makes nodes that share one set of volumes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from protokube.core.volumes.model import AttachState, CloudVolume, PeerState
from protokube.errors import ProviderError, VolumeInUseError
from protokube.ports import CloudProvider
from tests.contract.cloud_backends import BACKENDS

pytestmark = pytest.mark.root


class Backend(Protocol):
    """A cloud with the volumes `main-a` and `main-b` (free, tagged for the cluster `dev.example.com`)."""

    def node(self, name: str) -> CloudProvider:
        """The cloud as the node `name` (`node-a`, `node-b`) sees it: 10.0.0.1 or 10.0.0.2."""

    def volume_id(self, name: str) -> str:
        """The id of a volume by its name here."""

    def device(self) -> str | None:
        """A device name to ask for, None where the cloud chooses."""

    def close(self) -> None:
        """End everything."""


@pytest.fixture(params=BACKENDS)
def cloud(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backend]:
    backend: Backend = BACKENDS[request.param](tmp_path)
    try:
        yield backend
    finally:
        backend.close()


def volume(provider: CloudProvider, volume_id: str) -> CloudVolume:
    return next(volume for volume in provider.volumes() if volume.id == volume_id)


def settle(provider: CloudProvider, volume_id: str) -> CloudVolume:
    """Look until the volume isn't attaching any more; a cloud may take a few looks."""
    for _ in range(50):
        found = volume(provider, volume_id)
        if all(attachment.state is not AttachState.ATTACHING for attachment in found.attachments):
            return found
    raise AssertionError(f"attaches for ever: {found}")


def test_an_instance_knows_who_and_where_it_is(cloud: Backend) -> None:
    a, b = cloud.node("node-a").instance(), cloud.node("node-b").instance()
    assert a.id != b.id
    assert (a.cluster_id, a.internal, b.internal) == ("dev.example.com", ("10.0.0.1",), ("10.0.0.2",))
    assert a.zone == b.zone == volume(cloud.node("node-a"), cloud.volume_id("main-a")).zone


def test_free_volumes_are_available_with_their_tags(cloud: Backend) -> None:
    found = volume(cloud.node("node-a"), cloud.volume_id("main-a"))
    assert found.available and found.attachments == () and not found.multi_attach
    assert found.size == 1 << 30
    assert found.tags["k8s.io/etcd/main"] == "a/a,b" and found.tags["KubernetesCluster"] == "dev.example.com"


def test_an_attached_volume_is_seen_by_everybody(cloud: Backend) -> None:
    a, b = cloud.node("node-a"), cloud.node("node-b")
    a.attach(cloud.volume_id("main-a"), cloud.device())
    for found in (settle(a, cloud.volume_id("main-a")), settle(b, cloud.volume_id("main-a"))):
        (attachment,) = found.attachments
        assert (attachment.instance, attachment.state) == (a.instance().id, AttachState.ATTACHED)
        assert not found.available
    assert volume(a, cloud.volume_id("main-b")).available


def test_the_second_node_loses_the_race(cloud: Backend) -> None:
    a, b = cloud.node("node-a"), cloud.node("node-b")
    a.attach(cloud.volume_id("main-a"), cloud.device())
    with pytest.raises(VolumeInUseError, match=r"in use|attached"):
        b.attach(cloud.volume_id("main-a"), cloud.device())
    assert settle(b, cloud.volume_id("main-a")).attachments[0].instance == a.instance().id


def test_a_volume_that_does_not_exist(cloud: Backend) -> None:
    with pytest.raises(ProviderError, match="vol-0123456789abcdef0"):
        cloud.node("node-a").attach("vol-0123456789abcdef0", cloud.device())


def test_tags_are_kept_and_seen_by_everybody(cloud: Backend) -> None:
    a, b = cloud.node("node-a"), cloud.node("node-b")
    a.attach(cloud.volume_id("main-a"), cloud.device())
    settle(a, cloud.volume_id("main-a"))
    for value in ("one", "two", "two"):
        a.tag(cloud.volume_id("main-a"), "protokube.k8s.io/filesystem", value)
    a.tag(cloud.volume_id("main-a"), "protokube.k8s.io/etcd-bootstrapped", "true")
    tags = volume(b, cloud.volume_id("main-a")).tags
    assert tags["protokube.k8s.io/filesystem"] == "two"
    assert tags["protokube.k8s.io/etcd-bootstrapped"] == "true"
    assert tags["k8s.io/etcd/main"] == "a/a,b"


def test_holders_are_peers_with_their_addresses(cloud: Backend) -> None:
    a, b = cloud.node("node-a"), cloud.node("node-b")
    a.attach(cloud.volume_id("main-a"), cloud.device())
    b.attach(cloud.volume_id("main-b"), cloud.device())
    for provider in (a, b):
        settle(provider, cloud.volume_id("main-a"))
        settle(provider, cloud.volume_id("main-b"))
        peers = {peer.instance: (peer.internal, peer.state) for peer in provider.peers()}
        assert peers == {
            a.instance().id: (("10.0.0.1",), PeerState.RUNNING),
            b.instance().id: (("10.0.0.2",), PeerState.RUNNING),
        }


def test_reading_changes_nothing(cloud: Backend) -> None:
    a = cloud.node("node-a")
    before = (a.instance(), a.volumes(), a.peers())
    assert (a.instance(), a.volumes(), a.peers()) == before
