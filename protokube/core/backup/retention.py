"""Which backups are kept: the newest ones, and the newest of each of the last days that have one.

Three kinds are counted apart, so that none pushes another out: those of an older cluster of the same name, those from
the future (a clock was wrong, and nobody knows whose), and all others.

Invariant: of each kind the newest complete backup is never deleted, nor anything newer than it, nor the backup that a
restore brings back.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from protokube.core.backup.model import BackupSettings
from protokube.core.backup.names import BackupName, Listing, by_trust, is_future

_DAY = 86400

INCOMPLETE_FOR = 86400.0
"""Seconds for which a backup without metadata may be one that is still being taken."""

MOST = 20
"""Backups that one reconcile deletes at most."""


def expired(
    listing: Listing,
    settings: BackupSettings,
    now: float,
    needed: Collection[BackupName] = (),
    older: Collection[BackupName] = (),
) -> tuple[BackupName, ...]:
    """The backups to delete now, the oldest first; never one that is `needed`. `older`: those of an older cluster."""
    complete = listing.complete
    if not complete:
        return ()
    kinds: dict[tuple[bool, bool], list[BackupName]] = {}
    for name in complete:
        kinds.setdefault((name in older, is_future(name, now)), []).append(name)
    kept = set(needed).union(*(_kept(names, settings) for names in kinds.values()))
    newest = by_trust(complete, now)[-1]
    stale = [name for name in listing.incomplete if name < newest and now - name.at > INCOMPLETE_FOR]
    return tuple(sorted(name for name in (*complete, *stale) if name not in kept)[:MOST])


def _kept(names: Sequence[BackupName], settings: BackupSettings) -> set[BackupName]:
    """Those of one kind that are kept; `names` are in order of time."""
    days: dict[int, BackupName] = {name.at // _DAY: name for name in names}
    last = sorted(days)[len(days) - min(settings.keep_daily, len(days)) :]
    return {*names[-max(settings.keep, 1) :], *(days[day] for day in last)}
