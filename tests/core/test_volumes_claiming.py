"""Which free volume is claimed, in which order, and what a claim waits for."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from protokube.core.history import History, Result
from protokube.core.model import Unknown
from protokube.core.node.model import Mount
from protokube.core.observed import Observed
from protokube.core.volumes.actions import AttachVolume
from protokube.core.volumes.claiming import GROUP_GRACE
from protokube.core.volumes.model import AttachState, CloudVolume, Obstacle, Peer, PeerState
from tests.core.states import INSTANCE, NO_HISTORY, changed, planned, rules, state, volume

THREE = (volume("vol-1", "a/a,b"), volume("vol-2", "b/a,b"), volume("vol-e", "a/a,b", "events"))
"""Two of `main` and one of `events`, all free."""
MOUNTED = (Mount("/mnt/master-vol-1", (259, 1), "ext4", False),)


def claims(observed: Observed, history: History = NO_HISTORY) -> list[str]:
    made = planned(observed, history)
    return [step.action.volume_id for step in made.steps if isinstance(step.action, AttachVolume)]


def waits(observed: Observed, history: History = NO_HISTORY) -> dict[str, tuple[str, bool]]:
    """What is waited for, by volume: the reason, and whether it is external."""
    return {one.subject: (one.reason, one.external) for one in planned(observed, history).waiting}


def after(result: Result, *volumes: str) -> History:
    """What is remembered once the requests for these volumes ended like this, in this reconcile."""
    history = History()
    for volume_id in volumes:
        history = history.recorded(AttachVolume(volume_id), result, 10.0)
    return history


def unconfirmed(given: CloudVolume, status: str = "available") -> CloudVolume:
    """The volume as a provider shows one that may be this machine's."""
    shown = volume(given.id, holder="n1", state=AttachState.UNCONFIRMED)
    return replace(given, attachments=shown.attachments, status=status)


# --- the order ------------------------------------------------------------------------------------------


def test_one_claim_a_pass_and_main_first() -> None:
    events, main = volume("vol-0", key="events"), volume("vol-9")
    assert claims(state(volumes=(events, main))) == ["vol-9"]
    assert claims(state(volumes=(events, replace(main, attachments=volume(holder="n1").attachments)))) == ["vol-0"]


@pytest.mark.parametrize("path", ["/mnt", "/mnt/master-vol-9"])
def test_nothing_is_claimed_that_could_not_be_mounted(path: str) -> None:
    observed = state(volumes=(volume("vol-9"),))
    observed = replace(observed, storage=replace(observed.storage, barred={path: "it leads to nowhere"}))
    made = planned(observed)
    assert [(one.subject, one.rule) for one in made.refusals] == [("vol-9", "mount/path")]
    assert claims(observed) == []


def test_the_reason_names_member_cluster_and_zone() -> None:
    (step,) = [one for one in planned(state(volumes=(volume(),))).steps if isinstance(one.action, AttachVolume)]
    assert step.reason == "member a of etcd cluster main is free in zone z1" and step.action.describe() == (
        "attach vol-1 (device known after attach)"
    )


def test_one_volume_per_cluster() -> None:
    assert claims(state(volumes=(volume("vol-1", "a/a,b", holder="n1"), volume("vol-2", "b/a,b")))) == []


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
        ours = volume("vol-m", f"{me}/a,b,c,d", holder="n1")
        assert claims(state(volumes=(ours, *others))) == [f"vol-e{me}"]


def test_another_groups_volume_is_left_for_a_while() -> None:
    given = volume(tags={"kops.k8s.io/instance-group": "other"})
    early = state(volumes=(given,), uptime=GROUP_GRACE - 1)
    assert claims(early) == [] and waits(early)["vol-1"] == ("left for instance group other for 120 s", True)
    assert claims(state(volumes=(given,), uptime=GROUP_GRACE + 1)) == ["vol-1"]
    same = replace(INSTANCE, instance_group="other")
    assert claims(state(volumes=(given,), uptime=0.0, instance=same)) == ["vol-1"]


def test_events_waits_for_main_that_is_left_for_another_group() -> None:
    here, group = replace(INSTANCE, instance_group="here"), {"k8s.io/instance-group": "there"}
    observed = state(
        volumes=(volume("vol-1", "a/a,b", tags=group), volume("vol-e", "b/a,b", "events")), instance=here
    )
    assert claims(observed) == []
    assert claims(changed(observed, uptime=GROUP_GRACE)) == ["vol-1"]


