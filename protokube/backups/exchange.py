"""A member's data are exchanged for a backup's, or taken back. Either may be cut off anywhere, and done again."""

from __future__ import annotations

import shutil
from pathlib import Path

from protokube.backups.catalogue import Catalogue
from protokube.backups.database import DatabaseError, read_contents
from protokube.backups.member import Member, synchronise, synchronise_tree
from protokube.backups.proof import DATABASE, count
from protokube.backups.tools import Place, choose_tool, restore
from protokube.core.backup.restore import RestoreWish
from protokube.core.backup.tools import BUMP
from protokube.core.model import MIB
from protokube.errors import ProviderError

_SPARE = 192 * MIB
"""Free space that is needed beside the snapshot and its database: etcd's log takes 64 MB, twice when it grows."""


def exchange(member: Member, wish: RestoreWish, catalogue: Catalogue, tools: str | None) -> None:
    """Put the backup's data in the place of the member's, which are kept beside."""
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
        synchronise(data.parent)
    ready.rename(data)
    synchronise(data.parent)


def take_back(member: Member, number: int) -> None:
    """Put the member's own data back, and remove a backup's, which never ran."""
    data, ready = member.data, member.beside(f"restored-{number}")
    old = member.beside(f"before-{number}")
    if old.exists():
        if data.exists():
            if ready.exists():
                raise ProviderError(
                    f"{data}, {old} and {ready} are all there (expected one of them less); look at them"
                )
            data.rename(ready)
            synchronise(data.parent)
        old.rename(data)
        synchronise(data.parent)
    for left in (ready, member.beside("part")):
        if left.exists():
            shutil.rmtree(left)


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
        place = Place(part, wish.members[me], wish.urls[me], wish.initial_cluster, wish.token, member.lock)
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
    synchronise_tree(part)
    part.rename(ready)
    synchronise(ready.parent)


def _check_space(directory: Path, size: int) -> None:
    free, needed = shutil.disk_usage(directory).free, 3 * size + _SPARE
    if free < needed:
        raise ProviderError(f"{directory} has {free // MIB} MiB free (expected {needed // MIB}); free space there")
