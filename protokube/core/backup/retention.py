"""Which backups are kept: the newest ones, and the newest of each of the last days that have one.

Invariant: the newest complete backup is never deleted, nor is anything newer than it, nor the backup that a restore
brings back.
"""

from __future__ import annotations

from collections.abc import Collection

from protokube.core.backup.model import BackupSettings
from protokube.core.backup.names import BackupName, Listing

_DAY = 86400

INCOMPLETE_FOR = 86400.0
"""Seconds for which a backup without metadata may be one that is still being taken."""

MOST = 20
"""Backups that one reconcile deletes at most."""


def expired(
    listing: Listing, settings: BackupSettings, now: float, needed: Collection[BackupName] = ()
) -> tuple[BackupName, ...]:
    """The backups to delete now, the oldest first; never one that is `needed`."""
    complete = listing.complete
    if not complete:
        return ()
    kept = {*complete[-max(settings.keep, 1) :], *needed}
    days: dict[int, BackupName] = {name.at // _DAY: name for name in complete}
    kept |= {days[day] for day in sorted(days)[len(days) - min(settings.keep_daily, len(days)) :]}
    gone = [name for name in complete if name not in kept]
    newest = complete[-1]
    gone += [name for name in listing.incomplete if name < newest and now - name.at > INCOMPLETE_FOR]
    return tuple(sorted(gone)[:MOST])
