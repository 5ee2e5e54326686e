"""kubelet's gate, its files and its unit."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from protokube.core.disks.identity import Identity
from protokube.core.disks.model import Mounted
from protokube.core.etcd.template import DEFAULT_IMAGE, render_manifest
from protokube.core.kubelet.paths import ARGS_PATH, CONFIG_PATH
from protokube.core.kubelet.plan import gate
from protokube.core.model import Unknown
from protokube.core.node.actions import WriteFile
from protokube.core.node.model import Absent, File, FileState, Link, UnitState
from protokube.core.observed import Observed
from protokube.core.steps import Plan
from protokube.core.volumes.assess import desire
from protokube.core.volumes.model import AttachState, CloudVolume, Peer, PeerState
from tests.core.states import (
    CLUSTER,
    INSTANCE,
    MEMBER,
    NOW,
    RAN,
    TARGET,
    UUID,
    VOLUME,
    ext4,
    mounted,
    planned,
    state,
    tree,
    volume,
)  # fmt: skip
from tests.rounds.process import node_config, templates

UNIT = "kubelet.service"
MANIFEST = "k8s.io/manifests/etcd.manifest"
LINK = "/etc/kubernetes/manifests/etcd.manifest"
IDENTITY = Identity(CLUSTER, "main", "a", VOLUME, UUID, "3.6.6", True)
DATA = ("k8s.io/", "var/", "var/etcd/", "var/etcd/data/", "var/etcd/data/member/")
MTIME = int((NOW - 1000) * 1e9)


def written(observed: Observed, **config: Any) -> dict[str, FileState]:
    """kubelet's files as this node would write them."""
    made = planned(replace(observed, files={}), **config)
    return {
        step.action.path: File(step.action.content, 0o644, MTIME)
        for step in made.steps
        if isinstance(step.action, WriteFile) and step.action.path in (ARGS_PATH, CONFIG_PATH)
    }


def ready(**changes: Any) -> Observed:
    """Mounted, linked, files written, kubelet down."""
    content = tree(*DATA, MANIFEST, "k8s.io/manifests/", identity=IDENTITY)
    text = render_manifest(
        templates()["main"], MEMBER, mount_point=TARGET, dns_suffix=f".internal.{CLUSTER}", image=DEFAULT_IMAGE,
        state="existing", hosts=False,
    )  # fmt: skip
    content = replace(content, texts={**content.texts, MANIFEST: text}, mtimes={**content.mtimes, MANIFEST: MTIME})
    observed = state(Mounted(), tags=RAN, mounts=(mounted(),), trees={VOLUME: content})
    link = Link(f"{TARGET}/{MANIFEST}", MTIME)
    observed = replace(observed, files={**written(observed), LINK: link})
    return replace(observed, **changes)


def unit_steps(made: Plan) -> list[str]:
    return [step.action.kind for step in made.steps if step.action.subject == UNIT]


def waits(made: Plan) -> str:
    return "; ".join(one.reason for one in made.waiting if one.subject == UNIT)


def up(**changes: Any) -> UnitState:
    return replace(UnitState("loaded", "active", "running", started_at=NOW - 500), **changes)


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
    "busy": ({"volumes": (volume(holder="n1", tags=RAN, state=AttachState.BUSY),)}, "vol-1 is attached"),
    "not mounted": ({"mounts": ()}, "vol-1 is mounted"),
    "being prepared": ({"disks": state(ext4()).disks, "mounts": ()}, "vol-1 is mounted"),
    "mounts unknown": ({"mounts": Unknown("x")}, "vol-1 is mounted"),
    "volumes unknown": ({"volumes": Unknown("throttled")}, "the cloud has answered"),
}


@pytest.mark.parametrize(("changes", "why"), CLOSED.values(), ids=CLOSED)
def test_each_reason_closes_the_gate_until_the_deadline(changes: dict[str, Any], why: str) -> None:
    observed = ready(**changes)
    early = planned(replace(observed, uptime=299.0))
    assert unit_steps(early) == [] and why in waits(early)
    late = planned(replace(observed, uptime=300.0))
    assert unit_steps(late) == ["start-unit"]
    (step,) = [one for one in late.steps if one.action.subject == UNIT]
    assert why in step.reason and "gate opened after 300 s" in step.reason


