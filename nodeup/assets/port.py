"""A machine's assets: what a run reads and acts on."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from nodeup.assets.cache import Cache
from nodeup.assets.limits import Limits
from nodeup.assets.progress import Chosen, Progress
from nodeup.assets.state import AssetReader
from protokube.core.node.assets import Asset, AssetState

if TYPE_CHECKING:
    from nodeup.assets.fetch import Fetcher
    from nodeup.assets.install import Installer
    from nodeup.assets.web import Trust

CACHE = "/var/cache/nodeup"
"""Of the machine that runs nodeup, for images as well: a cache has no place in an image."""


class AssetFiles:
    """The assets of the machine below `root`; implements AssetWriter, whose actions may run side by side.

    HTTP, TLS and tar take 100 ms to import, of a second run's few hundred: they are imported when they are used.
    """

    def __init__(
        self,
        root: str,
        cache: str | None = None,
        *,
        limits: Limits | None = None,
        trust: Trust | None = None,
        progress: Progress | None = None,
    ) -> None:
        self._root = root
        self._limits = limits or Limits()
        self._trust = trust
        self._progress = progress or Chosen(sys.stderr)
        self._cache = Cache(cache or CACHE, self._limits)
        self._reader = AssetReader(root, self._cache)
        self._beside: tuple[Asset, ...] = ()
        """The assets that were last looked at: all that are wanted together."""

    def states(self, assets: Sequence[Asset]) -> Mapping[str, AssetState]:
        """How assets stand, by their subjects. A file that is noted isn't read."""
        self._beside = tuple(assets)
        return self._reader.states(assets)

    def fetch(self, asset: Asset) -> None:
        """Bring an asset into the cache. Raises AssetError when no mirror serves it right."""
        self._fetcher.fetch(asset)

    def install(self, asset: Asset) -> None:
        """Put an asset's files in their places: all of them or, when one can't be written, none."""
        self._installer.install(asset, self._beside)

    @cached_property
    def _fetcher(self) -> Fetcher:
        from nodeup.assets.fetch import Fetcher
        from nodeup.assets.web import system_trust

        return Fetcher(self._cache, self._limits, self._trust or system_trust, self._progress)

    @cached_property
    def _installer(self) -> Installer:
        from nodeup.assets.install import Installer

        return Installer(self._root, self._cache, self._limits.reserve)
