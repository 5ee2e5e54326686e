"""Unpacks the program of protokube.pyz at its first start. Later ones don't load this (start.py).

Compiled modules can't be loaded from an archive. So the program gets a folder, named by its hash, below
/var/cache/protokube (~/.cache/protokube for other users, $PROTOKUBE_CACHE for both). Every process that runs it
holds a shared lock on that folder: the first start of another release removes only what no process runs.
"""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Callable
from typing import Any

PYTHONS = ((3, 11), (3, 13))
"""Debian 12's and 13's: the archive holds the compiled modules for these."""
PAYLOAD, IDENTITY = "program.tar.xz", "identity"
AGAIN_LATER, NOT_PERMITTED, WRONG_MACHINE = 75, 77, 78
_REMEDY = "or name another folder in PROTOKUBE_CACHE"

Read = Callable[[str], bytes]


class RefusedError(Exception):
    """The program can't run: an exit code and the reason."""


def find(folder: str, read: Read) -> str:
    """Unpack the program below `folder` if it isn't there yet, lock it, and return its path.

    `read` gives a member of the archive.
    """
    tree = f"{folder}/{read(IDENTITY).decode()}"
    try:
        os.makedirs(folder, 0o700, exist_ok=True)
        _check_owner(folder)
        while not _lock(tree):
            _unpack(folder, tree, read)
    except PermissionError as error:
        raise RefusedError(
            NOT_PERMITTED, f"{folder}: {error.strerror}; run it as the folder's owner, {_REMEDY}"
        ) from error
    except OSError as error:
        problem = f"the program can't be unpacked there ({error.strerror})"
        raise RefusedError(AGAIN_LATER, f"{folder}: {problem}; make 50 MB of writable room, {_REMEDY}") from error
    return tree


def _check_owner(folder: str) -> None:
    """Refuse a folder in which other users could change the program."""
    status = os.stat(folder)
    if status.st_uid not in (0, os.geteuid()) or status.st_mode & 0o022:
        found = f"expected mode 700 and your own, got {status.st_mode & 0o777:o} of user {status.st_uid}"
        raise RefusedError(NOT_PERMITTED, f"{folder}: other users can write there ({found}); remove it, {_REMEDY}")


def _lock(tree: str) -> bool:
    """Keep others from removing a folder for as long as this process lives. False if it isn't there."""
    try:
        held = os.open(tree, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return False
    fcntl.flock(held, fcntl.LOCK_SH)
    if os.fstat(held).st_nlink > 0:
        return True
    os.close(held)  # removed before the lock was ours
    return False


def _unpack(folder: str, tree: str, read: Read) -> None:
    """Make the program's folder, whole or not at all, and remove the folders that no process runs."""
    import io
    import shutil
    import tarfile

    with open(f"{folder}/lock", "w", opener=lambda path, flags: os.open(path, flags, 0o600)) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if os.path.exists(tree):
            return
        partial = f"{folder}/partial"
        shutil.rmtree(partial, ignore_errors=True)
        for other in os.scandir(folder):
            if other.is_dir(follow_symlinks=False):
                _remove_unused(other.path)
        try:
            os.mkdir(partial, 0o700)
            # Python 3.11.2, Debian 12's, knows no filter; the content is our own.
            trusted: Any = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
            with tarfile.open(fileobj=io.BytesIO(read(PAYLOAD))) as payload:
                payload.extractall(partial, **trusted)
            os.sync()  # a folder that was renamed, and whose files are empty after a power cut, would stay for ever
            os.rename(partial, tree)
        except OSError:
            shutil.rmtree(partial, ignore_errors=True)
            raise


def _remove_unused(tree: str) -> None:
    import shutil

    held = os.open(tree, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(tree)
    except BlockingIOError:
        return  # it runs
    finally:
        os.close(held)


def prepare(program: str, folder: str, read: Read) -> int:
    """Unpack the program below `folder` if need be, and lock it. 0, or the exit code after the reason was printed."""
    if sys.version_info[:2] not in PYTHONS:
        expected, got = " or ".join("{}.{}".format(*one) for one in PYTHONS), "{}.{}".format(*sys.version_info)
        print(f"{program}: wrong Python (expected {expected}, got {got}); install the wheel instead", file=sys.stderr)
        return WRONG_MACHINE
    try:
        find(folder, read)
    except RefusedError as refused:
        code, reason = refused.args
        print(f"{program}: {reason}", file=sys.stderr)
        return int(code)
    return 0
