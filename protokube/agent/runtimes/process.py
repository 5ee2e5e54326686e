"""Containers as children of the agent, for trials and image builds: they end with it.

A container sees what it mounts, the machine's own programs (/usr, read-only), /dev and /proc, and nothing else of the
machine. It has the caller's network. The image's name is not looked at. Needs root and util-linux.
"""

from __future__ import annotations

import asyncio
import contextlib
import shlex
import subprocess
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

from msgspec.structs import replace

from protokube.agent.core.lifecycle import EXITED, RUNNING, ContainerId, ContainerState
from protokube.agent.core.model import Pod, spec_of
from protokube.agent.ports import ContainerSpec, ExecResult, LogOptions
from protokube.agent.runtimes.commands import PATH, follow, run
from protokube.errors import ProviderError, explain

_LAST_GRACE = 10.0
"""Seconds that containers have when the agent ends."""


class ProcessRuntime:
    """Child processes. `work` holds their logs and mount points; `root` is the machine's root."""

    name = "process"

    def __init__(self, root: Path, work: Path, wall: Callable[[], float]) -> None:
        self._root = root
        self._work = work
        self._wall = wall
        self._states: dict[ContainerId, ContainerState] = {}
        self._processes: dict[ContainerId, asyncio.subprocess.Process] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._events: asyncio.Queue[str | None] = asyncio.Queue()

    def refuse(self, pod: Pod) -> Sequence[str]:
        """Pods with a network of their own, and containers without a command."""
        spec = spec_of(pod)
        reasons = (
            [] if spec.host_network else ["spec.hostNetwork: true was expected: there is only the host's network"]
        )
        bare = [one.name for one in spec.all_containers() if not (*one.command, *one.args)]
        return [*reasons, *(f"container {name}: command: it is missing; no images run here" for name in bare)]

    async def open(self) -> None:
        """Nothing to prepare: no container outlives its agent."""

    async def start(self, spec: ContainerSpec) -> None:
        """Start a container in a mount namespace and a root of its own."""
        if spec.id in self._states:
            return
        rootfs = self._work / str(spec.id)
        with explain(f"make {rootfs}"):
            rootfs.mkdir(parents=True, exist_ok=True)
            log = self._log(spec.id).open("ab")
        inside = _script(spec, self._root, rootfs)
        with log:
            try:
                process = await asyncio.create_subprocess_exec(
                    *("unshare", "--mount", "--propagation", "private", "sh", "-euc", inside),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )
            except OSError as error:
                raise ProviderError(f"unshare: {error.strerror}; install util-linux") from error
        self._processes[spec.id] = process
        self._states[spec.id] = ContainerState(spec.id, RUNNING, self._wall(), handle=f"process://{process.pid}")
        task = asyncio.create_task(self._wait(spec.id, process))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self, ref: ContainerId, grace: float) -> None:
        """TERM, and KILL after the grace."""
        process = self._processes.get(ref)
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(grace):
                await process.wait()
        except TimeoutError:
            await self.kill(ref)

    async def kill(self, ref: ContainerId) -> None:
        """KILL."""
        with contextlib.suppress(ProcessLookupError, KeyError):
            self._processes[ref].kill()

    async def remove(self, ref: ContainerId) -> None:
        """Forget an ended container and its log."""
        self._states.pop(ref, None)
        with explain(f"remove {self._log(ref)}"):
            self._log(ref).unlink(missing_ok=True)
            if (self._work / str(ref)).exists():
                (self._work / str(ref)).rmdir()

    async def containers(self) -> Sequence[ContainerState]:
        """Those of this agent's life."""
        return list(self._states.values())

    async def exec(self, ref: ContainerId, argv: Sequence[str], limit: float) -> ExecResult:
        """Run a command in the container's namespace and root."""
        process = self._processes.get(ref)
        if process is None:
            raise ProviderError(f"{ref}: it doesn't run")
        return await run(["/usr/bin/nsenter", "-t", str(process.pid), "-m", "-r", "-w", "--", *argv], limit)

    async def logs(self, ref: ContainerId, options: LogOptions) -> AsyncIterator[bytes]:
        """What the container has printed."""
        lines = "+1" if options.tail is None else str(options.tail)
        async for part in follow(["tail", "-n", lines, *(["-f"] if options.follow else []), str(self._log(ref))]):
            yield part

    async def changes(self) -> AsyncIterator[str | None]:
        """Yield the UID of a pod with each container that ends."""
        while True:
            yield await self._events.get()

    async def close(self) -> None:
        """End every container."""
        await asyncio.gather(*(self.stop(ref, _LAST_GRACE) for ref in list(self._processes)))

    async def _wait(self, ref: ContainerId, process: asyncio.subprocess.Process) -> None:
        code = await process.wait()
        self._processes.pop(ref, None)
        if ref in self._states:
            exit_code, number = (128 - code, -code) if code < 0 else (code, None)
            self._states[ref] = replace(
                self._states[ref], state=EXITED, finished_at=self._wall(), exit_code=exit_code, signal=number
            )
        self._events.put_nowait(ref.uid)

    def _log(self, ref: ContainerId) -> Path:
        return self._work / f"{ref}.log"


def _script(spec: ContainerSpec, root: Path, rootfs: Path) -> str:
    """The shell script that makes the container's file system at `rootfs` and becomes its command."""
    at, here = shlex.quote, shlex.quote(str(rootfs))
    lines = [f"mount -t tmpfs -o mode=0755 tmpfs {here}", f"cd {here}", "mkdir etc usr dev proc"]
    for place in (Path("/bin"), Path("/sbin"), Path("/lib"), Path("/lib32"), Path("/lib64"), Path("/libx32")):
        if place.is_symlink():
            lines.append(f"ln -s {at(str(place.readlink()))} {place.name}")
        elif place.is_dir():
            lines.append(f"mkdir {place.name}; mount --bind {place} {place.name}")
    lines += ["mount --bind /usr usr", "mount --rbind /dev dev", "mount --rbind /proc proc"]
    lines += ["mount -o remount,bind,ro usr", "echo hosts: files dns >etc/nsswitch.conf"]
    resolver = at(str(root / "etc/resolv.conf"))
    lines.append(f"test ! -f {resolver} || cp {resolver} etc/resolv.conf")
    for mount in spec.mounts:
        source, target = at(mount.source), at(mount.target.lstrip("/"))
        parent = at(str(Path(mount.target.lstrip("/")).parent))
        lines.append(f"if test -d {source}; then mkdir -p {target}; else mkdir -p {parent}; touch {target}; fi")
        lines.append(f"mount --bind {source} {target}")
        if mount.read_only:
            lines.append(f"mount -o remount,bind,ro {target}")
    environment = [f"{name}={value}" for name, value in (("PATH", PATH), *spec.env)]
    work = ["env", "-C", spec.container.working_dir] if spec.container.working_dir else []
    # pdeathsig: a container never outlives its agent, not even one that is killed.
    end = ["env", "-i", *environment, "setpriv", "--pdeathsig", "KILL", "chroot", ".", *work, *spec.argv]
    return "\n".join([*lines, f"exec {shlex.join(end)}"])
