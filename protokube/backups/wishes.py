"""The restores of one etcd cluster in the store: the wish, and what each member has done."""

from __future__ import annotations

from msgspec import MsgspecError
from msgspec.json import decode, encode
from msgspec.structs import replace

from protokube.core.backup.restore import (
    RestoreWish,
    Stage,
    last_number,
    member_object,
    next_number,
    restores,
    wish_object,
)
from protokube.errors import ProviderError, StoreError
from protokube.ports import BulkStore

STOPPED, RESTORED = "stopped", "restored"


class Wishes:
    """The restores of the etcd cluster `etcd` of `cluster`."""

    def __init__(self, store: BulkStore, cluster: str, etcd: str) -> None:
        self._store, self._cluster, self._etcd = store, cluster, etcd

    def newest(self) -> RestoreWish | None:
        """The newest wish; None when there never was one."""
        number = last_number(tuple(self._store.list(restores(self._cluster, self._etcd))))
        return self.read(number) if number else None

    def read(self, number: int) -> RestoreWish:
        """A wish. Raises StoreError when it can't be read."""
        return self._read(number)[0]

    def under_way(self) -> RestoreWish | None:
        """The wish that isn't abandoned, and that not every member has fulfilled."""
        wish = self.newest()
        if wish is None or wish.stage is Stage.ABANDONED or self.having(wish, RESTORED) == set(wish.members):
            return None
        return wish

    def make(self, drafted: RestoreWish) -> RestoreWish:
        """Make a wish with the next number. Raises ProviderError when another one is under way, or is made right
        now."""
        if (other := self.under_way()) is not None:
            raise ProviderError(f"restore {other.number}, of backup {other.backup.name}, is under way; end it first")
        number = next_number(tuple(self._store.list(restores(self._cluster, self._etcd))))
        wish = replace(drafted, number=number, stage=Stage.OPEN)
        if not self._store.put_if_absent(wish_object(self._cluster, self._etcd, wish.number), encode(wish)):
            raise ProviderError("another node has begun a restore right now; look at it, and run the command again")
        return wish

    def move(self, wish: RestoreWish, stage: Stage) -> RestoreWish:
        """Let an open wish go on to a stage, and return it as it stands then: another node may have moved it."""
        found, version = self._read(wish.number)
        if found.stage is not Stage.OPEN:
            return found
        moved = replace(found, stage=stage)
        name = wish_object(self._cluster, self._etcd, wish.number)
        return moved if self._store.compare_and_swap(name, encode(moved), version) else self.read(wish.number)

    def having(self, wish: RestoreWish, done: str) -> set[str]:
        """The members that have `stopped`, or were `restored`."""
        objects = set(self._store.list(f"{restores(self._cluster, self._etcd)}{wish.number:06}/"))
        return {
            me for me in wish.members if member_object(self._cluster, self._etcd, wish.number, me, done) in objects
        }

    def tell(self, wish: RestoreWish, member: str, done: str) -> None:
        """Tell that a member has `stopped`, or was `restored`."""
        self._store.put_if_absent(member_object(self._cluster, self._etcd, wish.number, member, done), b"")

    def _read(self, number: int) -> tuple[RestoreWish, str]:
        name = wish_object(self._cluster, self._etcd, number)
        found = self._store.get(name)
        if found is None:
            raise StoreError(f"{name}: the store has no such object; bring it back, or name the right --store")
        try:
            return decode(found.content, type=RestoreWish), found.version
        except MsgspecError as error:
            raise StoreError(f"{name}: not a wish to restore: {error}") from error
