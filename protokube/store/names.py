"""Which names objects may have: they become paths and keys."""

from __future__ import annotations

import re

BACKUPS = "backups"
"""The part of a cluster's objects whose names begin with `<cluster>/backups/`."""

_NAME = re.compile(r"(?:[A-Za-z0-9_:-][A-Za-z0-9._:-]*/)*[A-Za-z0-9_:-][A-Za-z0-9._:-]*")


def check_name(name: str) -> str:
    """The name. Raises ValueError unless it is a relative path of plain segments, none of which starts with a dot."""
    if len(name) > 512 or not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name of an object")
    return name


def check_prefix(prefix: str) -> str:
    """The prefix. Raises ValueError unless it is empty, or a name with a slash behind it."""
    if prefix:
        if not prefix.endswith("/"):
            raise ValueError(f"{prefix!r} is no prefix: it ends without a slash")
        check_name(prefix[:-1])
    return prefix


def check_deletable(name: str) -> str:
    """The name. Raises ValueError unless it is the name of an object of a backup, `<cluster>/backups/…/…`."""
    parts = check_name(name).split("/")
    if len(parts) < 4 or parts[1] != BACKUPS:
        raise ValueError(f"{name!r} is no name of a backup's object, and nothing else is ever deleted")
    return name
