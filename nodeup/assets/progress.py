"""Tells how downloads go on: bars on a terminal, plain lines in a journal."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, TextIO

from protokube.core.model import MIB
from protokube.core.node.assets import shown

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    import rich.progress

Advance = Callable[[int], None]


class Progress(Protocol):
    """Hears how downloads go on, from any thread."""

    def download(self, name: str, url: str, done: int, total: int | None) -> AbstractContextManager[Advance]:
        """A download begins, with so many bytes done already; the value is called with every further count."""

    def failed(self, name: str, url: str, reason: str) -> None:
        """A mirror failed; the next one follows."""

    def fetched(self, name: str, size: int) -> None:
        """A file is in the cache."""


class Lines:
    """A line for every beginning, failure and end: for journals and pipes."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    @contextmanager
    def download(self, name: str, url: str, done: int, total: int | None) -> Iterator[Advance]:
        """One line at its beginning."""
        size = f" ({size_text(total)})" if total is not None else ""
        resumed = f", resumed at {size_text(done)}" if done else ""
        self._say(f"fetching {name}{size} from {shown(url)}{resumed}")
        yield lambda _: None

    def failed(self, name: str, url: str, reason: str) -> None:
        """One line."""
        self._say(f"{name}: {shown(url)}: {reason}")

    def fetched(self, name: str, size: int) -> None:
        """One line."""
        self._say(f"fetched {name} ({size_text(size)})")

    def _say(self, line: str) -> None:
        with self._lock:
            print(line, file=self._stream, flush=True)


class Bars:
    """A bar for every download on a terminal; failures stand above them."""

    def __init__(self, stream: TextIO) -> None:
        # Takes 40 ms to import, which a run without a download, or without a terminal, must not pay.
        from rich import progress
        from rich.console import Console

        self._progress: rich.progress.Progress = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.DownloadColumn(binary_units=True),
            progress.TransferSpeedColumn(),
            progress.TimeRemainingColumn(),
            console=Console(file=stream),
        )
        self._lock = threading.Lock()
        self._tasks: dict[str, rich.progress.TaskID] = {}
        self._running = 0

    @contextmanager
    def download(self, name: str, url: str, done: int, total: int | None) -> Iterator[Advance]:  # noqa: ARG002
        """A bar of its own, which goes on after a cut. The terminal is left as it was when no download runs."""
        with self._lock:
            if not self._running:
                self._progress.start()
            self._running += 1
            if name not in self._tasks:
                self._tasks[name] = self._progress.add_task(name)
            task = self._tasks[name]
        self._progress.update(task, completed=done, total=total)
        try:
            yield lambda count: self._progress.advance(task, count)
        finally:
            with self._lock:
                self._running -= 1
                if not self._running:
                    self._progress.stop()

    def failed(self, name: str, url: str, reason: str) -> None:
        """A line above the bars."""
        self._progress.console.print(f"{name}: {shown(url)}: {reason}", markup=False, highlight=False)

    def fetched(self, name: str, size: int) -> None:
        """The full bar says it."""


class Chosen:
    """Bars on a terminal, else lines; chosen when the first download begins."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()
        self._made: Progress | None = None

    @property
    def _progress(self) -> Progress:
        with self._lock:
            if self._made is None:
                self._made = Bars(self._stream) if self._stream.isatty() else Lines(self._stream)
            return self._made

    def download(self, name: str, url: str, done: int, total: int | None) -> AbstractContextManager[Advance]:
        """See Progress."""
        return self._progress.download(name, url, done, total)

    def failed(self, name: str, url: str, reason: str) -> None:
        """See Progress."""
        self._progress.failed(name, url, reason)

    def fetched(self, name: str, size: int) -> None:
        """See Progress."""
        self._progress.fetched(name, size)


def size_text(count: int) -> str:
    """A number of bytes for people."""
    return f"{count / MIB:.1f} MiB" if count >= MIB else f"{count} bytes"
