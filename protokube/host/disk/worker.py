"""The child process that works on one volume's disk: formats, checks, grows or mounts it.

It runs in a session of its own with the signals blocked that end the daemon, so that a tool once started runs to its
end. Each job proves its ground again under the disk's lock, right before it acts; the tool inherits the lock, which
thus lasts as long as the tool does, whatever becomes of this process.
"""

from __future__ import annotations

import marshal
import os

from protokube.host.disk import disklock, ext4, firststart, fsck, growth, intent, mkfs, mountpoint, redo
from protokube.host.disk.grown import GrowError
from protokube.host.disk.jobs import TOOLS, JobState, digest
from protokube.host.disk.loops import Loops
from protokube.host.disk.proof import behind, examine
from protokube.host.disk.reference import MkfsError, Reference
from protokube.host.disk.sysblock import BlockDisk, Missing, UncertainError
from protokube.host.process import ToolMissingError, run_logged, tool
from protokube.kernel import calls, mountinfo

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypedDict

    from protokube.host.disk.rawdisk import RawDisk
    from protokube.host.disk.sysblock import Identity

    class Order(TypedDict, total=False):
        """What to do: `job` is "format", "check", "grow" or "mount"; the rest is the action's ground and matter.
        `state` is the directory of job states, `root`, `target` and `data_dirs` are for mount, `intent` and `label`
        for format; `full` asks that every byte be read before a disk, or what lies behind a filesystem, counts as
        blank."""

        job: str
        volume_id: str
        device: str
        number: tuple[int, int]
        size: int
        identity: Identity
        uuid: str
        state: str
        intent: intent.IntentFields
        label: str
        full: bool
        root: str
        target: str
        data_dirs: frozenset[str]


_PATIENCE = 5.0
"""Seconds to wait for the disk's lock: udev or a probe holds it for moments."""


class RefusedError(Exception):
    """The ground does not hold, or a tool failed; the message is the evidence."""


class OutdatedError(RefusedError):
    """The order's disk is gone or another one by now, so nothing was tried on it and nothing is held against it."""


def work(order: Order) -> bytes | None:
    """Take hold of the disk and do the job. RefusedError when the ground does not hold.

    After a format the superblock that was made, as it was read back from the disk under its lock; after a mount the
    data directories in which a first start of etcd was taken back, one a line.
    """
    state = JobState(order["state"], order["volume_id"])
    disk = _find(order)
    if disklock.mounted(disk, mountinfo.read()):
        raise RefusedError(f"{disk.node} is mounted")
    if disk.read_only:
        raise RefusedError(write_protected(disk))
    disklock.refuse_used(disk)
    locked = disklock.lock(disk, _PATIENCE)
    try:
        # While we waited, the node may have come to mean another disk; as long as we have it open it can't any more.
        if _find(order).sequence != disk.sequence:
            raise OutdatedError(f"{disk.node} has become another disk")
        job = {"format": _format, "check": _check, "grow": _grow, "mount": _mount}[order["job"]]
        return job(order, disk, locked, state)
    finally:
        os.close(locked)


def write_protected(disk: BlockDisk) -> str:
    """The message about a write-protected disk."""
    return (
        f"{disk.node} is write-protected (/sys/block/{disk.name}/ro): lift the protection, or attach another volume"
    )


def _find(order: Order) -> BlockDisk:
    disk = disklock.find(order["identity"], order["size"], Loops({}, {}))
    if isinstance(disk, Missing):
        raise OutdatedError(f"the disk is gone: {disk.hint}")
    if (disk.number, disk.size) != (order["number"], order["size"]):
        expected = f"{order['number']} with {order['size']}"
        raise OutdatedError(f"{disk.node} is {disk.number} with {disk.size} bytes, expected {expected}")
    return disk


def _format(order: Order, disk: BlockDisk, _: int, state: JobState) -> bytes:
    wanted: intent.IntentFields = {**order["intent"], "label": order["label"]}
    if (wanted["volume_id"], wanted["size"]) != (order["volume_id"], disk.size):
        raise RefusedError(f"the intent {wanted} is not for {order['volume_id']} with {disk.size} bytes")
    state.begin("mkfs.ext4", disk)
    uuid = str(wanted["uuid"])
    with disklock.open_exclusively(disk, write=True) as raw:
        finding = examine(raw, order["volume_id"], order["size"], full=order["full"])
        if finding.kind != "blank":
            raise RefusedError(finding.evidence or f"it holds the ext4 filesystem {_found(finding.superblock)}")
        if finding.intent not in (None, wanted):
            raise RefusedError(f"another format was interrupted here: {finding.intent}")
        with Reference(raw.size, uuid, order["label"], calls.sector_size(raw.fd)) as reference:
            mkfs.write(raw, reference, intent.encode(wanted))
        made = _superblock(raw)
    if made is None or made.uuid != uuid or made.used:
        raise RefusedError(f"mkfs.ext4 ended well, but the disk holds {_found(made)}, expected {uuid}")
    return made.raw


def _check(order: Order, disk: BlockDisk, locked: int, state: JobState) -> None:
    state.begin("e2fsck", disk)
    growth.finish(disk, _must_be(order, disk), order["volume_id"], full=order["full"])
    _run_e2fsck(disk, locked, state, whole=False)


