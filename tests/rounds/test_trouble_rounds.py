"""Reconciles in which something hangs, is silent or is old: what goes on beside it, and how often it is asked."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from protokube.apply import apply
from protokube.core.dns.actions import ChangeRecords
from protokube.core.dns.model import ChangeKind, RecordChange, RecordSet, UnmanagedRecord
from protokube.core.dns.owners import Absences, OwnerTracking
from protokube.core.model import Unknown
from protokube.core.node.actions import WriteFile
from protokube.core.node.model import UnitState
from protokube.core.steps import Step
from protokube.errors import ProviderError
from protokube.observe.observer import Observer
from protokube.reconcile import Cause, reconcile
from protokube.report.model import Report
from protokube.together import Limited
from tests.lab.dns_memory import MemoryDns, MemoryZone
from tests.rounds.process import Process, node_config
from tests.rounds.world import World

API = "api.internal.c.example.com"
LINK = "/etc/kubernetes/manifests/etcd.manifest"
EVENTS_LINK = "/etc/kubernetes/manifests/etcd-events.manifest"


def with_volumes() -> World:
    """A world with both volumes of a single member."""
    world = World(attach_looks=0, appear_looks=0, tool_looks=0)  # a single reconcile goes all the way
    world.volume("vol-m", "a/a")
    world.volume("vol-e", "a/a", cluster="events")
    return world


def one_node() -> Process:
    """The process of a node that may have them."""
    world = with_volumes()
    return Process(world, world.node("n1"), uptime=10_000.0)


class ZoneProcess(Process):
    """A process that keeps its names in a zone, which other nodes share.

    `silent`: its server doesn't answer. `refuses_deletes`: it only lets us add records. `notes`: the names that have
    an unmanaged record in the place of their owner record. `until`: changes hang till then. `sent` are the changes
    that were requested.
    """

    def __init__(self, world: World, zone: MemoryZone) -> None:
        super().__init__(world, world.node("n1"), node_config(dns="route53"), uptime=10_000.0)
        self.silent = self.refuses_deletes = False
        self.notes: set[str] = set()
        self.until: threading.Event | None = None
        self.sent: list[Sequence[RecordChange]] = []
        dns = _Dns(zone, self)
        self.readers = replace(self.readers, dns=dns)
        self.writers["dns"] = dns
        self.observer = Observer(self.config, self.readers, started=time.monotonic() - self.uptime)


class _Dns(MemoryDns):
    def __init__(self, zone: MemoryZone, process: ZoneProcess) -> None:
        super().__init__(zone)
        self._process = process

    def record_sets(self, names: frozenset[str]) -> Mapping[str, RecordSet]:
        if self._process.silent:
            raise ProviderError("no answer")
        return {name: self._noted(there) for name, there in super().record_sets(names).items()}

    def _noted(self, there: RecordSet) -> RecordSet:
        note = UnmanagedRecord("TXT", ("acme",), "a note", at_owner_name=True)
        return replace(there, unmanaged=(note,)) if there.name in self._process.notes else there

    def change(self, changes: Sequence[RecordChange]) -> None:
        self._process.sent.append(changes)
        if self._process.until is not None:
            assert self._process.until.wait(60)
        if self._process.refuses_deletes and any(one.kind is ChangeKind.DELETE for one in changes):
            raise ProviderError("not authorized to delete records")
        super().change(changes)


def in_zone() -> tuple[MemoryZone, ZoneProcess]:
    """A node with both its volumes, and the zone that it writes to."""
    zone = MemoryZone()
    return zone, ZoneProcess(with_volumes(), zone)


class HangingWrites:
    """A node's files on a disk that stopped answering: what is written to `stuck` hangs until `go`."""

    def __init__(self, process: Process, stuck: str) -> None:
        self._files: Any = process.writers["files"]
        self._stuck = stuck
        self.go = threading.Event()
        self.begun: Counter[str] = Counter()

    def write(self, action: WriteFile) -> None:
        self.begun[action.path] += 1
        if self._stuck in action.path:
            assert self.go.wait(60)
        self._files.write(action)

    def __getattr__(self, name: str) -> object:
        return getattr(self._files, name)


