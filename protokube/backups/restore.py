"""One member's part in a restore. It may be cut off anywhere, and done again: it ends in the same place.

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
import shutil
from pathlib import Path

from msgspec import MsgspecError, Struct
from msgspec.json import decode, encode

from protokube.backups.catalogue import Catalogue
from protokube.backups.database import DatabaseError, read_contents
from protokube.backups.proof import DATABASE, count
from protokube.backups.tools import Place, Tool, find_tools, restore
from protokube.backups.wishes import RESTORED, STOPPED, Wishes
from protokube.core.backup.restore import MARK, RestoreWish, Stage
from protokube.core.backup.tools import BUMP, why_not
from protokube.core.model import MIB
from protokube.core.static_pod import Version, image_version
from protokube.errors import ProviderError, explain

_SPARE = 192 * MIB
"""Free space that is needed beside the snapshot and its database: etcd's log takes 64 MB, twice when it grows."""


class Mark(Struct, frozen=True):
    """The mark on a volume: the restore's number."""

    restore: int


class Member(Struct, frozen=True):
    """A member whose volume is mounted here. `volume` is the mount point, a path of this machine, and `data_dir` is
    relative to it. `link` is its manifest in kubelet's folder."""

    me: str
    volume: Path
    data_dir: str
    link: Path

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
        return self.volume / MARK


def choose_tool(first: str | None, etcd_version: str) -> Tool:
    """A tool that restores rightly for an etcd of this version. Raises ProviderError, with every tool's fault."""
    version = image_version(f"etcd:{etcd_version}")
    if version is None:
        raise ProviderError(f"etcd's version {etcd_version!r} can't be understood; which tool fits isn't known")
    faults = []
    for tool in find_tools(first):
        problem = why_not(tool.path.name, tool.version, version)
        if problem is None:
            return tool
        faults.append(problem)
    minor: Version = version
    told = "; ".join(faults) or "neither etcdutl nor etcdctl is installed"
    raise ProviderError(
        f"nothing here can restore: {told}. Install etcdutl of etcd {minor[0]}.{minor[1]}, and name its directory "
        "under etcd.backup.tools"
    )


def read_mark(member: Member) -> int | None:
    """The number of the restore that the member takes part in; None for none."""
    with explain(f"read {member.mark}"):
        try:
            return decode(member.mark.read_bytes(), type=Mark).restore
        except FileNotFoundError:
            return None
        except MsgspecError as error:
            raise ProviderError(f"{member.mark}: not a restore's mark: {error}") from error


def put_mark(member: Member, number: int) -> None:
    """Let the member take part in a restore: from now on it doesn't run.

    Raises ProviderError when it takes part in another one, or when a restore of this number was here before: the mark
    stands before, and is the only proof that the directories of that number are of this wish.
    """
    if (found := read_mark(member)) not in (None, number):
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
        _plain(member)
        beside = member.mark.with_name(".restore.json.new")
        beside.unlink(missing_ok=True)
        with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(encode(Mark(number)))
            file.flush()
            os.fsync(file.fileno())
        beside.rename(member.mark)
        _synchronise(member.mark.parent)


def advance(member: Member, wishes: Wishes, catalogue: Catalogue, tools: str | None) -> str:
    """Do all of the member's part that can be done now. What it waits for; empty when its part is over.

    Raises ProviderError when something fails: the old data are there then, and it can be done again.
    """
    number = read_mark(member)
    if number is None:
        return ""
    wish = wishes.read(number)
    if member.me not in wish.members:
        raise ProviderError(f"restore {number} has no member {member.me} (it has {', '.join(wish.members)})")
    if wish.stage is Stage.OPEN:
        if waiting := _stop(member):
            return waiting
        wishes.tell(wish, member.me, STOPPED)
        if missing := sorted(set(wish.members) - wishes.having(wish, STOPPED)):
            return f"{', '.join(missing)} to stop: run `protokube etcd restore` there"
        wish = wishes.move(wish, Stage.GOING)
    if wish.stage is Stage.GOING:
        if waiting := _stop(member):
            return waiting
        with explain(f"restore {member.data}"):
            _plain(member)
            _exchange(member, wish, catalogue, tools)
        wishes.tell(wish, member.me, RESTORED)
    with explain(f"remove {member.mark}"):
        member.mark.unlink(missing_ok=True)
        _synchronise(member.mark.parent)
    return ""


