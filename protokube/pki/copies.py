"""What a node needs of the store as it stands there: an authority with its key, and the keys of tokens."""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from protokube.core.pki.document import Document, StoredAuthority
from protokube.core.pki.model import NO_END, Certificate, CertificateWanted, Material
from protokube.errors import ProviderError


def authority_of(wanted: CertificateWanted, document: Document) -> StoredAuthority:
    """The authority that a certificate is wanted of. Raises ProviderError when the store has none."""
    found = document.authorities.get(wanted.authority)
    if found is None:
        raise ProviderError(f"issue the certificate {wanted.name}: the store has no authority {wanted.authority}")
    return found


def copy(wanted: CertificateWanted, document: Document) -> tuple[Certificate, Mapping[str, str]]:
    """A copy from the store, and its files. Of an authority it is the one that issues; all are trusted."""
    serial = secrets.token_hex(16)
    if wanted.material is Material.TOKEN_KEYS:
        keys = document.service_account
        if not keys:
            raise ProviderError(f"copy {wanted.name}: the store has no keys for service-account tokens")
        ids = tuple(one.id for one in keys)
        about = Certificate(wanted, serial, 0.0, NO_END, ids[0], NO_END, ids)
        return about, {"signing.key": keys[0].private, "public.pem": "".join(one.public for one in keys)}
    authority = authority_of(wanted, document)
    active, trusted = authority.active, authority.trusted
    about = Certificate(
        wanted, serial, active.begins, active.ends, active.id, active.ends, tuple(one.id for one in trusted)
    )
    own = {"tls.crt": active.certificate, "tls.key": active.key}
    files = {} if wanted.material is Material.TRUST else own
    return about, {**files, "ca.crt": "".join(one.certificate for one in trusted)}
