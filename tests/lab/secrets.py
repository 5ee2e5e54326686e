"""What is secret in a run, and where it shows: in what was said, in arguments, in files that others can read.

with Watch(node.processes) as watch:
    …                                  # the run
secrets = private_keys(store, node.root) | forms(key)
assert not shown(secrets, watch.seen) and not spilled(secrets, [tmp_path], beside=())
"""

from __future__ import annotations

import base64
import os
import re
import stat
import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import Self

_KEY = re.compile(rb"BEGIN PRIVATE KEY-----\n(.*?)\n-----END", re.S)
_SCALAR = slice(36, 68)
"""Where PKCS #8 has the secret number of a P-256 key."""


def forms(secret: bytes) -> set[bytes]:
    """A secret as it may be spelled: as it is, hexadecimal, base64."""
    return {secret, secret.hex().encode(), base64.b64encode(secret).rstrip(b"=")}


def keys_in(content: bytes) -> set[bytes]:
    """What gives away the private keys in a content, PEM as it is or inside JSON: its lines, the same as base64 of a
    whole file has it (kubeconfigs), and the number."""
    found: set[bytes] = set()
    for body in _KEY.findall(content.replace(b"\\n", b"\n")):
        first, second, *_ = body.split(b"\n")
        # These lines hold the number; the rest of the body is public. 30 bytes into the file base64 begins a group.
        found |= {first, second, base64.b64encode(first[2:62])}
        found |= forms(base64.b64decode(first + second)[_SCALAR])
    return found


def private_keys(*folders: Path) -> set[bytes]:
    """What gives away the private keys that stand below these folders."""
    files = (path for folder in folders for path in folder.rglob("*") if path.is_file())
    return {one for path in files for one in keys_in(path.read_bytes())}


def shown(secrets: Collection[bytes], texts: Iterable[str]) -> list[str]:
    """The texts in which a secret stands."""
    return [text for text in texts if any(one in text.encode(errors="replace") for one in secrets)]


def holders(secrets: Collection[bytes], folders: Iterable[Path], beside: Collection[Path] = ()) -> Iterator[Path]:
    """The files below these folders in which a secret stands. `beside`: folders that aren't entered."""
    for folder in folders:
        for place, inner, names in os.walk(folder):
            inner[:] = [one for one in inner if Path(place, one) not in beside]
            for path in (Path(place, name) for name in names):
                if stat.S_ISREG(path.lstat().st_mode):
                    content = path.read_bytes()
                    if any(one in content for one in secrets):
                        yield path


def spilled(secrets: Collection[bytes], folders: Iterable[Path], beside: Collection[Path] = ()) -> list[Path]:
    """The files with a secret that others than their owner can read, or whose directory they can enter."""
    return [
        path
        for path in holders(secrets, folders, beside)
        if path.stat().st_mode & 0o077 or path.parent.stat().st_mode & 0o077
    ]


class Watch:
    """Looks at processes' arguments and environments again and again, in a thread."""

    def __init__(self, look: Callable[[], str]) -> None:
        self.seen: list[str] = []
        self._look, self._end = look, threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._end.wait(0.1):
            text = self._look()
            if text not in self.seen:
                self.seen.append(text)
