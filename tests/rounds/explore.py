"""Every state that a scene can get into, breadth first; each is held against the laws.

A state is the world together with the memories of the nodes' programs (tests/rounds/state.py), the edges are the
moves (tests/rounds/moves.py). What must hold:

- nothing impossible is asked of the world, no etcd cluster is formed twice, no acknowledged write is lost, no running
  member is stopped (laws 5, 6);
- a pass that can't read all there is does nothing that the whole reconcile wouldn't do (law 3);
- nothing on a disk is lost: no filesystem is replaced, no file vanishes, no data of others is touched (laws 3, 5);
- while kubelet runs, a link leads to a volume that the node holds and has mounted (law 6);
- from every state the program comes to the end that is wanted, without faults (laws 2, 4), and writes nothing there
  any more (law 8).
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from msgspec import Struct, field

from protokube.core.settings import NodeConfig
from tests.rounds import moves
from tests.rounds.moves import Done, Move
from tests.rounds.state import Scene, key_of, load
from tests.rounds.world import Impossible, World

MOST_ROUNDS = 40

Judge = Callable[[Scene], str]
"""Says what is wrong with a scene at rest; empty when it is as it should be."""


class State(Struct):
    """A state that was reached, and how: by which move, from which state."""

    saved: bytes
    name: str = "the beginning"
    before: State | None = None

    def way(self) -> str:
        """The moves from the beginning."""
        names = []
        at: State | None = self
        while at is not None and at.before is not None:
            names.append(at.name)
            at = at.before
        return ", then ".join(reversed(names)) or self.name


class Tally(Struct):
    """What was seen: how many states were left from, moves made, and troubles by state's way."""

    states: int = 0
    moves: int = 0
    whole: bool = False
    troubles: list[str] = field(default_factory=list)


class Exploration:
    """The states of a scene whose `names` are the nodes that live. `at_rest` judges their end."""

    def __init__(self, world: World, config: NodeConfig, names: Sequence[str], at_rest: Judge) -> None:
        scene = Scene(world, config)
        for name in names:
            scene.start(name)
        self._config, self._names, self._at_rest = config, names, at_rest
        self._seen: dict[bytes, State] = {}
        self._next: deque[State] = deque()
        self._ends: dict[bytes, str] = {}
        self._reach(State(scene.save()))
        self.tally = Tally()

    def run(self, most: int | None = None) -> Iterator[tuple[str, str]]:
        """Leave so many states at most, or all; yields the way to each, and what is wrong with it and its moves."""
        while self._next and (most is None or self.tally.states < most):
            state = self._next.popleft()
            self.tally.states += 1
            with quiet():
                troubles = [trouble for trouble in self._leave(state) if trouble]
            yield state.way(), "; ".join(troubles)
        self.tally.whole = not self._next

    def _reach(self, state: State) -> None:
        key = key_of(state.saved)
        if key not in self._seen:
            self._seen[key] = state
            self._next.append(state)

    def _leave(self, state: State) -> Iterator[str]:
        yield self._end(state.saved)
        yield from self._move(state, moves.wait(), None)
        for name in self._names:
            whole = moves.one_pass(name, passes=60)(load(state.saved, self._config))
            usual = Move(f"{name}: a pass", moves.one_pass(name))
            clean = self._load_and_run(state, usual)
            yield from self._judged(state, usual, clean, None)
            more = [*moves.around(name), *moves.unread(name, clean[1]), *moves.undone(name, clean[1])]
            for other in self._names:
                if other != name:
                    more += moves.nested(name, other, clean[1])
            for move in more:
                yield from self._move(state, move, whole)

    def _move(self, state: State, move: Move, whole: Done | None) -> Iterator[str]:
        try:
            yield from self._judged(state, move, self._load_and_run(state, move), whole)
        except Impossible as error:
            yield f"{move.name}: {error}"

    def _load_and_run(self, state: State, move: Move) -> tuple[Scene, Done]:
        self.tally.moves += 1
        scene = load(state.saved, self._config)
        return scene, move.run(scene)

    def _judged(self, state: State, move: Move, ran: tuple[Scene, Done], whole: Done | None) -> Iterator[str]:
        scene, done = ran
        troubles = [*_wrong(scene), *_lost(load(state.saved, self._config).world, scene.world)]
        if move.blind and whole is not None and (more := done.actions - whole.actions):
            troubles.append(f"done, and not by a whole reconcile: {'; '.join(one.describe() for one in more)}")
        yield from (f"{move.name}: {trouble}" for trouble in troubles)
        if troubles:
            return
        if not move.leaf:
            self._reach(State(scene.save(), move.name, state))
        elif trouble := self._end(scene.save()):
            yield f"{move.name}: {trouble}"

    def _end(self, saved: bytes) -> str:
        """What is wrong with where the program comes from here, without faults. Each state is judged once."""
        way: list[bytes] = []
        rests = False
        for _ in range(MOST_ROUNDS):
            key = key_of(saved)
            if key in self._ends:
                return self._note(way, self._ends[key])
            way.append(key)
            scene = load(saved, self._config)
            acts = sum(len(moves.one_pass(name, passes=60)(scene).effects) for name in self._names) > 0
            rests = rests and not acts
            if not acts and key_of(scene.save()) == key:
                if rests:
                    return self._note(way, self._at_rest(scene))
                scene.wait()
                rests = True
            saved = scene.save()
        return self._note(way, f"no end after {MOST_ROUNDS} reconciles")

    def _note(self, way: Sequence[bytes], trouble: str) -> str:
        self._ends |= dict.fromkeys(way, trouble)
        return trouble


@contextmanager
def quiet() -> Iterator[None]:
    """Thousands of planned failures are no news."""
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def _wrong(scene: Scene) -> Iterator[str]:
    """What must not be at any moment."""
    world = scene.world
    yield from world.etcd.violations
    yield from (f"{one} was stopped" for one in world.etcd.stopped)
    for node in filter(lambda one: one.kubelet_runs, world.nodes.values()):
        held = {volume.id for volume in world.held(node)}
        for path, target in world.links(node).items():
            volume_id = target.split("/")[2].removeprefix("master-")
            if volume_id not in held:
                yield f"{node.name}: {path} leads to {target}, which it doesn't hold"
            if world.on_volume(node, target) is None:
                yield f"{node.name}: kubelet runs, and {path} leads to nothing"


def _lost(before: World, after: World) -> Iterator[str]:
    """What a move has taken from the disks."""
    for id_, old in before.volumes.items():
        new = after.volumes[id_]
        if new.evidence != old.evidence or (old.evidence and (new.filesystem or new.intent or new.job)):
            yield f"{id_}: other data was written over"
        if lost := old.tags.keys() - new.tags.keys():
            yield f"{id_} lost its tags {sorted(lost)}"
        if old.filesystem is None:
            continue
        if new.filesystem is None or new.filesystem.uuid != old.filesystem.uuid:
            yield f"{id_}: the filesystem {old.filesystem.uuid} is gone"
        elif gone := {path for path in old.filesystem.files.keys() - new.filesystem.files.keys() if "/." not in path}:
            yield f"{id_} lost {sorted(gone)}"
