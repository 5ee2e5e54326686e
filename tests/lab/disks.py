"""Real disks for tests: loop devices over sparse files, and disks whose input and output fail at run time.

Loop devices belong to the whole machine, so each is taken with `losetup -f` and given back in any case.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from msgspec.structs import asdict

from protokube.core.disks.actions import CheckFilesystem, FormatVolume, GrowFilesystem, MountVolume
from protokube.core.disks.model import Disk, Intent
from protokube.core.volumes.model import CloudVolume, DiskIdentity
from protokube.host.blockdev import BlockDevices
from protokube.host.disk import intent as records

MIB = 1 << 20
UUID = "0b5e7a4c-52d3-5c1e-9f00-6f2d0c7a1b11"
LABEL = "etcd-a"
DATA_DIRS = frozenset({"var/etcd/data", "var/etcd/data-events"})
"""Those of the shipped templates."""
_BLKFLSBUF = 0x1261
_CHUNK = 1 << 16


def run(*command: str | Path) -> str:
    """Run a program and return its output; its failure is the test's."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"{command}: exit {done.returncode}: {done.stdout}{done.stderr}"
    return done.stdout.strip()


def _data(fd: int) -> Iterator[tuple[int, int]]:
    """The parts of a sparse file that aren't holes."""
    end = 0
    while True:
        try:
            start = os.lseek(fd, end, os.SEEK_DATA)
        except OSError:
            return
        end = os.lseek(fd, start, os.SEEK_HOLE)
        yield start, end


def digest(image: Path) -> str:
    """The SHA-256 of every byte of a sparse file, as far as it isn't zero, with its place."""
    found = hashlib.sha256()
    with image.open("rb", buffering=0) as file:
        parts = _data(file.fileno())
        offsets = {offset for start, end in parts for offset in range(start - start % _CHUNK, end, _CHUNK)}
        for offset in sorted(offsets):
            chunk = os.pread(file.fileno(), _CHUNK, offset)
            if chunk.count(0) != len(chunk):
                found.update(b"%d:" % offset + chunk)
    return found.hexdigest()


class LoopDisk:
    """A loop device of `size` bytes over a sparse file. An `offset` into the file makes it a disk that doesn't tell
    which parts of it hold data, like any real one."""

    def __init__(self, image: Path, size: int = 64 * MIB, offset: int = 0) -> None:
        self.image = image
        self.size = size
        self.offset = offset
        self.device = ""

    def __enter__(self) -> LoopDisk:
        if not self.image.exists():
            self.image.touch()
            os.truncate(self.image, self.offset + self.size)
        self.attach()
        return self

    def __exit__(self, *_: object) -> None:
        self.detach()

    def attach(self) -> None:
        """Put the file behind a free loop device."""
        self.device = run("losetup", "--find", "--show", "--offset", str(self.offset), self.image)

    def detach(self, *, awaited: bool = False) -> None:
        """Give the loop device back; the kernel does so when nobody has it open or mounted.

        `awaited`: return when it is free. Whoever looks at loop devices keeps one for a moment, and a second device
        over the same file is a second disk until then.
        """
        if self.device:
            bound = Path("/sys/block", Path(self.device).name, "diskseq")
            before = bound.read_text()
            run("losetup", "--detach", self.device)
            if awaited:
                until(lambda: bound.read_text() != before, f"{self.device} is free")
            self.device = ""

    @property
    def identity(self) -> DiskIdentity:
        """How the disk is recognised."""
        status = self.image.stat()
        return DiskIdentity(backing=(status.st_dev, status.st_ino))

    def volume(self, volume_id: str = "vol-a", size: int | None = None) -> CloudVolume:
        """The volume as a cloud would describe it."""
        return CloudVolume(volume_id, "local", size or self.size, {}, identity=self.identity)

    def flush(self) -> None:
        """Write what is dirty and forget what is cached."""
        fd = os.open(self.device, os.O_RDONLY)
        try:
            os.fsync(fd)
            fcntl.ioctl(fd, _BLKFLSBUF)
        finally:
            os.close(fd)

    def digest(self) -> str:
        """The digest of the disk's image."""
        self.flush()
        return digest(self.image)

    def write(self, offset: int, data: bytes) -> None:
        """Write through the device."""
        fd = os.open(self.device, os.O_RDWR)
        try:
            assert os.pwrite(fd, data, offset) == len(data)
            os.fsync(fd)
        finally:
            os.close(fd)
        self.flush()

    def read(self, offset: int, length: int) -> bytes:
        """Read from the image."""
        self.flush()
        with self.image.open("rb") as file:
            file.seek(self.offset + offset)
            return file.read(length)

    def make_ext4(self, uuid: str = UUID, *options: str) -> None:
        """An ext4 filesystem made by others, never mounted."""
        run("mkfs.ext4", "-q", "-F", "-E", "nodiscard,lazy_itable_init=0", "-U", uuid, *options, self.device)
        self.flush()

    @contextmanager
    def mounted(self, at: Path) -> Iterator[Path]:
        """Mount the disk by ourselves, as an operator would."""
        at.mkdir(exist_ok=True)
        run("mount", "-o", "noatime", self.device, at)
        try:
            yield at
        finally:
            run("umount", at)
            self.flush()