# --- a standby, and refused main volumes ----------------------------------------------------------------


def test_a_node_whose_main_is_blocked_is_no_standby() -> None:
    bad = volume("vol-1", "a", holder="n1")
    elsewhere = volume("vol-2", "b/a,b", holder="n2")
    made = planned(state(volumes=(bad, elsewhere)))
    assert rules(made) == ["volume/bad-etcd-tag"]
    assert not any("standby" in hint for hint in made.hints)


def test_a_standby_claims_no_events_volume() -> None:
    observed = state(volumes=(volume(holder="n2"), volume("vol-2", key="events")))
    made = planned(observed)
    assert claims(observed) == []
    assert any("standby" in hint for hint in made.hints) and any("n2" in hint for hint in made.hints)


def test_where_every_main_volume_is_refused_events_comes_up() -> None:
    bad, events = volume("vol-1", "nonsense"), volume("vol-e", key="events")
    assert claims(state(volumes=(bad, events))) == ["vol-e"]
    assert claims(state(volumes=(replace(bad, zone="z2"), events))) == []
    elsewhere = volume("vol-2", "b/a,b", holder="n2")
    assert claims(state(volumes=(bad, elsewhere, events))) == [], "a standby"


def test_an_answer_without_any_main_volume_lets_no_events_volume_be_claimed() -> None:
    assert claims(state(volumes=(volume("vol-e", key="events"),))) == []


def test_a_member_that_stands_twice_is_not_claimed() -> None:
    assert claims(state(volumes=(volume("vol-1"), volume("vol-2", zone="z9")))) == []


def test_a_refused_volume_of_this_machine_blocks_its_cluster() -> None:
    refused = volume("vol-1", "a/a,a", holder="n1")
    assert claims(state(volumes=(refused, volume("vol-2", "b/a,b")))) == []


@pytest.mark.parametrize("damaged", ["the etcd tag", "the cluster's tag"])
def test_a_main_volume_of_ours_that_is_refused_lets_no_other_main_be_claimed(damaged: str) -> None:
    """Its tag was edited badly, or lost the cluster's name; it may be mounted nevertheless."""
    ours = volume("vol-1", "nonsense" if damaged == "the etcd tag" else "a/a,b", holder="n1")
    if damaged == "the cluster's tag":
        ours = replace(ours, tags={key: value for key, value in ours.tags.items() if key != "KubernetesCluster"})
    observed = state(volumes=(ours, *THREE[1:]), mounts=MOUNTED)
    assert claims(observed) == ["vol-e"] and rules(planned(observed))
    terminated = (Peer("n9", (), (), PeerState.TERMINATED),)
    others = (ours, volume("vol-3", "b/a,b", holder="n9"), THREE[2])
    assert "vol-3" not in waits(changed(observed, volumes=others, peers=terminated)), "it would not be taken"


def test_a_volume_of_another_cluster_that_is_attached_here_blocks_nothing() -> None:
    other = volume("vol-1", "a/a,b", holder="n1", tags={"KubernetesCluster": "other"})
    assert claims(state(volumes=(other, volume("vol-2", "b/a,b")))) == ["vol-2"]


# --- what may be this machine's already -----------------------------------------------------------------


@pytest.mark.parametrize("result", [Result.DONE, Result.UNCERTAIN])
def test_a_volume_that_was_requested_and_is_not_shown_is_waited_for(result: Result) -> None:
    """Whether the cloud said yes, that it is in use, or nothing: it may be ours, so nothing else is claimed."""
    free = state(volumes=THREE)
    (first,) = claims(free)
    history = after(result, first)
    assert claims(free, history) == [] and first in waits(free, history)
    vanished = state(volumes=tuple(one for one in THREE if one.id != first))
    assert claims(vanished, history) == [] and first in waits(vanished, history)
    (requested,) = [one for one in THREE if one.id == first]
    rest = tuple(one for one in THREE if one.id != first)
    assert claims(state(volumes=(unconfirmed(requested), *rest)), history) == [], "once a reconcile"
    elsewhere = replace(requested, attachments=volume(holder="n2").attachments, status="in-use")
    other = next(one for one in ("vol-1", "vol-2") if one != first)
    assert claims(state(volumes=(elsewhere, *rest)), history) == [other]


