"""From bare machines to etcd's members: one node, three nodes, and the two traps of etcd's first start."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from protokube.core.etcd.answers import AnswerTracking
from protokube.core.etcd.model import PeerAnswers
from protokube.core.volumes.model import BOOTSTRAPPED_TAG, FILESYSTEM_TAG
from protokube.errors import ProviderError
from protokube.report.model import Report
from tests.rounds.process import Process, node_config
from tests.rounds.world import CLUSTER, MANIFESTS, Filesystem, Node, World, WorldVolume

KOPS = f"""apiVersion: v1
kind: Pod
metadata: {{name: etcd-server}}
spec:
  containers:
  - name: etcd-container
    image: registry.k8s.io/etcd:3.5.9-0
    command: [/bin/sh, -c, exec etcd]
    env:
    - {{name: ETCD_NAME, value: etcd-a}}
    - {{name: ETCD_INITIAL_CLUSTER_STATE, value: new}}
    - {{name: ETCD_INITIAL_CLUSTER, value: "etcd-a=http://etcd-a.internal.{CLUSTER}:2380"}}
"""


def url(member: str) -> str:
    return f"http://etcd-{member}.internal.{CLUSTER}:2380"


def rules(report: Report) -> set[tuple[str, str]]:
    return {(one.subject, one.rule) for one in report.left.refusals}


def single(**speed: Any) -> tuple[World, Node]:
    world = World(**speed)
    world.volume("vol-m", "a/a")
    world.volume("vol-e", "a/a", "events")
    return world, world.node("n1")


def cluster(*names: str, members: str = "a,b,c", **speed: Any) -> tuple[World, list[Process]]:
    """Nodes with a volume for each member, without events volumes."""
    world = World(**speed)
    for member in members.split(","):
        world.volume(f"vol-{member}", f"{member}/{members}")
    return world, [Process(world, world.node(name)) for name in names]


def together(*processes: Process, most: int = 60) -> list[Report]:
    """Reconciles in turns until all are at rest, names' patience taken as over in each."""
    for _ in range(most):
        reports = [process.round() for process in processes]
        processes[0].world.etcd.tick()
        if not any(report.steps or report.in_flight for report in reports):
            return reports
    raise AssertionError([report.left for report in reports])


def kops_volume(world: World, id_: str = "vol-m", spec: str = "a/a") -> WorldVolume:
    volume = world.volume(id_, spec)
    volume.filesystem = Filesystem("11111111-1111-4111-8111-111111111111", "", volume.size, used=True)
    volume.filesystem.put("var/etcd/data/member/", None)
    volume.filesystem.put("k8s.io/manifests/etcd.manifest", KOPS)
    return volume


def test_a_bare_node_comes_up() -> None:
    world, node = single()
    report = Process(world, node).rounds()
    assert report.converged
    assert node.kubelet_runs
    assert world.links(node) == {
        f"{MANIFESTS}/etcd.manifest": "/mnt/master-vol-m/k8s.io/manifests/etcd.manifest",
        f"{MANIFESTS}/etcd-events.manifest": "/mnt/master-vol-e/k8s.io/manifests/etcd-events.manifest",
    }
    assert world.etcd.write("etcd", "hello") and world.etcd.write("etcd-events", "hello")
    assert all(BOOTSTRAPPED_TAG in volume.tags and FILESYSTEM_TAG in volume.tags for volume in world.volumes.values())


def test_main_is_claimed_before_events() -> None:
    world, node = single()
    process = Process(world, node)
    order = [step.action.subject for step in process.steps() if step.action.kind == "attach-volume"]
    assert order == ["vol-m", "vol-e"]


def test_kubelet_waits_for_both_volumes() -> None:
    world, node = single()
    process = Process(world, node)
    for step in process.steps():
        assert step.action.kind != "start-unit" or len(world.links(node)) == 2
    process.rounds()
    assert node.kubelet_runs