def intent_for(volume: CloudVolume, uuid: str = UUID, member: str = "a") -> Intent:
    """What a planner would write on the disk of this volume."""
    return Intent("dev.example.com", "main", member, volume.id, volume.size, uuid)


def encode(intent: Intent, label: str = LABEL) -> bytes:
    """The record of a format in progress, as it stands on the disk."""
    return records.encode({**asdict(intent), "label": label})


class Node:
    """A node's disks under a scratch root, with the way from an observation to each action."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.devices = BlockDevices(str(root), str(root / "run/protokube"), DATA_DIRS)

    def restart(self, *, prove_every_byte: bool = False) -> None:
        """A new daemon, which remembers nothing but what stands below /run."""
        run_dir = str(self.root / "run/protokube")
        self.devices = BlockDevices(str(self.root), run_dir, DATA_DIRS, prove_every_byte=prove_every_byte)

    def look(self, volume: CloudVolume) -> Any:
        """The content of the volume's disk, or NoDisk or Unknown."""
        found = self.devices.inspect([volume])[volume.id]
        return found.content if isinstance(found, Disk) else found

    def _ground(self, volume: CloudVolume, disk: LoopDisk) -> tuple[str, str, tuple[int, int], int, DiskIdentity]:
        number = Path(disk.device).stat().st_rdev
        return volume.id, disk.device, (os.major(number), os.minor(number)), disk.size, volume.identity

    def format(self, volume: CloudVolume, disk: LoopDisk, intent: Intent | None = None) -> None:
        """Start mkfs."""
        self.devices.format(FormatVolume(*self._ground(volume, disk), intent or intent_for(volume), LABEL))

    def check(self, volume: CloudVolume, disk: LoopDisk, uuid: str = UUID) -> None:
        """Start e2fsck."""
        self.devices.check(CheckFilesystem(*self._ground(volume, disk), uuid))

    def grow(self, volume: CloudVolume, disk: LoopDisk, uuid: str = UUID) -> None:
        """Start resize2fs."""
        self.devices.grow(GrowFilesystem(*self._ground(volume, disk), uuid))

    def mount(self, volume: CloudVolume, disk: LoopDisk, uuid: str = UUID) -> Path:
        """Mount, and return where."""
        target = f"/mnt/master-{volume.id}"
        self.devices.mount(MountVolume(*self._ground(volume, disk), uuid, target))
        return self.root / target[1:]

    def finish(self) -> None:
        """Wait until no tool is at work any more."""
        while running := self.devices.running():
            for pid in running.values():
                wait_for_end(pid)

    def failure(self, volume: CloudVolume) -> str:
        """What the last tool that failed on this volume said; empty when it went well."""
        state = self.root / f"run/protokube/disks/{volume.id}.json"
        failure = json.loads(state.read_text())["failure"]
        return failure["text"] if failure else ""


@contextmanager
def node(root: Path) -> Iterator[Node]:
    """A node; in the end its tools have ended, and what it mounted and made immutable is undone."""
    one = Node(root)
    try:
        yield one
    finally:
        one.finish()
        clear_root(root)


def clear_root(root: Path) -> None:
    """Unmount everything below a scratch root and make its mount points removable again."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    for target in reversed([line.split()[4] for line in lines]):
        if target.startswith(f"{root}/"):
            run("umount", target)
    if (root / "mnt").is_dir():
        run("chattr", "-R", "-f", "-i", root / "mnt")


def wait_for_end(pid: int, limit: float = 120) -> None:
    """Wait until a process has ended, whoever's child it is."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([fd], [], [], limit)[0], f"process {pid} still runs after {limit} s"
    finally:
        os.close(fd)


def until(condition: Callable[[], Any], what: str, limit: float = 120) -> Any:
    """Poll until a condition holds, and return its value."""
    end = time.monotonic() + limit
    while not (value := condition()):
        assert time.monotonic() < end, f"not within {limit} s: {what}"
        time.sleep(0.005)
    return value


