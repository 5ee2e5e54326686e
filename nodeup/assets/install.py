"""Puts cached assets in their places."""

from __future__ import annotations

import gzip
import hashlib
import lzma
import os
import stat
import threading
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import IO

from nodeup.assets import archive, notes
from nodeup.assets.cache import Cache
from nodeup.assets.errors import ARCHIVE, HASH, AssetError, installing
from nodeup.assets.notes import FileNote, Notes
from nodeup.assets.place import Place, Readable, pieces_of, place
from nodeup.assets.state import AssetReader, wanted_files
from protokube.core.node.actions import WriteFile
from protokube.core.node.assets import MODE, Asset
from protokube.host.files import NodeFiles

_GZIP = b"\x1f\x8b"
_DAMAGE = (EOFError, gzip.BadGzipFile, lzma.LZMAError, zlib.error)


class Installer:
    """Installs assets on the machine below `root`; `reserve` bytes of its filesystems stay free."""

    def __init__(self, root: str, cache: Cache, reserve: int) -> None:
        self._root = root
        self._cache = cache
        self._reserve = reserve
        self._reader = AssetReader(root, cache)
        self._noting = threading.Lock()
        """Assets are installed side by side, and noted one after the other."""

    def install(self, asset: Asset, beside: Sequence[Asset] = ()) -> None:
        """Put an asset's files in their places: all of them or, when one can't be written, none.

        An archive is refused whose file is another one in an archive of `beside`: they would undo each other.
        """
        known = notes.load(self._root)
        state = self._reader.state(asset, known)
        if state.installed:
            files = {path: (note.sha256, note.mode) for path, note in wanted_files(asset, known).items()}
        elif asset.path:
            files = {asset.path: (self._install_file(asset, asset.path), MODE)}
        else:
            files = self._install_archive(asset, beside)
        self._note(asset, files, beside)

    # --- installing ----------------------------------------------------------------------------

    def _install_file(self, asset: Asset, path: str) -> str:
        """Put a single file in its place; the SHA-256 of its content."""
        with place(self._root, path, make=True) as here, self._cached(asset) as source:
            here.stat()
            here.room(os.fstat(source.fileno()).st_size, self._reserve)
            with _staging([here]):
                found = here.stage(_unpacked(asset, source) if asset.unpacked else pieces_of(source), MODE)
                if found != asset.content:
                    key = "unpackedSha256" if asset.unpacked else "sha256"
                    raise AssetError(
                        HASH, f"{path}: wrong {key} (expected {asset.content}, got {found}); compare the publisher's"
                    )
                here.commit()
        return found

    def _install_archive(self, asset: Asset, beside: Sequence[Asset]) -> dict[str, tuple[str, int]]:
        """Put an archive's files in their places: path → SHA-256 and mode."""
        with self._cached(asset), archive.opened(asset, self._cache.path(asset.sha256)) as tar, ExitStack() as stack:
            members = archive.members(asset, tar)
            places = {one.target: stack.enter_context(place(self._root, one.target, make=True)) for one in members}
            for one in members:
                places[one.target].stat()
                places[one.target].room(sum(other.size for other in members), self._reserve)
            found: dict[str, tuple[str, int]] = {}
            staged: list[Place] = []
            with _staging(list(places.values())):
                for one in members:
                    here = places[one.target]
                    same = _same(here, one.size, archive.content(tar, one))
                    found[one.target] = (same or here.stage(pieces_of(archive.content(tar, one)), one.mode), one.mode)
                    if not same:
                        staged.append(here)
                _no_clash(asset, {path: one[0] for path, one in found.items()}, notes.load(self._root), beside)
                for here in staged:
                    here.commit()
            return found

    @contextmanager
    def _cached(self, asset: Asset) -> Iterator[IO[bytes]]:
        """The cached file, after its hash proved right. A damaged one is removed."""
        path = self._cache.path(asset.sha256)
        with installing(f"{asset.subject}: {path}"):
            file = path.open("rb")
        with file:
            with installing(str(path)):
                found = hashlib.file_digest(file, "sha256").hexdigest()
            if found != asset.sha256:
                self._cache.drop(asset.sha256)
                raise AssetError(
                    HASH, f"{asset.subject}: its copy in the cache was damaged and is removed; run nodeup again"
                )
            file.seek(0)
            yield file

    # --- noting --------------------------------------------------------------------------------

    def _note(self, asset: Asset, files: Mapping[str, tuple[str, int]], beside: Sequence[Asset]) -> None:
        """Set the modes, and write down what stands there now."""
        found: dict[str, FileNote] = {}
        for path, (sha256, mode) in files.items():
            with place(self._root, path, make=False) as here:
                info = here.stat()
                if info is not None and stat.S_IMODE(info.st_mode) != mode:
                    here.set_mode(mode)
                if info is not None:
                    found[path] = FileNote.of(info, sha256, mode)
        with self._noting:
            known = notes.load(self._root)
            _no_clash(asset, notes.hashes_of(found), known, beside)  # another one may have come in the meantime
            content = notes.encode(known.with_files(asset, found))
            NodeFiles(self._root).write(WriteFile(f"/{notes.PLACE}", content=content))


def _no_clash(asset: Asset, hashes: Mapping[str, str], known: Notes, beside: Sequence[Asset]) -> None:
    """Refuse to replace a file of another archive that is wanted as well."""
    if asset.path:
        return
    for other in beside:
        if other.path or notes.archive_key(other) == notes.archive_key(asset):
            continue
        if shared := known.changed(known.archives.get(notes.archive_key(other), ()), hashes):
            raise AssetError(
                ARCHIVE,
                f"{asset.subject}: {shared[0]} is a file of {other.subject} as well, with another content; "
                "give it a pattern and a path of its own",
            )


@contextmanager
def _staging(places: Sequence[Place]) -> Iterator[None]:
    """Leave no new file behind when one of them can't be written."""
    with ExitStack() as undo:
        for one in places:
            undo.callback(one.abandon)
        yield
        undo.pop_all()


def _same(here: Place, size: int, content: Readable) -> str:
    """The SHA-256 of the file in its place if that is the content's, else nothing."""
    info = here.stat()
    if info is None or info.st_size != size:
        return ""
    seen = hashlib.sha256()
    for piece in pieces_of(content):
        seen.update(piece)
    return seen.hexdigest() if here.digest() == seen.hexdigest() else ""


def _unpacked(asset: Asset, source: IO[bytes]) -> Iterator[bytes]:
    """The content of a .gz or .xz, piece by piece; its first bytes say which it is."""
    first = source.read(len(_GZIP))
    source.seek(0)
    try:
        with gzip.open(source) if first == _GZIP else lzma.open(source) as content:
            yield from pieces_of(content)
    except _DAMAGE as error:
        raise AssetError(
            ARCHIVE, f"{asset.subject}: can't be unpacked: {error}; is it a .gz or .xz? compare its URL and sha256"
        ) from error
