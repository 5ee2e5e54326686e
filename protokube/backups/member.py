"""A member that takes part in a restore: its volume, the mark on that, and the lock of whoever works there.

| on the volume, `d` being the data directory | what it means |
| --- | --- |
| `k8s.io/restore.json` | the member takes part, and doesn't run: protokube takes its manifest's link away |
| `d.part` | half made: removed, and made again |
| `d.restored-N` | made, whole and on disk, by restore N |
| `d.before-N` and `d` | the exchange is over: `d` is new, and the old data are kept beside |
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from msgspec import MsgspecError, Struct
from msgspec.json import decode, encode
from msgspec.structs import replace

from protokube.core.backup.model import RESTORE_MARK
from protokube.errors import ProviderError, explain


class Mark(Struct, frozen=True):
    """The mark on a volume: the restore's number. `instead_of`: an earlier one, which has left the member behind."""

    restore: int
    instead_of: int | None = None


class Member(Struct, frozen=True):
    """A member whose volume is mounted here. `volume` is the mount point, a path of this machine, and `data_dir` is
    relative to it. `link` is its manifest in kubelet's folder. `lock`: the open file that locks others out."""

    me: str
    volume: Path
    data_dir: str
    link: Path
    lock: int | None = None

    @property
    def data(self) -> Path:
        """The data directory."""
        return self.volume / self.data_dir

    def beside(self, ending: str) -> Path:
        """A directory beside the data directory."""
        return self.data.with_name(f"{self.data.name}.{ending}")

    @property
    def mark(self) -> Path:
        """The mark's file."""
        return self.volume / RESTORE_MARK


@contextmanager
def alone(member: Member) -> Iterator[Member]:
    """Work on a member's volume alone. The tool that makes its data holds the lock on, should this process be killed.

    Raises ProviderError when another process works there.
    """
    folder = member.mark.parent
    with explain(f"lock {folder}"):
        plain(member)
        held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ProviderError(
                f"member {member.me}: another process restores it now (one command, or what a killed one has left); "
                "wait for its end"
            ) from error
        yield replace(member, lock=held)
    finally:
        os.close(held)


def read_mark(member: Member) -> int | None:
    """The number of the restore that the member takes part in; None for none."""
    mark = _read(member)
    return None if mark is None else mark.restore


def left_by(member: Member) -> int | None:
    """The number of the earlier restore that has left the member behind, in whose place the present one stands."""
    mark = _read(member)
    return None if mark is None else mark.instead_of


def _read(member: Member) -> Mark | None:
    with explain(f"read {member.mark}"):
        try:
            return decode(member.mark.read_bytes(), type=Mark)
        except FileNotFoundError:
            return None
        except MsgspecError as error:
            raise ProviderError(f"{member.mark}: not a restore's mark: {error}") from error


def put_mark(member: Member, number: int, instead_of: int | None = None) -> None:
    """Let the member take part in a restore: from now on it doesn't run. `instead_of`: the restore that has left it
    behind.

    Raises ProviderError when it takes part in another one, or when a restore of this number was here before: the mark
    stands before, and is the only proof that the directories of that number are of this wish.
    """
    if (found := read_mark(member)) not in (None, number, instead_of):
        raise ProviderError(f"{member.mark}: restore {found} is under way (expected none, or {number}); end it first")
    if found == number:
        return
    for left in (member.beside(f"before-{number}"), member.beside(f"restored-{number}")):
        if left.exists():
            raise ProviderError(
                f"{left}: an older restore {number} has left it (expected none: the store lost that one); move "
                "it away, and run the command again"
            )
    with explain(f"write {member.mark}"):
        plain(member)
        write(member.mark, encode(Mark(number, instead_of)), 0o600)


def drop_mark(member: Member) -> None:
    """Let the member run again."""
    with explain(f"remove {member.mark}"):
        member.mark.unlink(missing_ok=True)
        synchronise(member.mark.parent)


def mark_again(member: Member, earlier: int) -> None:
    """Let the member be left behind again, as an earlier restore has left it: its data are of the cluster before."""
    with explain(f"write {member.mark}"):
        plain(member)
        write(member.mark, encode(Mark(earlier)), 0o600)


def write(path: Path, content: bytes, mode: int) -> None:
    """Replace a file on the volume: it is the old one or the new one, whatever is cut off."""
    beside = path.with_name(f".{path.name}.new")
    beside.unlink(missing_ok=True)
    with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    beside.rename(path)
    synchronise(path.parent)


def plain(member: Member) -> None:
    """Refuse links on the way: what stands on a volume must not lead root elsewhere."""
    for path in (member.mark, member.data):
        for above in (path, *path.parents):
            if above == member.volume:
                break
            if above.is_symlink():
                raise ProviderError(f"{above} is a symbolic link, which is not followed here: remove it")


def synchronise(directory: Path) -> None:
    """Have a directory's entries on disk."""
    opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def synchronise_tree(top: Path) -> None:
    """Have a directory with all below it on disk."""
    for directory, _, files in os.walk(top):
        for name in files:
            opened = os.open(Path(directory, name), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                os.fsync(opened)
            finally:
                os.close(opened)
        synchronise(Path(directory))
