"""Which volumes are ours, which may be claimed, in which order, and which are refused."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from protokube.core.node.model import Mount
from protokube.core.model import Unknown
from protokube.core.observed import Observed
from protokube.core.volumes.actions import AttachVolume
from protokube.core.volumes.assess import Desired, desire
from protokube.core.volumes.model import AttachState, CloudVolume, Peer, PeerState, cluster_order
from protokube.core.volumes.plan import GROUP_GRACE, NAME_PATIENCE
from tests.core.states import INSTANCE, config_of, planned, state, volume


def judge(*volumes: CloudVolume, **more: Any) -> Desired:
    desired = desire(config_of(), state(volumes=volumes, **more))
    assert desired is not None
    return desired


def rejected(desired: Desired) -> dict[str, str]:
    return {one.volume_id: one.rule for one in desired.rejected}


def claims(observed: Observed) -> list[str]:
    return [step.action.volume_id for step in planned(observed).steps if isinstance(step.action, AttachVolume)]


def test_unknown_is_no_judgement() -> None:
    assert desire(config_of(), state(volumes=Unknown("x"))) is None
    assert desire(config_of(), state(instance=Unknown("x"))) is None


def test_a_node_that_is_no_master_wants_no_volume() -> None:
    observed = state(volumes=(volume(holder="n1"),))
    assert desire(config_of(), observed) is not None
    assert desire(config_of(master=False), observed) is None
    assert planned(observed, master=False).steps == planned(state(), master=False).steps


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
    assert rejected(judge(given)) == {given.id: rule}
    assert claims(state(volumes=(given,))) == []


def test_a_volume_without_the_role_is_refused() -> None:
    given = volume()
    tags = {key: value for key, value in given.tags.items() if "role" not in key}
    assert rejected(judge(replace(given, tags=tags))) == {given.id: "volume/no-role"}


@pytest.mark.parametrize(
    "tags", [{}, {"KubernetesCluster": "other"}, {"KubernetesCluster": "c.example.com", "k8s.io/role/master": "1"}]
)
def test_what_is_not_ours_is_passed_over_in_silence(tags: dict[str, str]) -> None:
    desired = judge(replace(volume(), tags=tags))
    assert (desired.all, desired.rejected, desired.candidates) == ((), (), {})


def test_another_zone_is_evidence_but_never_taken() -> None:
    desired = judge(volume(zone="z2"))
    assert [mine.id for mine in desired.all] == ["vol-1"] and desired.candidates == {}


def test_main_before_events_before_others() -> None:
    assert cluster_order(["x", "events", "a", "main"]) == ["main", "events", "a", "x"]


def test_one_claim_a_pass_and_main_first() -> None:
    events, main = volume("vol-0", key="events"), volume("vol-9")
    assert claims(state(volumes=(events, main))) == ["vol-9"]
    assert claims(state(volumes=(events, replace(main, attachments=volume(holder="n1").attachments)))) == ["vol-0"]


def test_one_volume_per_cluster() -> None:
    assert claims(state(volumes=(volume("vol-1", "a/a,b", holder="n1"), volume("vol-2", "b/a,b")))) == []


@pytest.mark.parametrize("attach", list(AttachState))
def test_any_phase_of_an_attachment_counts_as_held(attach: AttachState) -> None:
    desired = judge(volume(holder="n1", state=attach), volume("vol-2", "b/a,b"))
    assert set(desired.held) == {"main"} and desired.candidates == {}


def test_a_standby_claims_no_events_volume() -> None:
    volumes = (volume(holder="n2"), volume("vol-2", key="events"))
    made = planned(state(volumes=volumes))
    assert claims(state(volumes=volumes)) == []
    assert any("standby" in note for note in made.notes) and any("n2" in note for note in made.notes)


def test_two_nodes_start_with_different_volumes() -> None:
    volumes = tuple(volume(f"vol-{number}", f"m{number}/m0,m1,m2,m3,m4") for number in range(5))
    firsts = {claims(state(volumes=volumes, instance=replace(INSTANCE, id=f"i-{number}")))[0] for number in range(20)}
    assert len(firsts) > 1


def test_the_order_is_stable() -> None:
    volumes = tuple(volume(f"vol-{number}", f"m{number}/m0,m1,m2") for number in range(3))
    assert claims(state(volumes=volumes)) == claims(state(volumes=volumes[::-1]))


def test_the_member_that_we_are_in_main_is_preferred() -> None:
    others = [volume(f"vol-e{me}", f"{me}/a,b,c,d", key="events") for me in "abcd"]
    for me in "abcd":
        held = volume("vol-m", f"{me}/a,b,c,d", holder="n1")
        assert claims(state(volumes=(held, *others))) == [f"vol-e{me}"]


def test_another_groups_volume_is_left_for_a_while() -> None:
    given = volume(tags={"kops.k8s.io/instance-group": "other"})
    assert claims(state(volumes=(given,), uptime=119.0)) == []
    assert claims(state(volumes=(given,), uptime=121.0)) == ["vol-1"]
    mine = replace(INSTANCE, instance_group="other")
    assert claims(state(volumes=(given,), uptime=0.0, instance=mine)) == ["vol-1"]


def test_a_member_that_stands_twice_is_not_taken() -> None:
    """A snapshot restored with its tags, in whatever zone."""
    both = judge(volume("vol-1"), volume("vol-2", zone="z9"))
    assert rejected(both) == {"vol-1": "volume/duplicate-member", "vol-2": "volume/duplicate-member"}
    assert claims(state(volumes=(volume("vol-1"), volume("vol-2", zone="z9")))) == []
    held = judge(volume("vol-1", holder="n1"), volume("vol-2"))
    assert rejected(held) == {"vol-2": "volume/duplicate-member"} and set(held.held) == {"main"}


def test_a_refused_volume_that_we_hold_blocks_its_cluster() -> None:
    refused = volume("vol-1", "a/a,a", holder="n1")
    assert claims(state(volumes=(refused, volume("vol-2", "b/a,b")))) == []


def _without_cluster(made: CloudVolume) -> dict[str, str]:
    return {key: value for key, value in made.tags.items() if key != "KubernetesCluster"}


@pytest.mark.parametrize(("at", "kept"), [("vol-1", "vol-1"), ("vol-2", "vol-2")])
def test_of_two_that_we_hold_the_mounted_one_serves(at: str, kept: str) -> None:
    volumes = (volume("vol-1", "a/a,b", holder="n1"), volume("vol-2", "b/a,b", holder="n1"))
    desired = judge(*volumes, mounts=(Mount(f"/mnt/master-{at}", (259, 1), "ext4", False),))
    assert desired.held["main"].id == kept
    assert set(rejected(desired).values()) == {"volume/second-of-cluster"}


def test_a_volume_that_was_asked_for_and_is_not_shown_is_waited_for() -> None:
    """Whether EC2 said yes, that it is in use, or nothing: it may be ours. So nothing else is claimed either."""
    volumes = (volume("vol-1", "a/a,b"), volume("vol-2", "b/a,b"), volume("vol-e", "a/a,b", "events"))
    (first,) = claims(state(volumes=volumes))
    for failed in (frozenset({first}), frozenset[str]()):
        asked = state(volumes=volumes, failed=failed, asked=frozenset({first}))
        assert claims(asked) == [] and first in {one.subject for one in planned(asked).waiting}
        vanished = replace(asked, volumes=tuple(one for one in volumes if one.id != first))
        assert claims(vanished) == []
    taken = state(volumes=(volume("vol-1", "a/a,b", holder="n2"), volumes[1]), asked=frozenset({"vol-1"}))
    assert claims(taken) == ["vol-2"]


def test_only_a_refusal_of_the_volume_itself_leads_to_the_next() -> None:
    """Throttling, say: `events` now could end as the other half of two split members."""
    volumes = (volume("vol-1", "a/a,b"), volume("vol-2", "b/a,b"), volume("vol-e", "a/a,b", "events"))
    (first,) = claims(state(volumes=volumes))
    assert claims(state(volumes=volumes, failed=frozenset({first}))) == []
    refused = state(volumes=volumes, failed=frozenset({first}), refused=frozenset({first}))
    assert claims(refused) == [one.id for one in volumes[:2] if one.id != first]
    both = frozenset({"vol-1", "vol-2"})
    assert claims(state(volumes=volumes, failed=both, refused=both)) == [], "`main` decides which member this is"


def test_main_and_events_ask_for_names_of_their_own_first() -> None:
    """So the cloud itself refuses a second volume of a cluster whose first one its answers don't show."""
    instance = replace(INSTANCE, device_names=("/dev/xvdu", "/dev/xvdv", "/dev/xvdw"))
    held, main, events = volume("vol-0", holder="n1"), volume("vol-1"), volume("vol-2", key="events")
    for volumes, name in (((main, events), "/dev/xvdu"), ((held, events), "/dev/xvdv")):
        steps = planned(state(volumes=volumes, instance=instance)).steps
        (device,) = [one.action.device for one in steps if isinstance(one.action, AttachVolume)]
        assert device == name


