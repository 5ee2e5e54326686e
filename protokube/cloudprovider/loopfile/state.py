"""What a cloud would remember of a volume, in `<image>.state`: its last holder, and the tags that were set.

One JSON object, for people as well. Only the volume's holder writes it, atomically, and only when it changes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct, field

from protokube.errors import ProviderError, explain

_VERSION = 1


class Holder(Struct, frozen=True):
    """Who attached a volume last.

    `root` and `namespace` (its mount namespace, as in /proc/self/ns/mnt) tell apart daemons that go by one name.
    """

    node: str
    internal: tuple[str, ...]
    external: tuple[str, ...]
    root: str
    namespace: str

    def same_daemon(self, other: Holder) -> bool:
        """Whether both are the same node, with the same root, in the same mount namespace."""
        return (self.node, self.root, self.namespace) == (other.node, other.root, other.namespace)


class Memory(Struct, frozen=True):
    """The content of one state file."""

    holder: Holder | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


def load(path: str) -> Memory:
    """What is remembered; nothing when there is no file yet."""
    with explain(f"read {path}"):
        try:
            text = Path(path).read_text()
        except FileNotFoundError:
            return Memory()
        except UnicodeDecodeError as error:
            raise _damaged(path, str(error)) from error
    try:
        return _parse(json.loads(text))
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise _damaged(path, f"{type(error).__name__}: {error}") from error


def _damaged(path: str, why: str) -> ProviderError:
    return ProviderError(
        f"{path} can't be understood ({why}): repair it from a copy. Remove it only if the volume never belonged to "
        "an etcd member, since it says what was on it"
    )


def _parse(data: object) -> Memory:
    if not isinstance(data, dict) or data.get("version") != _VERSION:
        raise ValueError(f"an object with version {_VERSION} was expected")
    holder, tags = data["holder"], data["tags"]
    if not isinstance(tags, dict) or not all(isinstance(value, str) for value in tags.values()):
        raise ValueError("tags must be strings")
    if holder is None:
        return Memory(None, tags)
    words = [holder[key] for key in ("node", "root", "mountNamespace")]
    addresses = [holder[key] for key in ("internal", "external")]
    if not all(isinstance(word, str) for word in words):
        raise ValueError("the holder's node, root and mountNamespace must be strings")
    if not all(isinstance(item, list) and all(isinstance(address, str) for address in item) for item in addresses):
        raise ValueError("the holder's addresses must be lists of strings")
    node, root, namespace = words
    return Memory(Holder(node, tuple(addresses[0]), tuple(addresses[1]), root, namespace), tags)


def save(path: str, memory: Memory) -> None:
    """Replace the file atomically; on disk when this returns."""
    holder = memory.holder
    data = {
        "version": _VERSION,
        "holder": holder
        and {
            "node": holder.node,
            "internal": holder.internal,
            "external": holder.external,
            "root": holder.root,
            "mountNamespace": holder.namespace,
        },
        "tags": dict(sorted(memory.tags.items())),
    }
    folder, name = os.path.split(path)
    temporary = Path(folder) / f".{name}.new"
    with temporary.open("w") as file:
        json.dump(data, file, indent=2)
        file.write("\n")
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
