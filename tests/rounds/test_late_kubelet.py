"""A kubelet that takes long to say its version and flags holds up no disk."""

from __future__ import annotations

import threading
import time

from msgspec.structs import replace

from protokube.core.kubelet.model import KubeletBinary, Machine
from protokube.core.model import GIB
from protokube.core.node.model import UnitState
from protokube.observe.observer import Observer
from protokube.ports import ServiceReader
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


def test_a_reconcile_ends_without_it_while_a_tool_is_at_work() -> None:
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

    def one_reconcile() -> Report:
        return reconcile(observer, process.writers, process.memory)

    first = one_reconcile()
    assert [one.step.action.kind for one in first.steps] == ["attach-volume", "format-volume"]
    assert {one.subject for one in first.left.waiting} >= {"vol-m", "kubelet"} and first.in_flight
    assert not told

    probe.ready.set()
    assert woken.wait(30) and told == ["the installed kubelet is known"]
    done = [one.step.action.kind for _ in range(8) for one in one_reconcile().steps]
    assert done.count("mount-volume") == 1 and done.count("start-unit") == 1
    assert len(told) == 1, "known once and for all"


def test_a_read_that_outlives_its_reconcile_tells_nothing_of_the_unit() -> None:
    """kubelet was down when the read began. By the end a person has started it: nothing is left to start."""
    world = World(attach_looks=0, appear_looks=0, tool_looks=1)
    world.volume("vol-m", "a/a")
    Process(world, node := world.node("n1")).rounds()
    world.reboot(node)
    process, probe = Process(world, node), SlowProbe()
    down, woken = threading.Event(), threading.Event()
    assert process.readers.services is not None
    services: ServiceReader = process.readers.services

    class Watched:
        """The service manager, which tells when its first answer has been given."""

        def state(self, unit: str) -> UnitState:
            found = services.state(unit)
            down.set()
            return found

        def program(self, unit: str) -> str | None:
            return services.program(unit)

    readers = replace(process.readers, probe=probe, services=Watched())
    observer = Observer(process.config, readers, started=time.monotonic(), wake=lambda _: woken.set())
    reports = [reconcile(observer, process.writers, process.memory)]
    assert down.wait(30) and not woken.is_set()
    node.unit = UnitState("loaded", "active", "running", started_at=time.time() + 60)
    probe.ready.set()
    assert woken.wait(30)
    reports += [reconcile(observer, process.writers, process.memory) for _ in range(6)]
    done = [one.step.action.kind for report in reports for one in report.steps]
    assert "mount-volume" in done and "start-unit" not in done
