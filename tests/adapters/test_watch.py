"""Real inotify and pidfds: what wakes the daemon, and what doesn't."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from protokube.errors import ProviderError
from protokube.host.watch import CHANGE, DirectoryWatcher, wake_at_exit
from tests.lab.disks import FaultDisk

LIMIT = 120.0


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


def no_trouble(what: str, error: ProviderError) -> None:
    raise error


@asynccontextmanager
async def watching() -> AsyncIterator[tuple[DirectoryWatcher, Wakes]]:
    wakes = Wakes()
    watcher = DirectoryWatcher(asyncio.get_running_loop(), wakes, no_trouble)
    try:
        yield watcher, wakes
    finally:
        watcher.close()


def run(scenario: Callable[[Path], object], tmp_path: Path) -> None:
    asyncio.run(scenario(tmp_path))  # type: ignore[arg-type]


async def a_link_appears(tmp: Path) -> None:
    async with watching() as (watcher, wakes):
        await watcher.watch(tmp)
        (tmp / "nvme-vol0123").symlink_to("../../nvme1n1")
        await wakes.next("nvme-vol0123")


async def a_file_is_replaced_and_written(tmp: Path) -> None:
    file = tmp / "hosts"
    file.write_text("1")
    async with watching() as (watcher, wakes):
        await watcher.watch_file(file)
        (tmp / "new").write_text("2")
        (tmp / "new").rename(file)
        await wakes.next("hosts went away")
        await wakes.next("hosts appeared")
        file.write_text("3")
        await wakes.next("hosts changed")


async def a_node_is_made_and_permitted(tmp: Path) -> None:
    async with watching() as (watcher, wakes):
        await watcher.watch(tmp)
        os.mkfifo(tmp / "xvdu", 0o600)
        await wakes.next("xvdu")
        (tmp / "xvdu").chmod(0o660)
        await wakes.next("xvdu")


async def writing_is_no_appearance(tmp: Path) -> None:
    (tmp / "null").touch()
    async with watching() as (watcher, wakes):
        await watcher.watch(tmp)
        (tmp / "null").write_text("x")
        (tmp / "later").touch()
        await wakes.next("later")
        assert not [reason for reason in wakes.heard if "null" in reason]


async def changes_of_named_files_only(tmp: Path) -> None:
    (tmp / "hosts").touch()
    async with watching() as (watcher, wakes):
        await watcher.watch(tmp, CHANGE, names=frozenset({"hosts"}))
        (tmp / "passwd").write_text("x")
        (tmp / "hosts").write_text("x")
        await wakes.next("hosts")
        (tmp / "hosts").unlink()
        await wakes.next("hosts")
        assert not [reason for reason in wakes.heard if "passwd" in reason]


async def a_missing_directory_is_waited_for(tmp: Path) -> None:
    async with watching() as (watcher, wakes):
        await watcher.watch(tmp / "disk/by-id")
        (tmp / "disk/by-id").mkdir(parents=True)
        (tmp / "disk/by-id/early").touch()
        await wakes.next("by-id")
        (tmp / "disk/by-id/late").touch()
        await wakes.next("late")


async def a_directory_that_goes_away_is_waited_for(tmp: Path) -> None:
    watched = tmp / "by-id"
    watched.mkdir()
    async with watching() as (watcher, wakes):
        await watcher.watch(watched)
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
        await watcher.watch(watched)
        watched.rename(tmp / "old")
        watched.mkdir()
        await wakes.next("went away")
        await wakes.next("appeared")
        (watched / "disk").touch()
        await wakes.next("disk")


async def what_is_written_beside_its_place_is_no_news(tmp: Path) -> None:
    """As protokube itself writes: files, links, what the local cloud remembers, locks. The rename into place is."""
    async with watching() as (watcher, wakes):
        await watcher.watch(tmp, CHANGE)
        for temporary in (".etcd.manifest.protokube-new", ".main-a.img.state.new"):
            (tmp / temporary).write_text("x")
            (tmp / temporary).rename(tmp / "there")
        (tmp / ".virtual-kubelet.lock").touch()
        (tmp / ".hidden.img").touch()
        await wakes.next("hidden")
        assert set(wakes.heard) == {f"{tmp}/there changed", f"{tmp}/.hidden.img changed"}


async def one_directory_for_two(tmp: Path) -> None:
    """A directory that is watched, and in which another one is waited for."""
    (tmp / "file").touch()
    async with watching() as (watcher, wakes):
        await watcher.watch(tmp, CHANGE)
        await watcher.watch(tmp / "disk/by-id")
        (tmp / "file").write_text("x")
        await wakes.next("file changed")
        (tmp / "disk/by-id").mkdir(parents=True)
        await wakes.next("by-id appeared")
        (tmp / "disk/by-id/new").touch()
        await wakes.next("new changed")
        (tmp / "file").unlink()
        await wakes.next("file changed")


async def the_same_again_is_silent(tmp: Path) -> None:
    async with watching() as (watcher, wakes):
        for _ in range(3):
            await watcher.watch(tmp)
            await watcher.watch(tmp / "missing")
        (tmp / "x").touch()
        await wakes.next("x")
        assert wakes.heard == [f"{tmp}/x changed"]


async def closed_while_it_looks(tmp: Path) -> None:
    before = set(os.listdir("/proc/self/fd"))
    async with watching() as (watcher, _):
        armed = watcher.watch(tmp)
    await armed
    assert set(os.listdir("/proc/self/fd")) == before


async def lost_events_wake(tmp: Path) -> None:
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    async with watching() as (watcher, wakes):
        await watcher.watch(tmp)
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
        what_is_written_beside_its_place_is_no_news,
        one_directory_for_two,
        the_same_again_is_silent,
        closed_while_it_looks,
        lost_events_wake,
        a_file_is_replaced_and_written,
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
            await watcher.watch(data)
            subprocess.run(["mount", "-t", "tmpfs", "volume", tmp_path], check=True)
            try:
                data.mkdir()
                await watcher.watch(data)
                (data / "member").mkdir()
                await wakes.next("member")
            finally:
                subprocess.run(["umount", tmp_path], check=True)
            await wakes.next("went away")

    asyncio.run(scenario())


@pytest.mark.root
@pytest.mark.parametrize("there", [True, False], ids=["watched before the mount", "after"])
def test_a_file_that_is_a_mount_point_of_its_own(tmp_path: Path, there: bool) -> None:
    """The hosts file of a container: whoever writes it outside causes no event in the directory."""
    outside, inside = tmp_path / "outside", tmp_path / "hosts"
    outside.write_text("1")
    inside.write_text("")

    async def scenario(_: Path) -> None:
        async with watching() as (watcher, wakes):
            if there:
                await watcher.watch_file(inside)
            subprocess.run(["mount", "--bind", outside, inside], check=True, timeout=20)
            await watcher.watch_file(inside)
            with outside.open("a") as file:
                file.write("2")
            await wakes.next("hosts changed")

    try:
        run(scenario, tmp_path)
    finally:
        subprocess.run(["umount", inside], check=True, timeout=20)


@pytest.mark.root
def test_a_disk_that_hangs_hangs_nobody(tmp_path: Path) -> None:
    """Looking up a path on it waits for ever; other directories are watched meanwhile, and it when it is back."""
    data = tmp_path / "mount/var/etcd/data"
    with FaultDisk(tmp_path / "fault") as disk:
        disk.make_ext4()
        with disk.mounted(tmp_path / "mount"):
            data.mkdir(parents=True)
        (tmp_path / "dev").mkdir()

        async def scenario() -> None:
            async with watching() as (watcher, wakes):
                armed = watcher.watch(data)
                await watcher.watch(tmp_path / "dev")
                (tmp_path / "dev/xvdu").touch()
                await wakes.next("xvdu")
                assert not armed.done(), "the path has to be read from the disk"
                assert watcher.watch(data) is armed, "nobody else is sent there"
                rescue.cancel()
                assert not rescued.is_set(), "the loop stood still"
                disk.hang(False)
                async with asyncio.timeout(LIMIT):
                    await armed
                (data / "member").mkdir()
                await wakes.next("member")

        rescued = threading.Event()

        def come_to_the_rescue() -> None:
            rescued.set()
            disk.hang(False)

        with disk.mounted(tmp_path / "mount"):  # afresh: nothing of it is cached
            disk.hang()
            # Where the loop stands still, the disk must come back all the same.
            rescue = threading.Timer(LIMIT, come_to_the_rescue)
            rescue.start()
            try:
                asyncio.run(scenario())
            finally:
                rescue.cancel()
                disk.hang(False)


REFUSED = """
import asyncio, sys
from pathlib import Path
from protokube.host.watch import DirectoryWatcher
async def main():
    told = []
    watcher = DirectoryWatcher(asyncio.get_running_loop(), print, lambda *words: told.append(words))
    await watcher.watch(Path("/dev"))
    ((what, error),) = told
    print(what, error)
    Path("/proc/sys/user", sys.argv[1]).write_text("100")
    await watcher.watch(Path("/dev"))
    watcher.close()
    print(len(told), "in all")
