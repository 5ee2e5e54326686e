#!/usr/bin/python3 -IS
"""Fetches the program at a machine's first boot: fetch-program FILE. Does nothing once the program is there.

FILE is JSON: path, link, sha256 and urls. Each URL is tried once; systemd starts the unit again.
"""

import hashlib
import http.client
import json
import os
import sys
import time
import urllib.request

MOST, PIECE = 1 << 28, 1 << 16
SILENCE, WHOLE = 30, 600
"""Seconds: without a byte, and for the whole file."""


def main(file: str) -> int:
    """Fetch the program; the exit code."""
    with open(file, encoding="utf-8") as opened:
        wanted = json.load(opened)
    if not os.path.exists(wanted["path"]):
        for url in wanted["urls"]:
            shown = url.partition("?")[0]  # a query may be a signature
            try:
                data = download(url)
            except (OSError, ValueError, http.client.HTTPException) as error:
                print(f"{shown}: {error}", file=sys.stderr)
                continue
            if (found := hashlib.sha256(data).hexdigest()) == wanted["sha256"]:
                install(wanted["path"], data)
                break
            size = f"{len(data)} bytes with sha256 {found}"
            print(f"{shown}: wrong content (expected sha256 {wanted['sha256']}, got {size})", file=sys.stderr)
        else:
            print(f"{wanted['path']} can't be had now; trying again", file=sys.stderr)
            return 75
    if not os.path.lexists(wanted["link"]):
        os.symlink(os.path.basename(wanted["path"]), wanted["link"])
    return 0


def download(url: str) -> bytes:
    """The whole file, within limits."""
    end = time.monotonic() + WHOLE
    data = bytearray()
    with urllib.request.urlopen(url, timeout=SILENCE) as answer:
        while piece := answer.read1(PIECE):
            data += piece
            if len(data) > MOST or time.monotonic() > end:
                raise OSError(f"stopped after {len(data)} bytes and {WHOLE - end + time.monotonic():.0f} s")
    return bytes(data)


def install(path: str, data: bytes) -> None:
    """Put the file in its place, whole or not at all."""
    with open(f"{path}.part", "wb") as part:
        part.write(data)
        os.fchmod(part.fileno(), 0o755)
        part.flush()
        os.fsync(part.fileno())
    os.rename(f"{path}.part", path)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
