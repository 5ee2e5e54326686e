"""Events of the machine that end the daemon's sleep: files that appear, processes that end.

Both only wake: the next reconcile observes their cause. inotify(7) by inotify_simple and pidfd_open(2), each read by
the event loop of the main thread.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import inotify_simple
from inotify_simple import INotify, flags
from msgspec import Struct

from protokube.errors import ProviderError
from protokube.together import start

_WAY = int(flags.CREATE | flags.MOVED_TO)  # events by which a part of a path appears
_ALWAYS = int(flags.DELETE_SELF | flags.MOVE_SELF | flags.MASK_ADD)
_GONE = int(flags.DELETE_SELF | flags.MOVE_SELF | flags.UNMOUNT | flags.IGNORED)
_OVERFLOW = int(flags.Q_OVERFLOW)
_NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)

APPEARANCE = int(flags.CREATE | flags.ATTRIB | flags.MOVED_TO)
"""An entry is new, or newly permitted. Enough for /dev, where writing is no news."""
CHANGE = int(APPEARANCE | flags.CLOSE_WRITE | flags.MOVED_FROM | flags.DELETE)
"""A directory's entries or their contents change."""


class _Watch(Struct):
    """A directory to watch. `names` limits it to those entries, None means all. `file`: it is a file instead.

    The kernel watches `place` for it, by the watch descriptor `descriptor`: the directory itself, or the nearest
    parent that exists. None and -1: nothing yet.
    """

    directory: Path
    events: int
    names: frozenset[str] | None
    armed: asyncio.Future[None]
    file: bool = False
    place: Path | None = None
    descriptor: int = -1
    looking: bool = False
    again: bool = False