asyncio.run(main())
"""


@pytest.mark.root
@pytest.mark.parametrize(
    ("limit", "said"),
    [
        ("max_inotify_instances", "/dev inotify_init1: Too many open files; raise fs.inotify.max_user_instances"),
        ("max_inotify_watches", "/dev inotify_add_watch /dev: No space left on device; raise fs.inotify.max_user_wa"),
    ],
)
def test_an_exhausted_kernel_limit_is_told_and_tried_again(limit: str, said: str) -> None:
    """In a user namespace, which has limits of its own."""
    none_left = f'echo 0 > /proc/sys/user/{limit}; exec "$0" "$@"'
    inside = ["unshare", "--user", "--map-root-user", "sh", "-c", none_left, sys.executable, "-c", REFUSED, limit]
    done = subprocess.run(inside, text=True, capture_output=True, timeout=60, check=False)
    assert said in done.stdout and done.stdout.endswith("1 in all\n"), done.stdout + done.stderr


NO_CHILD = """
import asyncio, sys
from pathlib import Path
from protokube.host.watch import DirectoryWatcher
def refuse(event, arguments):
    if event in ("subprocess.Popen", "os.posix_spawn", "os.fork", "os.system"):
        print(event, arguments)
sys.addaudithook(refuse)
async def main():
    watcher = DirectoryWatcher(asyncio.get_running_loop(), print, print)
    await watcher.watch(Path("/dev"))
    watcher.close()
asyncio.run(main())
"""


def test_watching_starts_no_child() -> None:
    """inotify_simple looks for the C library with ldconfig, else with gcc, unless it has it."""
    done = subprocess.run([sys.executable, "-c", NO_CHILD], text=True, capture_output=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("", "")


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
