"""A growth that is whole whenever it is cut off: what is written goes to a log on the disk first (host.disk.redo)."""

from __future__ import annotations

from protokube.host.disk import disklock, ext4, redo
from protokube.host.disk.grown import GrowError, Grown, unfit
from protokube.host.disk.proof import behind

TYPE_CHECKING = False
if TYPE_CHECKING:
    from protokube.host.disk.sysblock import BlockDisk


def by_log(disk: BlockDisk, volume_id: str) -> bool:
    """Grow the filesystem to the disk's size, with what lies behind it proven blank; False when that can't be done by
    a log, and nothing was done."""
    with disklock.open_exclusively(disk, write=True) as raw:
        superblock = ext4.parse(raw.read(ext4.OFFSET, ext4.LENGTH))
        if superblock is None or unfit(superblock, raw.size):
            return False
        with Grown(raw) as larger:
            try:
                begun = redo.begin(raw, superblock, volume_id, larger.changes())
            except redo.NoRoomError:
                return False
        if (pages := begun.load(raw)) is None:
            raise GrowError(f"{disk.node} shows something else than what was written to it at byte {begun.offset}")
        redo.carry_out(raw, begun, pages)
    return True


def finish(disk: BlockDisk, superblock: ext4.Superblock, volume_id: str, *, full: bool) -> None:
    """Carry out a growth whose log is whole, and remove a log that isn't; nothing where no growth was begun.

    GrowError when something else has come behind the filesystem since.
    """
    with disklock.open_exclusively(disk, write=True) as raw:
        begun = redo.find(raw, superblock, volume_id)
        if begun is None:
            return
        pages = begun.load(raw)

        def strange(offset: int, data: bytes) -> bytes:
            return begun.strange(offset, data, pages or {})

        remnant = behind(raw, superblock, volume_id, full=full, but_for=strange)
        if remnant is not None:
            raise GrowError(f"a growth was cut off, and the disk has changed since: {remnant}")
        if pages is None:
            redo.remove(raw, begun)
        else:
            redo.carry_out(raw, begun, pages)
