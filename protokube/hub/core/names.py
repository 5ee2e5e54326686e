"""Names: of nodes, groups, operators and commands, and whom a certificate speaks for."""

from __future__ import annotations

import re

from msgspec import Struct

LONGEST = 63
"""Characters of a name: it becomes a certificate's common name, which holds 64."""

_LABEL = "[a-z0-9](?:[-a-z0-9]*[a-z0-9])?"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_URI = re.compile(rf"protokube://({_LABEL}(?:\.{_LABEL})*)/(node|operator)/({_LABEL}(?:\.{_LABEL})*)")


class Identity(Struct, frozen=True):
    """Whom a certificate speaks for. `role` is `node` or `operator`."""

    hub: str
    role: str
    name: str

    def uri(self) -> str:
        """The name as a certificate bears it."""
        return f"protokube://{self.hub}/{self.role}/{self.name}"


def is_name(text: str) -> bool:
    """Whether a text may name a node, group, hub or operator: lower-case DNS labels, at most 63 characters."""
    return len(text) <= LONGEST and _NAME.fullmatch(text) is not None


def is_id(text: str) -> bool:
    """Whether a text is a command's id: a UUID in lower case. It becomes a file's name."""
    return _ID.fullmatch(text) is not None


def identity_of(uri: str) -> Identity | None:
    """The identity that a certificate's URI spells, None for another URI."""
    found = _URI.fullmatch(uri)
    if found is None or not all(is_name(one) for one in (found[1], found[3])):
        return None
    return Identity(*found.groups())
