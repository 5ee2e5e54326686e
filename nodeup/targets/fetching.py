"""The files of assets, with their cache and the way to their mirrors."""

from __future__ import annotations

import sys

from nodeup.assets.cache import Cache
from nodeup.assets.fetch import Fetcher
from nodeup.assets.install import AssetFiles, cache_directory
from nodeup.assets.limits import Limits
from nodeup.assets.progress import Chosen
from nodeup.assets.web import system_trust


def asset_files(root: str, cache: str | None) -> AssetFiles:
    """The assets of the tree below `root`; `cache` is a directory of this machine."""
    limits = Limits()
    kept = Cache(cache_directory(cache), limits)
    return AssetFiles(root, kept, Fetcher(kept, limits, system_trust, Chosen(sys.stderr)), limits.reserve)
