"""The restores of one etcd cluster in the store: the wish, and which members have stopped."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from msgspec import MsgspecError
from msgspec.json import decode, encode
from msgspec.structs import replace

from protokube.core.backup.restore import (
    RestoreWish,
    Stage,
    last_number,
    moved,
    next_number,
    restores,
    stopped_object,
    wish_object,
    with_restored,
)
from protokube.errors import ProviderError, StoreConflictError, StoreError
from protokube.ports import BulkStore

_TRIES = 20
"""How often a wish is changed again, where other nodes have changed it meanwhile: each does so a few times."""


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
        return wish if wish is not None and wish.under_way else None

    def make(self, drafted: RestoreWish) -> RestoreWish:
        """Make a wish with the next number. Raises ProviderError when another one is under way, or is made right
        now."""
        if (other := self.under_way()) is not None:
            raise ProviderError(f"restore {other.number}, of backup {other.backup.name}, is under way; end it first")
        number = next_number(tuple(self._store.list(restores(self._cluster, self._etcd))))
        wish = replace(drafted, number=number, stage=Stage.OPEN, restored=())
        if not self._store.put_if_absent(wish_object(self._cluster, self._etcd, wish.number), encode(wish)):
            raise ProviderError("another node has begun a restore right now; look at it, and run the command again")
        return wish

    def move(self, wish: RestoreWish, stage: Stage) -> RestoreWish:
        """Let a wish go on to a stage, and return it as it stands then: another node may have moved it elsewhere."""
        return self._change(wish.number, lambda found: moved(found, stage))

    def tell_restored(self, wish: RestoreWish, member: str) -> RestoreWish:
        """Tell that a member has the backup's data, and return the wish as it stands then. It may run only if that
        says so: the restore may have been abandoned."""
        return self._change(wish.number, partial(with_restored, me=member))

    def stopped(self, wish: RestoreWish) -> set[str]:
        """The members that have stopped."""
        objects = set(self._store.list(f"{restores(self._cluster, self._etcd)}{wish.number:06}/"))
        return {me for me in wish.members if stopped_object(self._cluster, self._etcd, wish.number, me) in objects}

    def tell_stopped(self, wish: RestoreWish, member: str) -> None:
        """Tell that a member has stopped."""
        self._store.put_if_absent(stopped_object(self._cluster, self._etcd, wish.number, member), b"")

    def _change(self, number: int, change: Callable[[RestoreWish], RestoreWish]) -> RestoreWish:
        for _ in range(_TRIES):
            found, version = self._read(number)
            wanted = change(found)
            if wanted == found:
                return found
            name = wish_object(self._cluster, self._etcd, number)
            if self._store.compare_and_swap(name, encode(wanted), version):
                return wanted
        raise StoreConflictError(
            f"restore {number}: other nodes change it all the time ({_TRIES} tries); run it again"
        )

    def _read(self, number: int) -> tuple[RestoreWish, str]:
        name = wish_object(self._cluster, self._etcd, number)
        found = self._store.get(name)
        if found is None:
            raise StoreError(f"{name}: the store has no such object; bring it back, or name the right --store")
        try:
            return decode(found.content, type=RestoreWish), found.version
        except MsgspecError as error:
            raise StoreError(f"{name}: not a wish to restore: {error}") from error