class Recording:
    """Files of which only the texts are kept that were written."""

    def __init__(self, texts: list[str]) -> None:
        self._texts = texts

    def write(self, action: WriteFile) -> None:
        """Keep the text."""
        self._texts.append(action.content)


def test_an_action_that_hangs_has_failed_and_is_not_begun_again_until_it_ends() -> None:
    process = one_node()
    process.memory.acting = Limited(0.2, "the work on")
    identity = "/mnt/master-vol-m/k8s.io/identity.yaml"
    files = HangingWrites(process, identity)
    process.writers["files"] = files

    while not (report := process.round()).failed:
        pass
    assert [(one.step.action.subject, one.error) for one in report.failed] == [
        (identity, f"the work on {identity} did not end within 0.2 s")
    ]
    while report.got_on:
        report = process.round()

    assert [(one.step.action.subject, one.error) for one in report.failed] == [
        (identity, f"the work on {identity} still hangs, since an earlier time")
    ]
    assert files.begun[identity] == 1
    assert EVENTS_LINK in process.node.files, "one disk that hangs stops no other"
    assert LINK not in process.node.files

    files.go.set()
    while not process.rounds().converged:
        assert files.begun[identity] == 1
    assert LINK in process.node.files


def test_of_several_actions_with_one_subject_the_first_is_carried_out() -> None:
    """None is planned so; a bug in a planner must not do two things to one file at once."""
    process = one_node()
    done: list[str] = []
    process.writers["files"] = Recording(done)
    first, second = (WriteFile("/etc/x", text, 0o644) for text in ("first", "second"))
    outcomes = apply(process.writers, [Step(first, ""), Step(second, "")], process.memory.acting)
    assert [(one.step.action, one.error) for one in outcomes] == [(first, None)]
    assert done == ["first"]


def test_while_one_batch_of_records_hangs_no_other_is_sent() -> None:
    """Also when it would be about fewer names by then."""
    zone, process = in_zone()
    assert process.rounds().converged
    process.memory.acting = Limited(0.2, "the work on")
    go = threading.Event()
    process.until = go
    process.sent.clear()
    process.node.address = "10.0.0.99"  # three names
    process.round()
    for key in zone.records:  # all but one have been changed
        if not key[0].startswith("etcd-events"):
            zone.records[key] = ("10.0.0.99",)
    report = process.round()
    assert len(process.sent) == 1
    assert "own-records still hangs" in str(report.failed[0].error)
    go.set()
    assert process.rounds().converged


def test_a_silent_name_server_is_asked_once_a_reconcile() -> None:
    process = one_node()
    asked = Counter[str]()
    process.hooks["record_sets"] = lambda: asked.update(["records"])
    process.broken["record_sets"] = ProviderError("no answer")

    report = process.round()

    assert len({one.number for one in report.steps}) > 3, "many passes"
    assert asked["records"] == 1
    assert isinstance(report.observed.records, Unknown)
    process.round()
    assert asked["records"] == 2
    del process.broken["record_sets"]
    assert process.rounds().converged


def leave_behind(process: ZoneProcess, zone: MemoryZone, owners: int) -> None:
    """Let so many owners of records have been gone for long, as a converged process knows."""
    assert process.rounds().converged
    names = [f"i-gone-{number}" for number in range(owners)]
    for number, name in enumerate(names):
        zone.records[API, "A", name] = (f"10.9.9.{number}",)
    absences = Absences(dict.fromkeys(names, (0.0, 0.0)))
    process.memory.history = replace(process.memory.history, owners=OwnerTracking(absences))


def gone_in(zone: MemoryZone) -> int:
    """How many records of gone owners stand."""
    return sum(str(owner).startswith("i-gone") for _, _, owner in zone.records)


def test_a_reconcile_removes_so_many_records_of_gone_owners_and_says_what_is_left() -> None:
    zone, process = in_zone()
    leave_behind(process, zone, 5)
    left = []
    for _ in range(4):
        report = process.round()
        left.append(gone_in(zone))
        said = [one.reason for one in report.left.waiting if one.subject == "dns"]
        rest = (
            [f"{left[-1]} more of the records that terminated owners left go in later reconciles"] if left[-1] else []
        )
        assert said == rest
    assert left == [3, 1, 0, 0]


