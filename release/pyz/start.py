"""`__main__` of protokube.pyz: runs the program that an earlier start has unpacked.

Python compiles this file at each start, so it is short. launcher.py, which unpacks the program and says why it can't
be run, is loaded only when the program can't be run as it stands. The archive's name decides what runs: nodeup if it
begins so, protokube otherwise.
"""

from __future__ import annotations

import os
import sys
from fcntl import LOCK_SH, flock
from importlib import import_module

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

IDENTITY = "identity"
PYTHONS = ((3, 11), (3, 13))


def folder() -> str:
    """Where programs are unpacked."""
    if own := os.environ.get("PROTOKUBE_CACHE"):
        return os.path.abspath(own)
    if os.geteuid() == 0:
        return "/var/cache/protokube"
    return os.path.expanduser(os.environ.get("XDG_CACHE_HOME") or "~/.cache") + "/protokube"


def is_ready(place: str, tree: str) -> bool:
    """Whether the program is unpacked where nobody else can change it. It is locked then, until this process ends."""
    try:
        status = os.stat(place)
        held = os.open(tree, os.O_RDONLY | os.O_DIRECTORY)
        flock(held, LOCK_SH)
    except OSError:
        return False
    ours = status.st_uid in (0, os.geteuid()) and not status.st_mode & 0o022
    return ours and os.fstat(held).st_nlink > 0  # 0: removed before the lock was ours


def main(loader: Any) -> int:
    """Run what the archive is called. The exit code."""
    archive, place = sys.path[0], folder()
    tree = f"{place}/{loader.get_data(f'{archive}/{IDENTITY}').decode()}"
    program = "nodeup" if os.path.basename(sys.argv[0]).startswith("nodeup") else "protokube"
    if sys.version_info[:2] not in PYTHONS or not is_ready(place, tree):
        launcher = import_module("launcher")
        if code := launcher.prepare(program, place, lambda name: loader.get_data(f"{archive}/{name}")):
            return int(code)
    sys.path[:] = [*sys.path[1:], tree]  # behind Python's own modules, as site-packages are
    return int(import_module(f"{program}.__main__").main())


if __name__ == "__main__":
    sys.exit(main(sys.modules["__main__"].__loader__))
