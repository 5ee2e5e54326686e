"""A node's PKI: certificates in its directory, issued by the authorities in the store."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from protokube.core.model import Unknown
from protokube.core.pki.actions import IssueCertificate, MakeAuthorities
from protokube.core.pki.model import PKI_DIR, Authorities, Certificate, Damaged, Material, NoAuthorities
from protokube.errors import ProviderError, explain
from protokube.kernel.clock import clock_in_sync
from protokube.pki.authorities import add_missing, make_first, read_authorities
from protokube.pki.copies import authority_of, copy
from protokube.pki.directory import CertificateDirectory
from protokube.ports import Store

_FORBIDDEN = {errno.EPERM: "a system call filter forbids it; where the clock is right, give --trust-clock"}


class NodePki:
    """The PKI below `root`, a path of this machine; implements `ports.Pki`.

    `store` opens the store when it is needed. `now` is the clock, in seconds since the epoch. `in_sync` asks the
    kernel whether that clock is right; where it may not be asked, `timedated` is, if there is one.
    """

    def __init__(
        self,
        root: str,
        store: Callable[[], Store],
        now: Callable[[], float] = time.time,
        *,
        in_sync: Callable[[], bool] = clock_in_sync,
        timedated: Callable[[], bool] | None = None,
    ) -> None:
        self.directory = CertificateDirectory(Path(root, PKI_DIR.lstrip("/")))
        self._open, self._now = store, now
        self._in_sync, self._timedated = in_sync, timedated
        self._store: Store | None = None

    def certificates(self) -> Mapping[str, Certificate | Damaged | Unknown]:
        """See ports.PkiReader."""
        return self.directory.read()

    def clock_in_sync(self) -> bool:
        """See ports.PkiReader."""
        with explain("ask the kernel about its clock", _FORBIDDEN):
            try:
                return self._in_sync()
            except PermissionError:
                if self._timedated is None:
                    raise
        return self._timedated()

    def authorities(self, cluster: str) -> Authorities | NoAuthorities:
        """See ports.PkiReader."""
        found = read_authorities(self.store, cluster)
        return NoAuthorities() if found is None else found.document.public()

    def make_authorities(self, action: MakeAuthorities) -> None:
        """See core/pki/actions.py."""
        if action.first:
            make_first(self.store, action.cluster, action.names, self._now())
        else:
            add_missing(self.store, action.cluster, action.names, self._now())

    def issue(self, action: IssueCertificate) -> None:
        """See core/pki/actions.py."""
        wanted = action.wanted
        found = read_authorities(self.store, action.cluster)
        if found is None:
            raise ProviderError(f"issue the certificate {wanted.name}: the store has no authorities")
        if wanted.material is Material.LEAF:
            from protokube.pki.x509 import issue

            made = issue(wanted, authority_of(wanted, found.document), self._now())
        else:
            made = copy(wanted, found.document)
        self.directory.write(*made)

    @property
    def store(self) -> Store:
        """The store, opened once."""
        if self._store is None:
            self._store = self._open()
        return self._store
