"""Reads the wanted files of a tar archive. Nothing is written here."""

from __future__ import annotations

import lzma
import posixpath
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from msgspec import Struct

from nodeup.assets.errors import ARCHIVE, AssetError
from protokube.core.node.assets import Asset, Extract, match

_LINKS = 10
_DAMAGE = (tarfile.TarError, EOFError, lzma.LZMAError, zlib.error)


class Member(Struct, frozen=True):
    """A file of an archive, and where it goes. `entry` holds the content, for a link that of the file it leads to."""

    target: str
    mode: int
    size: int
    entry: tarfile.TarInfo


@contextmanager
def opened(asset: Asset, path: Path) -> Iterator[tarfile.TarFile]:
    """An archive for reading, whatever it is compressed with. Damage raises AssetError."""
    try:
        with tarfile.open(path, "r:*") as archive:
            yield archive
    except _DAMAGE as error:
        raise _refused(asset, f"not a readable tar archive: {error}; compare its URL and sha256") from error


def members(asset: Asset, archive: tarfile.TarFile) -> list[Member]:
    """The files that the asset's patterns name, in the order of the archive.

    Raises AssetError when a pattern finds nothing, and for everything that could lead elsewhere: names with `..`,
    links out of the archive, devices, pipes, two files for one path.
    """
    found: dict[str, Member] = {}
    used: set[Extract] = set()
    for entry in archive.getmembers():
        matched = match(asset, entry.name)
        if matched is None or entry.isdir():
            continue
        rule, target = matched
        used.add(rule)
        if entry.name.startswith("/") or ".." in entry.name.split("/"):
            raise _refused(asset, f"{entry.name!r} leads out of the archive; don't use this archive")
        real = _resolved(asset, archive, entry)
        if target in found:
            raise _refused(asset, f"{entry.name!r} and another file both go to {target}; give each its own pattern")
        found[target] = Member(target, 0o755 if real.mode & 0o111 else 0o644, real.size, real)
    for rule in asset.extract:
        if rule not in used:
            raise _refused(asset, f"no file matches {rule.pattern!r}; `tar -tf` lists what is inside")
    # In the order of their data: a compressed archive can't be read backwards but from its beginning.
    return sorted(found.values(), key=lambda member: member.entry.offset_data)


def content(archive: tarfile.TarFile, member: Member) -> IO[bytes]:
    """A member's content."""
    file = archive.extractfile(member.entry)
    assert file is not None  # members() lets only regular files through
    return file


def _resolved(asset: Asset, archive: tarfile.TarFile, entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """The regular file that an entry is, or that it leads to inside of the archive."""
    name = entry.name
    for _ in range(_LINKS):
        if entry.isfile():
            return entry
        if not (entry.issym() or entry.islnk()):
            raise _refused(asset, f"{name!r} is a device or a pipe; name it in no pattern")
        below = posixpath.dirname(entry.name) if entry.issym() else ""
        inside = posixpath.normpath(posixpath.join(below, entry.linkname))
        if inside.startswith(("/", "..")):
            raise _refused(asset, f"{name!r} leads out of the archive (to {entry.linkname}); name it in no pattern")
        following = next((one for one in archive.getmembers() if posixpath.normpath(one.name) == inside), None)
        if following is None:
            raise _refused(asset, f"{name!r} is a link to {entry.linkname}, which is not in the archive")
        entry = following
    raise _refused(asset, f"{name!r} is a link that leads in a circle")


def _refused(asset: Asset, problem: str) -> AssetError:
    return AssetError(ARCHIVE, f"{asset.subject}: {problem}")
