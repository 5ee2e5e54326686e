"""The child process that reads one volume's disk, so that a disk that hangs holds up no other work.

It reads a request and writes an answer, both marshalled, on its standard input and output. It imports as little as
it can: most of the time of a probe is the start of the interpreter.
"""

from __future__ import annotations

import marshal
import os

from protokube.host.disk import disklock, intent, redo
from protokube.host.disk.contents import collect
from protokube.host.disk.debugfs import DebugfsError, DebugfsSource
from protokube.host.disk.loops import Loops
from protokube.host.disk.proof import Finding, behind, examine
from protokube.host.disk.reference import MkfsError
from protokube.host.disk.sysblock import BlockDisk, Missing, UncertainError
from protokube.host.process import ToolMissingError
from protokube.kernel import mountinfo

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypedDict

    from protokube.host.disk.loops import File, Key
    from protokube.host.disk.rawdisk import RawDisk
    from protokube.host.disk.sysblock import Identity

    class Request(TypedDict):
        """What is asked: which volume, its size in bytes, how its disk is recognised, and where etcd's data would
        stand on it."""

        volume_id: str
        size: int
        identity: Identity
        loops: tuple[dict[Key, File | None], dict[Key, int]]
        data_dirs: frozenset[str]

    class Answer(TypedDict, total=False):
        """What was found. `state` is "absent", "uncertain", "busy", "mounted", "not-blank", "blank", "ext4" or
        "failed"; `text` explains it. `loops` is what is known of the loop devices now: files and silent ones.
        `growing`: a growth was begun and not ended."""

        state: str
        text: str
        device: str
        number: tuple[int, int]
        size: int
        loops: tuple[dict[Key, File | None], dict[Key, int]]
        read_only: bool
        intent: intent.IntentFields | None
        superblock: bytes
        contents: tuple[list[str], list[str], dict[str, str], dict[str, int], bool] | None
        damaged: bool
        behind: str | None
        growing: bool


ROOM = 128 << 20
"""How many bytes behind a filesystem's end are worth to be looked at: it isn't grown by less."""
_PATIENCE = 0.3
"""Seconds to wait for the disk's lock: udev holds it for moments when a disk appears."""


def answer(request: Request) -> Answer:
    """Find, lock and examine a volume's disk."""
    loops = Loops(*request["loops"])
    try:
        disk = disklock.find(request["identity"], request["size"], loops)
    except UncertainError as doubt:
        return {"state": "uncertain", "text": str(doubt), "loops": (loops.files, loops.silent)}
    if isinstance(disk, Missing):
        return {"state": "absent", "text": disk.hint, "loops": (loops.files, loops.silent)}
    said: Answer = {"device": disk.node, "number": disk.number, "size": disk.size, "read_only": disk.read_only}
    said |= {"loops": (loops.files, loops.silent)}
    said.update(_probe(disk, request))
    return said


def _probe(disk: BlockDisk, request: Request) -> Answer:
    try:
        if disklock.mounted(disk, mountinfo.read()):
            return {"state": "mounted"}
        disklock.refuse_used(disk)
        locked = disklock.lock(disk, _PATIENCE)
        try:
            with disklock.open_exclusively(disk) as raw:
                return _describe(raw, examine(raw, request["volume_id"], request["size"]), request)
        finally:
            os.close(locked)
    except disklock.BusyError as busy:
        return {"state": "busy", "text": str(busy)}
    except disklock.InUseError as evidence:
        return {"state": "not-blank", "text": str(evidence)}
    except UncertainError as doubt:
        return {"state": "uncertain", "text": str(doubt)}
    except (ToolMissingError, MkfsError, OSError) as error:
        return {"state": "failed", "text": str(error)}


def _describe(raw: RawDisk, finding: Finding, request: Request) -> Answer:
    superblock = finding.superblock
    if superblock is None:
        text = finding.evidence or f"read: {finding.covered}"
        return {"state": finding.kind, "text": text, "intent": finding.intent}
    said: Answer = {"state": "ext4", "superblock": superblock.raw, "contents": None, "damaged": False}
    said["growing"] = redo.find(raw, superblock, request["volume_id"]) is not None
    room = raw.size - superblock.size >= ROOM and not said["growing"]
    said["behind"] = behind(raw, superblock, request["volume_id"]) if room else None
    try:
        seen = collect(DebugfsSource(raw.node), request["data_dirs"])
        said["contents"] = (sorted(seen.entries), sorted(seen.others), seen.texts, seen.mtimes, seen.overflow)
    except DebugfsError as error:
        said |= {"text": str(error), "damaged": error.damaged}
    return said


def main() -> None:
    """Answer the one request on standard input."""
    with open(0, "rb", closefd=False) as stream:
        request: Request = marshal.loads(stream.read())
    with open(1, "wb", closefd=False) as out:
        out.write(marshal.dumps(dict(answer(request))))
