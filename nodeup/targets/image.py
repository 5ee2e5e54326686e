"""The tree of an image: files and links alone, nothing of the machine that builds it, and no systemd."""

from __future__ import annotations

import shutil
from pathlib import Path

from nodeup.assets.port import CACHE, AssetFiles
from nodeup.facts import TreeReader
from nodeup.image_check import builders_resolver
from nodeup.observe import Observer, Readers
from nodeup.sources import Source
from protokube.core.node.image import image_wanted
from protokube.core.node.machine import MachineFacts
from protokube.core.node.wants import Wanted
from protokube.errors import explain
from protokube.host.files import NodeFiles
from protokube.ports import Writers


def image_tree(source: Source, root: str, cache: str | None) -> tuple[Observer, Writers]:
    """The tree below `root`, to look at and to act on."""

    def more(out: Wanted, machine: MachineFacts) -> None:
        image_wanted(out, machine, source.settings, source.units)
        if (path := builders_resolver(Path(root))) is not None:
            out.removed[path] = "the name servers of the machine that builds the image"

    files, assets = NodeFiles(root), AssetFiles(root, cache)
    readers = Readers(TreeReader(root, running=False), files, assets, None)
    return Observer(source, readers, more), {"files": files, "assets": assets}


def leave_no_cache(root: str, cache: str | None) -> None:
    """Remove the default cache where it lies in the image, as with `--root /`. A named one is its owner's."""
    if cache is None and Path(CACHE).is_dir() and Path(CACHE).resolve().is_relative_to(Path(root).resolve()):
        with explain(CACHE):
            shutil.rmtree(CACHE)