def _stop(member: Member) -> str:
    """What keeps the member from having stopped; empty when it has."""
    if member.link.is_symlink():
        return f"protokube to take {member.link.name} out of kubelet's folder; the daemon must run"
    return "etcd to end" if is_running(member.data) else ""


def is_running(data: Path) -> bool:
    """Whether an etcd has the database of a data directory open: bbolt locks it (go.etcd.io/bbolt, bolt_unix.go)."""
    with explain(f"look at {data}"):
        try:
            held = os.open(data / DATABASE, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except (FileNotFoundError, NotADirectoryError):
            return False
        try:
            fcntl.flock(held, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(held)
        return False


def _exchange(member: Member, wish: RestoreWish, catalogue: Catalogue, tools: str | None) -> None:
    data, ready = member.data, member.beside(f"restored-{wish.number}")
    old = member.beside(f"before-{wish.number}")
    if old.exists() and data.exists():
        return
    if not ready.exists():
        if old.exists():
            raise ProviderError(f"{data} and {ready} are gone (expected one of them), and {old} is there")
        _make(member, wish, catalogue, tools, ready)
    if not old.exists():
        if data.exists():
            data.rename(old)
        else:
            old.mkdir(0o700)
        _synchronise(data.parent)
    ready.rename(data)
    _synchronise(data.parent)


def _make(member: Member, wish: RestoreWish, catalogue: Catalogue, tools: str | None, ready: Path) -> None:
    """Make the new data directory, whole and on disk."""
    part, snapshot = member.beside("part"), member.beside("snapshot")
    shutil.rmtree(part, ignore_errors=True)
    for left in (snapshot, snapshot.with_name(f"{snapshot.name}.sealed")):
        left.unlink(missing_ok=True)
    backup = wish.backup
    tool = choose_tool(tools, wish.etcd_version)
    data = member.data
    data.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    _check_space(data.parent, backup.size)
    try:
        catalogue.fetch(backup.name, snapshot, backup.sha256)
        expected = count(snapshot)
        me = member.me
        place = Place(part, wish.members[me], wish.urls[me], wish.initial_cluster, wish.token)
        restore(tool, snapshot, place, bump=True)
    finally:
        snapshot.unlink(missing_ok=True)
    try:
        found = read_contents(part / DATABASE)
    except DatabaseError as error:
        raise ProviderError(f"what {tool.name} restored is damaged: {error}") from error
    # The tool counts on from the last entry, and an etcd without any is at revision 1 nevertheless.
    least = expected.revision + BUMP - 1
    if found.keys != expected.keys or found.revision < least or found.compacted != found.revision:
        raise ProviderError(
            f"what {tool.name} restored has {found.keys} keys at revision {found.revision}, compacted up to "
            f"{found.compacted} (expected {expected.keys} keys, revision {least} or higher, and all compacted)"
        )
    part.chmod(0o700)
    _synchronise_tree(part)
    part.rename(ready)
    _synchronise(ready.parent)


def _check_space(directory: Path, size: int) -> None:
    free, needed = shutil.disk_usage(directory).free, 3 * size + _SPARE
    if free < needed:
        raise ProviderError(f"{directory} has {free // MIB} MiB free (expected {needed // MIB}); free space there")


def _plain(member: Member) -> None:
    """Refuse links on the way: what stands on a volume must not lead root elsewhere."""
    for path in (member.mark, member.data):
        for above in (path, *path.parents):
            if above == member.volume:
                break
            if above.is_symlink():
                raise ProviderError(f"{above} is a symbolic link, which is not followed here: remove it")


def _synchronise(directory: Path) -> None:
    opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _synchronise_tree(top: Path) -> None:
    for directory, _, files in os.walk(top):
        for name in files:
            opened = os.open(Path(directory, name), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                os.fsync(opened)
            finally:
                os.close(opened)
        _synchronise(Path(directory))
