"""The laws of the house, each as a test on whole reconciles."""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable, Iterator

import pytest

from protokube.core.backup.actions import BackupWriter
from protokube.core.disks.actions import FormatVolume
from protokube.core.disks.model import Blank
from protokube.core.dns.actions import ChangeRecords
from protokube.core.etcd.actions import EtcdWriter
from protokube.core.model import Unknown
from protokube.core.node.actions import MakeLink, StartUnit
from protokube.core.objects.actions import ObjectWriter
from protokube.core.pki.actions import PkiWriter
from protokube.core.steps import Step
from protokube.core.volumes.actions import AttachVolume, TagVolume
from protokube.errors import ProviderError
from protokube.ports import (
    BackupReader,
    CloudProvider,
    CloudReader,
    DiskReader,
    Disks,
    DNSProvider,
    DNSReader,
    EtcdReader,
    FileReader,
    Files,
    ObjectReader,
    PkiReader,
    ServiceManager,
    ServiceReader,
)
from protokube.reconcile import CLOUD_FOR, Cause, Memory
from tests.rounds.process import Killed, Process, node_config, survive
from tests.rounds.test_accept_rounds import accepted
from tests.rounds.test_bootstrap_rounds import kops_volume
from tests.rounds.world import MANIFESTS, Node, World

Scenario = Callable[[], tuple[World, Node]]


def fresh() -> tuple[World, Node]:
    world = World()
    world.volume("vol-m", "a/a")
    world.volume("vol-e", "a/a", "events")
    return world, world.node("n1")


def slow() -> tuple[World, Node]:
    world = World(attach_looks=2, stale_looks=2, appear_looks=2, tool_looks=2)
    world.volume("vol-m", "a/a")
    world.volume("vol-e", "a/a", "events")
    return world, world.node("n1")


def rebooted() -> tuple[World, Node]:
    world, node = fresh()
    Process(world, node).rounds()
    world.reboot(node)
    return world, node


def grown() -> tuple[World, Node]:
    world, node = rebooted()
    for volume in world.volumes.values():
        volume.size *= 4
    return world, node


def adopted() -> tuple[World, Node]:
    world = World()
    kops_volume(world)
    return world, world.node("n1")


def moved() -> tuple[World, Node]:
    world, node = fresh()
    Process(world, node).rounds()
    world.power_off(node)
    for volume in world.volumes.values():
        world.detach(volume)
    return world, world.node("n2")


SCENARIOS: list[Scenario] = [fresh, slow, rebooted, grown, adopted, moved, accepted]
each_scenario = pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)


def end(world: World, node: Node) -> dict[str, object]:
    """What counts in the end: the content of disks and files, links, records, tags, units. No times."""
    return {
        "files": {path: getattr(state, "text", None) for path, state in node.files.items()},
        "links": world.links(node),
        "records": node.records,
        "mounts": node.mounts,
        "unit": node.unit and node.unit.active,
        "volumes": {
            id_: (volume.holder, volume.tags, volume.intent, {
                path: text for path, (text, _) in volume.filesystem.files.items()
            } if volume.filesystem else None)
            for id_, volume in world.volumes.items()
        },
    }  # fmt: skip


def usual_end(scenario: Scenario) -> dict[str, object]:
    world, node = scenario()
    Process(world, node).rounds()
    assert node.kubelet_runs and not world.etcd.violations
    return end(world, node)


# --- 1 ---


def one_by_one(process: Process, order: Callable[[list[Step]], list[Step]]) -> None:
    """Reconciles whose passes run in the order given, until at rest."""
    for _ in range(60):
        steps = sum(1 for _ in process.steps(order))
        process.world.etcd.tick()
        report = process.round()
        if not (steps or report.steps or report.in_flight):
            return
    raise AssertionError("not at rest")


ORDERS: dict[str, Callable[[list[Step]], list[Step]]] = {
    "reversed": lambda steps: steps[::-1],
    "first alone": lambda steps: steps[:1],
    "last alone": lambda steps: steps[-1:],
    "shuffled": lambda steps: random.Random(len(steps)).sample(steps, len(steps)),
}


@each_scenario
@pytest.mark.parametrize("order", ORDERS)
def test_1_no_action_leans_on_another_of_its_pass(scenario: Scenario, order: str) -> None:
    world, node = scenario()
    one_by_one(Process(world, node), ORDERS[order])
    assert end(world, node) == usual_end(scenario)


