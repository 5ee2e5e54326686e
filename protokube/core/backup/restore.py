"""A restore: what all members agree on, and how far it has come.

All members restore the same file, with the same list of members and the same token, so that they find one another
as one new cluster (etcd's op-guide/recovery.md). Nothing of the old data is touched before every member has stopped.

The wish is one object, changed by compare-and-swap alone. So who is restored, and whether the restore goes on, are
never known differently by two nodes:

| stage | `restored` | the members |
| --- | --- | --- |
| `open` | nobody | stop, one after the other |
| `going` | some | exchange their data; one is restored, and may run, once the wish says so |
| `going` | all | form a new cluster: the restore is over |
| `abandoned` | nobody | take their old data back, and run as before |
| `abandoned` | some | those go on; the others stay stopped, since their data are of another cluster |
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from msgspec import Struct
from msgspec.structs import replace

from protokube.core.backup.model import BackupRecord
from protokube.core.backup.names import prefix


class Stage(StrEnum):
    """How far a restore has come. `OPEN`: not every member has stopped, and nothing was replaced."""

    OPEN = "open"
    GOING = "going"
    ABANDONED = "abandoned"


class RestoreWish(Struct, frozen=True):
    """What all members restore. `members` maps each member to its etcd name and `urls` to its peer URL.

    `etcd_version` is what runs on the restored data. `restored` are the members that have it.
    """

    number: int
    backup: BackupRecord
    members: Mapping[str, str]
    urls: Mapping[str, str]
    etcd_version: str
    stage: Stage = Stage.OPEN
    restored: tuple[str, ...] = ()

    @property
    def under_way(self) -> bool:
        """Whether it still has to come to its end."""
        return self.stage is not Stage.ABANDONED and bool(self.missing)

    @property
    def missing(self) -> tuple[str, ...]:
        """The members that aren't restored."""
        return tuple(me for me in self.members if me not in self.restored)

    def left_behind(self, me: str) -> bool:
        """Whether it was given up when others had the backup's data, and a member hadn't."""
        return self.stage is Stage.ABANDONED and bool(self.restored) and me not in self.restored

    @property
    def initial_cluster(self) -> str:
        """The list of members, as etcd takes it."""
        return ",".join(f"{name}={self.urls[me]}" for me, name in self.members.items())

    @property
    def token(self) -> str:
        """The new cluster's token: no member of an older one belongs to it."""
        return f"restored-{self.number}-{self.backup.sha256[:16]}"


def moved(wish: RestoreWish, stage: Stage) -> RestoreWish:
    """The wish at another stage; as it is where it can't come there any more."""
    before = {Stage.GOING: (Stage.OPEN,), Stage.ABANDONED: (Stage.OPEN, Stage.GOING)}.get(stage, ())
    return replace(wish, stage=stage) if wish.stage in before and wish.missing else wish


def with_restored(wish: RestoreWish, me: str) -> RestoreWish:
    """The wish with a member restored; as it is where it isn't going any more."""
    news = wish.stage is Stage.GOING and me not in wish.restored
    return replace(wish, restored=(*wish.restored, me)) if news else wish


def restores(cluster: str, etcd: str) -> str:
    """What the names of the objects of an etcd cluster's restores begin with."""
    return f"{prefix(cluster, etcd)}restore/"


def wish_object(cluster: str, etcd: str, number: int) -> str:
    """The store's object with a restore's wish."""
    return f"{restores(cluster, etcd)}{number:06}/wish.json"


def stopped_object(cluster: str, etcd: str, number: int, member: str) -> str:
    """The store's object that says that a member has stopped."""
    return f"{restores(cluster, etcd)}{number:06}/{member}.stopped"


def next_number(objects: tuple[str, ...]) -> int:
    """The number of the next wish: no object has it, not even one whose wish is gone."""
    return 1 + max((int(one) for name in objects for one in name.split("/")[-2:-1] if one.isdecimal()), default=0)


def last_number(objects: tuple[str, ...]) -> int:
    """The number of the newest wish among the names of objects; 0 when there is none."""
    numbers = [one.split("/")[-2] for one in objects if one.endswith("/wish.json")]
    return max((int(one) for one in numbers if one.isdecimal()), default=0)
