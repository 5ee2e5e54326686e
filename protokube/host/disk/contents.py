"""What a volume holds, as far as it concerns us: the same for a mounted volume and for an unmounted disk.

Only the directories that protokube or kops make are listed (the caller knows the data directories of its etcd
clusters), and lost+found, where e2fsck puts what it found. No
symbolic link is ever followed: a planted link must not show us, or make root write to, another place. Sources are
host.disk.debugfs (unmounted) and host.mounted.
"""

from __future__ import annotations

from protokube.core.disks.paths import IDENTITY_PATH, LOST_AND_FOUND, MANIFESTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
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


class Contents:
    """The fields of core.disks.model.Tree, built up."""

    __slots__ = ("entries", "mtimes", "others", "overflow", "texts")

    def __init__(self) -> None:
        self.entries: set[str] = set()
        self.others: set[str] = set()
        self.texts: dict[str, str] = {}
        self.mtimes: dict[str, int] = {}
        self.overflow = False


def collect(source: Source, data_dirs: Iterable[str]) -> Contents:
    """Read the contents: level by level, so that a source may answer for many directories at once."""
    seen = Contents()
    descend = _with_parents([LOST_AND_FOUND.rstrip("/"), MANIFESTS, *data_dirs])
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
                elif kind == "d" and path in descend:
                    below.append(path)
                elif kind == "f" and (path == IDENTITY_PATH or path.startswith(f"{MANIFESTS}/")):
                    files.append((path, size))
        level = below
    _read(source, files, seen)
    return seen


def _with_parents(directories: list[str]) -> set[str]:
    parts = [directory.split("/") for directory in directories]
    return {"/".join(names[:depth]) for names in parts for depth in range(1, len(names) + 1)}


def _read(source: Source, files: list[tuple[str, int]], seen: Contents) -> None:
    files.sort(key=lambda file: file[0] != IDENTITY_PATH)  # the identity file first, whatever else is too much
    small = [(path, size) for path, size in files if size <= MOST_BYTES][:MOST_FILES]
    seen.overflow |= len(small) < len(files)
    for (path, _), content in zip(small, source.contents(small), strict=True):
        seen.texts[path] = content.decode(errors="backslashreplace")
        mtime = source.mtime(path)
        if mtime is not None:
            seen.mtimes[path] = mtime
