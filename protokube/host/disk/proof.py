"""Judge the content of a disk: proven blank, an ext4 filesystem, or anything else with its evidence.

The one judgement that stands between protokube and other people's data. The disk is read by ourselves past the page
cache, as much of it as host.disk.coverage says, and blkid and wipefs must agree with what we saw.
"""

from __future__ import annotations

from protokube.host.disk import ext4, intent
from protokube.host.disk.coverage import Coverage
from protokube.host.disk.places import TAIL, Place
from protokube.host.disk.rawdisk import PAGE, RawDisk, first_nonzero
from protokube.host.disk.reference import Reference
from protokube.host.disk.signatures import Signatures
from protokube.host.disk.sweep import sweep
from protokube.kernel import calls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from protokube.host.disk.sweep import Hit, Judge

_SMALLEST = TAIL


class Finding:
    """What was found. `kind` is "blank", "ext4" or "not-blank".

    `intent` is the record of an interrupted format that may be resumed; `superblock` belongs to an ext4; `evidence`
    says why a disk is neither; `covered` says how much of a blank one was read.
    """

    __slots__ = ("covered", "evidence", "intent", "kind", "superblock")

    def __init__(
        self,
        kind: str,
        *,
        evidence: str = "",
        intent: intent.IntentFields | None = None,
        superblock: ext4.Superblock | None = None,
        covered: str = "",
    ) -> None:
        self.kind = kind
        self.evidence = evidence
        self.intent = intent
        self.superblock = superblock
        self.covered = covered


class _RefusedError(Exception):
    """The disk is not blank; the message is the evidence."""


class _ContentError(_RefusedError):
    """The disk's content rules it out; zeroing the disk would help."""


def examine(raw: RawDisk, volume_id: str, size: int, *, full: bool = False) -> Finding:
    """Judge an exclusively opened disk that should be the volume's, of `size` bytes as the cloud says.

    `full` reads every byte before a disk counts as blank. Raises MkfsError when an interrupted format can't be
    judged.
    """
    try:
        return _examine(raw, volume_id, size, full=full)
    except _ContentError as refused:
        return Finding("not-blank", evidence=f"{refused}; {remedy(raw.node)}")
    except _RefusedError as refused:
        return Finding("not-blank", evidence=str(refused))


def remedy(node: str) -> str:
    """What makes a disk blank for this proof, for people: wiped signatures alone leave it refused."""
    return f"if nothing on it is needed, zero all of it: wipefs --all {node} && blkdiscard --zeroout {node}"


def behind(
    raw: RawDisk,
    superblock: ext4.Superblock,
    volume_id: str,
    *,
    full: bool = False,
    but_for: Callable[[int, bytes], bytes] | None = None,
) -> str | None:
    """What isn't zero behind the end of a filesystem, as evidence; None when nothing was found.

    `but_for` gets an offset and what stands there, and returns it with zeros in place of what may stand there.
    """
    if superblock.size >= raw.size:
        return None
    try:
        reader = _Reader(raw)
        return reader.remnant(Coverage(raw, volume_id, full=full, start=superblock.size), but_for)
    except _RefusedError as refused:
        return str(refused)


def _examine(raw: RawDisk, volume_id: str, size: int, *, full: bool) -> Finding:
    if raw.size < _SMALLEST:
        raise _RefusedError(f"the disk has only {raw.size} bytes, expected at least {_SMALLEST}")
    said = Signatures(raw.node)
    try:
        return _judge(_Reader(raw), said, volume_id, size, full=full)
    finally:
        said.wait()


def _judge(reader: _Reader, said: Signatures, volume_id: str, size: int, *, full: bool) -> Finding:
    superblock = ext4.parse(reader.read(ext4.OFFSET, ext4.LENGTH, "ext4 superblock"))
    record = _intent(reader, volume_id, superblock)
    if record is None and superblock is not None:
        if not said.only_ext4(superblock.uuid):
            raise _ContentError(str(said))
        return Finding("ext4", superblock=superblock)
    if reader.size != size:
        raise _RefusedError(f"the disk has {reader.size} bytes, the cloud says {size}")
    coverage = Coverage(reader.raw, volume_id, full=full)
    if record is None:
        remnant = reader.remnant(coverage)
        if not said.nothing:
            raise _ContentError(str(said))
        if remnant is not None:
            raise _ContentError(remnant)
        return Finding("blank", covered=coverage.described)
    _must_be_unfinished(reader, said, superblock, record, coverage)
    return Finding("blank", intent=record, covered=coverage.described)


