"""`protokube etcd backups`: shows the backups of this node's etcd clusters, or proves one again."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from msgspec import to_builtins

from protokube.backups.catalogue import Catalogue
from protokube.backups.proof import Proof, count, prove
from protokube.backups.take import working
from protokube.backups.tools import find_tools
from protokube.backups.worker import work_folder
from protokube.config.wiring import Chosen
from protokube.core.backup.assess import spell_age
from protokube.core.backup.model import BackupRecord
from protokube.core.backup.names import BackupName, parse_name
from protokube.core.model import KIB
from protokube.etcdcommand.look import Cluster, ImpossibleError

LATEST = "latest"


def catalogue_of(chosen: Chosen, cluster: Cluster) -> Catalogue:
    """The backups of an etcd cluster."""
    return Catalogue(chosen.store.open(), cluster.cluster_id, cluster.key)


def records_of(catalogue: Catalogue) -> list[BackupRecord]:
    """The metadata of all complete backups, the newest last. One that was deleted meanwhile is left out."""
    found = (catalogue.record(name) for name in catalogue.listing().complete)
    return [one for one in found if one is not None]


def find_backup(catalogue: Catalogue, wanted: str) -> BackupRecord:
    """A backup by its name, or the newest. Raises ImpossibleError when there is none."""
    names = catalogue.listing().complete
    name: BackupName | None = (names[-1] if names else None) if wanted == LATEST else parse_name(wanted)
    record = catalogue.record(name) if name in names and name is not None else None
    if record is None:
        known = f"the newest are {', '.join(map(str, names[-3:]))}" if names else "there is none"
        raise ImpossibleError(f"{wanted}: the store has no such backup; {known}")
    return record


def list_text(cluster: Cluster, records: Sequence[BackupRecord], incomplete: int) -> str:
    """The backups of an etcd cluster, for people."""
    now = time.time()
    lines = [f"etcd cluster {cluster.key}: {len(records)} backups"]
    if incomplete:
        lines.append(f"  and {incomplete} incomplete, which don't count")
    for one in records:
        proof = "proven" if one.proven else f"not proven: {one.proof}"
        age, size = spell_age(max(0.0, now - one.at)), f"{one.size / KIB:.0f} KiB"
        lines.append(
            f"  {one.name}  {age} old, {size}, {one.keys} keys, etcd {one.etcd_version}, of {one.member} "
            f"({one.reason}); {proof}"
        )
    return "\n".join(lines)


def as_json(cluster: Cluster, records: Sequence[BackupRecord]) -> dict[str, Any]:
    """The backups of an etcd cluster, for scripts."""
    return {
        "cluster": cluster.key,
        "backups": [{"name": str(one.name), **to_builtins(one)} for one in records],
    }


def prove_again(chosen: Chosen, cluster: Cluster, wanted: str) -> bool:
    """Fetch a backup, and restore it on trial. Whether it is proven."""
    catalogue = catalogue_of(chosen, cluster)
    record = find_backup(catalogue, wanted)
    folder = work_folder(chosen.settings.root, cluster.key)
    with working(folder):
        path = folder / "again.db"
        catalogue.fetch(record.name, path, record.sha256)
        proof: Proof = prove(path, count(path), find_tools(chosen.config.backup.tools), folder, record.etcd_version)
    print(f"{record.name}: {proof.told}")
    return proof.proven
