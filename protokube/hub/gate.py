"""The hub's gate: enrols, renews and admits, each in one transaction, with its line in the audit."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

from msgspec import Struct, structs

from protokube.core.model import Fault
from protokube.hub.auditfile import AuditFile
from protokube.hub.core.access import Denied
from protokube.hub.core.membership import (
    Cloned,
    Issued,
    Member,
    Same,
    Shows,
    Shut,
    Standing,
    admit,
    expelled,
    judge_enrolment,
    judge_renewal,
    renewed,
)
from protokube.hub.core.names import Identity, is_name
from protokube.hub.core.renewal import LIFE
from protokube.hub.core.tokens import TokenRefused, counted, judge_token
from protokube.hub.pki import Pair, requested_key, sign_request
from protokube.hub.store import Store

REFUSALS = 60.0
"""Seconds between lines of the audit about refusals: each line waits for the disk, and anyone may ask."""

log = logging.getLogger(__name__)


class Enrol(Struct, frozen=True):
    """What a node sends to be enrolled. `csr` is PEM."""

    id: str
    secret: str
    node: str
    csr: str

    def __repr__(self) -> str:
        return f"Enrol({self.id}, {self.node}, …)"


class Renew(Struct, frozen=True):
    """What a node sends for a new certificate."""

    csr: str


class Granted(Struct, frozen=True):
    """A certificate, whom to trust from now on, and the hub's time."""

    hub: str
    certificate: str
    bundle: str
    hub_time: float


class Gate:
    """Decides over a store. `clock`: seconds since the epoch; `life`: of a node's certificate, in seconds."""

    def __init__(
        self,
        hub: str,
        authority: Pair,
        store: Store,
        audit: AuditFile,
        clock: Callable[[], float],
        life: float = LIFE,
    ) -> None:
        self.hub = hub
        self.bundle = authority.certificate
        self._authority = authority
        self._store = store
        self._audit = audit
        self._clock = clock
        self._life = life
        self._refused = -math.inf

    def enrol(self, asked: Enrol) -> Granted | Denied:
        """Enrol a node by its token: once, and with the same key again the same certificate."""
        if not is_name(asked.node):
            return Denied(400, "node: lower-case DNS labels of at most 63 characters were expected")
        key = requested_key(asked.csr, asked.node)
        if isinstance(key, Fault):
            return Denied(400, str(key))
        with self._store.transaction():
            now = self._clock()
            token = self._store.token(asked.id)
            judged = judge_token(token, asked.secret, asked.node, key, now)
            if isinstance(judged, TokenRefused):
                if token is not None and judged.counts:
                    self._store.put_token(counted(token))
                if token is not None and (judged.counts or now >= self._refused + REFUSALS):
                    # The name in the request is the asker's: the audit says what was refused, not who asked.
                    self._audit.write("gate", f"refused to enrol: {judged.reason}", token.id)
                    self._refused = now if not judged.counts else self._refused
                log.debug("refused to enrol: %.300r", judged.reason)
                return Denied(judged.status, judged.reason)
            assert token is not None
            member = self._store.member(asked.node)
            if judged.again:
                if member is not None and member.standing is Standing.ENROLLED and member.current.key == key:
                    return self._granted(member.current)
                return Denied(409, f"token {token.id}: used already; {asked.node} has gone on since; make a new one")
            shut = judge_enrolment(member, asked.node, replace=token.replace)
            if shut is not None:
                self._audit.write("gate", f"refused to enrol: {shut.reason}", asked.node)
                return Denied(409, shut.reason)
            issued = self._issue(asked.node, asked.csr, now)
            if isinstance(issued, Fault):
                return Denied(400, str(issued))
            self._audit.write(f"node {asked.node}", f"enrolled, certificate {issued.serial}", token.id)
            self._store.put_token(structs.replace(token, used_by=key))
            self._store.put_member(Member(asked.node, token.groups, now, issued))
        return self._granted(issued)

    def renew(self, node: str, shows: Shows, asked: Renew) -> Granted | Denied:
        """A new certificate over an old one."""
        key = requested_key(asked.csr, node)
        if isinstance(key, Fault):
            return Denied(400, str(key))
        with self._store.transaction():
            now = self._clock()
            judged = judge_renewal(self._store.member(node), shows, key, now)
            if isinstance(judged, Shut):
                return Denied(403, f"{judged.rule}: {judged.reason}")
            if isinstance(judged, Same):
                return self._granted(judged.issued)
            if isinstance(judged, Cloned):
                self._audit.write("gate", f"alarm: cloned: {judged.reason}", node)
                self._store.put_member(judged.member)
                return Denied(403, f"cloned: {judged.reason}; both are out; a new token lets one of them in")
            issued = self._issue(node, asked.csr, now)
            if isinstance(issued, Fault):
                return Denied(400, str(issued))
            self._audit.write(f"node {node}", f"renewed, certificate {issued.serial}", node)
            self._store.put_member(renewed(judged.member, issued))
        return self._granted(issued)

    def admit(self, node: str, serial: str) -> Member | Shut:
        """Judge the certificate of a link; its first use ends the one before."""
        with self._store.transaction():
            before = self._store.member(node)
            judged = admit(before, serial, self._clock())
            if isinstance(judged, Member) and judged != before:
                self._store.put_member(judged)
        return judged

    def expel(self, node: str, standing: Standing, reason: str, who: str) -> Denied | None:
        """Evict or ban a node."""
        with self._store.transaction():
            member = self._store.member(node)
            if member is None:
                return Denied(404, f"{node}: the hub has no such node")
            self._audit.write(who, f"{standing}: {reason}", node)
            self._store.put_member(expelled(member, standing, reason))
        return None

    def _issue(self, node: str, csr: str, now: float) -> Issued | Fault:
        return sign_request(self._authority, csr, Identity(self.hub, "node", node), now, self._life)

    def _granted(self, issued: Issued) -> Granted:
        return Granted(self.hub, issued.pem, self.bundle, self._clock())