def test_the_next_reconcile_requests_again_what_is_still_not_shown() -> None:
    (first,) = claims(state(volumes=THREE))
    history = after(Result.DONE, first).next_reconcile()
    shown = tuple(unconfirmed(one) if one.id == first else one for one in THREE)
    assert claims(state(volumes=shown), history) == [first]


def test_only_a_denial_of_the_volume_itself_leads_to_the_next() -> None:
    """Throttling, say: `events` now could end as the other half of two split members."""
    free = state(volumes=THREE)
    (first,) = claims(free)
    assert claims(free, after(Result.FAILED, first)) == []
    assert claims(free, after(Result.DENIED, first)) == [one.id for one in THREE[:2] if one.id != first]
    both = after(Result.DENIED, "vol-1", "vol-2")
    assert claims(free, both) == [], "`main` decides which member this is"


def test_a_conflict_is_requested_again_at_once() -> None:
    (first,) = claims(state(volumes=THREE))
    assert claims(state(volumes=THREE), after(Result.CONFLICT, first)) == [first]


@pytest.mark.parametrize("number", range(3))
def test_while_a_volume_may_be_ours_only_that_one_is_requested_again(number: int) -> None:
    """It was requested a moment ago, or shown as ours, and the cloud shows nobody who has it."""
    shown = tuple(unconfirmed(one) if at == number else one for at, one in enumerate(THREE))
    observed = state(volumes=shown)
    assert claims(observed) == [THREE[number].id] and THREE[number].id not in waits(observed)


def test_what_may_be_ours_and_cannot_be_requested_is_waited_for() -> None:
    for shown in (
        unconfirmed(THREE[0], "in-use"),
        unconfirmed(volume("vol-1", "nonsense")),
        unconfirmed(volume("vol-1", "a/a,b", zone="z2")),
        unconfirmed(volume("vol-1", "a/a,b", tags={"KubernetesCluster": "other"})),
    ):
        observed = state(volumes=(shown, *THREE[1:]))
        assert claims(observed) == [] and "doesn't show who has it" in waits(observed)["vol-1"][0]


@pytest.mark.parametrize("result", [Result.FAILED, Result.DENIED])
def test_an_unconfirmed_volume_whose_request_failed_is_not_requested_twice(result: Result) -> None:
    observed = state(volumes=(unconfirmed(THREE[0]), *THREE[1:]))
    assert claims(observed, after(result, "vol-1")) == [] and "vol-1" in waits(observed, after(result, "vol-1"))


def test_an_unconfirmed_volume_that_another_instance_has_is_not_requested() -> None:
    """The two contradict one another, so nothing is claimed beside it either."""
    both = replace(
        THREE[0], attachments=(*volume(holder="n2").attachments, *unconfirmed(THREE[0]).attachments), status="in-use"
    )
    observed = state(volumes=(both, *THREE[1:]))
    assert claims(observed) == []


def test_an_unconfirmed_volume_whose_member_stands_twice_is_not_requested() -> None:
    """It may be free, and an old snapshot's copy."""
    for twin in (volume("vol-9", "a/a,b"), volume("vol-9", "a/a,b", zone="z2")):
        assert claims(state(volumes=(unconfirmed(THREE[0]), twin))) == []


@pytest.mark.parametrize("key", ["main", "events"])
def test_an_unconfirmed_volume_of_one_cluster_stops_the_claims_of_all(key: str) -> None:
    ours = volume("vol-0", "a/a,b", "events" if key == "main" else "main", holder="n1")
    shown = (ours, unconfirmed(volume("vol-1", "a/a,b", key), "in-use"), volume("vol-2", "b/a,b", key))
    assert claims(state(volumes=shown)) == []


# --- what stands in the way -----------------------------------------------------------------------------


def test_an_obstacle_that_passes_is_waited_for() -> None:
    blocked = replace(THREE[0], obstacle=Obstacle("/dev/xvdu is in use, and the cloud doesn't show by what"))
    for given in (blocked, unconfirmed(blocked)):
        observed = state(volumes=(given, THREE[2]))
        assert claims(observed) == [] and rules(planned(observed)) == []
        assert waits(observed)["vol-1"] == ("/dev/xvdu is in use, and the cloud doesn't show by what", False)