class FaultDisk(LoopDisk):
    """A loop device whose input and output can be made to fail, crawl or hang: over a FUSE export of
    qemu-storage-daemon, with one of the nodes healthy, badwrite, badread, dead or slow (20 requests a second) below.
    """

    def __init__(self, directory: Path, size: int = 64 * MIB) -> None:
        directory.mkdir(exist_ok=True)
        self._directory = directory
        self._export = directory / "export.img"
        super().__init__(self._export, size)
        self._image = directory / "disk.img"

    def __enter__(self) -> FaultDisk:
        self._image.touch()
        os.truncate(self._image, self.size)
        self._export.touch()
        monitor = self._directory / "qmp"
        self._daemon = subprocess.Popen(self._command(monitor))
        self._socket = socket.socket(socket.AF_UNIX)
        with ExitStack() as undo:
            undo.push(self)
            until(lambda: monitor.exists() and self._export.stat().st_size, "qemu-storage-daemon is up")
            self._socket.connect(str(monitor))
            self._replies = self._socket.makefile("r")
            self._replies.readline()
            self._ask("qmp_capabilities")
            self.attach()
            undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self.hang(False)
        try:
            self.detach()
            # A loop device is given back only when nobody has it open any more, and until then it needs the export.
            loops = ("losetup", "--list", "--noheadings")
            until(lambda: str(self._export) not in run(*loops), "the loop device is free")
        finally:
            self._replies.close()
            self._socket.close()
            self._daemon.terminate()
            self._daemon.wait(timeout=30)
            subprocess.run(["umount", "--lazy", str(self._export)], capture_output=True, timeout=30)

    def _command(self, monitor: Path) -> list[str]:
        def errors(*kinds: str) -> list[dict[str, Any]]:
            return [{"event": "none", "iotype": kind, "errno": 5} for kind in kinds]

        nodes: list[dict[str, Any]] = [
            {"driver": "file", "node-name": "healthy", "filename": str(self._image), "discard": "unmap"},
            {"driver": "blkdebug", "node-name": "badwrite", "image": "healthy", "inject-error": errors("write")},
            {"driver": "blkdebug", "node-name": "badread", "image": "healthy", "inject-error": errors("read")},
            {"driver": "blkdebug", "node-name": "dead", "image": "healthy", "inject-error": errors("read", "write")},
            {"driver": "throttle", "node-name": "slow", "file": "healthy", "throttle-group": "group"},
            {"driver": "raw", "node-name": "top", "file": "healthy"},
        ]
        command = ["qemu-storage-daemon", "--chardev", f"socket,id=c,path={monitor},server=on,wait=off"]
        command += ["--monitor", "chardev=c", "--object", "throttle-group,id=group,x-iops-total=20"]
        for one in nodes:
            command += ["--blockdev", json.dumps(one)]
        return [*command, "--export", json.dumps(self._export_of_top())]

    def _export_of_top(self) -> dict[str, Any]:
        return {"type": "fuse", "id": "e", "node-name": "top", "mountpoint": str(self._export), "writable": True}

    def _ask(self, request: str, **arguments: Any) -> None:
        self._socket.sendall(json.dumps({"execute": request, "arguments": arguments}).encode() + b"\n")
        while True:
            reply = json.loads(self._replies.readline())
            assert "error" not in reply, reply
            if "return" in reply:
                return

    def mode(self, name: str) -> None:
        """What happens to reads and writes from now on; clean pages are dropped, since they would hide it."""
        self._ask("blockdev-reopen", options=[{"driver": "raw", "node-name": "top", "file": name}])
        with suppress(OSError):  # an earlier write error is told once, to whoever asks first
            self.flush()
        with self._export.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    def hang(self, hanging: bool = True) -> None:
        """Stop answering at all, or go on."""
        self._daemon.send_signal(signal.SIGSTOP if hanging else signal.SIGCONT)

    def yank(self) -> None:
        """Take the disk out: all that the kernel still asks of it fails, for ever."""
        self._ask("block-export-del", id="e", mode="hard")

    def plug(self) -> None:
        """Put it in again: it comes as another device."""
        self.detach()
        # What still has the device open keeps the dead export's mount, and may do so behind the new one.
        subprocess.run(["umount", "--lazy", str(self._export)], capture_output=True, timeout=30)
        self._ask("block-export-add", **self._export_of_top())
        until(lambda: self._export.stat().st_size, "the export is back")
        self.attach()
