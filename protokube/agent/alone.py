"""Never beside kubelet, and never two agents on one directory."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import yaml

from protokube.core.untrusted_yaml import load
from protokube.errors import PermissionNeededError, ProtokubeError
from protokube.kernel.locks import flock_holder

LOCK = ".virtual-kubelet.lock"
"""Kubelet skips names that begin with a dot."""
_FLAG = "--pod-manifest-path"


class NotAloneError(ProtokubeError):
    """Another agent or a kubelet works on the same directory."""


def kubelet_on(directory: Path) -> int | None:
    """The pid of a kubelet that runs the pods of this directory, None when there is none.

    Paths are seen as the kubelet sees them: one in a container has a directory of its own under the same name. One of
    this very root whose directory can't be told counts: two runners of one directory run every pod twice.
    """
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            if (entry / "comm").read_text().strip() != "kubelet":
                continue
            arguments = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            if _runs(arguments, directory, entry / "root"):
                return int(entry.name)
        except OSError:
            continue  # it has ended
    return None


@contextmanager
def alone(*directories: Path) -> Iterator[None]:
    """Hold the lock of each directory. Raises NotAloneError, naming the holder, or PermissionNeededError."""
    with ExitStack() as held:
        for directory in dict.fromkeys(directories):
            path = directory / LOCK
            try:
                directory.mkdir(parents=True, exist_ok=True)
                opened = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            except OSError as error:
                raise PermissionNeededError(f"{path}: {error.strerror}; the lock can't be taken") from error
            held.callback(os.close, opened)
            try:
                fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = flock_holder(os.fstat(opened)) or "unknown"
                raise NotAloneError(f"{directory}: pid {holder} runs its pods already; stop that first") from None
        yield


def _runs(arguments: list[str], directory: Path, root: Path) -> bool:
    """Whether a kubelet with these arguments, in this root, takes its static pods from the directory."""
    config = None
    for number, one in enumerate(arguments):
        name, _, value = one.partition("=")
        value = value or (arguments[number + 1] if number + 1 < len(arguments) else "")
        if name == _FLAG:
            return _same(root / value.lstrip("/"), directory)
        if name == "--config":
            config = root / value.lstrip("/")
    if config is None:
        return False  # without a flag and a file it runs no static pods
    try:
        tree = load(config.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return _same(root, Path("/"))
    path = tree.get("staticPodPath") if isinstance(tree, dict) else None
    return bool(path) and _same(root / str(path).lstrip("/"), directory)


def _same(one: Path, other: Path) -> bool:
    return one.exists() and other.exists() and one.samefile(other)