def test_an_obstacle_with_a_rule_is_refused() -> None:
    blocked = replace(THREE[0], obstacle=Obstacle("all device names are in use: /dev/xvdu", "volume/no-device-name"))
    observed = state(volumes=(blocked, THREE[2]))
    (refusal,) = planned(observed).refusals
    assert (refusal.subject, refusal.rule) == ("vol-1", "volume/no-device-name") and refusal.serious
    assert refusal.evidence == "all device names are in use: /dev/xvdu"
    assert claims(observed) == []


def test_an_obstacle_to_a_volume_that_is_not_the_next_is_no_matter() -> None:
    """Volumes in use elsewhere, and those of an etcd cluster whose turn has not come."""
    events = replace(THREE[2], obstacle=Obstacle("in use", "volume/no-device-name"))
    observed = state(volumes=(THREE[0], events))
    assert claims(observed) == ["vol-1"] and planned(observed).refusals == []


def test_an_obstacle_gives_way_to_no_other_volume() -> None:
    """The next one would be a second of its kind, should the first be this machine's after all."""
    (first,) = claims(state(volumes=THREE))
    volumes = tuple(replace(one, obstacle=Obstacle("in use")) if one.id == first else one for one in THREE)
    assert claims(state(volumes=volumes)) == []


def test_what_only_an_operator_can_clear_gives_way_to_the_next_volume() -> None:
    """A blocked mount point and an obstacle with a rule stay. Neither volume can be this machine's meanwhile."""
    (first,) = claims(state(volumes=THREE))
    (second,) = {"vol-1", "vol-2"} - {first}
    observed = state(volumes=THREE)
    barred = replace(observed.storage, barred={f"/mnt/master-{first}": "it is a file"})
    lost = Obstacle("its image is missing", "volume/image-missing")
    volumes = tuple(replace(one, obstacle=lost) if one.id == first else one for one in THREE)
    for given, rule in ((replace(observed, storage=barred), "mount/path"), (state(volumes=volumes), lost.rule)):
        assert claims(given) == [second] and rules(planned(given), first) == [rule]


def test_nothing_is_claimed_beside_a_mounted_volume_that_the_cloud_does_not_show() -> None:
    stray = (Mount("/mnt/master-vol-9", (259, 9), "ext4", False),)
    observed = state(volumes=(volume(),), mounts=stray)
    assert claims(observed) == [] and waits(observed)["vol-9"][1]
    assert claims(state(volumes=(volume(),), mounts=Unknown("not read"))) == []


def test_a_tmpfs_and_what_is_mounted_inside_a_volume_are_not_stray() -> None:
    mounts = (
        Mount("/mnt/master-backup", (0, 45), "tmpfs", False),
        Mount("/mnt/master-vol-9/k8s.io/x", (259, 4), "ext4", False),
    )
    assert claims(state(volumes=(volume(),), mounts=mounts)) == ["vol-1"]


# --- what comes soon ------------------------------------------------------------------------------------

TERMINATED = (Peer("n2", ("10.0.0.2",), (), PeerState.TERMINATED),)
COMING: dict[str, tuple[CloudVolume, tuple[Peer, ...] | Unknown, str, bool]] = {
    "being created": (volume(status="creating"), (), "it is still being created", False),
    "in use by nobody": (volume(status="in-use"), (), "doesn't show by which instance", True),
    "being detached": (volume(holder="n2", state=AttachState.DETACHING), (), "being detached from n2", False),
    "its holder is terminated": (volume(holder="n2"), TERMINATED, "n2, which holds it, is terminated", False),
    "its holder is unknown": (volume(holder="n2"), Unknown("throttled"), "isn't known", True),
}


@pytest.mark.parametrize(("soon", "peers", "why", "external"), COMING.values(), ids=COMING)
def test_what_will_be_free_soon_is_waited_for(
    soon: CloudVolume, peers: tuple[Peer, ...] | Unknown, why: str, external: bool
) -> None:
    observed = state(volumes=(soon, volume("vol-e", key="events")), peers=peers, disks={})
    reason, is_external = waits(observed)["vol-1"]
    assert why in reason and is_external == external
    assert claims(observed) == [], "`main` decides which member this is"


def test_a_free_main_volume_goes_before_one_that_comes_soon() -> None:
    observed = state(volumes=(volume("vol-1", "a/a,b", status="creating"), volume("vol-2", "b/a,b")))
    assert claims(observed) == ["vol-2"]
