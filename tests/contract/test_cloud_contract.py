"""What every cloud must do, whatever it is. A backend makes nodes that share one set of volumes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol, TypeVar

import pytest

from protokube.core.model import Unknown
from protokube.core.volumes.model import AttachState, CloudVolume, Instance, PeerState
from protokube.errors import ProviderError, VolumeInUseError
from protokube.ports import CloudProvider
from tests.contract.cloud_backends import BACKENDS

pytestmark = pytest.mark.root

T = TypeVar("T")


class Backend(Protocol):
    """A cloud with the volumes `main-a` and `main-b` (free, tagged for the cluster `dev.example.com`)."""

    def node(self, name: str) -> CloudProvider:
        """The cloud as the node `name` (`node-a`, `node-b`) sees it: 10.0.0.1 or 10.0.0.2."""

    def volume_id(self, name: str) -> str:
        """The id of a volume by its name here."""

    def close(self) -> None:
        """End everything."""


@pytest.fixture(params=BACKENDS)
def cloud(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backend]:
    backend: Backend = BACKENDS[request.param](tmp_path)
    try:
        yield backend
    finally:
        backend.close()


def known(part: T | Unknown) -> T:
    assert not isinstance(part, Unknown), part.reason
    return part


def instance(node: CloudProvider) -> Instance:
    return known(node.snapshot(volumes=True).instance)


def volumes(node: CloudProvider) -> dict[str, CloudVolume]:
    return {one.id: one for one in known(node.snapshot(volumes=True).volumes)}


def attach(node: CloudProvider, volume_id: str) -> None:
    """Look, and ask for a volume, as a reconcile does."""
    assert volumes(node)[volume_id].obstacle is None
    node.attach(volume_id)


UNDER_WAY = (AttachState.UNCONFIRMED, AttachState.ATTACHING)


def attached(node: CloudProvider, volume_id: str) -> CloudVolume:
    """Look until the volume isn't on its way any more; a cloud may take a few looks."""
    for _ in range(50):
        found = volumes(node)[volume_id]
        if all(attachment.state not in UNDER_WAY for attachment in found.attachments):
            return found
    raise AssertionError(f"attaches for ever: {found}")


def test_an_instance_knows_who_and_where_it_is(cloud: Backend) -> None:
    a, b = instance(cloud.node("node-a")), instance(cloud.node("node-b"))
    assert a.id != b.id
    assert (a.cluster_id, a.internal, b.internal) == ("dev.example.com", ("10.0.0.1",), ("10.0.0.2",))
    assert a.zone == b.zone == volumes(cloud.node("node-a"))[cloud.volume_id("main-a")].zone


def test_a_worker_is_told_who_it_is_and_nothing_of_volumes(cloud: Backend) -> None:
    a, b = cloud.node("node-a"), cloud.node("node-b")
    attach(a, cloud.volume_id("main-a"))
    for node in (a, b):
        told = node.snapshot(volumes=False)
        assert (told.volumes, told.peers) == ((), ())
        assert told.instance == instance(node)


def test_free_volumes_are_available_with_their_tags(cloud: Backend) -> None:
    found = volumes(cloud.node("node-a"))[cloud.volume_id("main-a")]
    assert found.available and found.attachments == () and not found.multi_attach
    assert found.obstacle is None
    assert found.size == 1 << 30
    assert found.tags["k8s.io/etcd/main"] == "a/a,b" and found.tags["KubernetesCluster"] == "dev.example.com"


def test_an_attached_volume_is_seen_by_everybody(cloud: Backend) -> None:
    a, b = cloud.node("node-a"), cloud.node("node-b")
    attach(a, cloud.volume_id("main-a"))
    for found in (attached(a, cloud.volume_id("main-a")), attached(b, cloud.volume_id("main-a"))):
        (attachment,) = found.attachments
        assert (attachment.instance, attachment.state) == (instance(a).id, AttachState.ATTACHED)
        assert not found.available
    assert volumes(a)[cloud.volume_id("main-b")].available


def test_what_was_requested_is_at_once_shown_as_this_machines_or_unconfirmed(cloud: Backend) -> None:
    """Never as free: another one could be claimed beside it."""
    a = cloud.node("node-a")
    attach(a, cloud.volume_id("main-a"))
    found = volumes(a)[cloud.volume_id("main-a")]
    assert found.attachment_to(instance(a).id) and not found.available


def test_the_second_node_loses_the_race(cloud: Backend) -> None:
    a, b = cloud.node("node-a"), cloud.node("node-b")
    volumes(b)  # it sees the volume free
    attach(a, cloud.volume_id("main-a"))
    with pytest.raises(VolumeInUseError, match=r"in use|attached"):
        b.attach(cloud.volume_id("main-a"))
    assert attached(b, cloud.volume_id("main-a")).attachments[0].instance == instance(a).id


def test_a_volume_that_does_not_exist(cloud: Backend) -> None:
    with pytest.raises(ProviderError, match="vol-0123456789abcdef0"):
        cloud.node("node-a").attach("vol-0123456789abcdef0")


def test_tags_are_kept_and_seen_by_everybody(cloud: Backend) -> None:
    a, b = cloud.node("node-a"), cloud.node("node-b")
    attach(a, cloud.volume_id("main-a"))
    attached(a, cloud.volume_id("main-a"))
    for value in ("one", "two", "two"):
        a.tag(cloud.volume_id("main-a"), "protokube.k8s.io/filesystem", value)
    a.tag(cloud.volume_id("main-a"), "protokube.k8s.io/etcd-bootstrapped", "true")
    for node in (a, a, b):
        tags = volumes(node)[cloud.volume_id("main-a")].tags
        assert tags["protokube.k8s.io/filesystem"] == "two"
        assert tags["protokube.k8s.io/etcd-bootstrapped"] == "true"
        assert tags["k8s.io/etcd/main"] == "a/a,b"
        assert node.snapshot(volumes=True).can_tag


def test_holders_are_peers_with_their_addresses(cloud: Backend) -> None:
    a, b = cloud.node("node-a"), cloud.node("node-b")
    attach(a, cloud.volume_id("main-a"))
    attach(b, cloud.volume_id("main-b"))
    for node in (a, b):
        attached(node, cloud.volume_id("main-a"))
        attached(node, cloud.volume_id("main-b"))
        peers = {peer.instance: (peer.internal, peer.state) for peer in known(node.snapshot(volumes=True).peers)}
        assert peers == {
            instance(a).id: (("10.0.0.1",), PeerState.RUNNING),
            instance(b).id: (("10.0.0.2",), PeerState.RUNNING),
        }


def test_reading_changes_nothing(cloud: Backend) -> None:
    a = cloud.node("node-a")
    assert a.snapshot(volumes=True) == a.snapshot(volumes=True)
    assert a.snapshot(volumes=False) == a.snapshot(volumes=False)
