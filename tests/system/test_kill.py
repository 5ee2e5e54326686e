"""Kill -9 and power cuts anywhere on the way from a bare machine to a node: it always ends in the same place."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest

from protokube.host.disk import intent
from tests.lab.trial import MIB, TrialNode, both, until, write_inventory

pytestmark = pytest.mark.root

RECORD = 64 * MIB - 512 * 1024
"""Where an intent stands on these volumes."""


class End(NamedTuple):
    """Where a node ends: UUID by mount point, and every file's content (or a link's target) by its path."""

    filesystems: dict[str, str]
    files: dict[str, bytes | str]


def end_of(node: TrialNode) -> End:
    """What is on the node and its volumes. What only costs delay when it is lost (/run) is left out."""
    filesystems = {}
    files: dict[str, bytes | str] = {}
    for one in both():
        target = f"/mnt/master-{one['id']}"
        filesystems[target] = node.run("findmnt", "-no", "UUID", f"{node.root}{target}").stdout.strip()
    top = node.path("/")
    for place, folders, names in os.walk(top):
        inside = Path(place).relative_to(top)
        if inside == Path("run"):
            folders.clear()
            continue
        for name in (*folders, *names):
            path = Path(place, name)
            if path.is_symlink():
                files[str(inside / name)] = os.readlink(path)
            else:
                files[str(inside / name)] = path.read_bytes() if path.is_file() else "a directory"
    return End(filesystems, files)


@pytest.fixture(scope="module")
def untroubled(tmp_path_factory: pytest.TempPathFactory) -> End:
    """Where a node ends that nobody killed."""
    folder = tmp_path_factory.mktemp("untroubled")
    with TrialNode(folder / "a", write_inventory(folder, *both())) as node:
        assert node.once().returncode == 0
        return end_of(node)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[TrialNode]:
    with TrialNode(tmp_path / "a", write_inventory(tmp_path, *both())) as node:
        yield node


def assert_it_ends_well(node: TrialNode, tmp_path: Path, untroubled: End, story: list[str]) -> None:
    """From wherever it stands to the same place as ever, in one go, and then there is nothing left to do."""
    report = node.report()
    in_the_way = {key: report[key] for key in ("exit", "settled", "refusals", "waiting", "unknown")}
    failed = [one for one in report["steps"] if one["status"] != "done"]
    assert report["exit"] == 0 and report["settled"], f"{story}\n{in_the_way}\n{failed}\n{node.log()[-3000:]}"
    end = end_of(node)
    assert end.filesystems == untroubled.filesystems, story
    assert end.files == untroubled.files, story
    for one in both():
        with (tmp_path / one["file"]).open("rb") as image:
            image.seek(RECORD)
            assert intent.decode(image.read(intent.LENGTH)) is None, story
    again = node.report()
    assert (again["exit"], again["steps"]) == (0, []), (story, again)


def kill_after(node: TrialNode, lines: int, wait: float) -> str:
    """Start the daemon and kill its main process so many lines of its log, and then a moment, later.

    A node that settles before it has said that much is killed at rest.
    """
    before = len(node.log())
    daemon = node.start_daemon()

    def enough() -> bool:
        said = node.log()[before:].splitlines()
        return len(said) >= lines or any(line.endswith(" I converged") for line in said) or daemon.poll() is not None

    until("it has said enough", enough)
    time.sleep(wait)
    assert daemon.poll() is None, node.log()
    node.kill(daemon)
    last = node.log()[before:].splitlines()[-1:]
    return f"killed {wait:.3f} s after line {lines}: {last}"


def switch_off_and_on(node: TrialNode) -> None:
    """What lay in memory is lost with the processes and the mounts: /run too."""
    node.power_cut()
    with suppress(FileNotFoundError):
        for path in sorted((node.root / "run").rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
    node.power_on()


@pytest.mark.parametrize("seed", range(5))
def test_kill_9_again_and_again(node: TrialNode, tmp_path: Path, untroubled: End, seed: int) -> None:
    """Of the main process alone, as the kernel does when memory is short: its tools go on by themselves."""
    chance = random.Random(seed)
    story = [kill_after(node, chance.randrange(7), chance.choice((0.0, chance.uniform(0.0, 0.12)))) for _ in range(5)]
    assert_it_ends_well(node, tmp_path, untroubled, story)


@pytest.mark.parametrize("seed", range(3))
def test_power_cuts(node: TrialNode, tmp_path: Path, untroubled: End, seed: int) -> None:
    """Everything on the node is gone at once: the daemon, mkfs, mounts, loop devices."""
    chance = random.Random(100 + seed)
    story: list[str] = []
    for _ in range(3):
        lines = chance.randrange(12)
        node.start_daemon()
        before = len(node.log())
        until("it has said enough", lambda: _said_enough(node, before, lines))
        time.sleep(chance.choice((0.0, chance.uniform(0.0, 0.1))))
        story.append(f"power cut after line {lines}: {node.log().splitlines()[-1:]}")
        switch_off_and_on(node)
    assert_it_ends_well(node, tmp_path, untroubled, story)


def _said_enough(node: TrialNode, before: int, lines: int) -> bool:
    said = node.log()[before:].splitlines()
    return len(said) >= lines or any(line.endswith(" I converged") for line in said)


MOMENTS: dict[str, Callable[[str], bool]] = {
    "attach": lambda log: "attach events-a" in log,
    "format": lambda log: log.count(" I format ") == 2,
    "mount": lambda log: " I mount " in log,
    "identity": lambda log: "k8s.io/identity.yaml" in log,
    "records": lambda log: "api.internal" in log,
    "tag": lambda log: " I tag " in log,
    "manifest": lambda log: "etcd.manifest (" in log,
    "link": lambda log: " I link " in log,
}


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("how", ["kill", "power cut"])
def test_right_after_each_kind_of_action(
    node: TrialNode, tmp_path: Path, untroubled: End, moment: str, how: str
) -> None:
    daemon = node.start_daemon()
    until(f"it came to {moment}", lambda: MOMENTS[moment](node.log()))
    if how == "kill":
        node.kill(daemon)
    else:
        switch_off_and_on(node)
    assert_it_ends_well(node, tmp_path, untroubled, [how, moment])


def test_a_daemon_after_a_kill_ends_in_the_same_place_too(node: TrialNode, tmp_path: Path, untroubled: End) -> None:
    """Not only --once: the daemon is what the service manager starts again."""
    kill_after(node, 4, 0.02)
    before = len(node.log())
    daemon = node.start_daemon()
    until("it is converged", lambda: "I converged" in node.log()[before:])
    assert node.end(daemon) == 0
    assert_it_ends_well(node, tmp_path, untroubled, ["daemon again"])
