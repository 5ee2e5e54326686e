"""The pods of a directory: inotify(7) tells of changes, and every 20 seconds a look sees what it missed.

Regular files and links to them, as in kubelet; names that begin with a dot are none. A dangling link is an absent
file. A disk that hangs under a file keeps only this source waiting, and what it wants is unknown meanwhile.
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Mapping
from pathlib import Path

from protokube.agent.core.model import Pod
from protokube.agent.core.static import LARGEST, pods_of_files, read_pod
from protokube.agent.ports import Say
from protokube.core.model import Fault, Unknown
from protokube.errors import ProviderError
from protokube.host.watch import CHANGE, DirectoryWatcher
from protokube.together import start

EVERY = 20.0
"""Seconds between two looks, as in kubelet."""
LIMIT = 10.0
"""Seconds that a look may take."""


class FileSource:
    """A directory of static pods. An absent directory holds no pods."""

    name = "file"

    def __init__(self, directory: Path, node: str, *, every: float = EVERY, limit: float = LIMIT) -> None:
        self._directory = directory
        self._node = node
        self._every = every
        self._limit = limit
        self._looking: asyncio.Future[Mapping[str, bytes | Fault]] | None = None
        """A look that hangs is waited for, and no second one is begun."""
        self._read: dict[str, tuple[bytes, Pod | tuple[Fault, ...]]] = {}
        """File name → content and what it says: only a changed file is parsed again."""

    async def run(self, say: Say) -> None:
        """Say what the directory holds, now and whenever it changes."""
        loop = asyncio.get_running_loop()
        changed = asyncio.Event()
        troubles: list[str] = []

        def trouble(_: str, error: ProviderError) -> None:
            troubles.append(str(error))

        watcher = DirectoryWatcher(loop, lambda _: changed.set(), trouble)
        try:
            await watcher.watch(self._directory, CHANGE)
            before: Mapping[str, bytes | Fault] | str | None = None
            while True:
                changed.clear()
                content = await self._look()
                if content != before:
                    self._say(say, content)
                    before = content
                try:
                    async with asyncio.timeout(self._every):
                        await changed.wait()
                except TimeoutError:
                    if troubles:
                        troubles.clear()
                        await watcher.watch(self._directory, CHANGE)
        finally:
            watcher.close()

    def _say(self, say: Say, content: Mapping[str, bytes | Fault] | str) -> None:
        if isinstance(content, str):
            say(Unknown(content))
            return
        self._read = {name: one for name, one in self._read.items() if name in content}
        heard = pods_of_files(content, self._node, self._read_pod)
        say(heard.pods, heard.held, heard.faults)

    def _read_pod(self, content: bytes, name: str) -> Pod | tuple[Fault, ...]:
        known = self._read.get(name)
        if known is None or known[0] != content:
            known = self._read[name] = (content, read_pod(content, name))
        return known[1]

    async def _look(self) -> Mapping[str, bytes | Fault] | str:
        """The files' content, or why the directory can't be read."""
        if self._looking is None:
            self._looking = asyncio.wrap_future(start("manifests", lambda: read_directory(self._directory)))
        try:
            async with asyncio.timeout(self._limit):
                content = await asyncio.shield(self._looking)
            self._looking = None
            return content
        except TimeoutError:
            return f"{self._directory}: it couldn't be read within {self._limit:g} s; is a disk hanging?"
        except OSError as error:
            self._looking = None
            return f"{self._directory}: {error.strerror}"


def read_directory(directory: Path) -> Mapping[str, bytes | Fault]:
    """File name → content, or why it can't be read. Raises OSError when the directory can't be listed."""
    try:
        names = os.listdir(directory)  # noqa: PTH208 - names, not paths
    except FileNotFoundError:
        return {}
    found: dict[str, bytes | Fault] = {}
    for name in names:
        if name.startswith("."):
            continue
        try:
            content = _read(directory / name)
        except FileNotFoundError:
            continue
        except OSError as error:
            found[name] = Fault(name, f"it can't be read: {error.strerror}")
            continue
        if content is not None:
            found[name] = content
    return found


def _read(path: Path) -> bytes | None:
    """A regular file's content, as far as the limit and one byte beyond; None for anything else."""
    opened = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(opened).st_mode):
            return None
        with os.fdopen(opened, "rb", closefd=False) as file:
            return file.read(LARGEST + 1)
    finally:
        os.close(opened)
