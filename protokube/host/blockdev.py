"""The machine's disks: finding a volume's, judging it, and formatting, checking, growing and mounting it.

Nothing here touches an unmounted disk: that is done by child processes (host/disk/probe.py reads, host/disk/worker.py
acts), so that a disk that hangs holds up no other work. What is decided from what they find is the planners' matter.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec.structs import asdict

from protokube.core.disks.actions import (
    CheckFilesystem,
    FormatVolume,
    GrowFilesystem,
    MountVolume,
    TakeBackFirstStart,
)
from protokube.core.disks.model import Blank, Disk, Ext4, Intent, Mounted, NoDisk, NotBlank, VolumeContents, Working
from protokube.core.model import Unknown
from protokube.core.node.model import Mount
from protokube.core.volumes.model import MOUNT_DIR, MOUNT_PREFIX, CloudVolume, DiskIdentity
from protokube.errors import ProviderError
from protokube.host import process
from protokube.host.children import Child, ChildError, Probes, wait
from protokube.host.disk import disklock, ext4, firststart, sysblock
from protokube.host.disk.contents import collect
from protokube.host.disk.jobs import TOOLS, JobState, digest
from protokube.host.disk.loops import Loops
from protokube.host.mounted import MountedSource
from protokube.host.mountpath import way
from protokube.kernel import mountinfo

if TYPE_CHECKING:
    from protokube.host.disk.loops import File, Key
    from protokube.host.disk.probe import Answer

log = logging.getLogger("protokube")

PROBE_LIMIT = 10.0
"""Seconds that a look at a disk may take."""
MOUNT_LIMIT = 60.0
"""Seconds that a mount may take: the kernel replays the journal."""
RETRY_AFTER = 60.0
"""Seconds before a tool that failed on a disk is tried on it again."""


class _NotAskedError(Exception):
    """It isn't known yet which file stands behind a loop device; only a child may ask."""


