"""Deletes old backups, and never the one of a restore that begins meanwhile.

A restore is wished first, and then looks whether its backup's metadata is there. Here the metadata goes first, and
then the wish is looked for. So one of the two sees the other, whatever the order.
"""

from __future__ import annotations

from collections.abc import Iterable

from protokube.backups.catalogue import Catalogue
from protokube.backups.wishes import Wishes
from protokube.core.backup.names import BackupName


def remove(catalogue: Catalogue, wishes: Wishes, names: Iterable[BackupName]) -> None:
    """Delete backups but that of a restore under way. Raises StoreError where it isn't known whether there is one."""
    wish = wishes.under_way()
    gone = [name for name in names if wish is None or name != wish.backup.name]
    for name in gone:
        catalogue.delete_record(name)
    wish = wishes.under_way()
    if wish is not None and wish.backup.name in gone:
        catalogue.put_record(wish.backup)
        gone.remove(wish.backup.name)
    for name in gone:
        catalogue.delete_data(name)
