"""Real inotify and pidfds: what wakes the daemon, and what doesn't."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from protokube.errors import ProviderError
from protokube.host.watch import CHANGE, DirectoryWatcher, wake_at_exit

LIMIT = 10.0


class Wakes:
    """Collects reasons; `next` waits for one that holds a text."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self._queue: asyncio.Queue[str] = asyncio.Queue()

    def __call__(self, reason: str) -> None:
        self.heard.append(reason)
        self._queue.put_nowait(reason)

    async def next(self, text: str) -> str:
        async with asyncio.timeout(LIMIT):
            while text not in (reason := await self._queue.get()):
                pass
        return reason


@asynccontextmanager
async def watching() -> AsyncIterator[tuple[DirectoryWatcher, Wakes]]:
    wakes = Wakes()
    watcher = DirectoryWatcher(asyncio.get_running_loop(), wakes)
    try:
        yield watcher, wakes
    finally:
        watcher.close()


def run(scenario: Callable[[Path], object], tmp_path: Path) -> None:
    asyncio.run(scenario(tmp_path))  # type: ignore[arg-type]


async def a_link_appears(tmp: Path) -> None:
    async with watching() as (watcher, wakes):
        watcher.watch(tmp)
        (tmp / "nvme-vol0123").symlink_to("../../nvme1n1")
        await wakes.next("nvme-vol0123")


async def a_node_is_made_and_permitted(tmp: Path) -> None:
    async with watching() as (watcher, wakes):
        watcher.watch(tmp)
        os.mkfifo(tmp / "xvdu", 0o600)
        await wakes.next("xvdu")
        (tmp / "xvdu").chmod(0o660)
        await wakes.next("xvdu")


async def writing_is_no_appearance(tmp: Path) -> None:
    (tmp / "null").touch()
    async with watching() as (watcher, wakes):
        watcher.watch(tmp)
        (tmp / "null").write_text("x")
        (tmp / "later").touch()
        await wakes.next("later")
        assert not [reason for reason in wakes.heard if "null" in reason]


async def changes_of_named_files_only(tmp: Path) -> None:
    (tmp / "hosts").touch()
    async with watching() as (watcher, wakes):
        watcher.watch(tmp, CHANGE, names=frozenset({"hosts"}))
        (tmp / "passwd").write_text("x")
        (tmp / "hosts").write_text("x")
        await wakes.next("hosts")
        (tmp / "hosts").unlink()
        await wakes.next("hosts")
        assert not [reason for reason in wakes.heard if "passwd" in reason]


async def a_missing_directory_is_waited_for(tmp: Path) -> None:
    async with watching() as (watcher, wakes):
        watcher.watch(tmp / "disk/by-id")
        (tmp / "disk/by-id").mkdir(parents=True)
        (tmp / "disk/by-id/early").touch()
        await wakes.next("by-id")
        (tmp / "disk/by-id/late").touch()
        await wakes.next("late")


async def a_directory_that_goes_away_is_waited_for(tmp: Path) -> None:
    watched = tmp / "by-id"
    watched.mkdir()
    async with watching() as (watcher, wakes):
        watcher.watch(watched)
        watched.rmdir()
        await wakes.next("went away")
        watched.mkdir()
        await wakes.next("appeared")
        (watched / "disk").touch()
        await wakes.next("disk")


async def another_directory_under_the_same_name(tmp: Path) -> None:
    watched = tmp / "by-id"
    watched.mkdir()
    async with watching() as (watcher, wakes):
        watcher.watch(watched)
        watched.rename(tmp / "old")
        watched.mkdir()
        await wakes.next("went away")
        (watched / "disk").touch()
        await wakes.next("disk")


async def unwatched_is_silent(tmp: Path) -> None:
    async with watching() as (watcher, wakes):
        watcher.watch(tmp)
        watcher.watch(tmp / "other")
        watcher.unwatch(tmp)
        (tmp / "silent").touch()
        (tmp / "other").mkdir()
        await wakes.next("other appeared")
        assert not [reason for reason in wakes.heard if "silent" in reason]


async def watching_from_another_thread(tmp: Path) -> None:
    async with watching() as (watcher, wakes):
        await asyncio.to_thread(watcher.watch, tmp)
        (tmp / "x").touch()
        await wakes.next("x")


async def lost_events_wake(tmp: Path) -> None:
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    async with watching() as (watcher, wakes):
        watcher.watch(tmp)
        for number in range(limit // 2 + 1):  # two events each: created, moved here
            (tmp / f"{number}").touch()
            (tmp / f"{number}").rename(tmp / "same")
        await wakes.next("events were lost")
        (tmp / "afterwards").touch()
        await wakes.next("afterwards")


@pytest.mark.parametrize(
    "scenario",
    [
        a_link_appears,
        a_node_is_made_and_permitted,
        writing_is_no_appearance,
        changes_of_named_files_only,
        a_missing_directory_is_waited_for,
        a_directory_that_goes_away_is_waited_for,
        another_directory_under_the_same_name,
        unwatched_is_silent,
        watching_from_another_thread,
        lost_events_wake,
    ],
)
def test_directories(scenario: Callable[[Path], object], tmp_path: Path) -> None:
    run(scenario, tmp_path)


@pytest.mark.root
def test_a_mount_over_the_directory(tmp_path: Path) -> None:
    """A volume's directory exists only once it is mounted; a second `watch` finds it, its unmount is told."""

    async def scenario() -> None:
        data = tmp_path / "data"
        async with watching() as (watcher, wakes):
            watcher.watch(data)
            subprocess.run(["mount", "-t", "tmpfs", "volume", tmp_path], check=True)
            try:
                data.mkdir()
                watcher.watch(data)
                (data / "member").mkdir()
                await wakes.next("member")
            finally:
                subprocess.run(["umount", tmp_path], check=True)
            await wakes.next("went away")

    asyncio.run(scenario())


def test_an_exhausted_kernel_limit_is_explained(tmp_path: Path) -> None:
    """In a child, since the limit counts per user: as many instances as there may be."""
    program = """
import asyncio
from protokube.errors import ProviderError
from protokube.host.watch import DirectoryWatcher
async def main():
    loop = asyncio.get_running_loop()
    made = []
    try:
        for _ in range(100_000):
            made.append(DirectoryWatcher(loop, print))
    except ProviderError as error:
        print(error)
asyncio.run(main())
"""
    limits = ["prlimit", "--nofile=64"]
    done = subprocess.run(
        [*limits, sys.executable, "-c", program], text=True, capture_output=True, timeout=60, check=True
    )
    assert "inotify_init1: Too many open files; raise fs.inotify.max_user_instances" in done.stdout


def test_the_end_of_a_process_wakes_once() -> None:
    async def scenario() -> None:
        wakes = Wakes()
        loop = asyncio.get_running_loop()
        with subprocess.Popen(["sleep", "100"]) as child:
            await asyncio.to_thread(wake_at_exit, loop, child.pid, wakes, "mkfs.ext4 has ended")
            child.kill()
            await wakes.next("mkfs.ext4")
            child.wait()
        wake_at_exit(loop, child.pid, wakes, "was gone before")
        await wakes.next("gone before")
        assert wakes.heard == ["mkfs.ext4 has ended", "was gone before"]

    asyncio.run(scenario())


def test_a_process_that_cannot_be_watched_is_named() -> None:
    async def scenario() -> None:
        with pytest.raises(ProviderError, match="pidfd_open -5"):
            wake_at_exit(asyncio.get_running_loop(), -5, print, "never")

    asyncio.run(scenario())
