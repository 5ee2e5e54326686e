"""A kubelet that takes long to say its version and flags holds up no disk."""

from __future__ import annotations

import threading
import time

from msgspec.structs import replace

from protokube.core.kubelet.model import KubeletBinary, Machine
from protokube.core.model import GIB
from protokube.observe import Observer
from protokube.reconcile import reconcile
from protokube.report.model import Report
from tests.rounds.process import Process
from tests.rounds.world import World


class SlowProbe:
    """The port, which answers once it is let."""

    def __init__(self) -> None:
        self.ready = threading.Event()

    def machine(self) -> Machine:
        return Machine(8 * GIB, 2)

    def kubelet(self, named: str | None = None) -> KubeletBinary | None:
        assert self.ready.wait(30)
        return None


def test_a_round_ends_without_it_while_a_tool_is_at_work() -> None:
    world = World(attach_looks=0, appear_looks=0, tool_looks=3)
    world.volume("vol-m", "a/a")
    process, probe = Process(world, world.node("n1")), SlowProbe()
    woken = threading.Event()
    told: list[str] = []

    def wake(reason: str) -> None:
        told.append(reason)
        woken.set()

    readers = replace(process.readers, probe=probe)
    observer = Observer(process.config, readers, started=time.monotonic(), wake=wake)

    def one_round() -> Report:
        return reconcile(observer, process.writers, process.memory)

    first = one_round()
    assert [one.step.action.kind for one in first.steps] == ["attach-volume", "format-volume"]
    assert {one.subject for one in first.left.waiting} >= {"vol-m", "kubelet"} and first.in_flight
    assert not told

    probe.ready.set()
    assert woken.wait(30) and told == ["the installed kubelet is known"]
    done = [one.step.action.kind for _ in range(8) for one in one_round().steps]
    assert done.count("mount-volume") == 1 and done.count("start-unit") == 1
    assert len(told) == 1, "known once and for all"
