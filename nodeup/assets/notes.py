"""What nodeup has installed, so that a later run needn't read it again: `/var/lib/nodeup/assets.json`.

A note holds for a file as long as its size, time and inode stay the same. Without one the file is read. Only for an
archive is a note more than a shortcut: it alone says which files the archive holds.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from protokube.core.node.assets import Asset

PLACE = "var/lib/nodeup/assets.json"


class FileNote(msgspec.Struct, frozen=True):
    """A file's hash and mode, and what its stat said when it had this hash."""

    sha256: str
    mode: int
    size: int
    mtime_ns: int
    inode: int

    @classmethod
    def of(cls, info: os.stat_result, sha256: str, mode: int) -> FileNote:
        """The note for a file."""
        return cls(sha256, mode, info.st_size, info.st_mtime_ns, info.st_ino)

    def fits(self, info: os.stat_result) -> bool:
        """Whether the file is still the one that was noted."""
        return (self.size, self.mtime_ns, self.inode) == (info.st_size, info.st_mtime_ns, info.st_ino)


class Notes(msgspec.Struct, frozen=True):
    """All notes. `archives`: an archive's key → the paths of its files."""

    files: Mapping[str, FileNote] = {}
    archives: Mapping[str, tuple[str, ...]] = {}

    def with_files(self, asset: Asset, notes: Mapping[str, FileNote]) -> Notes:
        """The notes with an asset's files. Those of an archive whose files were replaced are dropped."""
        archives = self.archives
        if not asset.path:
            others = {key: paths for key, paths in archives.items() if not self.changed(paths, hashes_of(notes))}
            archives = {**others, archive_key(asset): tuple(sorted(notes))}
        return Notes({**self.files, **notes}, archives)

    def changed(self, paths: Iterable[str], hashes: Mapping[str, str]) -> list[str]:
        """Those of these paths that get another content by these hashes."""
        files = self.files
        return [
            path for path in paths if path in hashes and (path not in files or files[path].sha256 != hashes[path])
        ]


def hashes_of(files: Mapping[str, FileNote]) -> dict[str, str]:
    """The SHA-256 of each file."""
    return {path: note.sha256 for path, note in files.items()}


def archive_key(asset: Asset) -> str:
    """An archive together with what is taken out of it."""
    rules = msgspec.json.encode(asset.extract)
    return f"{asset.sha256}-{hashlib.sha256(rules).hexdigest()[:16]}"


def load(root: str) -> Notes:
    """The notes below a root; none when they can't be read, since everything is then looked at instead."""
    try:
        return msgspec.json.decode(Path(root, PLACE).read_bytes(), type=Notes)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Notes()


def encode(notes: Notes) -> str:
    """The notes as the file's content."""
    return msgspec.json.format(msgspec.json.encode(notes), indent=1).decode() + "\n"
