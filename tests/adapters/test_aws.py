"""What the AWS cloud tells, against a strict EC2 and a metadata service."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from protokube.cloudprovider.aws import ec2 as ec2_module
from protokube.cloudprovider.aws import own, provider
from protokube.cloudprovider.aws.provider import AwsCloud
from protokube.cloudprovider.aws.slots import DEVICE_NAMES
from protokube.core.model import GIB
from protokube.core.volumes.model import AttachState, PeerState
from protokube.core.volumes.tags import GROUP_TAGS
from protokube.errors import ProviderError
from tests.lab.aws import CLUSTER, ZONE, Lab, etcd_tags, instance_of, only, peers_of, volumes_of
from tests.lab.ec2 import REGION

NODE_TAGS = {"KubernetesCluster": CLUSTER}


# --- identity ------------------------------------------------------------------------------------------


def test_who_and_where_this_machine_is(lab: Lab) -> None:
    found = instance_of(AwsCloud())
    described = lab.ec2.instance(lab.node)
    assert found.id == lab.node
    assert found.name == described["PrivateDnsName"].lower()
    assert found.zone == ZONE
    assert found.cluster_id == CLUSTER
    assert found.internal == (described["PrivateIpAddress"],)
    assert found.external == ("203.0.113.9",)
    assert found.instance_group is None
    assert found.provider_id == f"aws:///{ZONE}/{lab.node}"
    assert AwsCloud().vpc() == (described["VpcId"], REGION)


def test_device_names_are_offered_once_each_in_order() -> None:
    assert [name[-1] for name in DEVICE_NAMES] == list("uvwxyzfghijklmnopqrst")
    assert all(re.fullmatch(r"/dev/xvd[f-z]", name) for name in DEVICE_NAMES)


@pytest.mark.parametrize(
    ("tags", "cluster"),
    [
        ({"KubernetesCluster": CLUSTER, f"kubernetes.io/cluster/{CLUSTER}": "owned"}, CLUSTER),
        ({f"kubernetes.io/cluster/{CLUSTER}": "shared"}, CLUSTER),
    ],
)
def test_either_spelling_of_the_cluster_tag_counts(lab: Lab, tags: dict[str, str], cluster: str) -> None:
    lab.imds.metadata.instance_id = lab.ec2.run_instance(ZONE, tags)["InstanceId"]
    assert instance_of(AwsCloud()).cluster_id == cluster


@pytest.mark.parametrize("tag", GROUP_TAGS)
def test_the_instance_group(lab: Lab, tag: str) -> None:
    lab.ec2.tag(lab.node, {tag: "masters"})
    assert instance_of(AwsCloud()).instance_group == "masters"


def test_a_group_that_comes_after_the_cluster_is_seen(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own, "SOON", 0.0)
    clouds = AwsCloud(), AwsCloud(cluster_id=CLUSTER)
    for cloud in clouds:
        assert instance_of(cloud).instance_group is None
    lab.ec2.tag(lab.node, {"kops.k8s.io/instance-group": "masters"})
    for cloud in clouds:
        assert instance_of(cloud).instance_group == "masters"


def test_the_roles(lab: Lab) -> None:
    assert instance_of(AwsCloud()).roles == frozenset()
    lab.ec2.tag(lab.node, {"k8s.io/role/master": "1", "k8s.io/role/control-plane": ""})
    assert instance_of(AwsCloud()).roles == {"master", "control-plane"}


def test_tags_that_name_two_clusters_are_refused(lab: Lab) -> None:
    lab.ec2.tag(lab.node, {"kubernetes.io/cluster/other.example.com": "shared"})
    with pytest.raises(ProviderError, match=r"several clusters, c\.example\.com, other\.example\.com.*--cluster-id"):
        instance_of(AwsCloud())


def test_late_tags_are_waited_for_and_then_kept(lab: Lab) -> None:
    lab.imds.metadata.instance_id = late = lab.ec2.run_instance(ZONE, {"Name": "x"})["InstanceId"]
    cloud = AwsCloud()
    for _ in range(2):
        with pytest.raises(ProviderError, match=r"no tag KubernetesCluster .* yet"):
            instance_of(cloud)
    lab.ec2.tag(late, NODE_TAGS)
    lab.ec2.forget()
    for _ in range(3):
        assert instance_of(cloud).cluster_id == CLUSTER
    assert lab.ec2.operations() == ["DescribeInstances"]


def test_a_configured_cluster_needs_no_tags(lab: Lab) -> None:
    lab.imds.metadata.instance_id = lab.ec2.run_instance(ZONE, {})["InstanceId"]
    assert instance_of(AwsCloud(cluster_id="mine.example.com")).cluster_id == "mine.example.com"


def test_an_instance_that_ec2_does_not_show_yet(lab: Lab) -> None:
    lab.imds.metadata.instance_id = "i-00000000000000001"
    with pytest.raises(ProviderError, match="not visible yet"):
        instance_of(AwsCloud())


def test_the_external_address_is_watched(lab: Lab) -> None:
    cloud = AwsCloud()
    assert instance_of(cloud).external == ("203.0.113.9",)
    lab.imds.metadata.public_ipv4 = "203.0.113.10"
    assert instance_of(cloud).external == ("203.0.113.10",)
    lab.imds.metadata.public_ipv4 = None
    assert instance_of(cloud).external == ()


def test_ipv6_comes_after_ipv4_and_may_stand_alone(lab: Lab) -> None:
    lab.imds.metadata.ipv6 = "2001:db8:0::7"
    ipv4 = lab.imds.metadata.private_ip
    assert instance_of(AwsCloud()).internal == (ipv4, "2001:db8::7")
    lab.imds.metadata.private_ip = lab.imds.metadata.public_ipv4 = None
    assert instance_of(AwsCloud()).internal == ("2001:db8::7",)
    lab.imds.metadata.ipv6 = None
    with pytest.raises(ProviderError, match="no private address"):
        instance_of(AwsCloud())


@pytest.mark.parametrize(("ipv6", "external"), [("2001:db8::7", True), ("fd00:ec2::7", False)])
def test_an_ipv6_address_is_internal_and_external_at_once(lab: Lab, ipv6: str, external: bool) -> None:
    """EC2 translates none. A unique local one leads out of no VPC."""
    lab.imds.metadata.ipv6 = ipv6
    seen = (ipv6,) if external else ()
    assert instance_of(AwsCloud()).external == ("203.0.113.9", *seen)
    lab.imds.metadata.private_ip = lab.imds.metadata.public_ipv4 = None
    found = instance_of(AwsCloud())
    assert (found.internal, found.external) == ((ipv6,), seen)


@pytest.mark.parametrize(("ipv6", "external"), [("2001:db8:0::9", True), ("fd00:ec2::9", False)])
def test_so_is_that_of_a_peer(ipv6: str, external: bool) -> None:
    other = {"InstanceId": "i-2", "State": {"Name": "running"}, "PrivateIpAddress": "10.0.0.9", "Ipv6Address": ipv6}
    spelled = ipv6.replace(":0:", ":")
    found = ec2_module.instance({**other, "PublicIpAddress": "203.0.113.4"})
    assert found.internal == ("10.0.0.9", spelled)
    assert found.external == ("203.0.113.4", *((spelled,) if external else ()))


def test_an_address_that_is_none_is_refused(lab: Lab) -> None:
    lab.imds.metadata.public_ipv4 = "<html>"
    with pytest.raises(ProviderError, match="public-ipv4 is '<html>', expected an IP address"):
        instance_of(AwsCloud())


def test_the_name_is_the_private_dns_name_in_lower_case(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    instance = {"InstanceId": "i-1", "State": {"Name": "running"}, "PrivateDnsName": "IP-10-0-0-1.EC2.Internal"}
    cloud = AwsCloud()
    assert cloud._name(ec2_module.instance(instance)) == "ip-10-0-0-1.ec2.internal"
    nameless = ec2_module.instance({**instance, "PrivateDnsName": "", "VpcId": "vpc-1"})
    with pytest.raises(ProviderError, match=r"no private DNS name yet.*DNS hostnames.*vpc-1"):
        cloud._name(nameless)
    lab.imds.metadata.local_hostname = "IP-10-0-0-1.corp.example.com ec2.internal"
    assert cloud._name(nameless) == "ip-10-0-0-1.corp.example.com"


# --- volumes -------------------------------------------------------------------------------------------


def test_a_volume_as_ec2_describes_it(lab: Lab) -> None:
    volume_id = lab.ec2.create_volume(ZONE, etcd_tags(), size=7)
    volume = only(volumes_of(AwsCloud()))
    assert volume.id == volume_id
    assert (volume.zone, volume.size, volume.status) == (ZONE, 7 * GIB, "available")
    assert volume.tags == etcd_tags()
    assert volume.available
    assert volume.identity.serials == {volume_id.replace("-", "")}
    assert all(len(serial) <= 20 for serial in volume.identity.serials)
    assert volume.identity.requested is None
    assert volume.pristine is None


def test_volumes_of_all_zones_and_clusters_but_only_with_an_etcd_tag(lab: Lab) -> None:
    here, there = lab.volume(), lab.volume(zone="us-east-1b")
    other = lab.ec2.create_volume(ZONE, etcd_tags(cluster="other.example.com"))
    lab.ec2.create_volume(ZONE, {"KubernetesCluster": CLUSTER})
    assert {volume.id for volume in volumes_of(AwsCloud())} == {here, there, other}


def test_multi_attach_is_told(lab: Lab) -> None:
    lab.ec2.create_volume(ZONE, etcd_tags(), VolumeType="io2", Iops=100, MultiAttachEnabled=True)
    assert only(volumes_of(AwsCloud())).multi_attach


def test_an_attachment_with_its_phases(lab: Lab) -> None:
    volume_id = lab.volume()
    lab.ec2.attaching_looks = 2
    cloud = AwsCloud()
    volumes_of(cloud)
    cloud.attach(volume_id)
    seen = [only(volumes_of(cloud)).attachment_to(lab.node) for _ in range(3)]
    assert [one.state for one in seen if one] == [AttachState.ATTACHING, AttachState.ATTACHING, AttachState.ATTACHED]
    assert {one.device for one in seen if one} == {"/dev/xvdu"}
    volume = only(volumes_of(cloud))
    assert (volume.status, volume.available, volume.identity.requested) == ("in-use", False, "/dev/xvdu")


@pytest.mark.parametrize("state", ["deleting", "deleted"])
def test_a_deleted_volume_is_no_volume(lab: Lab, monkeypatch: pytest.MonkeyPatch, state: str) -> None:
    lab.volume()
    monkeypatch.setattr("moto.ec2.models.elastic_block_store.Volume.status", state)
    assert volumes_of(AwsCloud()) == ()


def test_an_answer_that_cannot_be_understood_is_an_error(lab: Lab) -> None:
    volume_id = lab.volume()
    lab.ec2.attach(volume_id, lab.node, "/dev/xvdu")
    lab.ec2._backend.get_volume(volume_id).attachment.status = "teleporting"
    with pytest.raises(ProviderError, match=r"can't be understood.*teleporting"):
        volumes_of(AwsCloud())


def test_pages_are_followed(lab: Lab) -> None:
    ids = {lab.volume(spec=f"m{number}/m{number}") for number in range(5)}
    lab.ec2.page_size = 2
    cloud = AwsCloud()
    instance_of(cloud)
    lab.ec2.forget()
    assert {volume.id for volume in volumes_of(cloud)} == ids
    assert lab.ec2.operations() == ["DescribeVolumes"] * 3


def test_the_pages_of_instances_are_followed(lab: Lab) -> None:
    others = {lab.another_node() for _ in range(3)}
    for number, other in enumerate(others):
        lab.ec2.attach(lab.volume(spec=f"m{number}/m0,m1,m2"), other, "/dev/xvdu")
    cloud = AwsCloud()
    instance_of(cloud)
    lab.ec2.page_size = 2
    lab.ec2.forget()
    assert {peer.instance for peer in peers_of(cloud)} == others
    assert Counter(lab.ec2.operations()) == {"DescribeVolumes": 2, "DescribeInstances": 2}


def test_pages_without_end_are_an_error(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        lab.volume(spec=f"m{number}/m{number}")
    lab.ec2.page_size = 1
    monkeypatch.setattr(ec2_module, "_PAGES", 2)
    with pytest.raises(ProviderError, match="more than 2 pages"):
        volumes_of(AwsCloud())


# --- peers ---------------------------------------------------------------------------------------------


def test_peers_are_this_machine_and_the_holders_with_their_addresses(lab: Lab) -> None:
    other = lab.another_node()
    lab.ec2.attach(lab.volume(spec="b/a,b"), other, "/dev/xvdu")
    lab.ec2.attach(lab.volume(spec="a/a,b"), lab.node, "/dev/xvdu")
    described = lab.ec2.instance(other)
    mine, theirs = peers_of(AwsCloud())
    assert (mine.instance, mine.external) == (lab.node, ("203.0.113.9",))
    assert theirs.instance == other
    assert theirs.internal == (described["PrivateIpAddress"],)
    assert theirs.external == (described["PublicIpAddress"],)
    assert theirs.state is PeerState.RUNNING
    assert theirs.name == described["PrivateDnsName"], "its node's name, which no machine that joins may have"


def test_holders_of_other_clusters_are_no_peers(lab: Lab) -> None:
    other = lab.another_node(cluster="other.example.com")
    lab.ec2.attach(lab.ec2.create_volume(ZONE, etcd_tags(cluster="other.example.com")), other, "/dev/xvdu")
    assert peers_of(AwsCloud()) == ()
    assert sorted(lab.ec2.operations()) == ["DescribeInstances", "DescribeVolumes"]


def test_peers_are_asked_for_once_until_the_holders_change(lab: Lab) -> None:
    first, second = lab.another_node(), lab.another_node()
    lab.ec2.attach(lab.volume(spec="a/a,b,c"), lab.node, "/dev/xvdu")
    lab.ec2.attach(lab.volume(spec="b/a,b,c"), first, "/dev/xvdu")
    free = lab.volume(spec="c/a,b,c")
    cloud = AwsCloud()
    for _ in range(3):
        assert [peer.instance for peer in peers_of(cloud)] == [lab.node, first]
    assert Counter(lab.ec2.operations())["DescribeInstances"] == 2  # ourselves, and the other one
    lab.ec2.attach(free, second, "/dev/xvdu")
    assert {peer.instance for peer in peers_of(cloud)} == {lab.node, first, second}
    peers_of(cloud)
    assert Counter(lab.ec2.operations())["DescribeInstances"] == 3


def test_peers_are_asked_for_again_after_a_while(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    other = lab.another_node()
    lab.ec2.attach(lab.volume(spec="b/a,b"), other, "/dev/xvdu")
    cloud = AwsCloud()
    peers_of(cloud)
    lab.ec2.stop(other)
    assert peers_of(cloud)[0].state is PeerState.RUNNING
    monkeypatch.setattr(provider, "PEERS_FOR", -1.0)
    assert peers_of(cloud)[0].state is PeerState.STOPPED


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("pending", PeerState.RUNNING),
        ("stopping", PeerState.STOPPED),
        ("stopped", PeerState.STOPPED),
        ("shutting-down", PeerState.TERMINATED),
        ("terminated", PeerState.TERMINATED),
    ],
)
def test_the_states_of_a_peer(lab: Lab, state: str, expected: PeerState) -> None:
    other = lab.another_node()
    lab.ec2.attach(lab.volume(), other, "/dev/xvdu")
    lab.ec2.set_state(other, state)
    assert peers_of(AwsCloud())[0].state is expected


def test_a_holder_that_was_terminated_is_seen_to_be_gone(lab: Lab) -> None:
    other = lab.another_node()
    lab.ec2.attach(lab.volume(spec="b/a,b"), other, "/dev/xvdu")
    cloud = AwsCloud()
    peers_of(cloud)
    lab.ec2.terminate(other)
    for _ in range(2):
        assert [(peer.instance, peer.state) for peer in peers_of(cloud)] == [(other, PeerState.TERMINATED)]


def test_a_holder_that_gave_up_its_volume_is_no_peer_and_not_gone(lab: Lab) -> None:
    other = lab.another_node()
    volume_id = lab.volume(spec="b/a,b")
    lab.ec2.attach(volume_id, other, "/dev/xvdu")
    cloud = AwsCloud()
    peers_of(cloud)
    lab.ec2.detach(volume_id)
    assert peers_of(cloud) == ()


def test_a_holder_that_ec2_does_not_describe_yet_is_asked_for_again(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = lab.another_node()
    lab.ec2.attach(lab.volume(spec="b/a,b"), other, "/dev/xvdu")
    cloud = AwsCloud()
    instance_of(cloud)
    real = cloud._ec2.instances
    monkeypatch.setattr(cloud._ec2, "instances", lambda _: ())
    assert peers_of(cloud) == ()
    monkeypatch.setattr(cloud._ec2, "instances", real)
    assert [peer.instance for peer in peers_of(cloud)] == [other]


def test_this_machine_is_listed_only_by_an_answer_that_shows_it_as_a_holder(lab: Lab) -> None:
    """An empty answer, as from a wrong account, must not pass for one that knows us and lacks the others."""
    volume_id = lab.volume()
    cloud = AwsCloud()
    assert peers_of(cloud) == ()
    lab.ec2.attach(volume_id, lab.node, "/dev/xvdu")
    assert [peer.instance for peer in peers_of(cloud)] == [lab.node]
    lab.ec2.detach(volume_id)
    assert peers_of(cloud) == ()
