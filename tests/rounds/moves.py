"""What may happen next in a scene: a pass of a node's program, with any one fault in it, or something around it.

A pass is the smallest part that can't be seen from the outside: look, judge, plan, and the actions side by side. A
reconcile is passes in a row, and one that ends after any of them is what a signal makes of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from msgspec import Struct

from protokube.core.action import Action
from protokube.errors import ProviderError
from protokube.reconcile import Cause
from tests.rounds.process import Process, survive
from tests.rounds.state import InTurn, Scene

HALVES = frozenset({"format", "write", "change", "grow"})
"""The effects that may be cut off in their middle; the others are one step of the cloud, the kernel or systemd."""


class Done(Struct):
    """What a move's pass has read and done: names of reads with their counts, names of effects, actions."""

    reads: dict[str, int] = {}
    effects: tuple[str, ...] = ()
    actions: frozenset[Action] = frozenset()


class Move(Struct):
    """Something that may happen. `blind`: the pass can't read all that there is.

    `leaf`: the state behind it is judged, and not left from: what it multiplies the states by tells nothing new.
    """

    name: str
    run: Callable[[Scene], Done]
    blind: bool = False
    leaf: bool = False


def one_pass(name: str, *, passes: int = 1, **faults: Any) -> Callable[[Scene], Done]:
    """A pass of the program on a node; a new life of it when the last one has ended."""

    def run(scene: Scene) -> Done:
        process = scene.lives.get(name) or scene.start(name)
        if process.dead:
            process = scene.start(name)
        for key, value in faults.items():
            setattr(process, key, value)
        done = Done()

        def go() -> None:
            report = process.round(passes=passes)
            done.actions = frozenset(one.step.action for one in report.steps)

        survive(process, go)
        done.reads, done.effects = dict(process.reads), tuple(process.effects)
        _calm(process)
        scene.world.etcd.tick()
        return done

    return run


def _calm(process: Process) -> None:
    """The faults of one pass end with it."""
    process.seen.clear()
    process.reads.clear()
    process.effects.clear()
    process.broken_once, process.before = {}, {}
    process.kill = process.fail = None


def _backwards(name: str, **faults: Any) -> Callable[[Scene], Done]:
    usual = one_pass(name, **faults)

    def run(scene: Scene) -> Done:
        process = scene.lives.get(name) or scene.start(name)
        acting = process.memory.acting
        process.memory.acting = InTurn(backwards=True)  # type: ignore[assignment]
        try:
            return usual(scene)
        finally:
            process.memory.acting = acting

    return run


def _lie(name: str, knob: str, told: Any) -> Callable[[Scene], Done]:
    usual = one_pass(name)

    def run(scene: Scene) -> Done:
        true = getattr(scene.world, knob)
        setattr(scene.world, knob, told)
        try:
            return usual(scene)
        finally:
            setattr(scene.world, knob, true)

    return run


def _forgotten(name: str) -> Callable[[Scene], Done]:
    def run(scene: Scene) -> Done:
        scene.start(name)
        return Done()

    return run


def _rebooted(name: str) -> Callable[[Scene], Done]:
    def run(scene: Scene) -> Done:
        scene.world.reboot(scene.world.nodes[name])
        scene.start(name)
        return Done()

    return run


def _waited(scene: Scene) -> Done:
    scene.wait()
    scene.world.etcd.tick()
    return Done()


def _woken(name: str) -> Callable[[Scene], Done]:
    """A whole reconcile, and one by an event of the node, which begins with the cloud's last answer."""
    usual = one_pass(name, passes=60)

    def run(scene: Scene) -> Done:
        done = usual(scene)
        scene.lives[name].round(Cause.NODE)
        _calm(scene.lives[name])
        scene.world.etcd.tick()
        return done

    return run


def around(name: str) -> Iterator[Move]:
    """What may happen between passes."""
    yield Move(f"{name}: killed", _forgotten(name))
    yield Move(f"{name}: rebooted", _rebooted(name))
    yield Move(f"{name}: woken", _woken(name))
    yield Move(f"{name}: the cloud hides attachments", _lie(name, "hides", lambda: True), leaf=True)
    yield Move(f"{name}: the cloud lacks tags", _lie(name, "late_tags", True), leaf=True)


def wait() -> Move:
    """Time passes."""
    return Move("time passes", _waited, leaf=True)


def unread(name: str, clean: Done) -> Iterator[Move]:
    """Each read of a pass fails, at each point at which it is made."""
    for read, count in clean.reads.items():
        for number in range(1, count + 1):
            fault = {(read, number): ProviderError(f"{read}: no answer")}
            yield Move(f"{name}: {read} {number} fails", one_pass(name, broken_once=fault), blind=True)


def undone(name: str, clean: Done) -> Iterator[Move]:
    """Each action of a pass fails, or the program is killed: before, in the middle of, and after its effect."""
    for number, effect in enumerate(clean.effects, start=1):
        moments = ["before", "after", *(["middle"] if effect in HALVES else [])]
        for moment in moments:
            where = number, moment
            yield Move(f"{name}: {effect} {number} fails {moment}", one_pass(name, fail=where), blind=True)
            yield Move(f"{name}: killed {moment} {effect} {number}", one_pass(name, kill=where))
            if number < len(clean.effects):
                yield Move(f"{name}: backwards, killed {moment} {number}", _backwards(name, kill=where))


def nested(name: str, other: str, clean: Done) -> Iterator[Move]:
    """Another node's pass falls between this one's look and each of its effects."""
    for number in range(1, len(clean.effects) + 1):
        yield Move(f"{name}: {other} comes before effect {number}", _interrupted(name, other, number))


def _interrupted(name: str, other: str, number: int) -> Callable[[Scene], Done]:
    between = one_pass(other)

    def run(scene: Scene) -> Done:
        def meanwhile() -> None:
            between(scene)

        return one_pass(name, before={number: meanwhile})(scene)

    return run