@pytest.mark.parametrize("owners", [2, 3])
def test_removals_that_are_refused_for_good_are_tried_ever_more_rarely(owners: int) -> None:
    """Two, the limit, were asked for: the rest isn't on its way, so nothing keeps the node awake."""
    zone, process = in_zone()
    leave_behind(process, zone, owners)
    process.refuses_deletes = True
    for _ in range(3):
        report = process.round()
        assert [one.step.action.subject for one in report.failed] == ["removals"]
        assert not report.in_flight and not report.converged and not report.got_on
    assert gone_in(zone) == owners


def test_under_one_name_the_own_record_is_mended_and_what_another_left_is_removed() -> None:
    zone, process = in_zone()
    leave_behind(process, zone, 1)
    zone.records[API, "A", "n1"] = ("192.0.2.9",)
    report = process.round()
    assert {(name, owner): values for (name, _, owner), values in zone.records.items() if name == API} == {
        (API, "n1"): (process.node.address,)
    }
    assert report.converged


def test_a_silent_name_server_makes_nobody_forget_how_long_an_owner_is_gone() -> None:
    zone, process = in_zone()
    leave_behind(process, zone, 1)
    process.silent = True
    process.round()
    assert gone_in(zone) == 1
    process.silent = False
    process.rounds()
    assert gone_in(zone) == 0


def test_what_stands_under_a_name_is_read_again_before_it_is_overwritten() -> None:
    """The node's address changes several reconciles after it last read what stands under its names."""
    process = one_node()
    assert process.rounds().converged
    before = process.reads["record_sets"]
    read: list[int] = []
    process.hooks["change"] = lambda: read.append(process.reads["record_sets"] - before)

    def reconcile_(cause: Cause = Cause.CLOCK) -> Report:
        return reconcile(process.observer, process.writers, process.memory, records_every=10, cause=cause)

    assert not reconcile_().steps and process.reads["record_sets"] == before
    process.node.address = "10.0.0.99"
    assert any(isinstance(one.step.action, ChangeRecords) for one in reconcile_().steps)
    assert read == [1]


def test_kubelet_is_started_without_a_look_at_names() -> None:
    """A converged node reads records in some reconciles only; nothing else waits for a name server."""
    process = one_node()
    assert process.rounds().converged
    before = process.reads["record_sets"]
    process.node.unit = UnitState("loaded", "inactive", "dead")
    read: list[int] = []
    process.hooks["start"] = lambda: read.append(process.reads["record_sets"] - before)

    reconcile(process.observer, process.writers, process.memory, records_every=10)

    assert read == [0]


def test_an_unmanaged_note_beside_a_name_is_no_address() -> None:
    """A new member waits with its first link until the others' names lead somewhere."""
    world = World(attach_looks=0, appear_looks=0, tool_looks=0)
    world.volume("vol-b", "b/a,b,c")
    for member in "ac":
        world.volume(f"vol-{member}", f"{member}/a,b,c", zone="z2", pristine=True)
    process = ZoneProcess(world, MemoryZone())
    process.notes = {f"etcd-{member}.internal.c.example.com" for member in "ac"}

    report = process.round()

    (waiting,) = [one.reason for one in report.left.waiting if one.subject == LINK]
    assert all(name in waiting for name in process.notes)


def test_a_person_wants_everything_looked_at() -> None:
    process = one_node()
    assert process.rounds().converged

    def reads(cause: Cause) -> dict[str, int]:
        before = Counter(process.reads)
        reconcile(process.observer, process.writers, process.memory, records_every=10, cause=cause, remote_cloud=True)
        return {name: process.reads[name] - before[name] for name in ("record_sets", "volumes")}

    assert reads(Cause.CLOCK) == {"record_sets": 0, "volumes": 1}
    assert reads(Cause.NODE) == {"record_sets": 0, "volumes": 0}
    assert reads(Cause.PERSON) == {"record_sets": 1, "volumes": 1}
