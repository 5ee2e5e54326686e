"""An accepted refusal: used once, kept over a reboot until then, and harmless when it is lost."""

from __future__ import annotations

import time
from copy import deepcopy

import pytest

from protokube.core.accept import Overruling, decide
from protokube.core.disks.accepted import ACCEPTED_DIR, Request
from protokube.core.disks.identity import Identity, parse_identity
from protokube.core.disks.paths import IDENTITY_PATH
from protokube.core.history import History
from protokube.core.node.model import File
from protokube.core.volumes.model import BOOTSTRAPPED_TAG, FILESYSTEM_TAG
from tests.rounds.process import Killed, Process
from tests.rounds.world import Filesystem, Node, World

OTHER = "11111111-1111-4111-8111-111111111111"


def restored() -> tuple[World, Node]:
    """A new machine with a volume that was made from a snapshot of the member's lost one. It is refused."""
    world = World()
    world.volume("vol-m", "a/a")
    Process(world, lost := world.node("n0")).rounds()
    world.power_off(lost)
    before = world.volumes.pop("vol-m")
    copy = world.volume("vol-r", "a/a")
    copy.filesystem = deepcopy(before.filesystem)
    node = world.node("n1")
    report = Process(world, node).rounds()
    assert refusals(report.left.refusals) == [("vol-r", "volume/clone")]
    return world, node


def refusals(found: object) -> list[tuple[str, str]]:
    assert isinstance(found, list)
    return [(one.subject, one.rule) for one in found]


def accept(world: World, node: Node, rule: str, volume: str) -> None:
    """What `protokube accept` does, without asking."""
    filesystem = world.volumes[volume].filesystem
    assert filesystem is not None
    judged = Process(world, node).observer.first(History()).judged
    made = decide(Request(rule, volume, filesystem.uuid), judged, time.time())
    assert isinstance(made, Overruling), made
    node.files[made.acceptance.path] = File(made.acceptance.render(), 0o600, time.time_ns())


def pending(node: Node) -> list[str]:
    return [path for path in node.files if path.startswith(ACCEPTED_DIR)]


def accepted() -> tuple[World, Node]:
    """The same, once the refusal has been overruled."""
    world, node = restored()
    accept(world, node, "volume/clone", "vol-r")
    return world, node


def identity(world: World, volume: str) -> Identity:
    filesystem = world.volumes[volume].filesystem
    assert filesystem is not None
    found = parse_identity(filesystem.files[IDENTITY_PATH][0] or "")
    assert isinstance(found, Identity)
    return found


def test_an_accepted_copy_runs_with_its_data_and_the_acceptance_is_gone() -> None:
    world, node = accepted()
    report = Process(world, node).rounds()
    assert report.converged and node.kubelet_runs and pending(node) == []
    found = identity(world, "vol-r")
    assert (found.volume_id, found.started) == ("vol-r", True)
    assert world.volumes["vol-r"].tags[BOOTSTRAPPED_TAG] == "true" and not world.etcd.violations


def test_it_is_used_once() -> None:
    """The volume is exchanged again: the next copy is refused as the first one was."""
    world, node = accepted()
    Process(world, node).rounds()
    world.reboot(node)
    again = world.volumes["vol-r"].filesystem
    assert again is not None
    text = again.files[IDENTITY_PATH][0] or ""
    again.put(IDENTITY_PATH, text.replace("volume: vol-r", "volume: vol-9"))
    report = Process(world, node).rounds()
    assert refusals(report.left.refusals) == [("vol-r", "volume/clone")] and report.left.accepted == []


def test_it_survives_a_reboot_until_it_is_used() -> None:
    world, node = accepted()
    world.reboot(node)
    shown = Process(world, node).dry_run()
    assert [(one.subject, one.rule) for one in shown.left.accepted] == []
    kinds = [one.step.action.kind for one in shown.steps]
    assert kinds.index("mount-volume") < kinds.index("remove-file") and shown.left.refusals == []
    assert pending(node), "a dry run uses nothing up"
    assert Process(world, node).rounds().converged and pending(node) == []


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("number", range(1, 6))
def test_losing_it_at_any_moment_costs_another_one_and_nothing_else(number: int, when: str) -> None:
    world, node = accepted()
    process = Process(world, node, kill=(number, when))
    with pytest.raises(Killed):
        process.rounds()
    node.files = {path: state for path, state in node.files.items() if not path.startswith(ACCEPTED_DIR)}
    report = Process(world, node).rounds()
    if refused := refusals(report.left.refusals):
        assert refused == [("vol-r", "volume/clone")]
        accept(world, node, "volume/clone", "vol-r")
        report = Process(world, node).rounds()
    assert report.converged and identity(world, "vol-r").volume_id == "vol-r" and pending(node) == []


def test_an_empty_filesystem_made_by_hand_serves_once_it_is_accepted() -> None:
    world = World()
    world.volume("vol-m", "a/a").filesystem = Filesystem(OTHER, "", 1 << 30)
    node = world.node("n1")
    assert refusals(Process(world, node).rounds().left.refusals) == [("vol-m", "volume/unknown-filesystem")]
    accept(world, node, "volume/unknown-filesystem", "vol-m")
    assert Process(world, node).rounds().converged and node.kubelet_runs
    assert world.volumes["vol-m"].tags[FILESYSTEM_TAG] == OTHER
    assert identity(world, "vol-m").filesystem == OTHER


def test_a_filesystem_with_a_doubtful_past_never_starts_a_new_member() -> None:
    world = World()
    filesystem = Filesystem(OTHER, "", 1 << 30)
    filesystem.put("home/x", "data")
    world.volume("vol-m", "a/a").filesystem = filesystem
    node = world.node("n1")
    Process(world, node).rounds()
    accept(world, node, "volume/foreign-data", "vol-m")
    report = Process(world, node).rounds()
    assert refusals(report.left.refusals) == [("vol-m", "etcd/data-lost")]
    assert pending(node) == [] and not world.links(node)
    assert filesystem.files["home/x"][0] == "data"


def test_a_volume_that_shows_more_after_its_mount_is_refused_again() -> None:
    """An acceptance covers what was shown: files that come to light with the journal are no part of it."""
    world = World()
    filesystem = Filesystem(OTHER, "", 1 << 30, used=True)
    filesystem.put("home/x", "data")
    world.volume("vol-m", "a/a").filesystem = filesystem
    node = world.node("n1")
    Process(world, node).rounds()
    accept(world, node, "volume/foreign-data", "vol-m")
    process = Process(world, node)

    def replay() -> None:
        volume = world.volumes["vol-m"]
        if volume.job:
            volume.job.then.put("root/x", "data")

    process.hooks["mount"] = lambda: world.volumes["vol-m"].filesystem.put("root/x", "data")  # type: ignore[union-attr]
    process.hooks["inspect"] = replay
    report = process.rounds()
    assert refusals(report.left.refusals) == [("vol-m", "volume/foreign-data")]
    found = world.volumes["vol-m"].filesystem
    assert found is not None and IDENTITY_PATH not in found.files