def test_where_every_main_volume_is_refused_events_comes_up() -> None:
    bad, events = volume("vol-1", "nonsense"), volume("vol-e", key="events")
    assert claims(state(volumes=(bad, events))) == ["vol-e"]
    assert claims(state(volumes=(replace(bad, zone="z2"), events))) == []
    held = volume("vol-2", "b/a,b", holder="n2")
    assert claims(state(volumes=(bad, held, events))) == [], "a standby"


def test_an_answer_without_any_main_volume_lets_no_events_volume_be_claimed() -> None:
    assert claims(state(volumes=(volume("vol-e", key="events"),))) == []


def test_nothing_is_claimed_beside_a_mounted_volume_that_the_cloud_does_not_show() -> None:
    mounted = (Mount("/mnt/master-vol-9", (259, 9), "ext4", False),)
    assert claims(state(volumes=(volume(),), mounts=mounted)) == []
    assert claims(state(volumes=(volume(),), mounts=Unknown("not read"))) == []


def test_nothing_is_claimed_while_the_kernels_names_are_unknown() -> None:
    instance = replace(INSTANCE, device_names=("/dev/xvdu",))
    observed = state(volumes=(volume(),), instance=instance, kernel_devices=Unknown("hangs"))
    assert claims(observed) == [] and "vol-1" in {one.subject for one in planned(observed).unknown}


