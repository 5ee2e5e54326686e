"""The model is true for files: random actions on it and on a real folder end in the same observed state."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from protokube.core.node.actions import MakeDirectory, MakeLink, RemoveFile, Unlink, WriteFile
from protokube.core.node.model import Absent, Directory, File, FileState, Link
from protokube.errors import ProviderError
from protokube.host.files import NodeFiles
from protokube.ports import Files
from tests.rounds.process import Process
from tests.rounds.world import MANIFESTS, Filesystem, World

FOLDERS = (MANIFESTS, "/etc/kubernetes")
PATHS = [f"{folder}/{name}" for folder in FOLDERS for name in ("one", "two")]
TARGETS = ("/mnt/master-vol-m/one", "/mnt/master-vol-m/two")
"""Links lead to a mounted volume: the model refuses any other as impossible, since none is ever planned."""

SEEDS = range(10)

Action = WriteFile | MakeLink | Unlink | RemoveFile | MakeDirectory


def action(pick: random.Random) -> Action:
    path = pick.choice(PATHS)
    made: list[Callable[[], Action]] = [
        lambda: WriteFile(path, pick.choice(("", "a\n", "ä\n" * 50)), pick.choice((0o600, 0o644))),
        lambda: MakeLink(path, pick.choice(TARGETS)),
        lambda: Unlink(path),
        lambda: RemoveFile(path),
        lambda: MakeDirectory(pick.choice(FOLDERS)),
    ]
    return pick.choice(made)()


def carried_out(files: Files, one: Action) -> str:
    """Whether the world took it."""
    try:
        one.execute(files)
    except ProviderError:
        return "refused"
    return "done"


def shown(state: FileState) -> object:
    match state:
        case File():
            return "file", state.text, state.mode
        case Link():
            return "link", state.target
        case Directory():
            return "directory"
        case Absent():
            return "absent"
    raise AssertionError(state)


@pytest.mark.parametrize("seed", SEEDS)
def test_random_actions_end_in_the_same_state(seed: int, tmp_path: Path) -> None:
    pick = random.Random(seed)
    world = World()
    node, volume = world.node("n1"), world.volume("vol-m", "a/a")
    volume.filesystem = Filesystem("u", "l", volume.size, files=dict.fromkeys(("one", "two"), ("text", 0)))
    node.mounts["/mnt/master-vol-m"] = volume.id
    model = cast("Files", Process(world, node).writers["files"])
    real = NodeFiles(str(tmp_path))
    for _ in range(30):
        one = action(pick)
        assert carried_out(model, one) == carried_out(real, one), one
        found, known = real.read(PATHS), model.read(PATHS)
        assert {path: shown(known[path]) for path in PATHS} == {path: shown(found[path]) for path in PATHS}, one
        assert model.listing(MANIFESTS).keys() == real.listing(MANIFESTS).keys(), one
