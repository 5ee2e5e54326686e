"""Writing a filesystem to a disk that is proven blank, under the one exclusive open that the proof was made under.

No other program is let in between the proof and the last write. At any moment each byte of the disk is zero, the
filesystem's own, or the intent record's. The order makes an interruption visible: the record comes first, the
superblock when everything else is safe, and what the filesystem has in the record's place last.
"""

from __future__ import annotations

from protokube.host.disk import intent
from protokube.host.disk.rawdisk import PAGE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from protokube.host.disk.rawdisk import RawDisk
    from protokube.host.disk.reference import Reference


def write(raw: RawDisk, reference: Reference, record: bytes) -> None:
    """Write the reference to the disk; `record` is the intent record, already encoded."""
    place = intent.offset(raw.size)
    raw.write(place, record)
    raw.sync()
    for start, length in reference.journal:
        for offset, part in _without(place, start, length):
            raw.zero(offset, part)
    for start, length in reference.parts():
        for offset, part in _without(place, start, length):
            skipped = PAGE if offset == 0 else 0
            if part > skipped:
                raw.write(offset + skipped, reference.read(offset + skipped, part - skipped))
    raw.sync()
    raw.write(0, reference.read(0, PAGE))
    raw.sync()
    raw.write(place, reference.read(place, intent.LENGTH))
    raw.sync()


def _without(place: int, start: int, length: int) -> Iterator[tuple[int, int]]:
    """The (offset, length) of what a range has before and behind the intent record."""
    end = start + length
    before, behind = (start, min(end, place)), (max(start, place + intent.LENGTH), end)
    return ((begin, stop - begin) for begin, stop in (before, behind) if begin < stop)