def _must_be_unfinished(
    reader: _Reader, said: Signatures, superblock: ext4.Superblock | None, record: intent.IntentFields, all_: Coverage
) -> None:
    """The disk holds nothing but what the recorded format would have written by now: each byte is zero or its own."""
    uuid = str(record["uuid"])
    if superblock is not None and (superblock.used or superblock.uuid != uuid):
        other = "used" if superblock.used else "other"
        raise _ContentError(
            f"a format with UUID {uuid} was interrupted, but the {other} filesystem {superblock.uuid} is here"
        )
    if not said.nothing and not said.only_ext4(uuid):
        raise _ContentError(f"a format with UUID {uuid} was interrupted here, but {said}")
    with Reference(reader.size, uuid, str(record["label"]), calls.sector_size(reader.raw.fd)) as reference:
        stray = reader.stray(all_, reference)
    if stray is not None:
        raise _ContentError(f"a format with UUID {uuid} was interrupted here, but {stray}")


def _intent(reader: _Reader, volume_id: str, superblock: ext4.Superblock | None) -> intent.IntentFields | None:
    block = reader.read(intent.offset(reader.size), intent.LENGTH, "intent record")
    try:
        record = intent.decode(block)
    except intent.IntentError as error:
        if superblock is not None:
            return None  # a file's data, as far as can be known
        raise _ContentError(f"a format was interrupted here, and its record can't be trusted: {error}") from error
    if record is not None and (record["volume_id"], record["size"]) != (volume_id, reader.size):
        raise _ContentError(
            f"a format of volume {record['volume_id']} ({record['size']} bytes) was interrupted here; this is "
            f"{volume_id} with {reader.size} bytes"
        )
    return record


class _Reader:
    """Reads a disk and turns a read error into evidence."""

    def __init__(self, raw: RawDisk) -> None:
        self.raw = raw
        self.size = raw.size

    def read(self, offset: int, length: int, what: str) -> bytes:
        """Some bytes of the disk."""
        try:
            return self.raw.read(offset, length)
        except OSError as error:
            raise _RefusedError(_unreadable(offset, what, error)) from error

    def _first(self, coverage: Coverage, judge: Judge) -> Hit | None:
        hit = sweep(self.raw, coverage.places(), judge)
        if hit is not None and hit.error is not None:
            raise _RefusedError(_unreadable(hit.offset, hit.place.what, hit.error)) from hit.error
        return hit

    def remnant(self, coverage: Coverage, but_for: Callable[[int, bytes], bytes] | None = None) -> str | None:
        """The first byte that isn't zero, as evidence."""

        def judge(place: Place, data: bytes) -> int | None:
            return first_nonzero(but_for(place.offset, data) if but_for else data)

        hit = self._first(coverage, judge)
        return None if hit is None else f"byte {hit.offset} is {hit.value:#04x}, not zero ({hit.place.what})"

    def stray(self, coverage: Coverage, reference: Reference) -> str | None:
        """The first byte that is neither zero nor the reference's nor the intent record's, as evidence."""
        record = intent.offset(self.size)

        def judge(place: Place, data: bytes) -> int | None:
            before, behind = max(0, record - place.offset), max(0, record + intent.LENGTH - place.offset)
            data = data[:before] + bytes(len(data[before:behind])) + data[behind:]
            if first_nonzero(data) is None:
                return None
            expected = reference.read(place.offset, place.length)
            for start in range(0, len(data), PAGE):
                index = _first_stray(data[start : start + PAGE], expected[start : start + PAGE])
                if index is not None:
                    return start + index
            return None

        hit = self._first(coverage, judge)
        if hit is None:
            return None
        return f"byte {hit.offset} is {hit.value:#04x}, which that format does not write ({hit.place.what})"


def _first_stray(data: bytes, expected: bytes) -> int | None:
    """The index of the first byte that is neither zero nor the expected one."""
    if data == expected or first_nonzero(data) is None:
        return None
    pairs = enumerate(zip(data, expected, strict=True))
    return next((index for index, (byte, ours) in pairs if byte and byte != ours), None)


def _unreadable(offset: int, what: str, error: OSError) -> str:
    return f"read error at byte {offset} ({what}): {error.strerror}"