def _grow(order: Order, disk: BlockDisk, locked: int, state: JobState) -> None:
    state.begin("resize2fs", disk)
    found = _must_be(order, disk)
    with disklock.open_exclusively(disk) as raw:
        remnant = behind(raw, found, order["volume_id"], full=order["full"])
    if remnant is not None:
        raise RefusedError(f"the disk is not blank behind the filesystem's end (byte {found.size}): {remnant}")
    # resize2fs wants a full check that is younger than the last mount; -p alone skips a clean filesystem.
    if not _run_e2fsck(disk, locked, state, whole=True):
        return
    if not growth.by_log(disk, order["volume_id"]):
        code, text = run_logged([tool("resize2fs"), disk.node], state.log, locked)
        os.fsync(locked)
        if code != os.EX_OK:
            raise RefusedError(_failed("resize2fs", code, text))
    _remember(disk, state, None)


def _mount(order: Order, disk: BlockDisk, _: int, state: JobState) -> bytes | None:
    # The look that planned this asked blkid and wipefs too; what the mount leans on is read again from the disk.
    with disklock.open_exclusively(disk) as raw:
        superblock, record = _superblock(raw), raw.read(intent.offset(disk.size), intent.LENGTH)
        growing = superblock is not None and redo.find(raw, superblock, order["volume_id"]) is not None
    if superblock is None or superblock.uuid != order["uuid"]:
        raise RefusedError(f"{disk.node} holds the filesystem {_found(superblock)}, expected {order['uuid']}")
    try:
        unfinished = intent.decode(record) is not None
    except intent.IntentError:
        unfinished = not superblock.used  # else it is a file's data, as far as anybody can tell
    if unfinished:
        raise RefusedError(f"{disk.node} is blank, or its format is unfinished")
    if growing:
        raise RefusedError(f"the growth of {disk.node} is unfinished")
    checked = state.load().get("checked")
    passed = checked is not None and checked["superblock"] == digest(superblock.raw) and checked["error"] is None
    fresh = not superblock.used and superblock.clean
    if not passed and not fresh:
        raise RefusedError(f"the filesystem {superblock.uuid} was mounted or changed since e2fsck last passed it")
    mountpoint.mount(disk.node, disk.number, order["root"], order["target"])
    volume = order["root"].rstrip("/") + order["target"]
    taken_back = [one for one in sorted(order["data_dirs"]) if firststart.take_back(volume, one)]
    return "\n".join(taken_back).encode() or None


def _must_be(order: Order, disk: BlockDisk) -> ext4.Superblock:
    """The superblock of the disk, which must hold exactly the filesystem of the order."""
    with disklock.open_exclusively(disk) as raw:
        finding = examine(raw, order["volume_id"], order["size"])
    if finding.superblock is None:
        raise RefusedError(finding.evidence or f"{disk.node} is blank, or its format is unfinished")
    if finding.superblock.uuid != order["uuid"]:
        raise RefusedError(f"{disk.node} holds the filesystem {finding.superblock.uuid}, expected {order['uuid']}")
    return finding.superblock


def _run_e2fsck(disk: BlockDisk, locked: int, state: JobState, *, whole: bool) -> bool:
    """Run e2fsck and remember its verdict; whether it passed. RefusedError when it came to none."""
    code, text = fsck.check(disk.node, state.log, locked, whole=whole)
    os.fsync(locked)
    if code < 0 or code & fsck.NO_VERDICT:
        raise RefusedError(_failed("e2fsck", code, text))
    error = _failed("e2fsck", code, text) if code & fsck.UNCORRECTED else None
    _remember(disk, state, error)
    return error is None


def _remember(disk: BlockDisk, state: JobState, error: str | None) -> None:
    with disklock.open_exclusively(disk) as raw:
        superblock = _superblock(raw)
    if superblock is None:
        raise RefusedError(f"{disk.node} holds no ext4 filesystem any more: {error}")
    state.update({"checked": {"superblock": digest(superblock.raw), "error": error}})


def _superblock(raw: RawDisk) -> ext4.Superblock | None:
    return ext4.parse(raw.read(ext4.OFFSET, ext4.LENGTH))


def _found(superblock: ext4.Superblock | None) -> str:
    return superblock.uuid if superblock else "nothing"


def _failed(name: str, code: int, text: str) -> str:
    how = f"was killed by signal {-code}" if code < 0 else f"exited with {code}"
    return f"{name} {how}: {text}" if text else f"{name} {how}"


def main() -> None:
    """Do the one job ordered on standard input. To standard output goes, marshalled, an error text or None, and what
    `work` returns."""
    with open(0, "rb", closefd=False) as stream:
        order: Order = marshal.loads(stream.read())
    failure, made = None, None
    noted = order["job"] != "mount"
    try:
        made = work(order)
    except OutdatedError as error:
        failure, noted = str(error), False
    except (
        RefusedError,
        disklock.BusyError,
        disklock.InUseError,
        UncertainError,
        ToolMissingError,
        MkfsError,
        GrowError,
        OSError,
    ) as error:
        failure = str(error)
    if noted:
        JobState(order["state"], order["volume_id"]).end(failure, TOOLS[order["job"]])
    try:  # noqa: SIM105 - contextlib would be one more import
        os.write(1, marshal.dumps((failure, made)))
    except BrokenPipeError:
        pass  # whoever ordered this has ended; the next one reads the job state
