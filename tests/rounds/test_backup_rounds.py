"""Backups in whole reconciles: the leader takes one when it is due, and a store in trouble stops nothing else."""

from __future__ import annotations

import random

import pytest

from protokube.core.backup.model import RESTORE_MARK, BackupWork
from protokube.core.backup.names import Listing, prefix, read_listing
from protokube.report.model import Report
from tests.rounds.process import Process, node_config, survive
from tests.rounds.world import CLUSTER, Node, World

EVERY = 900.0
CONFIG = node_config(backup_every=EVERY, backup_keep=2, backup_keep_daily=1)


class Clock:
    """The world's clocks, which only the test moves on."""

    def __init__(self, world: World) -> None:
        self.passed, self.began, self.mono = 0.0, world.clock(), world.monotonic()
        world.clock = lambda: self.began + self.passed
        world.monotonic = lambda: self.mono + self.passed

    def go(self, seconds: float) -> None:
        self.passed += seconds


def masters(world: World, count: int) -> list[Node]:
    names = ",".join("abc"[:count])
    for me in "abc"[:count]:
        world.volume(f"vol-m{me}", f"{me}/{names}")
        world.volume(f"vol-e{me}", f"{me}/{names}", "events")
    nodes = [world.node(f"n{number}") for number in range(count)]
    world.leaders |= {"main": "n0", "events": "n0"}
    return nodes


def ready(world: World, count: int = 1) -> tuple[Clock, list[Process]]:
    """Masters whose etcd runs, and whose first backups have ended."""
    clock = Clock(world)
    processes = [Process(world, node, CONFIG) for node in masters(world, count)]
    for _ in range(30):
        reports = [settle(process) for process in processes]
        world.etcd.tick()
        if len(world.etcd.running) == 2 * count and not any(report.steps for report in reports):
            return clock, processes
        if not any(report.steps for report in reports):
            world.age(61)
    raise AssertionError([(report.steps, report.left) for report in reports])


def settle(process: Process) -> Report:
    """A reconcile; backups that it has started end before the next one."""
    report = process.round()
    while process.node.backup_jobs:
        process.backups.end()
    return report


def listing(world: World, etcd: str = "main") -> Listing:
    return read_listing(name for name in world.store.contents if name.startswith(prefix(CLUSTER, etcd)))


def rules(report: Report) -> set[str]:
    return {one.rule for one in report.left.refusals}


def kinds(report: Report) -> list[str]:
    return [one.step.action.kind for one in report.steps]


def test_a_running_member_is_backed_up_and_then_nobody_asks_the_store() -> None:
    world = World()
    clock, (process,) = ready(world)
    assert len(listing(world).complete) == len(listing(world, "events").complete) == 1
    world.store.calls.clear()
    for _ in range(14):
        clock.go(60)
        report = process.round()
        assert report.converged and not report.steps
        assert any("proven" in hint for hint in report.left.hints)
    assert world.store.calls == []
    clock.go(120)
    assert kinds(settle(process)) == ["take-backup", "take-backup"]
    assert len(listing(world).complete) == 2


def test_of_three_members_only_the_leader_takes_one_and_a_new_leader_goes_on() -> None:
    world = World()
    clock, processes = ready(world, 3)
    assert len(listing(world).complete) == 1
    world.leaders["main"] = "n2"
    clock.go(EVERY)
    done = {process.node.name: kinds(settle(process)) for process in processes}
    assert done == {"n0": ["take-backup"], "n1": [], "n2": ["take-backup"]}  # n0 leads events
    assert len(listing(world).complete) == 2
    clock.go(61)
    for process in processes:
        assert process.round().converged
    world.store.calls.clear()
    clock.go(61)
    assert all(process.round().converged for process in processes)
    assert world.store.calls == []


