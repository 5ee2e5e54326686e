"""The hub's directory: its name, its authority, its own certificate, the database and the audit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from protokube.agent.files import write_atomically
from protokube.core.model import Fault
from protokube.errors import ConfigError, explain
from protokube.hub.auditfile import AuditFile
from protokube.hub.pki import Pair, make_authority, make_server, shown_pem
from protokube.hub.store import Store

OWN_LIFE = 90 * 86400.0
"""Seconds that the hub's own certificate lives; at two thirds it is made anew."""


class About(Struct, frozen=True):
    """The hub's name, and the names and addresses at which it is reached."""

    name: str
    addresses: tuple[str, ...]


class HubFiles:
    """A hub's files. `clock`: seconds since the epoch."""

    def __init__(self, folder: Path, clock: Callable[[], float]) -> None:
        self.folder = folder
        self.clock = clock
        self.certificate, self.key, self.bundle = (folder / name for name in ("cert.pem", "key.pem", "ca.pem"))

    def init(self, name: str, addresses: Sequence[str]) -> None:
        """Make a hub. Raises ConfigError where there is one."""
        with explain(f"write below {self.folder}"):
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if (self.folder / "hub.json").exists():
                raise ConfigError([Fault(str(self.folder), "there is a hub already; move it away to make another")])
            authority = make_authority(name, self.clock())
            write_atomically(self.folder / "ca.key", authority.key.encode())
            write_atomically(self.bundle, authority.certificate.encode())
            # Last: what was cut off before is no hub, and is made again.
            write_atomically(self.folder / "hub.json", msgspec.json.encode(About(name, tuple(addresses))))
        self.renew_own()

    def about(self) -> About:
        """The hub's name and addresses. Raises ConfigError where there is no hub."""
        path = self.folder / "hub.json"
        try:
            return msgspec.json.decode(path.read_bytes(), type=About)
        except FileNotFoundError:
            raise ConfigError([Fault(str(self.folder), "there is no hub; make one: protokube-hub init")]) from None
        except (OSError, msgspec.MsgspecError) as error:
            raise ConfigError([Fault(str(path), str(error))]) from error

    def authority(self) -> Pair:
        """The authority, a secret. Raises ProviderError."""
        with explain(f"read {self.folder / 'ca.key'}"):
            return Pair((self.folder / "ca.key").read_text("utf-8"), self.bundle.read_text("utf-8"))

    def renew_own(self) -> bool:
        """Make the hub's own certificate anew where it is due; whether it was."""
        about, now = self.about(), self.clock()
        if self.certificate.exists() and self.key.exists():
            try:
                ends = shown_pem(self.certificate.read_text("utf-8")).validity.ends
            except ValueError:
                ends = now
            if ends - now > OWN_LIFE / 3:
                return False
        pair = make_server(self.authority(), about.name, about.addresses, now, OWN_LIFE)
        with explain(f"write below {self.folder}"):
            # Removed first: a key and a certificate of two pairs must never stand side by side after a cut.
            self.certificate.unlink(missing_ok=True)
            write_atomically(self.key, pair.key.encode())
            write_atomically(self.certificate, pair.certificate.encode())
        return True

    def store(self) -> Store:
        """The database. Raises ProviderError."""
        self.about()
        return Store(self.folder / "hub.db")

    def audit(self) -> AuditFile:
        """The audit."""
        return AuditFile(self.folder / "audit.jsonl", self.clock)