@pytest.mark.parametrize("link", [Absent(), Link("/mnt/master-vol-9/k8s.io/manifests/etcd.manifest", 0)])
def test_the_link_must_stand_and_lead_to_our_volume(link: FileState) -> None:
    observed = ready()
    assert not isinstance(observed.files, Unknown)
    made = planned(replace(observed, files={**observed.files, LINK: link}))
    assert unit_steps(made) == [] and f"{LINK} stands" in waits(made)


def test_what_is_detaching_or_held_by_others_does_not_close_the_gate() -> None:
    detaching = volume("vol-2", key="events", holder="n1", state=AttachState.DETACHING)
    others = volume("vol-3", "b/a,b", holder="n2")
    made = planned(ready(volumes=(volume(holder="n1", tags=RAN), detaching, others)))
    assert unit_steps(made) == ["start-unit"]


GONE = (Peer("n2", ("10.0.0.2",), (), PeerState.TERMINATED),)
SOON: dict[str, tuple[dict[str, Any], tuple[Peer, ...], str]] = {
    "being created": ({"status": "creating"}, (), "it is still being created"),
    "in use by nobody": ({"status": "in-use"}, (), "doesn't show by whom"),
    "being detached": ({"holder": "n2", "state": AttachState.DETACHING}, (), "it is being detached from n2"),
    "its holder is gone": ({"holder": "n2"}, GONE, "n2, which holds it, is terminated"),
}


@pytest.mark.parametrize(("soon", "peers", "why"), SOON.values(), ids=SOON)
def test_a_volume_that_will_be_free_soon_closes_the_gate_and_is_waited_for(
    soon: dict[str, Any], peers: tuple[Peer, ...], why: str
) -> None:
    """For `events` beside our own `main`, and for `main` before anything else is claimed."""
    ours, other = volume(holder="n1", tags=RAN), free("vol-2", "events")
    events = ready(volumes=(ours, free("vol-3", "events", **soon)), peers=peers)
    main = replace(state(), volumes=(free("vol-3", "main", **soon), other), disks={}, peers=peers)
    for observed in (events, replace(main, files=written(main))):
        made = planned(observed)
        assert unit_steps(made) == [] and why in waits(made)
        assert [one.theirs for one in made.waiting if one.subject == "vol-3"] == ["by whom" in why]
        assert not [step for step in made.steps if step.action.kind == "attach-volume"]


def test_a_standby_does_not_wait_for_what_a_running_node_holds() -> None:
    observed = replace(state(), volumes=(volume("vol-2", holder="n2"),), disks={}, peers=(
        Peer("n2", ("10.0.0.2",), (), PeerState.STOPPED),
    ))  # fmt: skip
    made = planned(replace(observed, files=written(observed)))
    assert unit_steps(made) == ["start-unit"] and not made.waiting


@pytest.mark.parametrize("volumes", [(), (volume(zone="z2"),), (volume(tags={"KubernetesCluster": "other"}),)])
def test_a_master_without_any_main_volume_starts_kubelet_only_at_the_deadline(
    volumes: tuple[CloudVolume, ...],
) -> None:
    """Tags may come late, and an answer may be incomplete; a master without etcd is nothing to hurry to."""
    observed = replace(state(), volumes=volumes, disks={})
    observed = replace(observed, files=written(observed))
    made = planned(observed)
    assert unit_steps(made) == [] and "a volume of etcd cluster main is known in zone z1" in waits(made)
    assert unit_steps(planned(replace(observed, uptime=300.0))) == ["start-unit"]


def test_names_are_not_in_the_gate() -> None:
    assert unit_steps(planned(ready(records=Unknown("the name server is down")), dns="route53")) == ["start-unit"]


def test_a_node_that_is_no_master_has_no_gate() -> None:
    observed = state(volumes=Unknown("not asked"))
    made = planned(replace(observed, files=written(observed, master=False)), master=False)
    assert unit_steps(made) == ["start-unit"]


