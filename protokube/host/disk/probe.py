"""The child process that looks at one volume's disk, so that a disk that hangs takes nobody along.

It reads a request and writes an answer, both marshalled, on its standard input and output. It imports as little as
it can: most of the time of a probe is the start of the interpreter.
"""

from __future__ import annotations

import marshal
import os

from protokube.host.disk import claim, intent
from protokube.host.disk.contents import collect
from protokube.host.disk.look import DebugfsSource, LookFailed
from protokube.host.disk.loops import Loops
from protokube.host.disk.proof import Finding, examine
from protokube.host.disk.sysblock import BlockDisk, Missing, Uncertain
from protokube.host.process import ToolMissing
from protokube.kernel import mountinfo

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypedDict

    from protokube.host.disk.loops import File, Key
    from protokube.host.disk.sysblock import Identity

    class Request(TypedDict):
        """What is asked: which volume, its size in bytes, and how its disk is recognised."""

        volume_id: str
        size: int
        identity: Identity
        loops: tuple[dict[Key, File | None], dict[Key, int]]

    class Answer(TypedDict, total=False):
        """What was found. `state` is "absent", "uncertain", "busy", "mounted", "not-blank", "blank", "ext4" or
        "failed"; `text` explains it. `loops` is what is known of the loop devices now: files and silent ones."""

        state: str
        text: str
        device: str
        number: tuple[int, int]
        size: int
        loops: tuple[dict[Key, File | None], dict[Key, int]]
        intent: intent.IntentFields | None
        superblock: bytes
        tree: tuple[list[str], dict[str, str], dict[str, int], bool] | None


_PATIENCE = 0.3
"""Seconds to wait for the disk's lock: udev holds it for moments when a disk appears."""


def answer(request: Request) -> Answer:
    """Find, lock, claim and examine a volume's disk."""
    loops = Loops(*request["loops"])
    try:
        disk = claim.find(request["identity"], request["size"], loops)
    except Uncertain as doubt:
        return {"state": "uncertain", "text": str(doubt), "loops": (loops.files, loops.silent)}
    if isinstance(disk, Missing):
        return {"state": "absent", "text": disk.hint, "loops": (loops.files, loops.silent)}
    said: Answer = {"device": disk.node, "number": disk.number, "size": disk.size}
    said |= {"loops": (loops.files, loops.silent)}
    said.update(_probe(disk, request))
    return said


def _probe(disk: BlockDisk, request: Request) -> Answer:
    try:
        if claim.mounted(disk, mountinfo.read()):
            return {"state": "mounted"}
        claim.refuse_used(disk)
        locked = claim.lock(disk, _PATIENCE)
        try:
            with claim.claim(disk) as raw:
                return _describe(examine(raw, disk.node, request["volume_id"], request["size"]), disk)
        finally:
            os.close(locked)
    except claim.Busy as busy:
        return {"state": "busy", "text": str(busy)}
    except claim.InUse as evidence:
        return {"state": "not-blank", "text": str(evidence)}
    except Uncertain as doubt:
        return {"state": "uncertain", "text": str(doubt)}
    except (ToolMissing, OSError) as error:
        return {"state": "failed", "text": str(error)}


def _describe(finding: Finding, disk: BlockDisk) -> Answer:
    if finding.superblock is None:
        return {"state": finding.kind, "text": finding.evidence, "intent": finding.intent}
    said: Answer = {"state": "ext4", "superblock": finding.superblock.raw, "tree": None}
    try:
        seen = collect(DebugfsSource(disk.node))
        said["tree"] = (sorted(seen.entries), seen.texts, seen.mtimes, seen.overflow)
    except LookFailed as error:
        said["text"] = str(error)
    return said


def main() -> None:
    """Answer the one request on standard input."""
    with open(0, "rb", closefd=False) as stream:
        request: Request = marshal.loads(stream.read())
    with open(1, "wb", closefd=False) as out:
        out.write(marshal.dumps(dict(answer(request))))
