"""What a volume holds, as far as it concerns us: the same for a mounted volume and for an unmounted disk.

Only the directories that protokube or kops make are listed, and lost+found, where e2fsck puts what it found. No
symbolic link is ever followed: a planted link must not show us, or make root write to, another place. Sources are
host.disk.debugfs (unmounted) and host.mounted.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    Entry = tuple[str, str, int]
    """A name, its kind ("d" directory, "f" regular file, "o" other) and a regular file's size in bytes."""

    class Source(Protocol):
        """Where the contents are read. Paths are relative; the empty one is the volume's root."""

        def listings(self, directories: list[str]) -> list[list[Entry]]:
            """At most MOST_ENTRIES + 1 entries of each directory."""

        def contents(self, files: list[tuple[str, int]]) -> list[bytes]:
            """The whole content of regular files, each given with its size."""

        def mtime(self, path: str) -> int | None:
            """When a file was written, in nanoseconds; None when the source can't tell."""


MOST_ENTRIES = 1000
MOST_BYTES = 256 << 10
"""The size of the largest file that is read. Ours and kops's have a few KiB."""
MOST_FILES = 16
"""How many files are read. Ours and kops's are two."""

_DESCEND = frozenset({"lost+found", "var", "var/etcd", "k8s.io", "k8s.io/manifests"})
_DATA = "var/etcd/data"
_IDENTITY = "k8s.io/identity.yaml"
_MANIFESTS = "k8s.io/manifests/"


class Contents:
    """The fields of core.disks.model.Tree, built up."""

    __slots__ = ("entries", "mtimes", "others", "overflow", "texts")

    def __init__(self) -> None:
        self.entries: set[str] = set()
        self.others: set[str] = set()
        self.texts: dict[str, str] = {}
        self.mtimes: dict[str, int] = {}
        self.overflow = False


def collect(source: Source) -> Contents:
    """Read the contents: level by level, so that a source may answer for many directories at once."""
    seen = Contents()
    files: list[tuple[str, int]] = []
    level = [""]
    while level:
        below = []
        for directory, listed in zip(level, source.listings(level), strict=True):
            prefix = f"{directory}/" if directory else ""
            seen.overflow |= len(listed) > MOST_ENTRIES
            for name, kind, size in listed[:MOST_ENTRIES]:
                path = prefix + name
                seen.entries.add(path + "/" if kind == "d" else path)
                if kind == "o":
                    seen.others.add(path)
                elif kind == "d" and _concerns_us(path):
                    below.append(path)
                elif kind == "f" and (path == _IDENTITY or path.startswith(_MANIFESTS)):
                    files.append((path, size))
        level = below
    _read(source, files, seen)
    return seen


def _concerns_us(path: str) -> bool:
    return path in _DESCEND or (path.startswith(_DATA) and path.count("/") == _DATA.count("/"))


def _read(source: Source, files: list[tuple[str, int]], seen: Contents) -> None:
    files.sort(key=lambda file: file[0] != _IDENTITY)  # the identity file first, whatever else is too much
    small = [(path, size) for path, size in files if size <= MOST_BYTES][:MOST_FILES]
    seen.overflow |= len(small) < len(files)
    for (path, _), content in zip(small, source.contents(small), strict=True):
        seen.texts[path] = content.decode(errors="backslashreplace")
        mtime = source.mtime(path)
        if mtime is not None:
            seen.mtimes[path] = mtime