def test_events_waits_for_main_that_is_left_for_another_group() -> None:
    ours, group = replace(INSTANCE, instance_group="here"), {"k8s.io/instance-group": "there"}
    volumes = (volume("vol-1", "a/a,b", tags=group), volume("vol-e", "b/a,b", "events"))
    assert claims(state(volumes=volumes, instance=ours)) == []
    assert claims(replace(state(volumes=volumes, instance=ours), uptime=GROUP_GRACE)) == ["vol-1"]


def test_a_main_volume_of_ours_that_is_refused_lets_no_other_main_be_claimed() -> None:
    """Its tag was edited badly, or lost the cluster's name; it may be mounted all the same."""
    free = (volume("vol-2", "b/a,b"), volume("vol-e", "a/a,b", "events"))
    mounts = (Mount("/mnt/master-vol-1", (259, 1), "ext4", False),)
    for ours in (
        volume("vol-1", "nonsense", holder="n1"),
        replace(unnamed := volume("vol-1", "a/a,b", holder="n1"), tags=_without_cluster(unnamed)),
    ):
        judged = state(volumes=(ours, *free), mounts=mounts)
        assert claims(judged) == ["vol-e"] and "vol-1" in {one.subject for one in planned(judged).refusals}
        gone = volume("vol-3", "b/a,b", holder="n9")
        judged = state(volumes=(ours, gone, free[1]), mounts=mounts, peers=(Peer("n9", (), (), PeerState.TERMINATED),))
        assert "vol-3" not in {one.subject for one in planned(judged).waiting}, "it would not be taken"


def test_a_volume_of_another_cluster_that_somebody_attached_blocks_nothing() -> None:
    other = volume("vol-1", "a/a,b", holder="n1", tags={"KubernetesCluster": "other"})
    assert claims(state(volumes=(other, volume("vol-2", "b/a,b")))) == ["vol-2"]


def test_a_tmpfs_and_what_is_mounted_inside_a_volume_are_no_strangers() -> None:
    mounts = (
        Mount("/mnt/master-backup", (0, 45), "tmpfs", False),
        Mount("/mnt/master-vol-9/k8s.io/x", (259, 4), "ext4", False),
    )
    assert claims(state(volumes=(volume(),), mounts=mounts)) == ["vol-1"]


def test_while_a_volume_may_be_ours_only_that_one_is_asked_for_again() -> None:
    """It was asked for a moment ago, or shown as ours, and an answer shows it free, or doesn't show it at all."""
    volumes = (volume("vol-1", "a/a,b"), volume("vol-2", "b/a,b"), volume("vol-e", "a/a,b", "events"))
    for hidden in ("vol-1", "vol-2"):
        assert claims(state(volumes=volumes, hidden=frozenset({hidden}))) == [hidden]
    absent = state(volumes=volumes, hidden=frozenset({"vol-9"}))
    assert claims(absent) == [] and "vol-9" in {one.subject for one in planned(absent).waiting}


def test_unknown_peers_are_not_taken_for_living_ones() -> None:
    held = state(volumes=(volume("vol-1", "a/a,b", holder="n2"),), peers=Unknown("throttled"), disks={})
    assert "isn't known" in " ".join(one.reason for one in planned(held).waiting if one.subject == "vol-1")


def test_device_names_that_are_taken_are_passed_over() -> None:
    instance = replace(
        INSTANCE, device_names=("/dev/xvdu", "/dev/xvdv", "/dev/xvdw"), used_devices=frozenset({"/dev/xvdu"})
    )
    observed = state(volumes=(volume(),), instance=instance, kernel_devices=frozenset({"/dev/xvdv"}))
    (step,) = [one for one in planned(observed).steps if isinstance(one.action, AttachVolume)]
    assert step.action == AttachVolume("vol-1", "/dev/xvdw")
    conflict = replace(observed, taken_devices={"/dev/xvdw": NAME_PATIENCE - 1})
    assert claims(conflict) == [] and "/dev/xvdw is in use" in planned(conflict).waiting[0].reason
    full = replace(observed, taken_devices={"/dev/xvdw": NAME_PATIENCE})
    assert claims(full) == [] and [one.rule for one in planned(full).refusals] == ["volume/no-device-name"]
