"""A node's key pairs on the disk: each in a directory of its own, and `current` links to the one in use.

The key of a request is kept before it is sent: an answer that got lost is asked for again with the same key.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
from msgspec import Struct

from protokube.agent.files import remove, sweep, sync_directory, write_atomically
from protokube.core.model import Unknown
from protokube.errors import explain
from protokube.hub.core.renewal import Validity
from protokube.hub.pki import Pair, belong_together, make_key, shown_pem

KEEP = 2
"""Pairs that are kept: the current one and the one before."""


class Hub(Struct, frozen=True):
    """Where a node is enrolled: the hub's address, its own name, and the node's.

    `authority`: the pin that the node was enrolled by. A hub that adds authorities to the bundle doesn't alter it.
    """

    host: str
    port: int
    name: str
    node: str
    authority: str


class Own(Struct, frozen=True):
    """A node's identity: its directory, where it is enrolled, and what its certificate says."""

    folder: Path
    hub: Hub
    serial: str
    validity: Validity

    @property
    def key(self) -> Path:
        """The key's file."""
        return self.folder / "key.pem"

    @property
    def certificate(self) -> Path:
        """The certificate's file."""
        return self.folder / "cert.pem"

    @property
    def bundle(self) -> Path:
        """The authorities that the node trusts."""
        return self.folder / "bundle.pem"


class Keyring:
    """The pairs below a directory."""

    def __init__(self, directory: Path, new_key: Callable[[], str] = make_key) -> None:
        self.directory = directory
        self._new_key = new_key

    def load(self) -> Own | Unknown | None:
        """The pair in use: the current one, or where it can't be read the one before. None when there is none."""
        numbers = self._numbers()
        current = self._current()
        ordered = ([current] if current is not None else []) + [n for n in reversed(numbers) if n != current]
        problem = None
        for number in ordered:
            try:
                return self._read(self.directory / str(number))
            except (OSError, ValueError, msgspec.MsgspecError) as error:
                problem = problem or f"{self.directory / str(number)}: {error}"
        return None if problem is None else Unknown(problem)

    def pending(self) -> str:
        """The key of the request under way; a new one when there is none, or where that is in use already.

        It is where the power was cut while its pair was put in use. Raises ProviderError.
        """
        path = self.directory / "pending.pem"
        with explain(f"write {path}"):
            self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            own = self.load()
            used = own.key.read_text("utf-8") if isinstance(own, Own) else None
            if path.exists() and (kept := path.read_text("utf-8")) != used:
                return kept
            key = self._new_key()
            write_atomically(path, key.encode())
            return key

    def take(self, pair: Pair, bundle: str, hub: Hub) -> Own:
        """Put a new pair in use: whole on the disk before `current` names it. Raises ProviderError, ValueError."""
        if not belong_together(pair):
            raise ValueError("the certificate is for another key than the one that was sent")
        with explain(f"write below {self.directory}"):
            sweep(self.directory)
            number = max(self._numbers(), default=0) + 1
            folder = self.directory / str(number)
            folder.mkdir(mode=0o700)
            write_atomically(folder / "key.pem", pair.key.encode())
            write_atomically(folder / "cert.pem", pair.certificate.encode())
            write_atomically(folder / "bundle.pem", bundle.encode())
            write_atomically(folder / "hub.json", msgspec.json.encode(hub))
            sync_directory(self.directory)
            link = self.directory / ".current.new"
            link.unlink(missing_ok=True)
            link.symlink_to(str(number))
            link.rename(self.directory / "current")
            sync_directory(self.directory)
            remove(self.directory / "pending.pem")
            for old in self._numbers()[:-KEEP]:
                shutil.rmtree(self.directory / str(old))
        return self._read(folder)

    def _read(self, folder: Path) -> Own:
        pair = Pair((folder / "key.pem").read_text("utf-8"), (folder / "cert.pem").read_text("utf-8"))
        if not belong_together(pair):
            raise ValueError("key and certificate don't belong together")
        shown = shown_pem(pair.certificate)
        hub = msgspec.json.decode((folder / "hub.json").read_bytes(), type=Hub)
        shown_pem((folder / "bundle.pem").read_text("utf-8"))
        return Own(folder, hub, shown.serial, shown.validity)

    def _numbers(self) -> list[int]:
        try:
            return sorted(int(one.name) for one in self.directory.iterdir() if one.name.isdecimal())
        except FileNotFoundError:
            return []

    def _current(self) -> int | None:
        try:
            target = (self.directory / "current").readlink().name
        except OSError:
            return None
        return int(target) if target.isdecimal() else None
