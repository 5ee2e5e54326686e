"""What a volume holds, as far as it concerns us: the same picture of a mounted volume and of an unmounted disk.

Only the directories that protokube or kops make are listed, and no symbolic link is ever followed: a planted link
must not show us, or make root write to, another place. Sources are host.look (unmounted) and host.mounted.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class Source(Protocol):
        """Where a picture is taken from. Paths are relative; the empty one is the volume's root."""

        def entries(self, directory: str) -> list[tuple[str, str]]:
            """The name and kind ("d" directory, "f" regular file, "o" other) of at most MOST_ENTRIES + 1 entries."""

        def content(self, path: str) -> bytes:
            """At most MOST_BYTES + 1 bytes of a regular file."""

        def mtime(self, path: str) -> int | None:
            """When a file was written, in nanoseconds; None when the source can't tell."""


MOST_ENTRIES = 1000
MOST_BYTES = 256 << 10

_DESCEND = frozenset({"var", "var/etcd", "k8s.io", "k8s.io/manifests"})
_DATA = "var/etcd/data"
_IDENTITY = "k8s.io/identity.yaml"
_MANIFESTS = "k8s.io/manifests/"


class Picture:
    """The fields of core.model.VolumeContents, built up."""

    __slots__ = ("entries", "mtimes", "overflow", "texts")

    def __init__(self) -> None:
        self.entries: set[str] = set()
        self.texts: dict[str, str] = {}
        self.mtimes: dict[str, int] = {}
        self.overflow = False


def collect(source: Source) -> Picture:
    """Take the picture."""
    picture = Picture()
    directories = [""]
    for directory in directories:
        prefix = f"{directory}/" if directory else ""
        listed = source.entries(directory)
        picture.overflow |= len(listed) > MOST_ENTRIES
        for name, kind in listed[:MOST_ENTRIES]:
            path = prefix + name
            picture.entries.add(path + "/" if kind == "d" else path)
            if kind == "d" and _concerns_us(path):
                directories.append(path)
            elif kind == "f" and (path == _IDENTITY or path.startswith(_MANIFESTS)):
                _read(source, path, picture)
    return picture


def _concerns_us(path: str) -> bool:
    return path in _DESCEND or (path.startswith(_DATA) and path.count("/") == _DATA.count("/"))


def _read(source: Source, path: str, picture: Picture) -> None:
    content = source.content(path)
    if len(content) > MOST_BYTES:
        picture.overflow = True
        return
    picture.texts[path] = content.decode(errors="backslashreplace")
    mtime = source.mtime(path)
    if mtime is not None:
        picture.mtimes[path] = mtime
