"""What kubelet waits for before it starts on a control-plane node."""

from __future__ import annotations

from typing import Any

import pytest

from protokube.core.assess import assess
from protokube.core.history import History
from protokube.core.kubelet.gate import gate
from protokube.core.model import Unknown
from protokube.core.node.model import Absent, FileState, Link
from protokube.core.observed import Observed
from protokube.core.volumes.model import AttachState, CloudVolume, Peer, PeerState
from tests.core.kubelet_states import LINK, UNIT, ready, unit_steps, waits, with_files, written
from tests.core.states import RAN, changed, config_of, ext4, planned, state, volume


def test_the_gate_opens() -> None:
    assert unit_steps(planned(ready())) == ["start-unit"]


def free(id_: str, key: str, **more: Any) -> CloudVolume:
    return volume(id_, key=key, **more)


CLOSED: dict[str, tuple[dict[str, Any], str]] = {
    "a volume is left to claim": (
        {"volumes": (volume(holder="n1", tags=RAN), free("vol-2", "events"))},
        "vol-2 is claimed",
    ),
    "attaching": ({"volumes": (volume(holder="n1", tags=RAN, state=AttachState.ATTACHING),)}, "vol-1 is attached"),
    "not mounted": ({"mounts": ()}, "vol-1 is mounted"),
    "being prepared": ({"disks": state(ext4()).storage.disks, "mounts": ()}, "vol-1 is mounted"),
    "mounts unknown": ({"mounts": Unknown("x")}, "vol-1 is mounted"),
    "its contents unknown": ({"contents": {"vol-1": Unknown("x")}}, "the contents of vol-1 are read"),
    "volumes unknown": ({"volumes": Unknown("throttled")}, "the cloud has answered"),
}


@pytest.mark.parametrize(("changes", "why"), CLOSED.values(), ids=CLOSED)
def test_each_reason_closes_the_gate_until_the_deadline(changes: dict[str, Any], why: str) -> None:
    observed = ready(**changes)
    early = planned(changed(observed, uptime=299.0))
    assert unit_steps(early) == [] and why in waits(early)
    late = planned(changed(observed, uptime=300.0))
    assert unit_steps(late) == ["start-unit"]
    (step,) = [one for one in late.steps if one.action.subject == UNIT]
    assert why in step.reason and "gate opened after 300 s" in step.reason


@pytest.mark.parametrize("link", [Absent(), Link("/mnt/master-vol-9/k8s.io/manifests/etcd.manifest", 0)])
def test_the_link_must_stand_and_lead_to_our_volume(link: FileState) -> None:
    observed = ready()
    assert not isinstance(observed.node.files, Unknown)
    made = planned(changed(observed, files={**observed.node.files, LINK: link}))
    assert unit_steps(made) == [] and f"{LINK} stands" in waits(made)


@pytest.mark.parametrize("state", [AttachState.DETACHING, AttachState.BUSY])
def test_what_is_detaching_or_in_use_elsewhere_does_not_close_the_gate(state: AttachState) -> None:
    detaching = volume("vol-2", key="events", holder="n1", state=state)
    others = volume("vol-3", "b/a,b", holder="n2")
    made = planned(ready(volumes=(volume(holder="n1", tags=RAN), detaching, others)))
    assert unit_steps(made) == ["start-unit"]


TERMINATED = (Peer("n2", ("10.0.0.2",), (), PeerState.TERMINATED),)
SOON: dict[str, tuple[dict[str, Any], tuple[Peer, ...], str]] = {
    "being created": ({"status": "creating"}, (), "it is still being created"),
    "in use by nobody": ({"status": "in-use"}, (), "doesn't show by which instance"),
    "being detached": ({"holder": "n2", "state": AttachState.DETACHING}, (), "it is being detached from n2"),
    "its holder is terminated": ({"holder": "n2"}, TERMINATED, "n2, which holds it, is terminated"),
}


@pytest.mark.parametrize(("soon", "peers", "why"), SOON.values(), ids=SOON)
def test_a_volume_that_will_be_free_soon_closes_the_gate_and_is_waited_for(
    soon: dict[str, Any], peers: tuple[Peer, ...], why: str
) -> None:
    """For `events` beside our own `main`, and for `main` before anything else is claimed."""
    ours, other = volume(holder="n1", tags=RAN), free("vol-2", "events")
    events = ready(volumes=(ours, free("vol-3", "events", **soon)), peers=peers)
    main = state(volumes=(free("vol-3", "main", **soon), other), disks={}, peers=peers)
    for observed in (events, with_files(main)):
        made = planned(observed)
        assert unit_steps(made) == [] and why in waits(made)
        assert [one.external for one in made.waiting if one.subject == "vol-3"] == ["which instance" in why]
        assert not [step for step in made.steps if step.action.kind == "attach-volume"]


def test_a_standby_does_not_wait_for_what_a_running_node_has() -> None:
    observed = state(volumes=(volume("vol-2", holder="n2"),), disks={}, peers=(
        Peer("n2", ("10.0.0.2",), (), PeerState.STOPPED),
    ))  # fmt: skip
    made = planned(with_files(observed))
    assert unit_steps(made) == ["start-unit"] and not made.waiting


@pytest.mark.parametrize("volumes", [(), (volume(zone="z2"),), (volume(tags={"KubernetesCluster": "other"}),)])
def test_a_control_plane_node_without_any_main_volume_starts_kubelet_only_at_the_deadline(
    volumes: tuple[CloudVolume, ...],
) -> None:
    """Tags may come late, and an answer may be incomplete; without etcd there is nothing to hurry to."""
    observed = state(volumes=volumes, disks={})
    observed = with_files(observed)
    made = planned(observed)
    assert unit_steps(made) == [] and "a volume of etcd cluster main is known in zone z1" in waits(made)
    assert unit_steps(planned(changed(observed, uptime=300.0))) == ["start-unit"]


def test_names_are_not_in_the_gate() -> None:
    assert unit_steps(planned(ready(records=Unknown("the name server is down")), dns="route53")) == ["start-unit"]


def test_a_node_that_is_no_master_has_no_gate() -> None:
    observed = state(volumes=Unknown("not asked"))
    made = planned(changed(observed, files=written(observed, master=False)), master=False)
    assert unit_steps(made) == ["start-unit"]


def reasons(observed: Observed) -> tuple[str, ...]:
    """What the gate says, whatever the moment."""
    config = config_of()
    judged = assess(config, observed, History())
    return gate(config.etcd, observed.node, judged.volumes, judged.disks).closed


def test_free_volumes_that_a_standby_never_claims_do_not_hold_its_kubelet() -> None:
    observed = state(volumes=(volume("vol-2", holder="n2"), volume("vol-3", key="events")), disks={})
    judged = assess(config_of(), observed, History()).volumes
    assert judged is not None and [one.id for one in judged.candidates["events"]] == ["vol-3"]
    assert reasons(observed) == ()


def test_a_free_volume_that_will_be_claimed_holds_kubelet() -> None:
    observed = state(volumes=(volume("vol-3"), volume("vol-4", key="events")), disks={})
    assert reasons(observed) == ("vol-3 is claimed",)


def test_an_unconfirmed_volume_holds_kubelet() -> None:
    """It may be this machine's, and is requested again."""
    given = volume("vol-3", holder="n1", state=AttachState.UNCONFIRMED, status="available")
    assert reasons(state(volumes=(given,), disks={})) == ("vol-3 is claimed",)


def test_while_the_cloud_is_silent_the_gate_is_closed() -> None:
    assert reasons(state(volumes=Unknown("throttled"))) == ("the cloud has answered",)
