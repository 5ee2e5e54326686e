"""What is remembered about a volume's disk between rounds and restarts: one small file per volume below /run.

Losing it costs delay, never an effect: a check is repeated, a failure is tried again at once, a running tool is known
by the disk's lock alone. What it says of a filesystem is tied to the superblock's checksum, so a stale one is seen.
"""

# Child processes import this, and pathlib takes them longer than a whole probe:
# ruff: noqa: PTH103, PTH105

from __future__ import annotations

import os
import time

from protokube.host.process import started_at

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypedDict

    from protokube.host.disk.sysblock import BlockDisk

    class Job(TypedDict):
        """A tool at work: its name, the worker's pid and when that was started (clock ticks since boot), and the
        disk: its node, number and size."""

        tool: str
        pid: int
        started: str
        device: str
        number: tuple[int, int]
        size: int

    class Failure(TypedDict):
        """A tool that failed: what it said, and when (seconds since boot)."""

        tool: str
        text: str
        at: float

    class Checked(TypedDict):
        """e2fsck's verdict (`error` is None when it passed) on the filesystem with this superblock (SHA-256)."""

        superblock: str
        error: str | None

    class Content(TypedDict, total=False):
        """The file's content."""

        boot: str
        job: Job | None
        failure: Failure | None
        checked: Checked | None


TOOLS = {"format": "mkfs.ext4", "check": "e2fsck", "grow": "resize2fs", "mount": "mount"}
"""The jobs of a worker, and the tool that does each."""


class JobState:
    """The job state of one volume. `directory` is made when something is first written."""

    def __init__(self, directory: str, volume_id: str) -> None:
        if "/" in volume_id or volume_id.startswith("."):
            raise ValueError(f"{volume_id!r} can't be part of a file's name")
        self._directory = directory
        self._path = f"{directory}/{volume_id}.json"
        self.log = f"{directory}/{volume_id}.log"

    def load(self) -> Content:
        """The state of this boot; empty when there are none or they can't be read."""
        try:
            file = open(self._path, encoding="utf-8")  # noqa: SIM115
        except FileNotFoundError:
            return {}
        import json  # as long to import as all the rest of a worker

        try:
            with file:
                content: Content = json.load(file)
        except ValueError:
            return {}
        return content if isinstance(content, dict) and content.get("boot") == _boot_id() else {}

    def update(self, changes: Content) -> None:
        """Replace a part of the state."""
        import json

        os.makedirs(self._directory, mode=0o700, exist_ok=True)
        content: Content = {**self.load(), **changes, "boot": _boot_id()}
        beside = f"{self._path}.{os.getpid()}.new"
        with open(beside, "w", encoding="utf-8") as file:
            json.dump(content, file)
        os.replace(beside, self._path)

    def running(self) -> Job | None:
        """The tool at work, if its worker still lives."""
        job = self.load().get("job")
        return job if job and started_at(job["pid"]) == job["started"] else None

    def begin(self, tool: str, disk: BlockDisk) -> None:
        """This process is at work with a tool on a disk from now on."""
        pid = os.getpid()
        job: Job = {
            "tool": tool,
            "pid": pid,
            "started": started_at(pid) or "",
            "device": disk.node,
            "number": disk.number,
            "size": disk.size,
        }
        self.update({"job": job})

    def end(self, failure: str | None, tool: str) -> None:
        """This process has done its work, or failed."""
        failed: Failure | None = {"tool": tool, "text": failure, "at": _now()} if failure else None
        self.update({"job": None, "failure": failed})

    def recent_failure(self, seconds: float) -> Failure | None:
        """The last failure, if it is younger than that."""
        failure = self.load().get("failure")
        return failure if failure and _now() - failure["at"] < seconds else None


def digest(superblock: bytes) -> str:
    """What a note calls a superblock."""
    import hashlib  # most orders don't need it, and it loads OpenSSL

    return hashlib.sha256(superblock).hexdigest()


def _now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _boot_id() -> str:
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()