@pytest.mark.parametrize("load", ["masked", "not-found", "error", "bad-setting"])
def test_a_unit_that_cannot_start_is_reported_and_never_fought(load: str) -> None:
    made = planned(ready(unit=UnitState(load, "inactive", "dead")))
    assert unit_steps(made) == []
    assert [(one.rule, load in one.evidence) for one in made.refusals] == [("kubelet/unit", True)]


@pytest.mark.parametrize("active", ["active", "activating", "reloading"])
def test_a_running_kubelet_is_left_alone(active: str) -> None:
    observed = ready(unit=up(active=active))
    for step in (first := planned(observed)).steps:
        assert step.action.kind == "write-file" and "last-good" in step.action.subject
    assert unit_steps(first) == [] and not first.waiting and not first.refusals


def test_a_stopping_kubelet_is_waited_for() -> None:
    made = planned(ready(unit=up(active="deactivating")))
    assert unit_steps(made) == [] and "stopping" in waits(made)


@pytest.mark.parametrize("active", ["inactive", "failed"])
def test_a_stopped_kubelet_is_started_in_every_round(active: str) -> None:
    assert unit_steps(planned(ready(unit=up(active=active)))) == ["start-unit"]


def test_an_unknown_unit_is_not_started() -> None:
    made = planned(ready(unit=Unknown("no bus")))
    assert unit_steps(made) == [] and [one.subject for one in made.unknown] == [UNIT]


@pytest.mark.parametrize("path", [ARGS_PATH, CONFIG_PATH])
@pytest.mark.parametrize(
    ("mtime", "steps"), [(NOW - 501, []), (NOW - 499, ["restart-unit"]), (NOW, ["restart-unit"]), (NOW + 60, [])]
)
def test_files_that_are_newer_than_the_process_restart_it(path: str, mtime: float, steps: list[str]) -> None:
    observed = ready(unit=up())
    assert not isinstance(observed.files, Unknown)
    there = observed.files[path]
    assert isinstance(there, File)
    files = {**observed.files, path: replace(there, mtime_ns=int(mtime * 1e9))}
    assert unit_steps(planned(replace(observed, files=files))) == steps


@pytest.mark.parametrize("unit", [up(active="inactive"), up(started_at=NOW - 2000)])
def test_what_was_tried_too_often_is_held(unit: UnitState) -> None:
    made = planned(ready(unit=unit, holds={UNIT: 1234.0}))
    assert unit_steps(made) == [] and "1234 s" in waits(made)


def test_files_are_written_before_anything_is_started() -> None:
    observed = ready()
    assert not isinstance(observed.files, Unknown)
    made = planned(replace(observed, files={LINK: observed.files[LINK]}))
    assert {step.action.subject for step in made.steps} >= {ARGS_PATH, CONFIG_PATH} and unit_steps(made) == []


@pytest.mark.parametrize("changes", [{"files": Unknown("I/O error")}, {"kubelet": Unknown("hangs")}])
@pytest.mark.parametrize("master", [True, False])
def test_unknown_changes_no_file_and_is_said(changes: dict[str, Any], master: bool) -> None:
    made = planned(ready(**changes), master=master)
    assert made.steps == [] and made.unknown and not made.settled


def test_a_wrong_configuration_is_refused_and_starts_nothing() -> None:
    made = planned(ready(instance=replace(INSTANCE, name="Not_A_Name")))
    assert {one.rule for one in made.refusals} == {"kubelet/configuration"} and unit_steps(made) == []


def test_without_a_unit_nothing_is_started() -> None:
    made = planned(ready(unit=None), kubelet_unit=None)
    assert made.steps == [] and made.settled


def test_free_volumes_that_a_standby_never_claims_do_not_hold_its_kubelet() -> None:
    volumes = (volume("vol-2", holder="n2"), volume("vol-3", key="events"))
    observed = replace(state(), volumes=volumes, disks={})
    config = node_config()
    desired = desire(config, observed)
    assert desired is not None and [mine.id for mine in desired.candidates["events"]] == ["vol-3"]
    assert gate(config, observed, desired) == []


def test_a_free_volume_that_will_be_claimed_holds_kubelet() -> None:
    observed = replace(state(), volumes=(volume("vol-3"), volume("vol-4", key="events")), disks={})
    config = node_config()
    assert gate(config, observed, desire(config, observed)) == ["vol-3 is claimed"]