@each_scenario
def test_1_a_pass_holds_one_action_for_a_subject(scenario: Scenario) -> None:
    world, node = scenario()
    report = Process(world, node).rounds()
    assert report.converged
    world, node = scenario()
    for step_report in Process(world, node).dry_run().steps:
        same = step_report.number, step_report.step.action.subject
        assert [same].count(same) == 1


# --- 2 and 4 ---


@each_scenario
@pytest.mark.parametrize("moment", ["before", "after"])
def test_2_and_4_a_kill_around_any_effect_ends_in_the_same_place(scenario: Scenario, moment: str) -> None:
    world, node = scenario()
    usual = usual_end(scenario)
    whole = Process(world, node)
    whole.rounds()
    for number in range(1, len(whole.effects) + 1):
        world, node = scenario()
        survive(killed := Process(world, node, kill=(number, moment)), killed.rounds)
        Process(world, node).rounds()
        assert end(world, node) == usual, f"killed {moment} effect {number}"
        assert not world.etcd.violations and not world.etcd.stopped


@each_scenario
def test_2_memory_may_be_lost_in_every_reconcile(scenario: Scenario) -> None:
    world, node = scenario()
    process = Process(world, node)
    for _ in range(40):
        process.memory = Memory()
        if process.node.up and not process.round().steps and world.etcd.running:
            break
        world.etcd.tick()
    assert end(world, node) == usual_end(scenario)


def test_4_a_dead_process_does_nothing() -> None:
    world, node = fresh()
    process = Process(world, node, kill=(1, "before"))
    assert not survive(process, process.rounds)
    with pytest.raises(Killed):
        process.round()
    assert not world.held(node)


# --- 3 ---

READS = ["instance", "volumes", "peers", "mounts", "inspect", "contents", "listing", "read", "unit", "kubelet",
         "members", "record_sets"]  # fmt: skip


@pytest.mark.parametrize("name", READS)
def test_3_what_cannot_be_read_is_not_taken_for_empty(name: str) -> None:
    """On a running node nothing is unlinked, formatted, attached, restarted or withdrawn."""
    world, node = fresh()
    Process(world, node).rounds()
    before = end(world, node)
    blind = Process(world, node, uptime=1000)
    blind.broken[name] = ProviderError("no answer")
    blind.round()
    blind.round()
    world.etcd.tick()
    assert end(world, node) == before and not world.etcd.stopped
    assert blind.effects == []


@pytest.mark.parametrize("name", READS)
def test_3_a_bare_node_waits_for_the_answer_and_then_comes_up(name: str) -> None:
    world, node = fresh()
    process = Process(world, node)
    process.broken[name] = ProviderError("no answer")
    for _ in range(20):
        report = process.round()
    if name not in ("members", "names"):
        assert not report.left.converged, "it must be said"
    process.broken.clear()
    process.rounds()
    assert node.kubelet_runs and len(world.links(node)) == 2 and not world.etcd.violations


def test_3_a_rebooted_node_that_sees_no_volumes_keeps_its_links() -> None:
    world, node = rebooted()
    blind = Process(world, node)
    blind.broken["volumes"] = ProviderError("throttled")
    blind.round()
    assert len(world.links(node)) == 2 and blind.effects == []


# --- 5 ---


def test_5_a_format_proves_its_ground_again() -> None:
    world, node = fresh()
    process = Process(world, node)

    def write_to_the_disk() -> None:
        world.volumes["vol-m"].evidence = "an xfs superblock"

    planned = 0
    for _ in range(10):
        for step in process.steps():
            if isinstance(step.action, FormatVolume) and step.action.volume_id == "vol-m":
                assert isinstance(process.seen["vol-m"], Blank)
                write_to_the_disk()
                planned += 1
    assert planned == 1
    assert world.volumes["vol-m"].filesystem is None and world.volumes["vol-m"].job is None
    assert "vol-e" in node.mounts.values()


# --- 6 ---