class BlockDevices:
    """The port `Disks`. `root` is the prefix of all targets, `run_dir` (with the prefix) a directory of this boot.

    `prove_every_byte` asks that a disk is read whole before it is formatted or its filesystem grown. `data_dirs` are
    the data directories of the etcd clusters, relative to a volume's root: they are looked into.
    """

    def __init__(self, root: str, run_dir: str, data_dirs: frozenset[str], *, prove_every_byte: bool = False) -> None:
        self.data_dirs = data_dirs
        self._full = prove_every_byte
        self._root = os.path.realpath(root)
        self._states = f"{run_dir}/disks"
        self._probes = Probes(PROBE_LIMIT)
        self._workers: dict[str, tuple[Child, str]] = {}
        self._made: dict[str, Disk] = {}
        """Filesystems that were made a moment ago, as their workers read them back: that counts once as a look."""
        self._loops = Loops({}, {})
        self._lock = threading.Lock()
        """Held while the workers are counted, reaped or started: actions come from several threads."""

    # --- reading ---

    def inspect(self, volumes: Sequence[CloudVolume]) -> Mapping[str, Disk | NoDisk | Unknown]:
        """Find and judge the disk of each volume. When all are mounted, this reads /proc and /sys alone."""
        with self._lock:
            at_work = {volume_id: disk for volume_id, (_, disk) in self._at_work().items()}
        self._loops.silent = {key: pid for key, pid in self._loops.silent.items() if process.started_at(pid)}
        lines, disks = _mounts(), _disks()
        found: dict[str, Disk | NoDisk | Unknown] = {}
        requests = {}
        for volume in volumes:
            seen = at_work.get(volume.id) or self._at_a_glance(volume, disks, lines) or self._made.get(volume.id)
            if seen is not None:
                found[volume.id] = seen
            else:
                identity = _identity(volume.identity)
                loops = self._loops.files, self._loops.silent
                requests[volume.id] = {
                    "volume_id": volume.id,
                    "size": volume.size,
                    "identity": identity,
                    "loops": loops,
                    "data_dirs": self.data_dirs,
                }
        self._made.clear()
        for volume_id, answer in self._probes.ask(requests).items():
            found[volume_id] = self._judge(volume_id, answer)
        return found

    def names(self) -> frozenset[str]:
        """The device names that the kernel knows."""
        with os.scandir("/sys/block") as entries:
            return frozenset(f"/dev/{entry.name}" for entry in entries)

    def _at_a_glance(
        self, volume: CloudVolume, disks: list[sysblock.BlockDisk], lines: list[mountinfo.Line]
    ) -> Disk | NoDisk | Unknown | None:
        """What can be told without touching the disk; None when it takes a probe."""
        try:
            disk = sysblock.locate(_identity(volume.identity), volume.size, disks, self._file_of)
            if isinstance(disk, sysblock.Missing):
                if volume.identity.backing is not None:
                    disklock.must_answer(disks, self._loops)
                return NoDisk(disk.hint)
            return Disk(disk.node, disk.number, disk.size, Mounted()) if disklock.mounted(disk, lines) else None
        except _NotAskedError:
            return None
        except sysblock.UncertainError as doubt:
            return Unknown(str(doubt))

    def _file_of(self, disk: sysblock.BlockDisk) -> tuple[int, int] | None:
        key = disk.name, disk.sequence
        if key not in self._loops.files and key not in self._loops.silent:
            raise _NotAskedError
        return self._loops.file_of(disk)

    def _learn(self, files: Mapping[Key, File | None], silent: Mapping[Key, int]) -> None:
        # Kernels before 5.15 don't count disks, so that a name may mean another disk tomorrow.
        self._loops.files.update({key: file for key, file in files.items() if key[1]})
        self._loops.silent.update({key: pid for key, pid in silent.items() if key not in self._loops.files})

    def _judge(self, volume_id: str, answer: Answer | ChildError) -> Disk | NoDisk | Unknown:
        if isinstance(answer, ChildError):
            return Unknown(str(answer))
        self._learn(*answer["loops"])
        log.debug("disk of %s: %s %s", volume_id, answer["state"], answer.get("text") or answer.get("device", ""))
        content: Blank | Ext4 | NotBlank | Mounted | Working
        match answer["state"]:
            case "absent":
                return NoDisk(answer["text"])
            case "busy":
                content = Working(answer["text"])
            case "mounted":
                content = Mounted()
            case "not-blank":
                content = NotBlank(answer["text"])
            case "blank":
                fields: Any = answer["intent"]
                content = Blank(_intent(fields) if fields else None)
            case "ext4":
                content = self._filesystem(volume_id, answer)
            case _:
                return Unknown(answer["text"])
        return Disk(answer["device"], answer["number"], answer["size"], content, answer["read_only"])

    def _filesystem(self, volume_id: str, answer: Answer) -> Ext4:
        superblock = ext4.Superblock(answer["superblock"])
        checked = self._state(volume_id).load().get("checked")
        growing = answer["growing"]  # what it is to hold is in a log, as after a power cut; a check finishes it
        if growing or (checked is not None and checked["superblock"] != digest(superblock.raw)):
            checked = None
        seen = answer["contents"]
        if seen is None:
            contents: VolumeContents | Unknown = Unknown(answer["text"])
        else:
            entries, others, texts, mtimes, overflow = seen
            uuid = superblock.uuid
            contents = VolumeContents(frozenset(entries), texts, mtimes, overflow, uuid, frozenset(others))
        return Ext4(
            uuid=superblock.uuid,
            label=superblock.label,
            size=superblock.size,
            used=superblock.used or growing,
            checked=checked is not None and checked["error"] is None,
            contents=contents,
            check_failed=checked["error"] if checked else None,
            needs_recovery=superblock.recover or growing,
            damaged=answer["text"] if answer["damaged"] else None,
            behind=answer["behind"],
        )

    def mounts(self) -> Sequence[Mount]:
        """See ports.DiskReader: from mountinfo and sysfs."""
        real, _ = self._way()
        lines = _mounts()
        below = mountinfo.below(self._root, lines)
        return [_mount(_as_planned(target, real), line, lines) for target, line in below.items()]

    def barred(self) -> Mapping[str, str]:
        """See ports.DiskReader."""
        _, barred = self._way()
        return barred

    def _way(self) -> tuple[str, dict[str, str]]:
        try:
            return way(self._root)
        except OSError as error:
            raise ProviderError(f"{MOUNT_DIR} can't be read: {error}; see the kernel's log") from error

    def contents(self, target: str) -> VolumeContents:
        """What a mounted volume holds, read without following any symbolic link."""
        path = self._root.rstrip("/") + target
        try:
            root = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                seen = collect(MountedSource(root), self.data_dirs)
                logs = {one: firststart.held(path, one) for one in self.data_dirs}
                uuid = _filesystem_uuid(os.fstat(root).st_dev)
            finally:
                os.close(root)
        except OSError as error:
            hidden = next((mount.cover for mount in self.mounts() if mount.target == target), None)
            why = f"it is hidden by {hidden}" if hidden else f"{error}; see the kernel's log for the disk"
            raise ProviderError(f"{target} can't be read: {why}") from error
        others = frozenset(seen.others)
        return VolumeContents(
            frozenset(seen.entries),
            seen.texts,
            seen.mtimes,
            seen.overflow,
            uuid=uuid,
            others=others,
            cut_off={one: held for one, held in logs.items() if held is not None},
        )

    def running(self) -> Mapping[str, int]:
        """The worker (its pid) of each volume whose disk a tool is at work on, found again after a restart too."""
        with self._lock:
            return {volume_id: pid for volume_id, (pid, _) in self._at_work().items()}

    def _at_work(self) -> dict[str, tuple[int, Disk]]:
        """The workers that live, ours and those of a daemon before us. One that was just started has neither lock
        nor note yet, so that we go by what it was told."""
        self._reap()
        found = {}
        for volume_id in self._with_state():
            job = self._state(volume_id).running()
            if job is not None:
                major, minor = job["number"]
                found[volume_id] = job["pid"], Disk(job["device"], (major, minor), job["size"], Working(job["tool"]))
        for volume_id, (child, tool) in self._workers.items():
            order = child.request
            found[volume_id] = child.pid, Disk(order["device"], order["number"], order["size"], Working(tool))
        return found

    def _with_state(self) -> list[str]:
        try:
            with os.scandir(self._states) as entries:
                return [entry.name.removesuffix(".json") for entry in entries if entry.name.endswith(".json")]
        except FileNotFoundError:
            return []

    def _reap(self) -> None:
        for volume_id in wait({key: child for key, (child, _) in self._workers.items()}, 0):
            child, tool = self._workers.pop(volume_id)
            try:
                _, made = child.answer()
            except ChildError as failed:
                self._state(volume_id).end(str(failed), tool)
                continue
            if made is not None and child.request["job"] == "format":
                self._made[volume_id] = _fresh(child.request, ext4.Superblock(made))

    # --- acting ---

    def format(self, action: FormatVolume) -> None:
        """Prove blankness under the disk's lock, then mkfs.ext4. Started, not awaited."""
        order = {"intent": asdict(action.intent), "label": action.label, "uuid": action.intent.uuid}
        self._start("format", action, order)

    def check(self, action: CheckFilesystem) -> None:
        """e2fsck -p under the disk's lock. Started, not awaited."""
        self._start("check", action, {"uuid": action.uuid})

    def grow(self, action: GrowFilesystem) -> None:
        """e2fsck -f -p and resize2fs under the disk's lock. Started, not awaited."""
        self._start("grow", action, {"uuid": action.uuid})

    def mount(self, action: MountVolume) -> None:
        """Mount the disk under its lock, after checking again that it is this disk with this filesystem."""
        self._made.pop(action.volume_id, None)
        order = {"uuid": action.uuid, "target": action.target, "root": self._root, "data_dirs": self.data_dirs}
        child = Child("worker", self._order("mount", action, order), session=True)
        if not wait({action.volume_id: child}, MOUNT_LIMIT):
            with self._lock:
                self._workers[action.volume_id] = child, "mount"
            raise ProviderError(
                f"mounting {action.device} ({action.volume_id}) has taken more than {MOUNT_LIMIT} s and goes on as "
                f"process {child.pid}; see the kernel's log for the disk"
            )
        if taken_back := self._result("mount", action, child):
            log.warning(
                "%s: etcd's first start in %s was cut off before its first entry; its empty log is put aside, and it "
                "starts again",
                action.volume_id,
                taken_back.decode().replace("\n", " and "),
            )

    def take_back(self, action: TakeBackFirstStart) -> None:
        """Put a log without entries aside, if no process holds it."""
        path = self._root.rstrip("/") + action.target
        try:
            number = Path(path).stat().st_dev
            if (os.major(number), os.minor(number)) != action.number:
                raise ProviderError(f"{action.target}: another filesystem is mounted there now")
            done = firststart.take_back(path, action.data_dir)
        except OSError as error:
            raise ProviderError(f"{action.target}/{action.data_dir} can't be read or written: {error}") from error
        if not done:
            raise ProviderError(
                f"{action.target}/{action.data_dir}: etcd's log has entries now, or a process holds it: left alone"
            )

    def _result(self, job: str, action: Any, child: Child) -> bytes | None:
        try:
            failure, made = child.answer()
        except ChildError as failed:
            raise ProviderError(f"{job} of {action.device} ({action.volume_id}): {failed}") from failed
        if failure is not None:
            raise ProviderError(f"{job} of {action.device} ({action.volume_id}) refused: {failure}")
        return bytes(made) if made else None

    def _start(self, job: str, action: FormatVolume | CheckFilesystem | GrowFilesystem, more: dict[str, Any]) -> None:
        tool = TOOLS[job]
        with self._lock:
            self._reap()
        failure = self._state(action.volume_id).recent_failure(RETRY_AFTER)
        if failure is not None:
            raise ProviderError(
                f"{failure['tool']} failed on {action.device} ({action.volume_id}): {failure['text']}; it is tried "
                f"again {RETRY_AFTER:.0f} s after the failure"
            )
        try:
            process.tool(tool)
        except process.ToolMissingError as missing:
            raise ProviderError(f"{action.volume_id}: {missing}") from missing
        with self._lock:
            if action.volume_id in self._at_work():
                raise ProviderError(f"a tool is already at work on {action.device} ({action.volume_id})")
            self._workers[action.volume_id] = Child("worker", self._order(job, action, more), session=True), tool

    def _order(
        self, job: str, action: FormatVolume | CheckFilesystem | GrowFilesystem | MountVolume, more: dict[str, Any]
    ) -> dict[str, Any]:
        return {
            "job": job,
            "volume_id": action.volume_id,
            "device": action.device,
            "number": action.number,
            "size": action.size,
            "identity": _identity(action.identity),
            "state": self._states,
            "full": self._full,
            **more,
        }

    def _state(self, volume_id: str) -> JobState:
        return JobState(self._states, volume_id)


