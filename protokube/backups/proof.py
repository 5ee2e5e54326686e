"""Restores a snapshot on trial, and counts what it holds."""

from __future__ import annotations

import shutil
from pathlib import Path

from msgspec import Struct

from protokube.backups.catalogue import why_not_a_snapshot
from protokube.backups.database import Contents, DatabaseError, read_contents
from protokube.backups.tools import Place, Tool, restore
from protokube.errors import ProviderError

DATABASE = "member/snap/db"
"""Where etcd's database is below a data directory."""

_PEER = "http://127.0.0.1:2380"


class Proof(Struct, frozen=True):
    """Whether a snapshot was restored on trial, and how, or why not."""

    proven: bool
    told: str


def count(snapshot: Path, at: int | None = None) -> Contents:
    """What a snapshot holds, by its own bytes. Raises ProviderError when it is truncated or damaged."""
    try:
        if wrong := why_not_a_snapshot(snapshot):
            raise ProviderError(f"the snapshot is damaged: {wrong}")
        return read_contents(snapshot, at)
    except DatabaseError as error:
        raise ProviderError(f"the snapshot is damaged: {error}") from error
    except OSError as error:
        raise ProviderError(f"{snapshot}: {error.strerror}") from error


def prove(snapshot: Path, expected: Contents, tools: tuple[Tool, ...], folder: Path, etcd_version: str) -> Proof:
    """Restore a snapshot into a directory below `folder`, which is removed again, and compare its keys.

    Raises ProviderError when a tool of etcd's own minor version refuses the snapshot, or when keys are missing.
    """
    if not tools:
        return Proof(False, "no etcdutl or etcdctl is installed that could restore it on trial")
    minor = etcd_version.split(".")[:2]
    own = [tool for tool in tools if [str(part) for part in tool.version[:2]] == minor]
    tool, trial = (own or tools)[0], folder / "trial"
    shutil.rmtree(trial, ignore_errors=True)
    try:
        restore(tool, snapshot, Place(trial, "trial", _PEER, f"trial={_PEER}", "trial"), bump=False)
        found = read_contents(trial / DATABASE)
    except DatabaseError as error:
        raise ProviderError(f"what {tool.name} restored is damaged: {error}") from error
    except OSError as error:
        raise ProviderError(f"{trial}: {error.strerror}") from error
    except ProviderError as error:
        if not own:
            return Proof(False, f"{error}; install the tool of etcd {'.'.join(minor)}, which is the one to ask")
        raise
    finally:
        shutil.rmtree(trial, ignore_errors=True)
    if (found.keys, found.revision) != (expected.keys, expected.revision):
        raise ProviderError(
            f"what {tool.name} restored has {found.keys} keys at revision {found.revision} "
            f"(expected {expected.keys} at {expected.revision})"
        )
    return Proof(True, f"restored with {tool.name}: {found.keys} keys at revision {found.revision}")
