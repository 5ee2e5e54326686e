"""Which volumes are ours, which may be claimed, and which are refused."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from protokube.core.model import Unknown
from protokube.core.node.model import Mount
from protokube.core.observed import Observed
from protokube.core.volumes.actions import AnnounceAddresses
from protokube.core.volumes.assess import assess
from protokube.core.volumes.model import (
    BOOTSTRAPPED_TAG,
    AttachState,
    CloudVolume,
    Peer,
    PeerState,
    VolumesAssessment,
    cluster_order,
)
from protokube.core.volumes.tracking import AttachTracking
from tests.core.states import INSTANCE, config_of, planned, state, volume


def assessed(observed: Observed) -> VolumesAssessment | None:
    return assess(config_of().volumes, observed.cloud, AttachTracking(), observed.storage.mounts)


def judge(*volumes: CloudVolume, **more: Any) -> VolumesAssessment:
    judged = assessed(state(volumes=volumes, **more))
    assert judged is not None
    return judged


def rejected(judged: VolumesAssessment) -> dict[str, str]:
    return {one.volume_id: one.rule for one in judged.rejected}


def claimed(judged: VolumesAssessment) -> str | None:
    return judged.claim.volume.id if judged.claim else None


def without_cluster(made: CloudVolume) -> CloudVolume:
    return replace(made, tags={key: value for key, value in made.tags.items() if key != "KubernetesCluster"})


def test_unknown_is_no_judgement() -> None:
    assert assessed(state(volumes=Unknown("x"))) is None
    assert assessed(state(instance=Unknown("x"))) is None


def test_a_node_that_is_no_master_wants_no_volume() -> None:
    observed = state(volumes=(volume(holder="n1"),))
    assert assessed(observed) is not None
    assert planned(observed, master=False).steps == planned(state(), master=False).steps
    assert planned(state(volumes=(volume(),)), master=False).steps == planned(state(), master=False).steps


def test_the_configured_cluster_goes_before_the_one_in_the_clouds_tags() -> None:
    other = volume(tags={"KubernetesCluster": "other"})
    cloud = state(volumes=(other, volume("vol-2"))).cloud
    judged = assess(config_of(cluster_id="other").volumes, cloud, AttachTracking(), ())
    assert judged is not None and judged.cluster_id == "other"
    assert [one.id for one in judged.all] == ["vol-1"] and [one.id for one in judged.unmanaged] == ["vol-2"]


@pytest.mark.parametrize(
    ("given", "rule"),
    [
        (volume(spec="a/a,a"), "volume/bad-etcd-tag"),
        (volume(tags={"k8s.io/etcd/events": "a/a"}), "volume/several-clusters"),
        (volume(key="cilium"), "volume/unknown-etcd-cluster"),
        (volume(multi_attach=True), "volume/multi-attach"),
        (volume(status="error"), "volume/status"),
        (volume(status="deleting"), "volume/status"),
    ],
)
def test_refused_with_its_rule_and_never_attached(given: CloudVolume, rule: str) -> None:
    judged = judge(given)
    assert rejected(judged) == {given.id: rule} and claimed(judged) is None
    assert [(one.subject, one.rule, one.serious) for one in judged.findings.refusals] == [(given.id, rule, True)]


def test_a_volume_without_the_role_is_refused() -> None:
    given = volume()
    tags = {key: value for key, value in given.tags.items() if "role" not in key}
    assert rejected(judge(replace(given, tags=tags))) == {given.id: "volume/no-role"}


@pytest.mark.parametrize(
    "tags", [{}, {"KubernetesCluster": "other"}, {"KubernetesCluster": "c.example.com", "k8s.io/role/master": "1"}]
)
def test_what_is_not_ours_is_passed_over_in_silence(tags: dict[str, str]) -> None:
    judged = judge(replace(volume(), tags=tags))
    assert (judged.all, judged.rejected, judged.candidates) == ((), (), {})


def test_volumes_of_other_clusters_are_unmanaged() -> None:
    other = volume("vol-2", tags={"KubernetesCluster": "other"})
    assert judge(volume(), other).unmanaged == (other,)


def test_another_zone_is_evidence_but_never_taken() -> None:
    judged = judge(volume(zone="z2"))
    assert [one.id for one in judged.all] == ["vol-1"] and judged.candidates == {}


def test_refused_volumes_are_kept_as_evidence() -> None:
    unfit, ours = volume("vol-2", multi_attach=True, tags={BOOTSTRAPPED_TAG: "true"}), volume("vol-1", "b/a,b")
    judged = judge(unfit, ours)
    assert [one.id for one in judged.evidence] == ["vol-2"] and judged.evidence[0].marked_bootstrapped
    assert [one.id for one in judged.all] == ["vol-1"]


def test_unparsable_tags_tell_where_etcd_ran() -> None:
    ran = {BOOTSTRAPPED_TAG: "true"}
    several = volume("vol-2", "a/a", tags={"k8s.io/etcd/events": "a/a", **ran})
    judged = judge(volume("vol-1", "nonsense", tags=ran), several, volume("vol-3", "nonsense"))
    assert judged.unparsable == {"main": ("vol-1", "vol-2"), "events": ("vol-2",)}


def test_main_before_events_before_others() -> None:
    assert cluster_order(["x", "events", "a", "main"]) == ["main", "events", "a", "x"]


@pytest.mark.parametrize("phase", [one for one in AttachState if one is not AttachState.UNCONFIRMED])
def test_any_phase_of_an_attachment_makes_a_volume_ours(phase: AttachState) -> None:
    judged = judge(volume(holder="n1", state=phase), volume("vol-2", "b/a,b"))
    assert set(judged.ours) == {"main"} and judged.candidates == {} and judged.unconfirmed == frozenset()


def test_an_unconfirmed_volume_is_not_ours() -> None:
    judged = judge(volume(holder="n1", state=AttachState.UNCONFIRMED, status="available"), volume("vol-2", "b/a,b"))
    assert judged.ours == {} and judged.unconfirmed == {"vol-1"}
    assert {one.id for one in judged.candidates["main"]} == {"vol-1", "vol-2"}
    assert judged.in_use_elsewhere == {"main": {}} and judged.findings.in_use_elsewhere == []
    assert judged.blocked == frozenset() and judged.rejected == ()


def test_volumes_of_this_zone_are_in_use_elsewhere_with_their_holders() -> None:
    given = (volume("vol-1", "a/a,b,c", holder="n2"), volume("vol-2", "b/a,b,c", holder="n3", zone="z2"))
    assert judge(*given, volume("vol-3", "c/a,b,c")).in_use_elsewhere == {"main": {"vol-1": "n2"}}


def test_a_member_that_stands_twice_is_not_taken() -> None:
    """A snapshot restored with its tags, in whatever zone."""
    both = judge(volume("vol-1"), volume("vol-2", zone="z9"))
    assert rejected(both) == {"vol-1": "volume/duplicate-member", "vol-2": "volume/duplicate-member"}
    assert claimed(both) is None
    held = judge(volume("vol-1", holder="n1"), volume("vol-2"))
    assert rejected(held) == {"vol-2": "volume/duplicate-member"} and set(held.ours) == {"main"}
    assert [one.serious for one in held.findings.refusals] == [False], "another volume does the job"


def test_a_member_that_stands_on_a_refused_volume_as_well_is_not_taken() -> None:
    judged = judge(volume("vol-1"), volume("vol-2", multi_attach=True))
    assert rejected(judged) == {"vol-1": "volume/duplicate-member", "vol-2": "volume/multi-attach"}


def test_a_refused_volume_of_this_machine_blocks_its_cluster() -> None:
    judged = judge(volume("vol-1", "a/a,a", holder="n1"), volume("vol-2", "b/a,b"))
    assert judged.blocked == {"main"} and judged.candidates == {"main": ()} and claimed(judged) is None


def test_a_volume_of_this_machine_without_a_clusters_tag_is_refused_and_blocks() -> None:
    judged = judge(without_cluster(volume("vol-1", "a/a,b", holder="n1")), volume("vol-2", "b/a,b"))
    assert rejected(judged) == {"vol-1": "volume/no-cluster"} and judged.blocked == {"main"}
    assert rejected(judge(without_cluster(volume("vol-1", "a/a,b")))) == {}, "attached to no machine of ours"


def test_a_volume_of_another_cluster_that_is_attached_here_blocks_nothing() -> None:
    other = volume("vol-1", "a/a,b", holder="n1", tags={"KubernetesCluster": "other"})
    judged = judge(other, volume("vol-2", "b/a,b"))
    assert judged.blocked == frozenset() and claimed(judged) == "vol-2"


@pytest.mark.parametrize(("at", "kept"), [("vol-1", "vol-1"), ("vol-2", "vol-2")])
def test_of_two_that_are_ours_the_mounted_one_serves(at: str, kept: str) -> None:
    volumes = (volume("vol-1", "a/a,b", holder="n1"), volume("vol-2", "b/a,b", holder="n1"))
    judged = judge(*volumes, mounts=(Mount(f"/mnt/master-{at}", (259, 1), "ext4", False),))
    assert judged.ours["main"].id == kept
    assert set(rejected(judged).values()) == {"volume/second-of-cluster"}


def test_a_mounted_volume_that_the_cloud_does_not_show_is_stray() -> None:
    mounts = (
        Mount("/mnt/master-vol-1", (259, 1), "ext4", False),
        Mount("/mnt/master-vol-9", (259, 9), "ext4", False),
        Mount("/mnt/master-backup", (0, 45), "tmpfs", False),
        Mount("/mnt/master-vol-8/k8s.io/x", (259, 4), "ext4", False),
    )
    assert judge(volume(holder="n1"), mounts=mounts).stray == {"vol-9"}


# --- what other nodes are told --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("peers", "reason"),
    [
        ((), None),
        (Unknown("throttled"), None),
        ((Peer("n1", ("10.0.0.1",)),), None),
        ((Peer("n2", ("10.9.9.9",)),), None),
        ((Peer("n1", ("10.9.9.9",), ("192.0.2.1",)),), "other nodes are told 10.9.9.9, 192.0.2.1"),
        ((Peer("n1", (), (), PeerState.STOPPED),), "other nodes are told no address"),
    ],
)
def test_other_nodes_are_told_the_addresses_when_they_are_told_others(peers: Any, reason: str | None) -> None:
    made = planned(state(peers=peers))
    steps = [step for step in made.steps if isinstance(step.action, AnnounceAddresses)]
    assert [step.reason for step in steps] == ([reason] if reason else [])
    assert all(step.action == AnnounceAddresses("n1", INSTANCE.internal, INSTANCE.external) for step in steps)
