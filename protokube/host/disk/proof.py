"""What stands on a disk: proven blank, an ext4 filesystem, or anything else with its evidence.

The one judgement that stands between protokube and somebody's data. blkid alone proves nothing (it exits 2 both for
a blank disk and for one that it could not read), so the disk is read by ourselves past the page cache, and blkid and
wipefs must agree with what we saw.
"""

from __future__ import annotations

import os

from protokube.host.disk import ext4, intent
from protokube.host.disk.places import MIB, Place, foreign_signature, places
from protokube.host.disk.rawdisk import RawDisk, first_nonzero
from protokube.host.process import Running, tool

_BLKID_NOTHING = 2
_BLKID_AMBIVALENT = 8


class Finding:
    """What was found. `kind` is "blank", "ext4" or "not-blank".

    `intent` is the record of an interrupted format that may be resumed; `superblock` belongs to an ext4; `evidence`
    says why a disk is neither.
    """

    __slots__ = ("evidence", "intent", "kind", "superblock")

    def __init__(
        self,
        kind: str,
        *,
        evidence: str = "",
        intent: intent.IntentFields | None = None,
        superblock: ext4.Superblock | None = None,
    ) -> None:
        self.kind = kind
        self.evidence = evidence
        self.intent = intent
        self.superblock = superblock


class _Refused(Exception):
    """The disk is not blank; the message is the evidence."""


def examine(raw: RawDisk, node: str, volume_id: str, size: int) -> Finding:
    """Judge an exclusively opened disk that should be the volume's, of `size` bytes as the cloud says."""
    try:
        return _examine(raw, node, volume_id, size)
    except _Refused as refused:
        return Finding("not-blank", evidence=str(refused))


def _examine(raw: RawDisk, node: str, volume_id: str, size: int) -> Finding:
    if raw.size < 2 * MIB:
        raise _Refused(f"the disk has only {raw.size} bytes")
    said = _Signatures(node)
    try:
        return _judge(_Reader(raw), said, volume_id, size)
    finally:
        said.wait()


def _judge(reader: _Reader, said: _Signatures, volume_id: str, size: int) -> Finding:
    superblock = ext4.parse(reader.read(ext4.OFFSET, ext4.LENGTH, "ext4 superblock"))
    record = _intent(reader, volume_id, superblock)
    if record is None and superblock is not None:
        said.must_be_ext4(superblock.uuid)
        return Finding("ext4", superblock=superblock)
    if reader.size != size:
        raise _Refused(f"the disk has {reader.size} bytes, the cloud says {size}")
    if record is None:
        remnant = reader.remnant()
        said.must_be_nothing()
        if remnant is not None:
            raise _Refused(remnant)
        return Finding("blank")
    uuid = str(record["uuid"])
    if superblock is not None and (superblock.used or superblock.uuid != uuid):
        other = "used" if superblock.used else "other"
        raise _Refused(
            f"a format with UUID {uuid} was interrupted, but the {other} filesystem {superblock.uuid} is here"
        )
    if not said.nothing:
        said.must_be_ext4(uuid)
    reader.must_be_ours(ext4.uuid_bytes(uuid))
    return Finding("blank", intent=record)


def _intent(reader: _Reader, volume_id: str, superblock: ext4.Superblock | None) -> intent.IntentFields | None:
    block = reader.read(intent.offset(reader.size), intent.LENGTH, "intent record")
    try:
        record = intent.decode(block)
    except intent.BadIntent as error:
        if superblock is not None:
            return None  # a file's data, as far as anybody can tell
        raise _Refused(f"a format was interrupted here, and its record can't be trusted: {error}") from error
    if record is not None and (record["volume_id"], record["size"]) != (volume_id, reader.size):
        raise _Refused(
            f"a format of volume {record['volume_id']} ({record['size']} bytes) was interrupted here; this is "
            f"{volume_id} with {reader.size} bytes"
        )
    return record


