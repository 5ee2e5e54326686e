"""Every volume is lost, and the store has backups: no cluster is born empty, whatever else says that it may be."""

from __future__ import annotations

import pytest
from msgspec.json import encode

from protokube.backups.catalogue import Catalogue
from protokube.core.backup.model import BackupRecord
from protokube.core.backup.names import data_object, metadata_object
from protokube.core.settings import NodeConfig
from protokube.core.volumes.model import BOOTSTRAPPED_TAG
from protokube.errors import StoreError
from protokube.report.model import Report
from tests.rounds.process import Process, later, node_config, settled
from tests.rounds.world import CLUSTER, World

CONFIG = node_config(store_shared=True)
RECORD = BackupRecord(1_700_000_000, 7, 512, "0" * 64, 1, 7, "3.5.30", "a", True, "", "it was due")


def backed_up(world: World) -> Catalogue:
    """The store has a backup of main, of a cluster whose volumes are gone."""
    world.store.put_if_absent(data_object(CLUSTER, "main", RECORD.name), b"snapshot")
    world.store.put_if_absent(metadata_object(CLUSTER, "main", RECORD.name), encode(RECORD))
    return Catalogue(world.store, CLUSTER, "main")


def machines(letters: str = "abc", config: NodeConfig = CONFIG) -> tuple[World, list[Process]]:
    """Blank volumes, and nodes for them."""
    world = World()
    for member in letters:
        world.volume(f"vol-{member}", f"{member}/{','.join(letters)}")
    nodes = [world.node(f"n{number}") for number, _ in enumerate(letters)]
    return world, [Process(world, node, config) for node in nodes]


def rules(reports: list[Report]) -> set[str]:
    return {one.rule for report in reports for one in report.left.refusals}


@pytest.mark.parametrize("letters", ["a", "abc"])
@pytest.mark.parametrize("bootstrap", [False, True])
def test_no_cluster_is_born_beside_its_own_backups(letters: str, bootstrap: bool) -> None:
    config = node_config(store_shared=True, etcd_bootstrap=bootstrap)
    world, processes = machines(letters, config)
    backed_up(world)
    reports = settled(world, processes)
    assert world.etcd.formed == {} and world.etcd.running == {}
    refused = [one for report in reports for one in report.left.refusals if one.rule == "etcd/cluster-lost"]
    assert {one.subject for one in refused} == {f"vol-{letter}" for letter in letters}
    assert all("protokube etcd restore --cluster main" in one.evidence for one in refused)
    assert all("protokube etcd new --cluster main" in one.evidence for one in refused)
    assert all("etcd/cluster-lost" in rules([process.dry_run()]) for process in processes)
    # The volumes are ready for the restore: they say whose they are.
    assert all("k8s.io/identity.yaml" in one.filesystem.files for one in world.volumes.values() if one.filesystem)


def test_an_older_cluster_s_backups_bar_nothing_once_that_is_said_and_the_new_one_s_do() -> None:
    world, processes = machines()
    catalogue = backed_up(world)
    catalogue.give_up(catalogue.listing())
    assert rules(settled(world, processes)) == set()
    assert len(world.etcd.formed["etcd-cluster-token-etcd"]) == 1
    later = Catalogue(world.store, CLUSTER, "main")
    newer = BackupRecord(1_800_000_000, 7, 512, "0" * 64, 1, 7, "3.5.30", "a", True, "", "it was due")
    world.store.put_if_absent(data_object(CLUSTER, "main", newer.name), b"snapshot")
    later.put_record(newer)
    kept = later.kept(newer.at)
    assert kept.newest == newer.name and kept.count == 1


def test_backups_bar_a_birth_wherever_they_are_taken_a_named_store_or_not() -> None:
    world, processes = machines("a", node_config(takes_backups=True))
    backed_up(world)
    assert "etcd/cluster-lost" in rules(settled(world, processes)) and world.etcd.running == {}


def test_a_store_that_doesn_t_answer_is_waited_for_and_nothing_is_born_meanwhile() -> None:
    world, processes = machines("a")
    processes[0].broken["kept-backups"] = StoreError("the store is down")
    for _ in range(8):
        report = processes[0].round()
        world.etcd.tick()
    assert world.etcd.formed == {} and not report.converged
    assert any("the store is down" in one.reason for one in report.left.waiting)
    processes[0].broken.clear()
    settled(world, processes)
    assert len(world.etcd.formed["etcd-cluster-token-etcd"]) == 1


def test_nobody_asks_a_store_that_nobody_named_nor_one_whose_cluster_runs() -> None:
    world, processes = machines("a", node_config())
    backed_up(world)
    settled(world, processes)
    assert processes[0].reads["kept-backups"] == 0 and world.etcd.running
    world, processes = machines("a")
    settled(world, processes)
    processes[0].reads.clear()
    assert processes[0].round().converged and processes[0].reads["kept-backups"] == 0


def test_a_member_that_learns_from_its_peers_that_it_may_start_asks_the_store_in_the_same_reconcile() -> None:
    """Where one member has started, the others start by its answer. That comes late in a reconcile, and the store was
    asked before it: they waited for ever."""
    world, processes = machines("abc")
    first = processes[-1]  # the others have prepared their volumes, and look again when it runs
    for process in (*processes[:-1] * 4, *[first] * 12):
        later(world)
        process.round()
        world.etcd.tick()
    started = next(iter(world.etcd.running.values())).volume
    assert started.holder == first.node.name and BOOTSTRAPPED_TAG in started.tags and not world.etcd.formed
    world.etcd.running.clear()  # its port doesn't answer yet: the others do all that they can meanwhile
    for process in processes[:-1] * 4:
        later(world)
        report = process.round()
    assert not report.steps and not report.converged and not world.etcd.running
    settled(world, processes)
    assert len(world.etcd.running) == 3 and len(world.etcd.formed["etcd-cluster-token-etcd"]) == 1
    assert all(process.reads["kept-backups"] for process in processes)
