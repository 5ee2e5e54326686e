"""A volume's state file, in place of a cloud's memory: the last holder, and the tags that were set.

One JSON object, for people as well. Only the volume's holder writes it, atomically, and only when it changes. Its
form is a contract: scripts read it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct, field

from protokube.errors import ProviderError, explain


class Daemon(Struct, frozen=True):
    """Which daemon of which node: the root and the mount namespace tell apart those that go by one name.

    `namespace` is the mount namespace, as in /proc/self/ns/mnt.
    """

    node: str
    root: str
    namespace: str


class Holder(Struct, frozen=True):
    """The node that attached a volume last, and the addresses that it announced."""

    node: str
    internal: tuple[str, ...]
    external: tuple[str, ...]
    root: str
    namespace: str = field(name="mountNamespace")

    @property
    def daemon(self) -> Daemon:
        """The daemon that attached it."""
        return Daemon(self.node, self.root, self.namespace)


class State(Struct, frozen=True):
    """The content of a state file."""

    holder: Holder | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


class _File(Struct, frozen=True):
    """The form of a state file; every field has to be there."""

    version: Literal[1]
    holder: Holder | None
    tags: Mapping[str, str]


def load(path: str) -> State:
    """Read a state file; an empty State when there is none yet."""
    with explain(f"read {path}"):
        try:
            text = Path(path).read_text()
        except FileNotFoundError:
            return State()
        except UnicodeDecodeError as error:
            raise _damaged(path, str(error)) from error
    try:
        # Not msgspec's own parser: a root whose name isn't UTF-8 stands there as a lone surrogate.
        file = msgspec.convert(json.loads(text), _File)
    except (ValueError, RecursionError) as error:  # JSON's own error and msgspec's are ValueErrors
        raise _damaged(path, str(error)) from error
    return State(file.holder, file.tags)


def _damaged(path: str, why: str) -> ProviderError:
    return ProviderError(
        f"{path} can't be understood ({why}): repair it from a copy. Remove it only if the volume never belonged to "
        "an etcd member, since it is evidence of the volume's data"
    )


def save(path: str, state: State) -> None:
    """Replace the file atomically; on disk when this returns."""
    file = _File(1, state.holder, dict(sorted(state.tags.items())))
    write_file(path, json.dumps(msgspec.to_builtins(file), indent=2) + "\n")


def write_file(path: str, text: str) -> None:
    """Replace a file beside the inventory or an image atomically; on disk when this returns."""
    folder, name = os.path.split(path)
    temporary = Path(folder) / f".{name}.new"
    with temporary.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_folder(folder)


def sync_folder(path: str) -> None:
    """Put a directory's entries on disk."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
