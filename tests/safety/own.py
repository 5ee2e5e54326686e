"""Our own healthy volumes: whatever became of the node that last had one, the next one takes it. So it does with
what a growth leaves that was cut off."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from tests.lab.growth_cuts import grown
from tests.lab.trial import TrialNode
from tests.safety import members
from tests.safety.claims import Job, Result
from tests.safety.corpus import label
from tests.safety.images import GIB, MIB, run

_SIZES = (64 * MIB, 129 * MIB, GIB)
_GROWTHS = ((64 * MIB, 256 * MIB), (GIB, 4 * GIB))
_PARTS = 4


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
    used = [Job("own", f"{label(size)}, {end}", _Own(size, end).run) for size in _SIZES for end in ENDS]
    cut = [
        Job("own", f"growth from {label(small)}, part {part + 1}", _Growth(small, large, part).run)
        for small, large in _GROWTHS
        for part in range(_PARTS)
    ]
    return [*used, *cut]


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


class _Growth:
    """A part of all disks that a growth may leave when it is cut off, also with writes lost since the last flush."""

    def __init__(self, small: int, large: int, part: int) -> None:
        self._small, self._large, self._part = small, large, part

    def run(self, scratch: Path) -> Iterator[Result]:
        """The next node looks at each, and finishes the growth or takes it back."""
        with grown(scratch, self._small, self._large) as growth:
            for cut in list(growth.cuts())[self._part :: _PARTS]:
                case = f"growth from {label(self._small)} to {label(self._large)}, {cut.name}"
                yield Result("own", case, growth.finished(cut))