def test_a_volume_whose_tool_ends_a_little_later_still_joins_the_reconcile() -> None:
    world, node = single(attach_looks=0, appear_looks=0, tool_looks=20)
    process = Process(world, node)
    process.round()
    looks = {"vol-m": 0, "vol-e": 2}  # the second of them comes after the mount of the other
    for volume_id, more in looks.items():
        job = world.volumes[volume_id].job
        assert job is not None
        job.looks = more
    process.round()
    assert len(world.links(node)) == 2


def test_a_restarted_program_does_nothing() -> None:
    world, node = single()
    Process(world, node).rounds()
    again = Process(world, node)
    assert again.round().steps == ()
    assert again.effects == []


def test_a_rebooted_node_mounts_again_and_formats_nothing() -> None:
    world, node = single()
    Process(world, node).rounds()
    assert world.etcd.write("etcd", "before")
    world.reboot(node)
    again = Process(world, node)
    again.rounds()
    assert "format" not in again.effects and "attach" not in again.effects
    assert node.kubelet_runs and world.etcd.write("etcd", "after") and not world.etcd.violations


def test_a_reboot_without_its_volume_removes_the_link() -> None:
    world, node = single()
    Process(world, node).rounds()
    other = world.node("n2")
    world.reboot(node)
    for volume in world.volumes.values():
        volume.holder = other.name
    Process(world, node, uptime=1000).rounds()
    assert world.links(node) == {}
    Process(world, other).rounds()
    assert len(world.links(other)) == 2 and not world.etcd.violations


def test_a_standby_joins_without_volumes_once_the_gate_is_late() -> None:
    world, node = single()
    Process(world, node).rounds()
    standby = Process(world, world.node("n2"), uptime=301)
    report = standby.rounds()
    assert standby.node.kubelet_runs and world.held(standby.node) == []
    assert report.converged and any("standby" in note for note in report.left.hints)


def test_a_kops_volume_is_adopted() -> None:
    world = World()
    kops_volume(world)
    node = world.node("n1")
    process = Process(world, node)
    process.rounds()
    manifest = world.on_volume(node, "/mnt/master-vol-m/k8s.io/manifests/etcd.manifest")
    assert "format" not in process.effects
    assert manifest and manifest[0]
    assert "registry.k8s.io/etcd:3.5.9-0" in manifest[0]
    assert "{name: ETCD_INITIAL_CLUSTER_STATE, value: new}" not in manifest[0] and "value: existing" in manifest[0]


def test_another_members_kops_volume_is_refused() -> None:
    world = World()
    kops_volume(world, spec="b/a,b")
    report = Process(world, world.node("n1"), uptime=1000).rounds()
    assert rules(report) == {("vol-m", "volume/foreign-data")}


# --- several members ---


@pytest.mark.parametrize("speed", [{}, {"attach_looks": 3, "stale_looks": 2, "appear_looks": 2, "tool_looks": 3}])
def test_three_bare_nodes_form_one_cluster(speed: dict[str, Any]) -> None:
    world, nodes = cluster("n1", "n2", "n3", **speed)
    reports = together(*nodes)
    assert all(report.converged for report in reports)
    assert all(process.node.kubelet_runs for process in nodes)
    assert world.etcd.write("etcd", "hello")
    assert len(world.etcd.running) == 3 and not world.etcd.violations and not world.etcd.stopped


def test_a_member_moves_to_a_new_node_with_another_address() -> None:
    world, nodes = cluster("n1", "n2", "n3")
    together(*nodes)
    assert world.etcd.write("etcd", "one")
    lost = nodes[0].node
    (volume,) = world.held(lost)
    world.power_off(lost)
    assert world.etcd.write("etcd", "two")
    world.detach(volume)
    new = Process(world, world.node("n4"))
    together(new, *nodes[1:])
    assert volume.holder == "n4" and len(world.etcd.running) == 3
    assert world.etcd.write("etcd", "three") and not world.etcd.violations
    member = volume.tags["k8s.io/etcd/main"][0]
    for process in (new, *nodes[1:]):
        assert process.node.records[f"etcd-{member}.internal.{CLUSTER}", "A"] == (new.node.address,)


