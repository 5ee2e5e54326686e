"""What dry run says is what then happens: the same actions, in passes that respect the predicted order.

kubelet's etcd isn't run here: what it does is nobody's prediction.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from protokube.core.node.actions import WriteFile
from protokube.report.account import StepReport
from tests.rounds.process import Killed, Process
from tests.rounds.test_bootstrap_rounds import kops_volume
from tests.rounds.world import Node, World

Scenario = Callable[[], tuple[World, Node]]
Done = tuple[str, str]


def fresh() -> tuple[World, Node]:
    world = World()
    world.volume("vol-m", "a/a")
    world.volume("vol-e", "a/a", "events")
    return world, world.node("n1")


def fresh_and_slow() -> tuple[World, Node]:
    world = World(attach_looks=3, appear_looks=2, tool_looks=3)
    world.volume("vol-m", "a/a")
    world.volume("vol-e", "a/a", "events")
    return world, world.node("n1")


def one_of_three() -> tuple[World, Node]:
    world = World()
    for member in "abc":
        world.volume(f"vol-{member}", f"{member}/a,b,c", pristine=True)
    return world, world.node("n1")


def restarted() -> tuple[World, Node]:
    world, node = fresh()
    Process(world, node).rounds()
    return world, node


def rebooted() -> tuple[World, Node]:
    world, node = restarted()
    world.reboot(node)
    return world, node


def grown() -> tuple[World, Node]:
    world, node = rebooted()
    for volume in world.volumes.values():
        volume.size *= 4
    return world, node


def adopted() -> tuple[World, Node]:
    world = World()
    volume = kops_volume(world)
    node = world.node("n1")
    volume.holder, volume.device = node.name, "/dev/xvdu"  # what stands on it can't be known before
    return world, node


def more_members() -> tuple[World, Node]:
    world, node = restarted()
    world.volumes["vol-m"].tags["k8s.io/etcd/main"] = "a/a,b,c"
    return world, node


def moved() -> tuple[World, Node]:
    world, node = restarted()
    world.power_off(node)
    for volume in world.volumes.values():
        world.detach(volume)
    return world, world.node("n2")


def tags_lost() -> tuple[World, Node]:
    world, node = restarted()
    for volume in world.volumes.values():
        volume.tags = {key: value for key, value in volume.tags.items() if "protokube" not in key}
    return world, node


def files_changed() -> tuple[World, Node]:
    world, node = restarted()
    del node.files["/etc/sysconfig/kubelet"]
    node.files.pop("/etc/kubernetes/manifests/etcd.manifest")
    return world, node


def refused() -> tuple[World, Node]:
    world, node = fresh()
    volume = world.volumes["vol-e"]
    volume.holder, volume.device, volume.evidence = node.name, "/dev/xvdu", "a LUKS header"
    return world, node


def names_gone() -> tuple[World, Node]:
    world, node = restarted()
    node.records.clear()
    return world, node


def halfway() -> tuple[World, Node]:
    world, node = fresh()
    process = Process(world, node, kill=(9, "before"))
    with pytest.raises(Killed):
        process.rounds()
    return world, node


SCENARIOS: list[Scenario] = [
    fresh, fresh_and_slow, one_of_three, restarted, rebooted, grown, adopted, more_members, moved, tags_lost,
    files_changed, refused, names_gone, halfway,
]  # fmt: skip


def keys(steps: list[StepReport]) -> list[tuple[int, Done]]:
    return [(one.number, (one.step.action.kind, one.step.action.subject)) for one in steps]


def contents(steps: list[StepReport]) -> dict[str, str]:
    return {one.step.action.path: one.step.action.content for one in steps if isinstance(one.step.action, WriteFile)}


def happens(process: Process) -> list[StepReport]:
    """All steps until at rest, numbered by their pass from the first reconcile on."""
    steps: list[StepReport] = []
    for _ in range(40):
        report = process.round()
        first = steps[-1].number if steps else 0
        steps += [StepReport(first + one.number, one.step, one.status) for one in report.steps]
        if not report.steps and not report.in_flight:
            return steps
        if not report.steps:
            process.world.age(61)  # names of members that nobody holds are not waited for any longer
    raise AssertionError("not at rest")


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_what_is_predicted_is_what_happens(scenario: Scenario) -> None:
    world, node = scenario()
    predicted = keys(list(Process(world, node).dry_run().steps))
    done = keys(happens(Process(world, node)))
    assert sorted(key for _, key in predicted) == sorted(key for _, key in done)
    for subject in {key[1] for _, key in predicted}:
        assert [key for _, key in predicted if key[1] == subject] == [key for _, key in done if key[1] == subject]


@pytest.mark.parametrize("scenario", [fresh, rebooted, grown], ids=lambda scenario: scenario.__name__)
def test_predicted_contents_are_what_is_written(scenario: Scenario) -> None:
    """Not only which files, but each byte of them."""
    world, node = scenario()
    predicted = contents(list(Process(world, node).dry_run().steps))
    assert predicted == contents(happens(Process(world, node)))


def test_what_only_the_world_can_tell_is_marked() -> None:
    world, node = fresh()
    steps = Process(world, node).dry_run().steps
    depends = {one.step.action.kind for one in steps if one.step.depends}
    assert {"format-volume", "mount-volume"} <= depends
    assert "start-unit" not in {one.step.action.kind for one in steps if one.step.depends and one.number == 1}
