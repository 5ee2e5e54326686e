"""The node's configuration file and its revisions: every text that it ever had here is kept, and none is deleted."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import msgspec
from msgspec import Struct

from protokube.agent.files import remove, sweep, write_atomically
from protokube.errors import ProviderError, explain

LARGEST = 1 << 20


class Revision(Struct, frozen=True):
    """One text of the configuration. `hash` is its SHA-256. `command` put it, in place of revision `before`;
    `undoes` is the command that it takes back."""

    number: int
    hash: str
    author: str
    at: float
    command: str = ""
    before: int = 0
    undoes: str = ""


class Revisions:
    """The revisions below a directory, of the file at `config`. Number 0 is no file.

    `clock`: seconds since the epoch.
    """

    def __init__(self, folder: Path, config: Path, clock: Callable[[], float]) -> None:
        self._folder = folder
        self._config = config
        self._clock = clock

    def all(self) -> list[Revision]:
        """Every revision, oldest first. Raises ProviderError."""
        with explain(f"read {self._folder}"):
            paths = sorted(self._folder.glob("[0-9]*.json"), key=lambda path: int(path.stem))
            contents = [path.read_bytes() for path in paths]
        try:
            return [msgspec.json.decode(content, type=Revision) for content in contents]
        except msgspec.MsgspecError as error:
            raise ProviderError(f"{self._folder}: a revision can't be read: {error}; move its file away") from error

    def text(self, number: int) -> bytes | None:
        """A revision's text; None for number 0, which is no file. Raises ProviderError for one that isn't there."""
        if number == 0:
            return None
        path = self._folder / f"{number}.yaml"
        with explain(f"read {path}"):
            return path.read_bytes()

    def current(self) -> int:
        """The revision of the file as it is. One that was written by hand becomes a revision first."""
        there = self.file()
        if there is None:
            return 0
        # Not the last one alone: a revision that was kept, and never got as far as the file, is none of the file's.
        same = next((one for one in reversed(self.all()) if one.hash == _hash(there)), None)
        return self.add(there, "by hand").number if same is None else same.number

    def last(self) -> Revision | None:
        """The latest revision."""
        every = self.all()
        return every[-1] if every else None

    def add(self, text: bytes, author: str, command: str = "", before: int = 0, undoes: str = "") -> Revision:
        """Keep a text as the next revision. Its description comes last: cut off before, there is no revision."""
        every = self.all()
        number = every[-1].number + 1 if every else 1
        made = Revision(number, _hash(text), author, self._clock(), command, before, undoes)
        with explain(f"write below {self._folder}"):
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            sweep(self._folder)
            write_atomically(self._folder / f"{number}.yaml", text)
            write_atomically(self._folder / f"{number}.json", msgspec.json.encode(made))
        return made

    def file(self) -> bytes | None:
        """The configuration file's bytes, None without one. Raises ProviderError."""
        with explain(f"read {self._config}"):
            try:
                with self._config.open("rb") as file:
                    data = file.read(LARGEST + 1)
            except FileNotFoundError:
                return None
        if len(data) > LARGEST:
            raise ProviderError(f"{self._config}: more than {LARGEST} bytes; it isn't taken for a configuration")
        return data

    def put(self, text: bytes | None) -> None:
        """Put a text in the configuration file's place, or remove that. Owner, group and mode stay.

        Raises ProviderError.
        """
        with explain(f"write {self._config}"):
            if text is None:
                remove(self._config)
            elif not self._config.exists():
                write_atomically(self._config, text, mode=0o644)
            else:
                there = self._config.stat()
                write_atomically(self._config, text, mode=there.st_mode & 0o777, owner=(there.st_uid, there.st_gid))


def _hash(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()