@each_scenario
def test_6_no_link_without_its_mounted_volume(scenario: Scenario) -> None:
    world, node = scenario()
    process = Process(world, node)
    for _ in range(20):
        for _ in process.steps():
            for target in world.links(node).values():
                assert world.on_volume(node, target) or not node.kubelet_runs
        world.etcd.tick()
    assert all(world.on_volume(node, target) for target in world.links(node).values())
    assert not any(path.startswith(MANIFESTS) and hasattr(state, "text") for path, state in node.files.items())


# --- 7 ---

PORTS: list[tuple[str, type, type]] = [
    # the port, what can act (the reading half in it or not), and the reading half
    ("cloud", CloudProvider, CloudReader),
    ("disks", Disks, DiskReader),
    ("files", Files, FileReader),
    ("dns", DNSProvider, DNSReader),
    ("services", ServiceManager, ServiceReader),
    ("pki", PkiWriter, PkiReader),
    ("backups", BackupWriter, BackupReader),
    ("etcd", EtcdWriter, EtcdReader),
    ("objects", ObjectWriter, ObjectReader),
]


def methods(protocol: type) -> set[str]:
    return {name for name, _ in inspect.getmembers(protocol, inspect.isfunction) if not name.startswith("_")}


def writing() -> Iterator[tuple[str, str]]:
    for port, whole, reader in PORTS:
        for name in sorted(methods(whole) - methods(reader)):
            yield port, name


def test_7_every_writing_port_is_walked() -> None:
    world, node = fresh()
    assert {port for port, _, _ in PORTS} == set(Process(world, node).writers)
    assert len(list(writing())) >= 16


