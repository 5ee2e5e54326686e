"""How little a new action and a new cloud take: the values of one package, and one name in the wiring.

All that is toy stands in this file. Nothing of the program is patched, subclassed or registered with.
"""

from __future__ import annotations

import time
from typing import ClassVar, Protocol

from msgspec.structs import replace

from protokube.apply import apply
from protokube.core.action import ActionValue, Facet
from protokube.core.codec import decode, encode
from protokube.core.history import History, Result
from protokube.core.node.model import File, NodeFacts
from protokube.core.predict import Predicted, predict
from protokube.core.steps import Plan, Step
from protokube.core.volumes.model import Attachment, AttachState, CloudSnapshot, CloudVolume, Instance, Peer
from protokube.observe.observer import Observer
from protokube.reconcile import Memory, reconcile
from protokube.report.account import Status, StepReport
from protokube.report.json import as_json
from protokube.report.model import Report
from protokube.report.text import as_text
from protokube.together import Limited
from tests.rounds.process import Process, node_config
from tests.rounds.world import CLUSTER, World

# --- one package: the action, and what carries it out ---


class Bell(Protocol):
    """Carries toy actions out."""

    def ring(self, times: int) -> None: ...


class RingBell(ActionValue, frozen=True, tag="ring-bell"):
    """Ring a bell."""

    port: ClassVar[str] = "bell"
    facts: ClassVar[str] = "node"
    changes: ClassVar[frozenset[Facet]] = frozenset({Facet.FILES})
    times: int

    def describe(self) -> str:
        return f"ring the bell {self.times} times"

    def predict(self, facts: NodeFacts, now: float) -> NodeFacts:
        return facts.with_file("/run/rung", File(str(self.times), 0o644, int(now * 1e9)))

    def execute(self, port: Bell) -> None:
        port.ring(self.times)


class BrassBell:
    """The adapter."""

    rung = 0

    def ring(self, times: int) -> None:
        self.rung += times


def test_an_action_is_applied_predicted_written_down_and_told() -> None:
    world = World()
    process = Process(world, world.node("n1"))
    step = Step(RingBell(3), "it is noon")

    bell = BrassBell()
    writers = {**process.writers, "bell": bell}  # the wiring
    (outcome,) = apply(writers, [step], Limited(10.0, "the work on"))
    assert outcome.error is None and bell.rung == 3

    seen = process.round()
    after = predict(process.config, Predicted(seen.observed), step.action).observed
    assert isinstance(after.node.files, dict)
    assert isinstance(rung := after.node.files["/run/rung"], File) and rung.text == "3"
    assert History().recorded(step.action, Result.FAILED, 1.0).failed == {"ring-bell"}
    assert decode(encode(step), Step) == step

    report = Report((StepReport(1, step, Status.DONE),), Plan(), observed=seen.observed)
    assert '"action": "ring-bell"' in as_json(report)
    assert "ring the bell 3 times — it is noon" in as_text(report, planned=False)


# --- one package: the cloud ---


class ToyCloud:
    """Hands out volumes at once, and remembers nothing."""

    remote = False

    def __init__(self, world: World, name: str) -> None:
        self._world, self._name = world, name

    def cluster_id(self) -> str:
        return CLUSTER

    def snapshot(self, *, volumes: bool) -> CloudSnapshot:
        instance = Instance(self._name, self._name, "z1", CLUSTER, ("10.0.0.1",))
        shown = tuple(
            CloudVolume(one.id, one.zone, one.size, one.tags, attachments=self._attachments(one.holder))
            for one in self._world.volumes.values()
        )
        return CloudSnapshot(instance, shown if volumes else (), (Peer(self._name, instance.internal),))

    def _attachments(self, holder: str | None) -> tuple[Attachment, ...]:
        return (Attachment(holder, None, AttachState.ATTACHED),) if holder else ()

    def attach(self, volume_id: str) -> None:
        self._world.attach(self._world.nodes[self._name], self._world.volumes[volume_id], None)

    def tag(self, volume_id: str, key: str, value: str) -> None:
        self._world.volumes[volume_id].tags[key] = value

    def announce(self) -> None:
        pass


def test_a_cloud_is_three_verbs_and_a_snapshot() -> None:
    world = World(attach_looks=0, appear_looks=0, tool_looks=0)
    world.volume("vol-m", "a/a")
    process = Process(world, world.node("n1"))
    cloud = ToyCloud(world, "n1")
    readers, writers = replace(process.readers, cloud=cloud), {**process.writers, "cloud": cloud}  # the wiring

    config = node_config()
    observer, memory = Observer(config, readers, started=time.monotonic()), Memory()
    for _ in range(5):
        report = reconcile(observer, writers, memory)
    assert report.converged and process.node.mounts == {"/mnt/master-vol-m": "vol-m"} and process.node.kubelet_runs
