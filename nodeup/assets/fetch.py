"""Brings an asset into the cache: mirror by mirror, resumed where it was cut, until its hash is right."""

from __future__ import annotations

import io
import os
import re
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import unquote, urlsplit

from nodeup.assets.cache import Cache, Part, Source
from nodeup.assets.errors import HASH, CutError, MirrorError, all_failed
from nodeup.assets.limits import Limits
from nodeup.assets.progress import Progress
from nodeup.assets.web import Response, Trust, get
from protokube.core.model import MIB
from protokube.core.node.assets import Asset

_RANGE = re.compile(r"bytes (\d{1,19})-\d+/(\d+|\*)")
_LOOK_EVERY = 8 * MIB


class Fetcher:
    """Fetches assets, a few at a time."""

    def __init__(self, cache: Cache, limits: Limits, trust: Trust, progress: Progress) -> None:
        self._cache = cache
        self._limits = limits
        self._trust = trust
        self._progress = progress
        self._turns = threading.BoundedSemaphore(limits.together)

    def fetch(self, asset: Asset) -> None:
        """Bring an asset into the cache. Raises AssetError when no mirror serves it right."""
        with self._turns, self._cache.part(asset.sha256) as part:
            if part is None:
                return
            failures: list[tuple[str, MirrorError]] = []
            for url in asset.urls:
                part.until = time.monotonic() + self._limits.whole / len(asset.urls)
                try:
                    self._from_mirror(asset, url, part)
                except MirrorError as failure:
                    failures.append((url, failure))
                    self._progress.failed(asset.name, url, str(failure))
                else:
                    return
            raise all_failed(asset, failures)

    def _from_mirror(self, asset: Asset, url: str, part: Part) -> None:
        """The whole file from one mirror. A file that was put together from several answers gets a second chance."""
        if part.size and part.digest() == asset.sha256:
            part.finish()  # killed between the last byte and the new name
            return
        if self._bytes_from(asset, url, part) != asset.sha256:
            part.clear()
            self._progress.failed(asset.name, url, "the parts of two answers don't fit: begin again")
            digest = self._bytes_from(asset, url, part)
            if digest != asset.sha256:
                part.clear()
                raise MirrorError(_wrong(asset, digest, "the parts of two answers, twice"), HASH)
        part.finish()
        self._progress.fetched(asset.name, part.size)

    def _bytes_from(self, asset: Asset, url: str, part: Part) -> str:
        """All bytes from one mirror, and their hash. A wrong hash of one whole answer is raised."""
        cuts = 0
        resumed = False
        while True:
            before = part.size
            try:
                content_type, continued = self._once(asset, url, part)
            except CutError:
                if part.size <= before or cuts == self._limits.cuts:
                    raise
                cuts += 1
                continue
            resumed = continued
            break
        digest = part.digest()
        if digest != asset.sha256 and not resumed:
            size = part.size
            part.clear()
            page = ": a web page, perhaps of a login" if "html" in content_type else ""
            raise MirrorError(_wrong(asset, digest, f"{size} bytes{page}"), HASH)
        return digest

    def _once(self, asset: Asset, url: str, part: Part) -> tuple[str, bool]:
        """One answer, to its end: its content type, and whether it continued an earlier one."""
        if urlsplit(url).scheme == "file":
            with _local(url) as (pieces, size):
                part.begin(Source.of(url))
                self._take(asset, url, part, pieces, size)
            return "", False
        source = part.source
        resumes = part.size > 0 and source is not None and source.url == Source.of(url).url
        headers = {}
        if resumes and source is not None:
            headers["Range"] = f"bytes={part.size}-"
            if source.validator:
                headers["If-Range"] = source.validator
        with get(url, headers, self._limits, self._trust) as response:
            if response.status == 206 and resumes and _continues(response, part):
                self._take(asset, url, part, response.pieces(), response.length)
                return response.headers.get("Content-Type", ""), True
            if response.status == 200:
                part.begin(Source.of(url, _validator(response)))
                self._take(asset, url, part, response.pieces(), response.length)
                return response.headers.get("Content-Type", ""), False
        if resumes and response.status in (206, 416):
            # The file there is another one by now, or is shorter than the part: it's asked for from its beginning.
            part.clear()
            return self._once(asset, url, part)
        raise MirrorError(f"it answers {response.reason}")

    def _take(self, asset: Asset, url: str, part: Part, pieces: Iterator[bytes], length: int | None) -> None:
        """Write the pieces, as far as there is room."""
        part.room(length or 0)
        total = part.size + length if length is not None else None
        with self._progress.download(asset.name, url, part.size, total) as got:
            looked = part.size
            for piece in pieces:
                if part.size - looked >= _LOOK_EVERY:
                    part.room(0)
                    looked = part.size
                part.append(piece)
                got(len(piece))
                if time.monotonic() > part.until and part.size != total:
                    said = f"only {part.size} bytes" + (f" of {total}" if total is not None else "")
                    raise MirrorError(f"{said} within its share of {self._limits.whole:g} s; too slow for one run")


def _wrong(asset: Asset, digest: str, what: str) -> str:
    return f"wrong SHA-256 (expected {asset.sha256}, got {digest}) of {what}"


def _continues(response: Response, part: Part) -> bool:
    """Whether an answer to a Range goes on where the part ends."""
    found = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
    return found is not None and int(found[1]) == part.size


def _validator(response: Response) -> str:
    """What names this version of the file: If-Range allows strong ETags, and dates (RFC 9110, 13.1.5)."""
    etag = response.headers.get("ETag", "")
    return etag if etag.startswith('"') else response.headers.get("Last-Modified", "")


@contextmanager
def _local(url: str) -> Iterator[tuple[Iterator[bytes], int]]:
    """The pieces and the size of a file on this machine."""
    path = unquote(urlsplit(url).path)
    try:
        # Neither a pipe nor a device may hang here.
        opened = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise MirrorError(f"{path}: {error.strerror}") from error
    with open(opened, "rb", buffering=0) as file:
        info = os.fstat(opened)
        if not stat.S_ISREG(info.st_mode):
            raise MirrorError(f"{path} is not a regular file")
        yield _pieces(file, path), info.st_size


def _pieces(file: io.FileIO, path: str) -> Iterator[bytes]:
    try:
        while piece := file.read(MIB):
            yield piece
    except OSError as error:
        raise MirrorError(f"{path}: {error.strerror}") from error
