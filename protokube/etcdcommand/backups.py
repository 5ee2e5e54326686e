"""`protokube etcd backups`: shows the backups of this node's etcd clusters, or proves one again."""

from __future__ import annotations

import sys
import time
from collections.abc import Collection, Sequence
from typing import Any

from msgspec import to_builtins

from protokube.backups.catalogue import Catalogue
from protokube.backups.proof import Proof, count, prove
from protokube.backups.take import working
from protokube.backups.tools import find_tools
from protokube.backups.worker import work_folder
from protokube.config.choice import Chosen
from protokube.core.backup.assess import spell_age
from protokube.core.backup.model import BackupRecord
from protokube.core.backup.names import BackupName, is_future, parse_name
from protokube.core.model import KIB
from protokube.errors import DamagedRecordError
from protokube.etcdcommand.look import Cluster, ImpossibleError

LATEST = "latest"


def catalogue_of(chosen: Chosen, cluster: Cluster) -> Catalogue:
    """The backups of an etcd cluster."""
    return Catalogue(chosen.store.open(), cluster.cluster_id, cluster.key)


def records_of(catalogue: Catalogue) -> list[BackupRecord]:
    """The metadata of all complete backups, the newest last. One that was deleted meanwhile is left out; one that
    can't be read is named on stderr."""
    found: list[BackupRecord] = []
    for name in catalogue.listing().complete:
        try:
            record = catalogue.record(name)
        except DamagedRecordError as error:
            _pass_over(str(error))
            continue
        if record is not None:
            found.append(record)
    return found


def _pass_over(fault: str) -> None:
    print(f"passed over: {fault}", file=sys.stderr)


def find_backup(catalogue: Catalogue, wanted: str) -> BackupRecord:
    """A backup by its name, or the newest that can be read. One of a wrong clock is never the newest, nor one of an
    older cluster of the same name: these must be named. Raises ImpossibleError when there is none."""
    names, now = catalogue.listing().complete, time.time()
    if wanted == LATEST:
        older = catalogue.older()
        newest = catalogue.newest(now, older)
        if names and older.issuperset(names):
            raise ImpossibleError(
                f"{wanted}: all backups that the store has are of an older cluster (protokube etcd new). The newest "
                f"is {names[-1]}: name it, if its data are to come back"
            )
        for one in (name for name in newest.listing.complete if is_future(name, now)):
            _pass_over(f"{one}: it is from the future: a clock was wrong")
        for fault in newest.unreadable:
            _pass_over(fault)
        record = newest.record if newest.record and not is_future(newest.record.name, now) else None
    else:
        name = parse_name(wanted)
        record = catalogue.record(name) if name in names and name is not None else None
    if record is None:
        known = f"the newest are {', '.join(map(str, names[-3:]))}" if names else "there is none"
        raise ImpossibleError(f"{wanted}: the store has no such backup; {known}")
    return record


def older_of(catalogue: Catalogue) -> frozenset[BackupName]:
    """The backups of an older cluster of the same name. A list that can't be read is named on stderr."""
    try:
        return catalogue.older()
    except DamagedRecordError as error:
        _pass_over(str(error))
        return frozenset()


def list_text(
    cluster: Cluster, records: Sequence[BackupRecord], incomplete: int, older: Collection[BackupName] = ()
) -> str:
    """The backups of an etcd cluster, for people. `older`: those that are of an older cluster."""
    now = time.time()
    lines = [f"etcd cluster {cluster.key}: {len(records)} backups"]
    if incomplete:
        lines.append(f"  and {incomplete} incomplete, which don't count")
    for one in records:
        proof = "proven" if one.proven else f"not proven: {one.proof}"
        age, size = f"{spell_age(max(0.0, now - one.at))} old", f"{one.size / KIB:.0f} KiB"
        if is_future(one.name, now):
            age = "from the future (a clock was wrong; never the latest)"
        lines.append(
            f"  {one.name}  {age}, {size}, {one.keys} keys, etcd {one.etcd_version}, of {one.member} "
            f"({one.reason}); {proof}{'; of an older cluster' if one.name in older else ''}"
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
