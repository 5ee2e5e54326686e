"""Events of the machine that end the daemon's sleep: files that appear, processes that end.

Both wake and nothing more: what has happened is for the next round to observe. inotify(7) through ctypes and
pidfd_open(2), each read by the event loop of the main thread.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from protokube.core.value import dataclass
from protokube.errors import ProviderError

# From linux/inotify.h.
_ATTRIB, _CLOSE_WRITE, _MOVED_FROM, _MOVED_TO, _CREATE, _DELETE = 0x4, 0x8, 0x40, 0x80, 0x100, 0x200
_DELETE_SELF, _MOVE_SELF, _UNMOUNT, _OVERFLOW, _IGNORED = 0x400, 0x800, 0x2000, 0x4000, 0x8000
_ONLYDIR = 0x1000000
_GONE = _DELETE_SELF | _MOVE_SELF | _UNMOUNT | _IGNORED
_EVENT = struct.Struct("iIII")  # wd, mask, cookie, length of the name

APPEARANCE = _CREATE | _ATTRIB | _MOVED_TO
"""Something new, or newly permitted: what matters in /dev, where writing is no news."""
CHANGE = APPEARANCE | _CLOSE_WRITE | _MOVED_FROM | _DELETE
"""Whatever makes a directory's files other than they were."""


@dataclass(frozen=True)
class _Watch:
    """A directory that somebody asked for. `names` limits it to those entries, None means all."""

    directory: Path
    events: int
    names: frozenset[str] | None


class DirectoryWatcher:
    """Calls `wake` with a reason, in the loop's thread, when something happens in a watched directory.

    A directory that isn't there is waited for, through the nearest parent that is; one that goes away, with a
    mount or by removal, is waited for again. A filesystem that is mounted over a directory causes no event:
    call `watch` again after the mount.

    Make it and close it in the loop's thread; the other methods may be called from any thread.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, wake: Callable[[str], None]) -> None:
        self._loop = loop
        self._wake = wake
        self._lock = threading.Lock()
        self._wanted: dict[Path, _Watch] = {}
        self._places: dict[int, Path] = {}  # watch descriptor → directory that the kernel watches
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._checked(self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC), "inotify_init1")
        loop.add_reader(self._fd, self._readable)

    def watch(self, directory: Path, events: int = APPEARANCE, *, names: frozenset[str] | None = None) -> None:
        """Watch a directory (not what lies below it); a second call for the same one replaces the first."""
        with self._lock:
            self._wanted[directory] = _Watch(directory, events, names)
            self._arm()

    def unwatch(self, directory: Path) -> None:
        """Watch it no longer; not watched is fine."""
        with self._lock:
            self._wanted.pop(directory, None)
            self._arm()

    def close(self) -> None:
        """Watch nothing any more."""
        with self._lock:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._places.clear()

    def _arm(self) -> None:
        """Makes the kernel watch what is wanted, or the nearest parent of what isn't there."""
        masks: dict[Path, int] = {}
        for watch in self._wanted.values():
            place = _nearest(watch.directory)
            mask = watch.events if place == watch.directory else _CREATE | _MOVED_TO
            masks[place] = masks.get(place, 0) | mask
        armed: dict[int, Path] = {}
        for place, mask in masks.items():
            self._add(place, mask, armed)
        for descriptor in self._places.keys() - armed.keys():
            self._libc.inotify_rm_watch(self._fd, descriptor)  # EINVAL: the kernel was first
        self._places = armed

    def _add(self, place: Path, mask: int, armed: dict[int, Path]) -> None:
        flags = mask | _DELETE_SELF | _MOVE_SELF | _ONLYDIR
        descriptor = self._libc.inotify_add_watch(self._fd, os.fsencode(place), flags)
        if descriptor < 0 and ctypes.get_errno() in (errno.ENOENT, errno.ENOTDIR):
            # It went away since we looked. Its parent is always there to be watched, at last as "/".
            self._add(place.parent, _CREATE | _MOVED_TO, armed)
            return
        armed[self._checked(descriptor, f"inotify_add_watch {place}")] = place

    def _checked(self, result: int, what: str) -> int:
        if result < 0:
            code = ctypes.get_errno()
            advice = {
                errno.ENOSPC: "raise fs.inotify.max_user_watches",
                errno.EMFILE: "raise fs.inotify.max_user_instances",
            }.get(code, "protokube needs root")
            raise ProviderError(f"{what}: {os.strerror(code)}; {advice}")
        return result

    def _readable(self) -> None:
        reasons: dict[str, None] = {}
        with self._lock:
            before = dict(self._places)
            for descriptor, mask, name in self._events():
                place = before.get(descriptor)
                if mask & _OVERFLOW:
                    reasons["inotify: events were lost"] = None
                elif place is not None:
                    reasons |= dict.fromkeys(self._reasons(place, mask, name))
            try:
                self._arm()
            except ProviderError as error:  # the kernel's limits; the next round is woken to see for itself
                reasons[str(error)] = None
            # What appeared together with its directory caused no event of its own.
            for place in set(self._places.values()) - set(before.values()):
                if place in self._wanted:
                    reasons[f"{place} appeared"] = None
        for reason in reasons:
            self._wake(reason)

    def _reasons(self, place: Path, mask: int, name: str) -> Iterator[str]:
        wanted = self._wanted.get(place)
        if wanted is None:
            return  # a parent that only tells when to look again
        if mask & _GONE:
            yield f"{place} went away"
        elif mask & wanted.events and (wanted.names is None or name in wanted.names):
            yield f"{place / name} changed"

    def _events(self) -> Iterator[tuple[int, int, str]]:
        while True:
            try:
                data = os.read(self._fd, 1 << 16)
            except BlockingIOError:
                return
            while data:
                descriptor, mask, _, length = _EVENT.unpack_from(data)
                name = data[_EVENT.size : _EVENT.size + length].rstrip(b"\0")
                yield descriptor, mask, os.fsdecode(name)
                data = data[_EVENT.size + length :]


def _nearest(directory: Path) -> Path:
    return next(place for place in (directory, *directory.parents) if place.is_dir())


def wake_at_exit(loop: asyncio.AbstractEventLoop, pid: int, wake: Callable[[str], None], reason: str) -> None:
    """Call `wake(reason)` once, in the loop's thread, when a process ends; at once when it has ended already.

    Works for any process, also for those that an earlier daemon started. It doesn't reap: a child is still there
    to be waited for.
    """
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        loop.call_soon_threadsafe(wake, reason)
        return
    except OSError as error:
        raise ProviderError(f"pidfd_open {pid}: {error.strerror}; raise the unit's LimitNOFILE") from error

    def ended() -> None:
        loop.remove_reader(descriptor)
        os.close(descriptor)
        wake(reason)

    loop.call_soon_threadsafe(loop.add_reader, descriptor, ended)
