"""Our own healthy volumes: whatever became of the node that last had one, the next one takes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from tests.lab.trial import TrialNode
from tests.safety import members
from tests.safety.claims import Job, Result
from tests.safety.corpus import label
from tests.safety.images import GIB, MIB, run

_SIZES = (64 * MIB, 129 * MIB, GIB)


def _use(node: TrialNode) -> None:
    """What etcd would leave behind."""
    snap = node.path(f"{members.MOUNT}/var/etcd/data/member/snap")
    snap.mkdir(parents=True, exist_ok=True)
    (snap / "db").write_bytes(bytes(range(256)) * 4096)


def _unmounted(node: TrialNode, _image: Path) -> None:
    run(*node.command("umount", f"{node.root}{members.MOUNT}"))


def _cut(node: TrialNode, _image: Path) -> None:
    node.power_cut()


def _forgotten(node: TrialNode, image: Path) -> None:
    node.power_cut()
    Path(f"{image}.state").unlink()


def _checked(node: TrialNode, image: Path) -> None:
    node.power_cut()
    members.replayed(image)


def _copied(node: TrialNode, image: Path) -> None:
    """The same volume behind another file: the cloud moved it to another host."""
    node.power_cut()
    run("cp", "--sparse=always", image, f"{image}.new")
    Path(f"{image}.new").rename(image)


ENDS: dict[str, Callable[[TrialNode, Path], None]] = {
    "unmounted": _unmounted,
    "the node was cut off": _cut,
    "the cloud's memory is gone": _forgotten,
    "somebody ran e2fsck": _checked,
    "it moved": _copied,
}


def jobs() -> list[Job]:
    """All of them."""
    return [Job("own", f"{label(size)}, {end}", _Own(size, end).run) for size in _SIZES for end in ENDS]


class _Own:
    def __init__(self, size: int, end: str) -> None:
        self._size = size
        self._end = end

    def run(self, scratch: Path) -> Iterator[Result]:
        """One node makes and uses the volume, another takes it: before and after etcd is known to have run."""
        image = members.image_of(scratch)
        for name, following, reconciles in (("a", "b", 1), ("b", "c", 2)):
            with members.member(scratch, self._size, name=f"node-{name}") as node:
                for _ in range(reconciles):
                    node.once()
                    _use(node)
                ENDS[self._end](node, image)
            with members.member(scratch, self._size, name=f"node-{following}") as node:
                trouble = members.serves(node, node.report("--timeout", "100"))
            yield Result("own", f"{label(self._size)}, {self._end}, taken by {following}", trouble)
