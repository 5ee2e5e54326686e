"""A moment of a world and of its nodes' memories, as a value: to go on from it in several ways, and to know it again.

Time stands still within a round, so that only `wait` makes anything older. What is older than any patience of the
program is as old as can be.
"""

from __future__ import annotations

import hashlib
import pickle
import time
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

import msgspec
from msgspec.structs import replace

from protokube.core.settings import NodeConfig
from protokube.reconcile import Memory
from tests.rounds.process import Process
from tests.rounds.world import World

WAIT = 1_000.0
"""Seconds that `wait` lets pass: more than every patience but the hour of kubelet's restarts. Nothing gets older."""

_KNOBS = ("attach_looks", "stale_looks", "appear_looks", "tool_looks", "can_tag", "late_tags")
_RUNS = ("running", "formed", "acknowledged", "violations", "stopped", "told")


class InTurn:
    """Runs calls one after the other, in the order given or the other way round; for `together.Limited`."""

    def __init__(self, *, backwards: bool = False) -> None:
        self.backwards = backwards

    def run(self, calls: Mapping[str, Any]) -> dict[str, Future[Any]]:
        """Each call's future, done."""
        order = list(calls.items())
        return {key: _done(call) for key, call in (order[::-1] if self.backwards else order)}


def _done(call: Any) -> Future[Any]:
    future: Future[Any] = Future()
    try:
        future.set_result(call())
    except BaseException as error:  # noqa: BLE001 - handed on to whoever asks the future, as in the program
        future.set_exception(error)
    return future


class Scene:
    """A world in which time stands still, and the processes that live on its nodes."""

    def __init__(self, world: World, config: NodeConfig, now: float | None = None) -> None:
        self.world, self.config = world, config
        self.now = time.time() if now is None else now
        self.lives: dict[str, Process] = {}
        world.clock = world.monotonic = lambda: self.now

    def start(self, name: str, **faults: Any) -> Process:
        """A new process on a node: it knows nothing."""
        self.lives[name] = Process(self.world, self.world.nodes[name], self.config, aside=InTurn, **faults)  # type: ignore[arg-type]
        return self.lives[name]

    def wait(self) -> None:
        """Let time pass."""
        self.now += WAIT

    def save(self) -> bytes:
        """Everything that decides what happens from here on."""
        world = self.world
        etcd = {key: getattr(world.etcd, key) for key in _RUNS}
        knobs = {key: getattr(world, key) for key in _KNOBS}
        lives = {name: _memory(process) for name, process in self.lives.items() if not process.dead}
        return pickle.dumps((self.now, world.volumes, world.nodes, etcd, knobs, lives), pickle.HIGHEST_PROTOCOL)


def load(saved: bytes, config: NodeConfig) -> Scene:
    """A scene of its own that goes on from what was saved. A node whose process was dead has none."""
    now, volumes, nodes, etcd, knobs, lives = pickle.loads(saved)
    world = World()
    world.volumes, world.nodes = volumes, nodes
    for key, value in knobs.items():
        setattr(world, key, value)
    for key, value in etcd.items():
        setattr(world.etcd, key, value)
    scene = Scene(world, config, now)
    for name, memory in lives.items():
        _remember(scene.start(name), memory)
    return scene


def _memory(process: Process) -> dict[str, Any]:
    """What a process remembers, as the next reconcile begins with it. What it overwrites first is left out."""
    tracking = process.cloud.tracking
    history = process.memory.history.next_reconcile()
    return {
        "history": replace(history, attachments=replace(history.attachments, uptime=0.0)),
        "attachments": tracking._attachments,
        "slots": {key: value for key, value in vars(tracking._slots).items() if key != "_now"},
        "clusters": tracking._clusters,
        "may_tag": process.cloud.may_tag,
        "probed": process.observer._probed,
        "started": process.observer.started,
    }


def _remember(process: Process, memory: Mapping[str, Any]) -> None:
    process.memory = Memory(history=memory["history"], acting=InTurn())  # type: ignore[arg-type]
    tracking = process.cloud.tracking
    tracking._attachments, tracking._clusters = memory["attachments"], memory["clusters"]
    vars(tracking._slots).update(memory["slots"])
    process.cloud.may_tag = memory["may_tag"]
    process.observer._probed, process.observer.started = memory["probed"], memory["started"]


def key_of(saved: bytes) -> bytes:
    """The same for two moments from which the same things happen, whenever that is."""
    now, *rest = pickle.loads(saved)
    return hashlib.sha256(repr(_Canon(now).of(rest)).encode()).digest()


class _Canon:
    """Values as tuples, without an order where there is none, and with ages for times."""

    def __init__(self, now: float) -> None:
        self._now = now

    def of(self, value: object) -> object:
        if value is None or isinstance(value, str | int | bytes):
            return value
        if isinstance(value, float):  # every float of the world and of the memories is a time
            return self._age(value)
        if isinstance(value, Mapping):
            return tuple((one, self.of(value[one])) for one in sorted(value, key=str))
        if isinstance(value, frozenset | set):
            return tuple(self.of(one) for one in sorted(value, key=str))
        if isinstance(value, tuple | list):
            return tuple(self.of(one) for one in value)
        fields = msgspec.structs.asdict(value) if isinstance(value, msgspec.Struct) else vars(value)
        return (type(value).__name__, *(self._field(name, one) for name, one in fields.items()))

    def _field(self, name: str, value: object) -> object:
        if name == "mtime_ns" and isinstance(value, int):
            return self._age(value / 1e9)
        if name == "files" and isinstance(value, Mapping):
            return tuple((path, self._file(value[path])) for path in sorted(value))
        return self.of(value)

    def _file(self, value: object) -> object:
        if isinstance(value, tuple):  # of a volume: text and mtime in ns
            text, mtime = value
            return text, self._age(mtime / 1e9)
        return self.of(value)

    def _age(self, at: float) -> float:
        return min(self._now - at, WAIT)
