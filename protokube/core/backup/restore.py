"""A restore: what all members agree on, and how far it has come.

All members restore the same file, with the same list of members and the same token, so that they find one another
as one new cluster (etcd's op-guide/recovery.md). Nothing of the old data is touched before every member has stopped:
until then the restore can be abandoned. So the wish goes `open` → `going`, or `open` → `abandoned`, by
compare-and-swap.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from msgspec import Struct

from protokube.core.backup.model import BackupRecord
from protokube.core.backup.names import prefix

MARK = "k8s.io/restore.json"
"""On a volume: its member takes part in a restore, and doesn't run. Relative to the volume's root."""


class Stage(StrEnum):
    """How far a restore has come. `OPEN`: not every member has stopped, and nothing was replaced."""

    OPEN = "open"
    GOING = "going"
    ABANDONED = "abandoned"


class RestoreWish(Struct, frozen=True):
    """What all members restore. `members` maps each member to its etcd name and `urls` to its peer URL.

    `etcd_version` is what runs on the restored data.
    """

    number: int
    backup: BackupRecord
    members: Mapping[str, str]
    urls: Mapping[str, str]
    etcd_version: str
    stage: Stage = Stage.OPEN

    @property
    def initial_cluster(self) -> str:
        """The list of members, as etcd takes it."""
        return ",".join(f"{name}={self.urls[me]}" for me, name in self.members.items())

    @property
    def token(self) -> str:
        """The new cluster's token: no member of an older one belongs to it."""
        return f"restored-{self.number}-{self.backup.sha256[:16]}"


def restores(cluster: str, etcd: str) -> str:
    """What the names of the objects of an etcd cluster's restores begin with."""
    return f"{prefix(cluster, etcd)}restore/"


def wish_object(cluster: str, etcd: str, number: int) -> str:
    """The store's object with a restore's wish."""
    return f"{restores(cluster, etcd)}{number:06}/wish.json"


def member_object(cluster: str, etcd: str, number: int, member: str, done: str) -> str:
    """The store's object that says that a member has `stopped`, or was `restored`."""
    return f"{restores(cluster, etcd)}{number:06}/{member}.{done}"


def next_number(objects: tuple[str, ...]) -> int:
    """The number of the next wish: no object has it, not even one whose wish is gone."""
    return 1 + max((int(one) for name in objects for one in name.split("/")[-2:-1] if one.isdecimal()), default=0)


def last_number(objects: tuple[str, ...]) -> int:
    """The number of the newest wish among the names of objects; 0 when there is none."""
    numbers = [one.split("/")[-2] for one in objects if one.endswith("/wish.json")]
    return max((int(one) for one in numbers if one.isdecimal()), default=0)