class _Reader:
    """Reads a disk once, keeps both ends, and turns a read error into evidence."""

    def __init__(self, raw: RawDisk) -> None:
        self._raw = raw
        self.size = raw.size
        self._ends = [(start, self._fetch(start, MIB, "an end of the disk")) for start in (0, self.size - MIB)]

    def _fetch(self, offset: int, length: int, what: str) -> bytes:
        try:
            return self._raw.read(offset, length)
        except OSError as error:
            raise _Refused(f"read error at byte {offset} ({what}): {error.strerror}") from error

    def read(self, offset: int, length: int, what: str) -> bytes:
        """Some bytes of the disk."""
        for start, data in self._ends:
            if start <= offset and offset + length <= start + MIB:
                return data[offset - start : offset - start + length]
        return self._fetch(offset, length, what)

    def _all(self) -> list[tuple[Place, bytes]]:
        return [(place, self.read(place.offset, place.length, place.what)) for place in places(self.size)]

    def remnant(self) -> str | None:
        """The first byte in any of the places that isn't zero."""
        for place, data in self._all():
            index = first_nonzero(data)
            if index is not None:
                return f"byte {place.offset + index} is {data[index]:#04x}, not zero ({place.what})"
        return None

    def must_be_ours(self, uuid: bytes) -> None:
        """No place holds a signature that an interrupted mkfs.ext4 of this UUID would not have left."""
        for place, data in self._all():
            what = foreign_signature(place, data, uuid)
            if what is not None:
                raise _Refused(f"a format was interrupted here, but {what} stands in the {place.what}")


class _Signatures:
    """What blkid's low-level probe and wipefs say, asked side by side. Both also see partition tables."""

    def __init__(self, node: str) -> None:
        blkid = [tool("blkid"), "-p", "-o", "export", node]
        wipefs = [tool("wipefs"), "--noheadings", "--output", "TYPE,OFFSET", node]
        self._running = Running(blkid), Running(wipefs)
        self._blkid_code = self._wipefs_code = -1
        self._blkid = self._wipefs = ""
        self._waited = False

    def wait(self) -> None:
        """Wait until both have ended."""
        if self._waited:
            return
        self._waited = True
        blkid, wipefs = [running.result() for running in self._running]
        self._blkid_code, self._blkid = blkid[0], _text(blkid[1] + blkid[2])
        self._wipefs_code, self._wipefs = wipefs[0], _text(wipefs[1] + wipefs[2])

    def __str__(self) -> str:
        blkid = ", ".join(line for line in self._blkid.splitlines() if not line.startswith("DEVNAME=")) or "nothing"
        wipefs = ", ".join(" at ".join(line.split()) for line in self._wipefs.splitlines()) or "nothing"
        ambivalent = " (ambivalent)" if self._blkid_code == _BLKID_AMBIVALENT else ""
        codes = f"exit codes {self._blkid_code} and {self._wipefs_code}"
        return f"blkid finds {blkid}{ambivalent}, wipefs {wipefs} ({codes})"

    @property
    def nothing(self) -> bool:
        """Whether both find nothing."""
        self.wait()
        codes = self._blkid_code == _BLKID_NOTHING and self._wipefs_code == os.EX_OK
        return codes and not self._blkid and not self._wipefs

    def must_be_nothing(self) -> None:
        """Both find nothing."""
        if not self.nothing:
            raise _Refused(str(self))

    def must_be_ext4(self, uuid: str) -> None:
        """Both find this ext4 and nothing else."""
        self.wait()
        found = dict(line.partition("=")[::2] for line in self._blkid.splitlines())
        types = {line.split()[0] for line in self._wipefs.splitlines()}
        sound = self._blkid_code == self._wipefs_code == os.EX_OK and types == {"ext4"}
        if not sound or found.get("TYPE") != "ext4" or found.get("UUID") != uuid or "PTTYPE" in found:
            raise _Refused(str(self))


def _text(output: bytes) -> str:
    return output.decode(errors="backslashreplace").strip()