def test_a_backup_at_work_or_one_that_failed_holds_up_nothing_and_is_not_taken_twice() -> None:
    world = World()
    clock, (process,) = ready(world)
    clock.go(EVERY)
    report = process.round()
    assert kinds(report) == ["take-backup", "take-backup"] and report.converged
    clock.go(3600)
    again = process.round()
    assert not again.steps and len(process.node.backup_jobs) == 2
    process.backups.end(failure="the disk is full")
    process.backups.end()
    failed = process.round()
    assert rules(failed) == {"etcd/backup-late", "etcd/backup-failed"} and failed.converged


def test_old_ones_are_deleted_and_the_newest_never() -> None:
    world = World()
    clock, (process,) = ready(world)
    for _ in range(5):
        clock.go(EVERY)
        settle(process)
    newest = listing(world).complete[-1]
    clock.go(EVERY)
    assert "remove-backups" in kinds(settle(process))
    left = listing(world)
    assert newest in left.complete and left.incomplete == () and len(left.complete) <= 3


def test_a_store_that_is_down_at_boot_stops_nothing_and_is_reported() -> None:
    world = World()
    world.store.trouble = lambda _call: "down"
    clock, (process,) = ready(world)
    assert world.store.contents == {}
    report = process.round()
    assert report.converged and "store/unreadable" in rules(report)
    clock.go(2 * 86400)
    assert "etcd/backup-late" in rules(process.round())
    world.store.trouble = lambda _call: None
    clock.go(301)
    settle(process)
    report = process.round()
    assert report.converged and rules(report) == set()


@pytest.mark.parametrize("seed", range(12))
def test_a_store_that_lies_and_fails_loses_no_backup(seed: int) -> None:
    """Answers are old or lost; daemons and their work end at any moment. What counted once goes on to count, until
    newer ones take its place."""
    pick = random.Random(seed)
    world = World()
    clock, processes = ready(world, 3)
    newest = listing(world).complete[-1]
    world.store.trouble = lambda _call: pick.choice((None, None, None, "down", "lost", "conflict", "old"))
    for _ in range(60):
        clock.go(pick.choice((30, 300, EVERY)))
        world.leaders["main"] = pick.choice(("n0", "n1", "n2"))
        number = pick.randrange(3)
        if pick.random() < 0.2:
            processes[number] = Process(world, processes[number].node, CONFIG)
        process = processes[number]
        process.round()
        while process.node.backup_jobs and pick.random() < 0.7:
            process.backups.end()
        found = listing(world).complete
        assert found and found[-1] >= newest
        newest = found[-1]
    assert len(world.etcd.running) == 6 and not world.etcd.violations


def test_a_node_killed_at_any_action_ends_in_the_same_place() -> None:
    number, ended = 1, False
    while not ended:
        for when in ("before", "after"):
            world = World()
            clock, (process,) = ready(world)
            for _ in range(3):
                clock.go(EVERY)
                settle(process)
            clock.go(EVERY)
            killed = Process(world, process.node, CONFIG, kill=(number, when))
            ended = survive(killed, killed.round)
            for job in list(process.node.backup_work):
                process.node.backup_work[job] = BackupWork()  # a reboot ends the work as well
            process.node.backup_jobs.clear()
            after = Process(world, process.node, CONFIG)
            for _ in range(3):
                settle(after)
                clock.go(301)
            assert settle(after).converged
            found = listing(world)
            assert found.incomplete == () and after.world.clock() - found.complete[-1].at < 2 * EVERY
        number += 1
    assert number > 3


def test_a_member_that_takes_part_in_a_restore_stops_and_nothing_else_is_done_about_it() -> None:
    world = World()
    _, (process,) = ready(world)
    filesystem = world.volumes["vol-ma"].filesystem
    assert filesystem is not None
    filesystem.files[RESTORE_MARK] = ('{"restore": 1}', 0)
    report = settle(process)
    assert kinds(report) == ["unlink"] and "vol-ma" in {one.subject for one in report.left.waiting}
    files = dict(filesystem.files)
    again = settle(process)
    assert not again.steps and filesystem.files == files
    assert [one for one in again.left.waiting if not one.external] == []
    del filesystem.files[RESTORE_MARK]
    assert kinds(settle(process)) == ["link"]
