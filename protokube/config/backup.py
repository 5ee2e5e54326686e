"""Reads how etcd is to be backed up: `etcd: {backup: {every: 15m, keep: 96, keepDaily: 14, tools: DIR}}`."""

from __future__ import annotations

import re

from protokube.core.backup.model import BackupSettings
from protokube.core.located import Located, Section
from protokube.core.model import Fault

EVERY = 900.0
"""Seconds between two backups, unless the operator says otherwise."""

_SHORTEST = 1.0
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


def backup_settings(section: Section | None, faults: list[Fault], *, store_shared: bool) -> BackupSettings:
    """The settings in a configuration file. Without a word about backups they are taken where an operator named a
    store: a disk of the node itself is no place for what is to outlive it."""
    default = BackupSettings(EVERY if store_shared else None)
    item = section.get("etcd") if section else None
    if item is None:
        return default
    etcd = Section.of(item, ("backup", "quota", "version"), faults)
    inner = etcd.get("backup")
    if inner is None:
        return default
    backup = Section.of(inner, ("every", "keep", "keepDaily", "tools"), faults)
    every = backup.get("every")
    return BackupSettings(
        EVERY if every is None else _every(every, faults),
        backup.count("keep", default.keep),
        backup.count("keepDaily", default.keep_daily),
        backup.text("tools"),
    )


def _every(item: Located, faults: list[Fault]) -> float | None:
    value = item.value
    if value is False or value == "off":
        return None
    seconds = float(value) if type(value) in (int, float) else 0.0  # type: ignore[arg-type]
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", value) if isinstance(value, str) else None
    if found is not None:
        seconds = float(found[1]) * _UNITS[found[2]]
    if seconds < _SHORTEST:
        faults.append(item.expected("a time such as 15m, 90s or 1h, or off"))
        return None
    return seconds
