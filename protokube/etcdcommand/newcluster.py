"""`protokube etcd new`: the backups in the store are of an older cluster, and one of that name may be born."""

from __future__ import annotations

import time
from collections.abc import Callable

from protokube.backups.worker import wake_daemon
from protokube.config.choice import Chosen
from protokube.core.backup.assess import spell_age
from protokube.core.backup.names import is_future
from protokube.etcdcommand.backups import catalogue_of
from protokube.etcdcommand.look import Cluster, ImpossibleError


def allow_new(chosen: Chosen, cluster: Cluster, confirm: Callable[[], None] | None) -> None:
    """Say in the store, once for all nodes, that the backups which are there now are of an older cluster. `confirm`
    asks; None only shows the plan.

    Raises ImpossibleError where our member has data, or where no backup bars it.
    """
    if cluster.own.has_data:
        raise ImpossibleError(
            f"member {cluster.name} of etcd cluster {cluster.key} has data: nothing new can be born"
        )
    catalogue = catalogue_of(chosen, cluster)
    now = time.time()
    listing, kept = catalogue.listing(), catalogue.kept(now)
    if kept.newest is None:
        raise ImpossibleError(f"the store has no backups of etcd cluster {cluster.key}, so none bars it")
    age = f"{spell_age(max(0.0, now - kept.newest.at))} old"
    if is_future(kept.newest, now):
        age = "from the future (a clock was wrong)"
    print(
        f"Etcd cluster {cluster.key} is to be born empty. The store has {kept.count} backups of it, the newest "
        f"{kept.newest}, {age}. All of them are of an older cluster then; no backup of the new one pushes them out.",
        flush=True,
    )
    if confirm is None:
        return
    confirm()
    catalogue.give_up(listing)
    wake_daemon(chosen.settings.root, cluster.key)
    print(f"Etcd cluster {cluster.key} may be born now, on all nodes.")