def test_a_changed_address_is_told_to_the_other_nodes() -> None:
    world, nodes = cluster("n1", "n2", "n3")
    together(*nodes)
    node = nodes[0].node
    node.told, node.address = node.address, "10.0.0.99"
    together(*nodes)
    member = world.held(node)[0].tags["k8s.io/etcd/main"][0]
    for process in nodes:
        assert process.node.records[f"etcd-{member}.internal.{CLUSTER}", "A"] == ("10.0.0.99",)


def grown_tags() -> tuple[World, Process, list[Process]]:
    """The first trap: a/a runs and is written to; then its tags say a/a,b,c and two blank volumes appear."""
    world, (first,) = cluster("n1", members="a")
    first.rounds()
    assert world.etcd.write("etcd", "acknowledged")
    world.volumes["vol-a"].tags["k8s.io/etcd/main"] = "a/a,b,c"
    world.volume("vol-b", "b/a,b,c")
    world.volume("vol-c", "c/a,b,c")
    return world, first, [Process(world, world.node(name), uptime=1000) for name in ("n2", "n3")]


def test_new_members_in_the_tags_form_no_cluster_of_their_own() -> None:
    world, first, others = grown_tags()
    reports = together(*others, first)
    assert not world.etcd.violations and not world.etcd.stopped
    refused = {one.subject: one for report in reports[:2] for one in report.left.refusals}
    assert {one.rule for one in refused.values()} == {"etcd/member-lost"} and refused.keys() == {"vol-b", "vol-c"}
    assert "protokube etcd replace --cluster main --member b" in refused["vol-b"].evidence


def test_new_members_wait_while_the_first_is_down() -> None:
    world, first, others = grown_tags()
    world.power_off(first.node)
    reports = together(*others)
    assert not world.etcd.running and not world.etcd.violations
    assert all("vol-a" in waiting.reason for report in reports for waiting in report.left.waiting)


def test_following_the_advice_joins_the_new_members() -> None:
    world, first, others = grown_tags()
    together(*others, first)
    for member in "bc":
        assert world.etcd.member_add("etcd", url(member))
        together(*others, first)
    assert len(world.etcd.running) == 3 and not world.etcd.violations
    world.etcd.write("etcd", "more")
    world.power_off(first.node)
    assert world.etcd.write("etcd", "without a") and not world.etcd.violations


def replaced() -> tuple[World, dict[str, Process], str]:
    """The second trap: one member missed a write; of the two that have it, one dies and one gets a blank volume."""
    world, nodes = cluster("n1", "n2", "n3")
    together(*nodes)
    by_member = {world.held(one.node)[0].tags["k8s.io/etcd/main"][0]: one for one in nodes}
    assert world.etcd.write("etcd", "acknowledged", missing=by_member["c"].node.name)
    world.power_off(by_member["a"].node)
    world.reboot(by_member["b"].node)
    world.volumes["vol-b"].holder = None
    del world.volumes["vol-b"]
    world.volume("vol-b2", "b/a,b,c")
    by_member["b"] = Process(world, by_member["b"].node)
    return world, by_member, "vol-b2"


def test_a_blank_volume_in_a_members_place_brings_no_quorum() -> None:
    world, members, volume = replaced()
    reports = together(members["b"], members["c"])
    assert not world.etcd.violations and not world.etcd.write("etcd", "must not pass")
    (refusal,) = reports[0].left.refusals
    assert (refusal.subject, refusal.rule) == (volume, "etcd/member-lost")
    assert "protokube etcd replace --cluster main --member" in refusal.evidence


def test_a_blank_volume_waits_while_nobody_answers() -> None:
    world, members, volume = replaced()
    world.power_off(members["c"].node)
    (report,) = together(members["b"])
    assert not world.etcd.violations and not world.etcd.running
    assert volume in {waiting.subject for waiting in report.left.waiting}


def test_answers_of_peers_count_once_they_have_stayed_the_same() -> None:
    known = AnswerTracking()
    answers = PeerAnswers({"b": ()})
    told = []
    more = PeerAnswers({"b": (), "c": ()})
    for uptime, members in ((10.0, answers), (12.0, answers), (13.0, more), (20.0, answers)):
        known = known.seen(uptime, {"main": members})
        told.append(known.stable_for["main"])
    assert told == [0.0, 2.0, 0.0, 10.0], "c is new at 13; its silence later changes nothing about b"


