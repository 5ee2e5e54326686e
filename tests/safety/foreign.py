"""Disks of others: whole, wiped at their head, their tail alone, over one another, and behind a stale intent."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from protokube.host.disk import intent
from tests.lab.disks import LoopDisk, Node, intent_for, node
from tests.safety.claims import Job, Result
from tests.safety.corpus import FORMATS, Corpus, Format, label, seed
from tests.safety.images import KIB, MIB, copy, is_blank, look, loop, opaque, overlay, record, run, wipe, write

_HEADS = (("head-4k", 4 * KIB), ("head-1m", MIB), ("head-16m", 16 * MIB))
_DRAWN = "page drawn by the seed"
"""How evidence names a page of the sample. Signatures and known places come before it."""
_WIPED = ("head-4k", "head-1m", "head-16m", "head-1m-sparse", "head-16m-sparse")


def judged(image: Path, *, tells_holes: bool = False) -> str:
    """What stands in the way of formatting an image; empty when nothing does."""
    size = image.stat().st_size
    with (loop if tells_holes else opaque)(image) as device:
        answer = look(device, size)
    if answer["state"] == "blank":
        return ""
    return f"{answer['state']}: {answer.get('text', '')}"


def formatted(claim: str, case: str, image: Path, *, tells_holes: bool = False) -> Result:
    """A case whose disk must not pass for blank."""
    why_not = judged(image, tells_holes=tells_holes)
    return Result(claim, case, "" if why_not else "it passes for blank", drawn=_DRAWN in why_not)


def jobs(corpus: Corpus, formats: tuple[Format, ...] = FORMATS) -> list[Job]:
    """All of them, by format and size."""
    found = []
    for one in formats:
        for size in one.sizes:
            case = f"{one.name}, {label(size)}"
            disk = _Disk(corpus, one, size, case)
            found.append(Job("whole", case, disk.whole_and_wiped, _WIPED))
            found.append(Job("tail", case, disk.tail))
            found.append(Job("intent", case, disk.behind_an_intent, ("intent-wiped",)))
            if size == max(one.sizes[:2]):
                found.append(Job("untouched", case, disk.untouched, ("whole",)))
                found.append(Job("overwritten", case, disk.overwritten, ("over-1m",)))
    return found


class _Disk:
    """One format at one size."""

    def __init__(self, corpus: Corpus, one: Format, size: int, case: str) -> None:
        self._corpus = corpus
        self._one = one
        self._size = size
        self._case = case

    def _image(self, scratch: Path) -> Path:
        return copy(self._corpus.make(self._one, self._size), scratch / "disk.img")

    def whole_and_wiped(self, scratch: Path) -> Iterator[Result]:
        """Whole, then wiped further and further, as long as there is anything left."""
        image = self._image(scratch)
        yield formatted("whole", self._case, image)
        for claim, length in _HEADS:
            wipe(image, 0, length)
            if is_blank(image):
                return
            yield formatted(claim, self._case, image)
            if claim != "head-4k":
                yield formatted(f"{claim}-sparse", self._case, image, tells_holes=True)

    def tail(self, scratch: Path) -> Iterator[Result]:
        """An operator zeroed three quarters and stopped."""
        image = self._image(scratch)
        wipe(image, 0, self._size // 4 * 3)
        if not is_blank(image):
            yield formatted("tail", self._case, image)

    def behind_an_intent(self, scratch: Path) -> Iterator[Result]:
        """A format of ours was interrupted, before mkfs wrote or after it; then others made their format."""
        remains = copy(self._corpus.make(self._one, self._size), scratch / "remains.img")
        wipe(remains, 0, 4 * KIB)
        gone = is_blank(remains)  # then what is left after the wipe is ours alone, and may be formatted
        for stage in ("record alone", "mkfs half done"):
            image = self._image(scratch)
            if stage == "mkfs half done":
                self._over_our_mkfs(image, scratch)
            place = intent.offset(self._size)
            with image.open("rb") as file:
                file.seek(place)
                theirs = file.read(intent.LENGTH)
            if theirs.count(0) == len(theirs):  # else it wrote over our record, and there is none left
                write(image, place, record(self._size))
            case = f"{self._case}, {stage}"
            yield formatted("intent", case, image)
            if not gone:
                wipe(image, 0, 4 * KIB)
                yield formatted("intent-wiped", case, image)

    def _over_our_mkfs(self, image: Path, scratch: Path) -> None:
        """Lay their format over what our mkfs left behind."""
        ours = copy(self._corpus.make(_OURS, self._size), scratch / "ours.img")
        wipe(ours, 0, 4 * KIB)
        theirs = image.rename(scratch / "theirs.img")
        ours.rename(image)
        overlay(theirs, image)

    def overwritten(self, scratch: Path) -> Iterator[Result]:
        """Their format over three others, drawn by lot."""
        others = [other for other in FORMATS if self._size in other.sizes and other is not self._one]
        lot = seed(self._case)
        for number in range(3):
            other = others[(lot >> 8 * number) % len(others)]
            image = copy(self._corpus.make(other, self._size), scratch / "disk.img")
            overlay(self._corpus.make(self._one, self._size), image)
            case = f"{self._case} over {other.name}"
            yield formatted("overwritten", case, image)
            wipe(image, 0, MIB)
            if not is_blank(image):
                yield formatted("over-1m", case, image)

    def untouched(self, scratch: Path) -> Iterator[Result]:
        """The whole way, with the child processes: a look, an order to format, and not a byte changed."""
        image = self._image(scratch)
        with node(scratch / "root") as here, LoopDisk(image, self._size) as disk:
            before = disk.digest()
            yield self._refused(here, disk)
            trouble = "" if disk.digest() == before else "its bytes have changed"
        yield Result("untouched", self._case, trouble)

    def _refused(self, here: Node, disk: LoopDisk) -> Result:
        volume = disk.volume()
        here.look(volume)
        here.format(volume, disk, intent_for(volume))
        here.finish()
        trouble = "" if here.failure(volume) else "the worker formatted it"
        return Result("whole", f"{self._case}, ordered to format", trouble)


def _make_ours(_: object, image: Path, size: int) -> None:
    root = image.with_suffix(".root")
    with node(root) as here, LoopDisk(image, size) as disk:
        here.look(disk.volume())
        here.format(disk.volume(), disk)
        here.finish()
        assert not here.failure(disk.volume())
    run("rm", "-r", root)


_OURS = Format("ours", _make_ours, installed=True)
"""What a format of ours makes of a disk."""