@each_scenario
def test_7_dry_run_cannot_write(scenario: Scenario, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every mutating method of every port would raise; and dry run isn't even given a writer."""
    world, node = scenario()
    process = Process(world, node)

    def forbidden(*_: object) -> None:
        raise AssertionError("dry run wrote")

    for port, name in writing():
        monkeypatch.setattr(type(process.writers[port]), name, forbidden)
    before = end(world, node)
    assert process.dry_run().steps
    assert process.effects == [] and end(world, node) == before


def test_7_nothing_can_be_said_that_destroys() -> None:
    verbs = ("detach", "unmount", "umount", "delete", "wipe", "discard", "stop")
    said = [name for port, whole, _ in PORTS for name in methods(whole)]
    assert not [name for name in said if any(verb in name for verb in verbs)]


# --- 8 ---


def test_8_what_was_done_and_is_not_seen_is_not_done_again_in_the_reconcile() -> None:
    """Tags, say, may be missing from the cloud's answers for a while."""
    world, node = fresh()
    process = Process(world, node)
    world.late_tags = True
    for _ in range(12):
        before = process.effects.count("tag")
        report = process.round()
        assert process.effects.count("tag") - before <= 2 * len(world.volumes)
    assert "done, and not seen yet" in " ".join(one.reason for one in report.left.waiting)
    assert node.kubelet_runs
    assert not process.round().got_on, "what was done before is no progress, so that the daemon backs off"
    world.late_tags = False
    assert process.rounds().converged


def test_8_a_converged_reconcile_writes_nothing_and_reads_each_thing_once() -> None:
    world, node = fresh()
    process = Process(world, node)
    process.rounds()
    process.effects.clear()
    process.reads.clear()
    report = process.round()
    assert report.converged and process.effects == []
    assert process.reads == {
        "instance": 1, "volumes": 1, "peers": 1, "mounts": 1, "inspect": 1, "contents": 2, "listing": 2,
        "read": 1, "unit": 1, "kubelet": 1, "machine": 1, "record_sets": 1,
    }  # fmt: skip


def test_8_a_converged_nonmaster_asks_the_cloud_once() -> None:
    world = World()
    node = world.node("n1")
    process = Process(world, node, node_config(master=False))
    process.rounds()
    process.reads.clear()
    assert process.round().converged
    assert process.reads == {"instance": 1, "listing": 1, "read": 1, "unit": 1, "kubelet": 1, "machine": 1}


def test_8_an_event_of_the_node_itself_asks_the_cloud_nothing_while_there_is_nothing_to_do() -> None:
    world, node = fresh()
    process = Process(world, node)
    process.rounds()
    process.reads.clear()
    assert process.round(Cause.NODE).converged
    assert process.reads["volumes"] == process.reads["peers"] == process.reads["instance"] == 0
    assert process.reads["inspect"] == 1


def test_8_before_anything_is_done_the_cloud_is_asked() -> None:
    """Here it has given a volume to another node, whose manifest must then not be linked again."""
    world, node = fresh()
    process = Process(world, node)
    process.rounds()
    before = world.links(node)
    for path in before:
        del node.files[path]
    lost = next(volume for volume in world.held(node) if volume.id.startswith("vol-m"))
    lost.holder = "another"
    process.reads.clear()
    report = process.round(Cause.NODE)
    assert process.reads["volumes"] == 1
    assert {step.step.action.subject for step in report.steps} == {path for path in before if "events" in path}


def test_8_a_plain_refusal_of_the_cloud_is_no_reason_to_look_again() -> None:
    world, node = fresh()
    world.trouble = lambda: "throttled"
    process = Process(world, node)
    process.round()
    assert process.effects.count("attach") == process.reads["volumes"] == 1
    world.trouble = lambda: "lost"
    process.round()
    assert process.reads["volumes"] > 2


@pytest.mark.parametrize("trouble", ["long ago", "unknown", "under way"])
def test_8_an_old_answer_of_the_cloud_is_not_good_enough(trouble: str) -> None:
    world, node = fresh()
    process = Process(world, node)
    if trouble == "under way":
        world.attach_looks = 2
        process.round()
    elif trouble == "unknown":
        process.rounds()
        process.broken["volumes"] = ProviderError("throttled")
        process.round()
        process.broken.clear()
    else:
        process.rounds()
        process.memory.cloud_asked -= CLOUD_FOR
    process.reads.clear()
    process.round(Cause.NODE)
    assert process.reads["volumes"] >= 1 and process.reads["peers"] >= 1


# --- 9 ---

TROUBLE: dict[str, tuple[Callable[[Process], None], set[str]]] = {
    "DNS down": (lambda process: process.broken.update(record_sets=ProviderError("down")), {"dns"}),
    "DNS refuses": (lambda process: process.broken.update(change=ProviderError("refused")), {"dns"}),
    "no bus": (lambda process: process.broken.update(unit=ProviderError("no bus")), {"kubelet"}),
    "start fails": (lambda process: process.broken.update(start=ProviderError("masked")), {"kubelet"}),
    "tags forbidden": (lambda process: setattr(process.world, "can_tag", False), {"tags"}),
    "main has other data": (lambda process: setattr(process.world.volumes["vol-m"], "evidence", "xfs"), {"main"}),
    "events has other data": (lambda process: setattr(process.world.volumes["vol-e"], "evidence", "xfs"), {"events"}),
    "main can't be read": (
        lambda process: process.broken.update({"inspect vol-m": ProviderError("I/O error")}), {"main"},
    ),
    "events can't be attached": (
        lambda process: setattr(process.world.volumes["vol-e"], "error", "unusable key"), {"events"},
    ),
    "kubelet can't be asked": (lambda process: process.broken.update(kubelet=ProviderError("hangs")), {"kubelet"}),
    "peers can't be seen": (lambda process: process.broken.update(peers=ProviderError("throttled")), set()),
}  # fmt: skip


@pytest.mark.parametrize("trouble", TROUBLE)
def test_9_one_concern_in_trouble_stops_no_other(trouble: str) -> None:
    world, node = fresh()
    process = Process(world, node, uptime=1000)
    cause, suffers = TROUBLE[trouble]
    cause(process)
    for _ in range(15):
        process.round()
        world.etcd.tick()
    links = {path.rpartition("/")[2] for path in world.links(node)}
    assert ("etcd.manifest" in links) == ("main" not in suffers)
    assert ("etcd-events.manifest" in links) == ("events" not in suffers)
    assert node.kubelet_runs == ("kubelet" not in suffers)
    assert any(name.startswith("etcd-") for name, _ in node.records) == (not suffers & {"dns", "main"})
    assert bool(world.volumes["vol-e"].tags.get("protokube.k8s.io/filesystem")) == (not suffers & {"tags", "events"})
    assert not world.etcd.violations


def test_actions_name_the_facets_that_they_change() -> None:
    for action in (AttachVolume, FormatVolume, TagVolume, MakeLink, ChangeRecords, StartUnit):
        assert action.changes, f"{action.__name__} would never be seen"
    assert Unknown("x") != Unknown("y")