def _fresh(order: Any, made: ext4.Superblock) -> Disk:
    """The disk of a format that has just ended well. What mkfs.ext4 leaves is known; a mount proves it again."""
    contents = VolumeContents(frozenset({"lost+found/"}), uuid=made.uuid)
    content = Ext4(made.uuid, made.label, made.size, used=False, checked=False, contents=contents)
    return Disk(order["device"], order["number"], order["size"], content)


def _intent(fields: Any) -> Intent:
    return Intent(**{name: value for name, value in fields.items() if name != "label"})


def _identity(identity: DiskIdentity) -> tuple[frozenset[str], tuple[int, int] | None, str | None, str | None]:
    return identity.serials, identity.backing, identity.path, identity.requested


def _disks() -> list[sysblock.BlockDisk]:
    try:
        return sysblock.disks()
    except sysblock.UncertainError as doubt:
        raise ProviderError(f"the machine's disks can't be listed: {doubt}; see the kernel's log") from doubt


def _mounts() -> list[mountinfo.Line]:
    try:
        return mountinfo.read()
    except OSError as error:
        raise ProviderError(f"the mounts can't be read: {error}") from error


def _as_planned(target: str, real: str) -> str:
    """The path of a mount as plans say it: mountinfo shows where links on the way have led."""
    return MOUNT_DIR + target[len(real) :] if target.startswith(f"{real}/") else target