class DirectoryWatcher:
    """Calls `wake` with a reason, in the loop's thread, when something happens in a watched directory.

    A missing directory is waited for, through its nearest parent that exists; one that goes away, with a mount or by
    removal, is waited for again. A filesystem that is mounted over a directory causes no event: call `watch` again
    after the mount. Where the kernel refuses, `trouble` is called with the path and the cause; a later `watch` tries
    again.

    All of it happens in the loop's thread, except looking up a path: that may hang with the disk below it. So each
    path is looked up in a thread of its own, and only on request or after an event about it. The descriptor that this
    thread has opened can be watched without another look at the disk.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        wake: Callable[[str], None],
        trouble: Callable[[str, ProviderError], None],
    ) -> None:
        self._loop = loop
        self._wake = wake
        self._trouble = trouble
        self._wanted: dict[Path, _Watch] = {}
        self._inotify: INotify | None = None
        self._closed = False

    def watch(
        self, directory: Path, events: int = APPEARANCE, *, names: frozenset[str] | None = None, file: bool = False
    ) -> asyncio.Future[None]:
        """Watch a directory (not what lies below it); a second call for the same one replaces the first.

        The future is done when the kernel watches it, or a parent, or has refused to.
        """
        watch = self._wanted.get(directory)
        if watch is None:
            watch = self._wanted[directory] = _Watch(directory, events, names, self._loop.create_future())
        watch.events, watch.names, watch.file = events, names, file
        self._look(watch)
        return watch.armed

    def watch_file(self, file: Path) -> asyncio.Future[None]:
        """Watch a file itself. Where it is a mount point of its own, its directory tells nothing of its changes."""
        return self.watch(file, CHANGE, file=True)

    def close(self) -> None:
        """Watch nothing any more."""
        self._closed = True
        if self._inotify is not None:
            self._loop.remove_reader(self._inotify.fileno())
            self._inotify.close()

    # --- looking up paths ---

    def _look(self, watch: _Watch) -> None:
        """Look up the directory or its nearest parent. The result counts when two looks agree, since paths may
        change."""
        if watch.looking:
            watch.again = True
            return
        if watch.armed.done():
            watch.armed = self._loop.create_future()
        watch.looking, watch.again = True, False

        def looked(found: Future[tuple[Path, int]]) -> None:
            with suppress(RuntimeError):  # the loop is closed: the program is about to end
                self._loop.call_soon_threadsafe(self._looked, watch, found)

        start("watch", partial(_open_nearest, watch.directory, file=watch.file)).add_done_callback(looked)

    def _looked(self, watch: _Watch, found: Future[tuple[Path, int]]) -> None:
        watch.looking = False
        try:
            place, opened = found.result()
            try:
                changed = not self._closed and self._arm(watch, place, opened)
            finally:
                os.close(opened)
        except ProviderError as error:
            changed = False
            self._trouble(str(watch.directory), error)
        if (changed or watch.again) and not self._closed:
            self._look(watch)
        elif not watch.armed.done():
            watch.armed.set_result(None)

    def _arm(self, watch: _Watch, place: Path, opened: int) -> bool:
        """Have the kernel watch the open directory. True when it is another one than before."""
        there = place == watch.directory
        mask = (watch.events if there else _WAY) | _ALWAYS | (0 if there and watch.file else int(flags.ONLYDIR))
        inotify = self._opened()
        with _explained(f"inotify_add_watch {place}", errno.ENOSPC, "raise fs.inotify.max_user_watches"):
            descriptor: int = inotify.add_watch(f"/proc/self/fd/{opened}", mask)
        before, watch.descriptor = watch.descriptor, descriptor
        if descriptor == before:
            return False
        if there and watch.place is not None:  # files that appeared together with it caused no event
            self._wake(f"{place} appeared")
        watch.place = place
        self._drop(before)
        return True

    def _opened(self) -> INotify:
        if self._inotify is None:
            with _explained("inotify_init1", errno.EMFILE, "raise fs.inotify.max_user_instances"):
                self._inotify = _make_inotify()
            self._loop.add_reader(self._inotify.fileno(), self._readable)
        return self._inotify

    def _drop(self, descriptor: int) -> None:
        if descriptor >= 0 and all(watch.descriptor != descriptor for watch in self._wanted.values()):
            with suppress(OSError):  # EINVAL: the kernel was first
                self._opened().rm_watch(descriptor)

    # --- events ---

    def _readable(self) -> None:
        reasons: dict[str, None] = {}
        for descriptor, mask, _, name in self._opened().read(timeout=0):
            if mask & _OVERFLOW:
                reasons["inotify: events were lost"] = None
                for watch in self._wanted.values():
                    self._look(watch)
                continue
            for watch in [one for one in self._wanted.values() if one.descriptor == descriptor]:
                reasons |= dict.fromkeys(self._reasons(watch, mask, name))
            if mask & _GONE:
                self._drop(descriptor)
        for reason in reasons:
            self._wake(reason)

    def _reasons(self, watch: _Watch, mask: int, name: str) -> Iterator[str]:
        assert watch.place is not None, "it has a descriptor"
        there = watch.place == watch.directory
        if mask & _GONE:
            watch.descriptor = -1
            self._look(watch)
            if there:
                yield f"{watch.place} went away"
        elif not there:
            if watch.directory.is_relative_to(watch.place / name):  # only a part of its path says when to look again
                self._look(watch)
        elif mask & watch.events and (watch.names is None or name in watch.names) and not _beside(name):
            yield f"{watch.place / name} changed"


def _open_nearest(path: Path, *, file: bool) -> tuple[Path, int]:
    """The directory or file, or the nearest parent that is there, and a descriptor of it (O_PATH)."""
    for place in (path, *path.parents):
        kind = 0 if file and place == path else os.O_DIRECTORY
        try:
            return place, os.open(place, os.O_PATH | kind | os.O_CLOEXEC)
        except OSError as error:
            if error.errno not in _NOT_THERE or place.parent == place:
                few = "raise the unit's LimitNOFILE" if error.errno == errno.EMFILE else "see the kernel's log"
                raise ProviderError(f"open {place}: {error.strerror}; {few}") from error
    raise AssertionError("the root is the last parent")


def _make_inotify() -> INotify:
    # inotify_simple would search for the C library by running ldconfig or even gcc; the interpreter has it loaded.
    inotify_simple._libc = ctypes.CDLL(None, use_errno=True)
    return INotify()


@contextmanager
def _explained(what: str, full: int, advice: str) -> Iterator[None]:
    """Turn an OSError into a ProviderError. `full` is the error number of a reached limit, `advice` its remedy."""
    try:
        yield
    except OSError as error:
        remedy = advice if error.errno == full else "protokube needs root"
        raise ProviderError(f"{what}: {error.strerror}; {remedy}") from error


def _beside(name: str) -> bool:
    """Whether the name is a temporary one, as protokube writes beside a file, or that of a lock, as virtual-kubelet
    has in the manifest folder: only the rename into place is news."""
    return name.startswith(".") and name.endswith((".new", "-new", ".lock"))


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
