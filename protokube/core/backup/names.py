"""The names of backups: `<UTC time>-<revision>`, as `20261128T044500Z-1234`. They sort by time."""

from __future__ import annotations

import re
from collections.abc import Iterable

from msgspec import Struct

_NAME = r"(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z-(\d+)"
_DAY = 86400

FUTURE = 300.0
"""Seconds by which a backup may be from the future: clocks differ. One that is later was taken by a wrong clock."""


class BackupName(Struct, frozen=True, order=True):
    """When a backup was taken (whole seconds since the epoch), and the last revision in it."""

    at: int
    revision: int

    def __str__(self) -> str:
        days, seconds = divmod(self.at, _DAY)
        year, month, day = _date(days)
        clock = f"{seconds // 3600:02}{seconds // 60 % 60:02}{seconds % 60:02}"
        return f"{year:04}{month:02}{day:02}T{clock}Z-{self.revision}"


def parse_name(text: str) -> BackupName | None:
    """The name in a text; None when it is none."""
    found = re.fullmatch(_NAME, text)
    if found is None:
        return None
    year, month, day, hour, minute, second, revision = map(int, found.groups())
    name = BackupName(_days(year, month, day) * _DAY + hour * 3600 + minute * 60 + second, revision)
    return name if str(name) == text else None


class Listing(Struct, frozen=True):
    """The backups of an etcd cluster in the store. `complete` have their metadata; `incomplete` don't, or have
    nothing else. Both are in order of time."""

    complete: tuple[BackupName, ...] = ()
    incomplete: tuple[BackupName, ...] = ()


def is_future(name: BackupName, now: float) -> bool:
    """Whether a wrong clock has named a backup; `now` in seconds since the epoch."""
    return name.at - now > FUTURE


def by_trust(names: Iterable[BackupName], now: float) -> tuple[BackupName, ...]:
    """Names in order of time, the newest last, but those from the future first: none of them counts as the newest
    where there is any other."""
    return tuple(sorted(names, key=lambda name: (not is_future(name, now), name)))


def prefix(cluster: str, etcd: str) -> str:
    """What the names of a cluster's objects for one etcd cluster's backups begin with."""
    return f"{cluster}/backups/{etcd}/"


def data_object(cluster: str, etcd: str, name: BackupName) -> str:
    """The store's object with a backup's snapshot."""
    return f"{prefix(cluster, etcd)}{name}.db"


def metadata_object(cluster: str, etcd: str, name: BackupName) -> str:
    """The store's object with a backup's metadata, which is written last and deleted first."""
    return f"{prefix(cluster, etcd)}{name}.json"


def older_object(cluster: str, etcd: str) -> str:
    """The store's object that names the backups of an older cluster of the same name."""
    return f"{prefix(cluster, etcd)}older.json"


def read_listing(objects: Iterable[str]) -> Listing:
    """Sort the names of objects below a prefix. What isn't a backup's is passed over."""
    endings: dict[BackupName, set[str]] = {}
    for one in objects:
        stem, _, ending = one.rpartition("/")[2].rpartition(".")
        if (name := parse_name(stem)) is not None and ending in ("db", "json"):
            endings.setdefault(name, set()).add(ending)
    return Listing(
        tuple(sorted(name for name, found in endings.items() if len(found) == 2)),
        tuple(sorted(name for name, found in endings.items() if len(found) == 1)),
    )


def _days(year: int, month: int, day: int) -> int:
    """Days since 1970-01-01 (Howard Hinnant, "chrono-compatible low-level date algorithms")."""
    year -= month <= 2
    era, of_era = divmod(year, 400)
    of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    return era * 146097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719468


def _date(days: int) -> tuple[int, int, int]:
    """The year, month and day of a number of days since 1970-01-01."""
    era, of_era = divmod(days + 719468, 146097)
    year = (of_era - of_era // 1460 + of_era // 36524 - of_era // 146096) // 365
    of_year = of_era - (365 * year + year // 4 - year // 100)
    shifted = (5 * of_year + 2) // 153
    month = shifted + (3 if shifted < 10 else -9)
    return year + era * 400 + (month <= 2), month, of_year - (153 * shifted + 2) // 5 + 1
