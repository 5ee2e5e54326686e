"""An authority is replaced in three steps, each of which the store shows.

| step | state | issues | trusted |
| --- | --- | --- | --- |
| | steady | old | old |
| bundle | bundle | old | old, new |
| reissue | reissue | new | new, old |
| drop | steady | new | new |

Invariant: a certificate is issued only by an authority that everybody trusted in the step before. So between two
steps every node must have the new ca.crt, and whoever reads it only at its start must have been restarted.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

from msgspec.structs import replace

from protokube.core.pki.document import Document, KeyPair, StoredAuthority
from protokube.core.pki.model import Stage


class RotationStep(StrEnum):
    """The step that follows a stage."""

    BUNDLE = "bundle"
    REISSUE = "reissue"
    DROP = "drop"


NEXT = {Stage.STEADY: RotationStep.BUNDLE, Stage.BUNDLE: RotationStep.REISSUE, Stage.REISSUE: RotationStep.DROP}


def rotate(document: Document, name: str, make: Callable[[], KeyPair]) -> Document:
    """The document after the authority's next step. `make` makes the new authority; only the first step calls it."""
    before = document.authorities[name]
    distrusted = document.distrusted
    match NEXT[before.stage]:
        case RotationStep.BUNDLE:
            after = replace(before, next=make())
        case RotationStep.REISSUE:
            assert before.next is not None
            after = StoredAuthority(before.next, previous=before.active)
        case RotationStep.DROP:
            assert before.previous is not None
            after, distrusted = StoredAuthority(before.active), (*distrusted, before.previous.id)
    return replace(document, authorities={**document.authorities, name: after}, distrusted=distrusted)
