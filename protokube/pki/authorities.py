"""A cluster's authorities in the store: read, made once, changed by compare-and-swap."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec import Struct
from msgspec.structs import replace

from protokube.core.model import Fault
from protokube.core.pki.assess import object_name
from protokube.core.pki.document import VERSION, Document, StoredAuthority, parse_document
from protokube.errors import StoreConflictError, StoreError
from protokube.ports import Store

TRIES = 10
"""How often a change begins again because another node has changed the object meanwhile."""


class Read(Struct, frozen=True):
    """The object as it was read, and the version that a change of it names."""

    document: Document
    version: str


def read_authorities(store: Store, cluster: str) -> Read | None:
    """The object; None when the store says that there is none. Raises StoreError."""
    found = store.get(object_name(cluster))
    if found is None:
        return None
    document = parse_document(found.content, cluster)
    if isinstance(document, Fault):
        raise StoreError(str(document))
    return Read(document, found.version)


def make_first(store: Store, cluster: str, names: Sequence[str], now: float) -> bool:
    """Make the object. False when another node was first; then that one's counts. Raises StoreError."""
    from protokube.pki.x509 import make_authority, make_service_account_key

    authorities = {name: StoredAuthority(make_authority(name, now)) for name in names}
    document = Document(VERSION, cluster, authorities, (make_service_account_key(),))
    return store.put_if_absent(object_name(cluster), document.render())


def add_missing(store: Store, cluster: str, names: Sequence[str], now: float) -> None:
    """Add the authorities that the object lacks. Raises StoreError."""
    from protokube.pki.x509 import make_authority

    def add(document: Document) -> Document:
        made = {
            name: StoredAuthority(make_authority(name, now)) for name in names if name not in document.authorities
        }
        return replace(document, authorities={**document.authorities, **made})

    change(store, cluster, add)


def change(store: Store, cluster: str, make: Callable[[Document], Document]) -> Document:
    """Change the object, from its newest content each time; the content that stands there now. Raises StoreError."""
    for _ in range(TRIES):
        before = read_authorities(store, cluster)
        if before is None:
            raise StoreError(f"{object_name(cluster)} is gone from the store (expected: authorities); bring it back")
        after = make(before.document)
        if after == before.document:
            return after
        if store.compare_and_swap(object_name(cluster), after.render(), before.version):
            return after
    raise StoreConflictError(
        f"{object_name(cluster)}: other nodes have changed it {TRIES} times meanwhile; try again"
    )
