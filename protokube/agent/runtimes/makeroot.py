"""Makes a container's root, and becomes the container's program.

It runs as a program of its own, its text after `python -c`, without any package, in a mount namespace made for it.
What it is told comes by a descriptor, as JSON: a command line is read by everybody, and variables may be secrets.

Mount points are found part by part, each from the one before, and no link of a volume is followed: its containers may
have left one that leads out of the root.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import stat
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

READY = b"\0"
"""What its last words are, on its standard error, when the root is made."""
_BIND, _RECURSIVE, _REMOUNT, _READ_ONLY = 0x1000, 0x4000, 0x20, 0x1  # linux/mount.h
_KEPT = {os.ST_NOSUID: 0x2, os.ST_NODEV: 0x4, os.ST_NOEXEC: 0x8, os.ST_NOATIME: 0x400, os.ST_RELATIME: 0x200000}
"""Flags of a mount that a remount keeps: as statvfs(3) tells them, and as mount(2) takes them."""
_PDEATHSIG = 1  # linux/prctl.h
_LOOK = os.O_PATH | os.O_NOFOLLOW
_LIBRARIES = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
_NOT_FOUND, _NOT_STARTED = 127, 126  # as env(1) and shells say it

_libc = ctypes.CDLL(None, use_errno=True)


class RootError(Exception):
    """The root can't be made. Its text is for people."""


def mount(source: str, target: str, flags: int, kind: str = "", options: str = "") -> None:
    """mount(2). Raises RootError."""
    words = (source.encode(), target.encode(), kind.encode())
    if _libc.mount(*words, ctypes.c_ulong(flags), options.encode()) != 0:
        raise RootError(f"mount {source} at {target}: {os.strerror(ctypes.get_errno())}")


def make(told: dict[str, Any]) -> int:
    """Make the root; return it, opened."""
    mount(told["name"], told["path"], 0, "tmpfs", "mode=0755")
    root = os.open(told["path"], os.O_PATH | os.O_DIRECTORY)
    os.fchdir(root)
    for name in ("etc", "usr", "dev", "proc"):
        Path(name).mkdir()
    links = {}
    for name in _LIBRARIES:
        place = Path("/", name)
        if place.is_symlink():
            links[name] = str(place.readlink())
            Path(name).symlink_to(links[name])
        elif place.is_dir():
            Path(name).mkdir()
            mount(str(place), name, _BIND)
    mount("/usr", "usr", _BIND)
    mount("/dev", "dev", _BIND | _RECURSIVE)
    mount("/proc", "proc", _BIND | _RECURSIVE)
    _seal(os.open("usr", _LOOK))
    Path("etc/nsswitch.conf").write_text("hosts: files dns\n", encoding="ascii")
    if Path(told["resolver"]).is_file():
        shutil.copyfile(told["resolver"], "etc/resolv.conf")
    for source, target, read_only in told["mounts"]:
        _bind(root, source, target, links, read_only=read_only)
    return root


def _bind(root: int, source: str, target: str, links: dict[str, str], *, read_only: bool) -> None:
    held = os.open(source, os.O_PATH)
    first, *rest = [part for part in target.split("/") if part not in ("", ".")] or [""]
    *way, name = [*links.get(first, first).strip("/").split("/"), *rest]  # these links are the root's own
    parent = os.dup(root)
    for part in way:
        parent = _entered(parent, part, target, directory=True)
    point = _entered(parent, name, target, directory=stat.S_ISDIR(os.fstat(held).st_mode))
    mount(f"/proc/self/fd/{held}", f"/proc/self/fd/{point}", _BIND)
    if read_only:
        _seal(os.open(name, _LOOK, dir_fd=parent))  # what is mounted there now
    for opened in (held, parent, point):
        os.close(opened)


def _entered(parent: int, name: str, target: str, *, directory: bool) -> int:
    """Open a part of a mount point's path; it is made where it is missing."""
    try:
        with suppress(FileExistsError):
            if directory:
                os.mkdir(name, dir_fd=parent)
            else:
                os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644, dir_fd=parent))
        opened = os.open(name, _LOOK, dir_fd=parent)
    except OSError as error:
        raise RootError(f"mount point {target}: {name}: {error.strerror}") from error
    if stat.S_ISLNK(os.fstat(opened).st_mode):
        raise RootError(f"mount point {target}: {name} is a symbolic link; a file or directory was expected")
    return opened


def _seal(opened: int) -> None:
    """Make a mount read-only, by its opened root."""
    has = os.fstatvfs(opened).f_flag
    kept = sum(flag for told, flag in _KEPT.items() if has & told)
    mount("", f"/proc/self/fd/{opened}", _REMOUNT | _BIND | _READ_ONLY | kept)
    os.close(opened)


def become(told: dict[str, Any], root: int) -> NoReturn:
    """Enter the root, and become the program."""
    os.write(2, READY)
    os.dup2(1, 2)
    argv, what = told["argv"], "its root"
    try:
        os.fchdir(root)
        os.chroot(".")
        os.chdir("/")
        if told["user"] is not None:
            what = f"user and group {told['user']}"
            user, group = told["user"]
            os.setgroups([])
            os.setresgid(group, group, group)
            os.setresuid(user, user, user)
            leash(told)  # with its user a process loses the signal that it asked for
        what = told["directory"] or "/"
        os.chdir(what)
        for number in (signal.SIGPIPE, signal.SIGXFSZ):  # which Python ignores
            signal.signal(number, signal.SIG_DFL)
        what = argv[0]
        os.execvpe(argv[0], argv, dict(told["env"]))
    except OSError as error:
        os.write(2, f"{what}: {error.strerror}\n".encode())
        os._exit(_NOT_FOUND if isinstance(error, FileNotFoundError) else _NOT_STARTED)


def leash(told: dict[str, Any]) -> None:
    """End with the agent. The signal is asked for first, and then it is seen whether its sender lives."""
    if _libc.prctl(_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0 or os.getppid() != told["agent"]:
        raise RootError("the agent has ended")


def main(descriptor: int) -> NoReturn:
    """Do what is told."""
    with os.fdopen(descriptor, encoding="utf-8") as file:
        told = json.load(file)
    try:
        leash(told)
        root = make(told)
    except (RootError, OSError) as error:
        os.write(2, str(error).encode(errors="replace"))
        os._exit(1)
    become(told, root)


if __name__ == "__main__":
    main(int(sys.argv[1]))
