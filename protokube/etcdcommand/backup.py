"""The backup that is taken before a dangerous change."""

from __future__ import annotations

from protokube.backups.catalogue import Catalogue
from protokube.backups.take import AtWorkError, Source, take
from protokube.backups.worker import work_folder
from protokube.config.choice import Chosen
from protokube.core.backup.model import BackupRecord
from protokube.etcdcommand.look import Cluster, ImpossibleError, pause

PATIENCE = 120
"""Seconds to wait for the end of a backup that the daemon takes."""


def backup_before(chosen: Chosen, cluster: Cluster, reason: str) -> str:
    """Take a backup of an etcd cluster into the store now, and tell which it is.

    Raises ProviderError when it can't be taken, and ImpossibleError when the daemon's own doesn't end.
    """
    catalogue = Catalogue(chosen.store.open(), cluster.cluster_id, cluster.key)
    source = Source(cluster.client, cluster.own.volume.member.me)
    folder = work_folder(chosen.settings.root, cluster.key)
    for _ in range(PATIENCE):
        try:
            return _told(take(source, catalogue, folder, reason, chosen.config.backup.tools))
        except AtWorkError:
            pause(1.0)
    raise ImpossibleError(f"{folder}: another backup doesn't end; nothing was changed")


def _told(record: BackupRecord) -> str:
    proof = "restored on trial" if record.proven else f"not proven ({record.proof})"
    return f"revision {record.revision}, {record.keys} keys, {record.size} bytes, {proof}"