def _mount(target: str, line: mountinfo.Line, lines: list[mountinfo.Line]) -> Mount:
    cover = mountinfo.cover(line, lines) if target.startswith(MOUNT_PREFIX) else None
    shutdown = "shutdown" in line.options
    read_only = bool(line.options & {"ro", "emergency_ro"})
    errors = _errors(line) if line.fstype == "ext4" else 0
    return Mount(target, line.number, line.fstype, read_only, shutdown, errors, _shown(cover) if cover else None)


def _shown(cover: mountinfo.Line) -> str:
    return f"{cover.fstype} ({cover.number[0]}:{cover.number[1]}), mounted at {cover.target}"


def _errors(line: mountinfo.Line) -> int:
    """ext4's own count of the errors it met, 0 when the kernel doesn't show it."""
    try:
        name = _device_name(line.number)
        return int(Path(f"/sys/fs/ext4/{name}/errors_count").read_text(encoding="ascii"))
    except FileNotFoundError:
        return 0


def _device_name(number: tuple[int, int]) -> str:
    return Path("/sys/dev/block/{}:{}".format(*number)).readlink().name


def _filesystem_uuid(device: int) -> str | None:
    """A mounted ext4's UUID. Its superblock stays in the device's page cache, so that no disk is asked."""
    name = _device_name((os.major(device), os.minor(device)))
    fd = os.open(f"/dev/{name}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        superblock = ext4.parse(os.pread(fd, ext4.LENGTH, ext4.OFFSET))
    finally:
        os.close(fd)
    return superblock.uuid if superblock else None
