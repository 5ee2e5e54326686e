"""Which of etcd's tools can restore a snapshot, for which etcd.

`--bump-revision` and `--mark-compacted` came with 3.4.27, 3.5.10 and 3.6 (etcd-io/etcd PR 16029). Without them the
revision falls back, and a watch from before the restore waits silently: clients serve old data.
"""

from __future__ import annotations

import re

from protokube.core.static_pod import Version, spell_version

FIRST_TO_BUMP: dict[tuple[int, int], Version] = {(3, 4): (3, 4, 27), (3, 5): (3, 5, 10)}
"""The first patch of each minor version with both options; later minor versions have them from their start."""

BUMP = 1_000_000_000
"""By how much a restore raises the revision: about a week at 1500 writes a second (etcd's recovery guide)."""

_READS_FOR = {(3, 4): ((3, 4), (3, 5))}
"""Minor versions of tools for an etcd's, where more than its own is known to do. Measured: 3.4.23 serves what etcdutl
3.5.16 and 3.5.30 have restored."""


def can_bump(version: Version) -> bool:
    """Whether a tool of this version can raise the revision."""
    first = FIRST_TO_BUMP.get(version[:2])
    return version >= first if first is not None else version[:2] > (3, 5)


def why_not(name: str, version: Version, etcd: Version) -> str | None:
    """Why a tool can't restore for an etcd of this version; None when it can."""
    if not can_bump(version):
        return (
            f"{name} {spell_version(version)} can't raise the revision (expected 3.4.27, 3.5.10, 3.6 or newer): "
            "after its restore watches would wait silently, and clients would serve old data"
        )
    if version[:2] not in _READS_FOR.get(etcd[:2], (etcd[:2],)):
        return (
            f"{name} {spell_version(version)} writes data of another version than etcd {spell_version(etcd)}; "
            f"use the one of {etcd[0]}.{etcd[1]}"
        )
    return None


def parse_tool_version(text: str) -> Version | None:
    """The version in what `etcdutl version` or `etcdctl version` prints."""
    found = re.match(r"etcd(?:utl|ctl) version: (\d+)\.(\d+)\.(\d+)", text)
    return None if found is None else (int(found[1]), int(found[2]), int(found[3]))
