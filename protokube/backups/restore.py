"""One member's part in a restore. It may be cut off anywhere, and done again: it ends in the same place."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from msgspec.structs import replace

from protokube.backups.catalogue import Catalogue
from protokube.backups.exchange import exchange, take_back
from protokube.backups.member import Member, drop_mark, left_by, mark_again, plain, read_mark, write
from protokube.backups.proof import DATABASE
from protokube.backups.wishes import Wishes
from protokube.core.backup.restore import RestoreWish, Stage
from protokube.core.disks.identity import Identity, parse_identity
from protokube.core.disks.paths import IDENTITY_PATH
from protokube.core.model import Rejected
from protokube.errors import ProviderError, explain

_MOST = 1 << 16
"""Bytes of an identity file, at most."""


def advance(member: Member, wishes: Wishes, catalogue: Catalogue, tools: str | None) -> str:
    """Do all of the member's part that can be done now. What it waits for; empty when its part is over.

    Raises ProviderError when something fails, and it can be done again; or when the restore was abandoned and has
    left the member behind.
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
        wishes.tell_stopped(wish, member.me)
        if missing := sorted(set(wish.members) - wishes.stopped(wish)):
            return f"{', '.join(missing)} to stop: run `protokube etcd restore` there"
        wish = wishes.move(wish, Stage.GOING)
    if wish.stage is Stage.GOING and member.me not in wish.restored:
        if waiting := _stop(member):
            return waiting
        with explain(f"restore {member.data}"):
            plain(member)
            exchange(member, wish, catalogue, tools)
        wish = wishes.tell_restored(wish, member.me)
    if wish.left_behind(member.me):
        raise ProviderError(left_behind(member.me, wish))
    with explain(f"restore {member.data}"):
        plain(member)
        if member.me in wish.restored:
            _identify(member, wish)
        else:
            take_back(member, number)
            if (earlier := left_by(member)) is not None:
                mark_again(member, earlier)
                raise ProviderError(left_behind(member.me, wishes.read(earlier)))
    drop_mark(member)
    return ""


def left_behind(me: str, wish: RestoreWish) -> str:
    """Why a member stays stopped, and what helps."""
    return (
        f"restore {wish.number} was abandoned after {', '.join(wish.restored)} had been restored, and member {me} "
        "hadn't: its data are of the cluster before, so it stays stopped. Replace it, on a node whose member runs: "
        f"protokube etcd replace --member {me}. If none runs, begin another restore here: name its --backup"
    )


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


def read_identity(member: Member) -> Identity:
    """The identity of the member's volume. Raises ProviderError when it has none yet."""
    path = member.volume / IDENTITY_PATH
    with explain(f"read {path}"):
        try:
            with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW), encoding="utf-8") as file:
                found = parse_identity(file.read(_MOST))
        except FileNotFoundError as error:
            raise ProviderError(f"{path} is missing: let the daemon run until it has prepared the volume") from error
    if isinstance(found, Rejected):
        raise ProviderError(found.evidence)
    return found


def _identify(member: Member, wish: RestoreWish) -> None:
    """Let the volume say what runs on it from now on: a blank one's identity tells nothing of that.

    What members have told about their authorities is as old as the backup. An empty text is told by nobody, so that
    each member tells it again (core/etcd/restarts.py).
    """
    found = read_identity(member)
    secure = wish.urls[member.me].startswith("https:")
    wanted = replace(
        found, started=True, etcd_version=found.etcd_version or wish.etcd_version, tls=found.tls or secure, told=""
    )
    if wanted != found:
        write(member.volume / IDENTITY_PATH, wanted.render().encode(), 0o644)