def test_a_lost_member_is_replaced_by_following_the_advice() -> None:
    world, members, _ = replaced()
    members["a"].node.up = True
    members["a"] = Process(world, members["a"].node)
    together(*members.values())
    assert world.etcd.member_remove("etcd", url("b")) and world.etcd.member_add("etcd", url("b"))
    together(*members.values())
    assert len(world.etcd.running) == 3 and not world.etcd.violations
    assert world.etcd.write("etcd", "healed")


def test_data_that_vanished_is_never_started_again() -> None:
    world, node = single()
    Process(world, node).rounds()
    world.reboot(node)
    filesystem = world.volumes["vol-m"].filesystem
    assert filesystem is not None
    del filesystem.files["var/etcd/data/member/"]
    filesystem.etcd.clear()
    report = Process(world, node, uptime=1000).rounds()
    assert ("vol-m", "etcd/data-lost") in rules(report)
    assert f"{MANIFESTS}/etcd.manifest" not in world.links(node) and not world.etcd.violations


# --- the cloud can't remember ---


def test_without_tags_three_bare_nodes_say_what_is_missing() -> None:
    """Where nothing can be known, nothing is started, and the report says which word of the operator's is needed."""
    world, nodes = cluster("n1", "n2", "n3")
    world.can_tag = False
    reports = together(*nodes)
    assert not world.etcd.running
    for report in reports:
        (refusal,) = report.left.refusals
        assert refusal.rule == "etcd/bootstrap-unknown" and "--etcd-bootstrap" in refusal.evidence


def test_without_tags_the_operators_word_starts_three_nodes() -> None:
    world = World()
    world.can_tag = False
    for member in "abc":
        world.volume(f"vol-{member}", f"{member}/a,b,c")
    nodes = [Process(world, world.node(name), node_config(etcd_bootstrap=True)) for name in ("n1", "n2", "n3")]
    together(*nodes)
    assert world.etcd.write("etcd", "hello") and not world.etcd.violations


# --- evidence that only the whole of the cloud holds ---


def test_one_member_left_in_the_tags_starts_nothing_beside_those_that_ran() -> None:
    """Tags change from a/a,b,c to a/a while a's volume is blank: b and c still hold the cluster."""
    world, members, volume = replaced()
    world.volumes[volume].tags["k8s.io/etcd/main"] = "b/b"
    world.power_off(members["c"].node)
    together(members["b"])
    assert not world.etcd.running and not world.etcd.violations


def test_a_blank_volume_attached_in_a_running_members_place_starts_nothing() -> None:
    """The single member's volume was detached; an operator attached a blank one with the same tags."""
    world, node = single()
    Process(world, node).rounds()
    assert world.etcd.write("etcd", "acknowledged")
    world.reboot(node)
    world.volumes["vol-m"].holder = None
    blank = world.volume("vol-m2", "a/a")
    blank.holder, blank.device = node.name, "/dev/xvdz"
    Process(world, node, uptime=1000).rounds()
    assert not world.etcd.violations
    assert f"{MANIFESTS}/etcd.manifest" not in world.links(node)


@pytest.mark.parametrize("damage", ["role", "multi-attach", "two etcd tags"])
def test_a_volume_with_data_that_is_refused_is_evidence_all_the_same(damage: str) -> None:
    """Its node is replaced, its tags are edited, and somebody offers a blank volume for the same member."""
    world = World()
    ran = world.volume("vol-1", "a/a", pristine=True)
    old = world.node("n1")
    Process(world, old).rounds()
    assert world.etcd.write("etcd", "hello")
    world.power_off(old)
    world.detach(ran)
    if damage == "role":
        del ran.tags["k8s.io/role/master"]
    elif damage == "multi-attach":
        ran.multi_attach = True
    else:
        ran.tags["k8s.io/etcd/events"] = "a/a"
    world.volume("vol-2", "a/a")
    report = Process(world, world.node("n2")).rounds()
    assert not report.converged and not world.etcd.violations
    assert world.links(world.nodes["n2"]) == {}
    assert "vol-1" in " ".join(one.evidence for one in report.left.refusals if one.subject == "vol-2")


