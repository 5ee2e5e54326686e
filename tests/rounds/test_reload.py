"""What a reload keeps, and what feeds the watchdog."""

from __future__ import annotations

import threading
import time

from msgspec.structs import replace

from protokube.core.history import History
from protokube.core.model import Unknown
from protokube.observe.observer import Observer
from protokube.reconcile import Memory
from protokube.together import Limited
from tests.rounds.process import Process
from tests.rounds.world import World


def test_a_read_that_hangs_is_not_started_again_by_the_next_configuration() -> None:
    world = World()
    process = Process(world, world.node("n1"))
    begun, go = threading.Semaphore(0), threading.Event()

    class HangingDisks:
        """Disks whose mounts can't be read."""

        def mounts(self) -> tuple[()]:
            begun.release()
            assert go.wait(60)
            return ()

    said: list[str] = []
    memory = Memory(reading=Limited[object](0.2, "reading"))
    readers = process.readers
    hanging = replace(readers, disks=HangingDisks())
    for kept in (memory, memory.for_another_configuration()):
        observer = Observer(process.config, hanging, started=time.monotonic(), reading=kept.reading)
        mounts = observer.first(History()).observed.storage.mounts
        assert isinstance(mounts, Unknown)
        said.append(mounts.reason)
    assert "did not end within" in said[0] and "still hangs" in said[1]
    assert begun.acquire(blocking=False) and not begun.acquire(blocking=False), "it was begun once"
    go.set()


def test_every_group_of_reads_feeds_the_watchdog() -> None:
    """None takes longer than one read's limit, so that the longest legal reconcile is no hang."""
    world = World(attach_looks=0, appear_looks=0, tool_looks=0)
    world.volume("vol-m", "a/a")
    process = Process(world, world.node("n1"))
    process.rounds()
    signs: list[int] = []
    observer = Observer(
        process.config,
        process.readers,
        started=time.monotonic(),
        alive=lambda: signs.append(sum(process.reads.values())),
    )
    process.reads.clear()
    view = observer.first(History())
    observer.again(view, frozenset())
    assert len(signs) >= 4, "cloud and files; disks; contents; names"
    assert signs == sorted(signs) and signs[0] == 0
