"""A unit's variables in a file that root alone reads: every user may read the property Environment.

systemd reads the file before it starts the program, and never again; then it is removed. The format is that of
EnvironmentFile= in systemd.exec(5). What systemd would leave out of it without an error is an error here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from protokube.errors import ProviderError, explain

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
"""What systemd takes in no value (env_value_is_valid)."""
_ESCAPED = re.compile(r'["\\`$]')


class EnvironmentFiles:
    """The files of one agent's units. `folder` is below /run: no value outlives the boot."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, unit: str, env: Sequence[tuple[str, str]]) -> Path:
        """Write a unit's variables; return the file. Raises ProviderError, without a value in it."""
        content = environment_text(env)
        path = self._folder / unit
        with explain(f"write {path}"):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
            with open(os.open(path, flags, 0o600), "w", encoding="utf-8") as file:
                file.write(content)
        return path

    def remove(self, unit: str) -> None:
        """Remove a unit's file, if there is one. Raises ProviderError."""
        with explain(f"remove {self._folder / unit}"):
            (self._folder / unit).unlink(missing_ok=True)

    def left(self) -> list[str]:
        """The units whose files are there. Raises ProviderError."""
        with explain(f"list {self._folder}"):
            return [path.name for path in self._folder.iterdir()] if self._folder.exists() else []


def environment_text(env: Sequence[tuple[str, str]]) -> str:
    """The variables as a file: each value in double quotes, so that it is taken literally. Raises ProviderError."""
    return "".join(_lines(env))


def _lines(env: Sequence[tuple[str, str]]) -> Iterator[str]:
    for name, value in env:
        if not _NAME.fullmatch(name):
            raise ProviderError(f"variable {name!r}: systemd takes names of letters, digits and underscores alone")
        if _CONTROL.search(value):
            raise ProviderError(f"variable {name}: systemd takes no control characters; mount it as a file")
        escaped = _ESCAPED.sub(r"\\\g<0>", value)
        yield f'{name}="{escaped}"\n'
