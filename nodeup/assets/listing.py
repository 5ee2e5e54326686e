"""Lists the assets of a configuration, for a mirror. It asks the servers for sizes alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from urllib.parse import unquote, urlsplit

import msgspec

from nodeup.assets.errors import MirrorError
from nodeup.assets.limits import Limits
from nodeup.assets.progress import size_text
from nodeup.assets.web import Trust, get
from protokube.core.node.assets import Asset, targets

Sized = Callable[[str], int | None]


class Listed(msgspec.Struct, frozen=True, rename="camel"):
    """An asset as it is listed. `size` is in bytes, null when no URL tells it; `to` are paths and directories."""

    name: str
    arch: str | None
    sha256: str
    unpacked_sha256: str | None
    size: int | None
    urls: tuple[str, ...]
    to: tuple[str, ...]


class Listing(msgspec.Struct, frozen=True):
    """The whole list; `version` is that of its form."""

    assets: tuple[Listed, ...]
    version: int = 1


def listing(assets: Sequence[Asset], size_of: Sized) -> Listing:
    """The list of all assets, of every architecture. Sizes are asked for side by side."""

    def listed(asset: Asset) -> Listed:
        sizes = (size_of(url) for url in asset.urls)
        size = next((size for size in sizes if size is not None), None)
        return Listed(asset.name, asset.arch, asset.sha256, asset.unpacked, size, asset.urls, targets(asset))

    with ThreadPoolExecutor(max_workers=8) as pool:
        return Listing(tuple(pool.map(listed, assets)))


def size_asker(limits: Limits, trust: Trust) -> Sized:
    """Asks servers and this machine's files for sizes."""
    return partial(_size, limits, trust)


def _size(limits: Limits, trust: Trust, url: str) -> int | None:
    parts = urlsplit(url)
    try:
        if parts.scheme == "file":
            return Path(unquote(parts.path)).stat().st_size
        with get(url, {}, limits, trust, "HEAD") as answer:
            return answer.length if answer.status == 200 else None
    except (OSError, MirrorError):
        return None


def as_json(listed: Listing) -> str:
    """The list for scripts."""
    return msgspec.json.format(msgspec.json.encode(listed), indent=2).decode()


def as_text(listed: Listing) -> str:
    """The list for people: the hash and name in sha256sum's form, then where it comes from and goes to."""
    lines: list[str] = []
    for one in listed.assets:
        size = size_text(one.size) if one.size is not None else "size unknown"
        lines.append(f"{one.sha256}  {one.name}  ({', '.join(filter(None, (one.arch, size)))})")
        lines += [f"    from {url}" for url in one.urls]
        lines += [f"    to {path}" for path in one.to]
    known = [one.size for one in listed.assets if one.size is not None]
    missing = len(listed.assets) - len(known)
    if known:
        lines.append(f"{size_text(sum(known))} in all" + (f", without {missing} of unknown size" * bool(missing)))
    return "\n".join(lines) or "nothing is fetched: the configuration lists no assets"
