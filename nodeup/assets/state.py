"""How assets stand on a machine. Reading, and nothing of what downloads or unpacks."""

from __future__ import annotations

import stat
from collections.abc import Mapping, Sequence

from nodeup.assets import notes
from nodeup.assets.cache import Cache
from nodeup.assets.notes import FileNote, Notes
from nodeup.assets.place import place
from protokube.core.node.assets import MODE, Asset, AssetState
from protokube.errors import ProviderError


class AssetReader:
    """Looks at the assets of the machine below `root`."""

    def __init__(self, root: str, cache: Cache) -> None:
        self._root = root
        self._cache = cache

    def states(self, assets: Sequence[Asset]) -> Mapping[str, AssetState]:
        """How assets stand, by their subjects. A file that is noted isn't read."""
        known = notes.load(self._root)
        return {asset.subject: self.state(asset, known) for asset in assets}

    def state(self, asset: Asset, known: Notes) -> AssetState:
        """How one asset stands, by these notes."""
        cached = self._cache.has(asset.sha256)
        wanted = wanted_files(asset, known)
        seen = [self._file(path, note, known.files.get(path)) for path, note in wanted.items()]
        if not seen or not all(one.installed for one in seen):
            return AssetState(cached=cached)
        return AssetState(True, all(one.modes for one in seen), all(one.noted for one in seen), cached)

    def _file(self, path: str, wanted: FileNote, note: FileNote | None) -> AssetState:
        """How one file stands."""
        try:
            with place(self._root, path, make=False) as here:
                info = here.stat()
                if info is None:
                    return AssetState()
                noted = note is not None and note.fits(info)
                found = note.sha256 if note is not None and noted else here.digest()
        except ProviderError:
            return AssetState()  # whatever is in the way, installing names it
        modes = stat.S_IMODE(info.st_mode) == wanted.mode
        return AssetState(found == wanted.sha256, modes, noted)


def wanted_files(asset: Asset, known: Notes) -> dict[str, FileNote]:
    """The files of an asset with their hashes and modes; none for an archive that isn't noted."""
    if asset.path:
        return {asset.path: FileNote(asset.content, MODE, 0, 0, 0)}
    paths = known.archives.get(notes.archive_key(asset), ())
    return {path: known.files[path] for path in paths} if set(paths) <= set(known.files) else {}