def test_a_second_volume_that_is_attached_by_hand_does_not_displace_the_first() -> None:
    world, node = single()
    world.volumes["vol-m"].tags["k8s.io/etcd/main"] = "a/a"
    Process(world, node).rounds()
    extra = world.volume("vol-0", "b/a,b")
    extra.holder, extra.device = node.name, "/dev/xvdz"
    before = world.links(node)
    report = Process(world, node, uptime=1000).rounds()
    assert world.links(node) == before and not world.etcd.stopped
    assert ("vol-0", "volume/second-of-cluster") in rules(report)


def garble_identity(volume: WorldVolume) -> None:
    assert volume.filesystem is not None
    volume.filesystem.files["k8s.io/identity.yaml"] = ("started: [", 0)


def misspell_version(volume: WorldVolume) -> None:
    assert volume.filesystem is not None
    files = volume.filesystem.files
    text, changed = files["k8s.io/identity.yaml"]
    assert text is not None
    misspelt = re.sub(r"etcdVersion: .*", "etcdVersion: v3.5.21", text)
    assert "v3.5.21" in misspelt
    files["k8s.io/identity.yaml"] = (misspelt, changed)


EDITS: dict[str, Callable[[WorldVolume], object]] = {
    "another filesystem": lambda volume: volume.tags.update({FILESYSTEM_TAG: "11111111"}),
    "another member": lambda volume: volume.tags.update({"k8s.io/etcd/main": "b/a,b"}),
    "a bad tag": lambda volume: volume.tags.update({"k8s.io/etcd/main": "a/a,a"}),
    "no role": lambda volume: volume.tags.pop("k8s.io/role/master"),
    "no cluster": lambda volume: volume.tags.pop("KubernetesCluster"),
    "a damaged identity file": garble_identity,
    "a version that is none": misspell_version,
    "not attached": lambda volume: setattr(volume, "holder", None),
}


@pytest.mark.parametrize("edit", EDITS)
def test_a_running_member_is_not_stopped_by_a_word(edit: str) -> None:
    world, node = single()
    Process(world, node).rounds()
    before = world.links(node)
    EDITS[edit](world.volumes["vol-m"])
    again = Process(world, node, uptime=1000)
    again.rounds()
    assert world.links(node) == before and not world.etcd.stopped
    assert "format" not in again.effects and "write" not in again.effects


# --- clocks and races within a reconcile ---


def test_a_volume_from_a_node_whose_clock_was_ahead() -> None:
    world, node = single()
    for _ in range(2):  # the second boot writes what stays: `existing`
        world.reboot(node)
        Process(world, node).rounds()
    world.power_off(node)
    for volume in world.volumes.values():
        world.detach(volume)
    world.age(-3600)
    other = Process(world, world.node("n2"))
    other.rounds()
    assert len(world.links(other.node)) == 2 and other.node.kubelet_runs


def test_names_are_not_waited_for_until_a_wrong_clock_catches_up() -> None:
    world, nodes = cluster("n1", "n2", "n3")
    for process in nodes:
        process.broken["record_sets"] = ProviderError("the name server is down")
        process.broken["change"] = ProviderError("the name server is down")
    for _ in range(12):
        for process in nodes:
            process.round()
    world.age(-3600)
    for _ in range(3):
        for process in nodes:
            process.round()
    assert all(world.links(process.node) for process in nodes)


def test_a_member_that_starts_while_its_peers_are_asked_is_not_stopped() -> None:
    """The peers may list it as started before its data directory is seen."""
    world, nodes = cluster("n1", "n2", "n3")
    late = nodes[2]
    late.broken["start"] = ProviderError("the bus is not there yet")
    for _ in range(20):
        for process in nodes:
            process.round()
        world.etcd.tick()
    assert len(world.etcd.running) == 2 and world.links(late.node)
    late = Process(world, late.node)
    late.round()
    assert late.node.kubelet_runs
    late.hooks["members"] = world.etcd.tick
    late.round()
    world.etcd.tick()
    assert len(world.etcd.running) == 3 and not world.etcd.stopped
