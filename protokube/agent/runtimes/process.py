"""Containers as children of the agent, for trials and image builds: they end with it.

A container sees what it mounts, the machine's own programs (/usr, read-only), /dev and /proc, and nothing else of the
machine. It has the caller's network. The image's name is not looked at. Needs root and util-linux.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

from msgspec.structs import replace

from protokube import asyncprocess
from protokube.agent.core.lifecycle import EXITED, RUNNING, ContainerId, ContainerState
from protokube.agent.core.model import Pod, spec_of
from protokube.agent.ports import ContainerSpec, ExecResult, LogOptions
from protokube.agent.runtimes.commands import follow, run
from protokube.agent.runtimes.hostbinary import security_refusals, user_of
from protokube.agent.runtimes.makeroot import READY
from protokube.agent.runtimes.ownroot import Place, command, inhabitants, label
from protokube.errors import ProviderError, explain

_LAST_GRACE = 10.0
"""Seconds that containers have when the agent ends."""
_MAKING = 60.0
"""Seconds that a root may take to be made: a disk may hang."""
_LOOKS = (0.0, 0.05, 0.2, 1.0, 3.0)
"""Pauses between looks at processes that were killed; the last one is repeated."""


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
        self._label = ""

    def refuse(self, pod: Pod) -> Sequence[str]:
        """Pods with a network of their own or rights that can't be kept, and containers without a command."""
        spec = spec_of(pod)
        reasons = (
            [] if spec.host_network else ["spec.hostNetwork: true was expected: there is only the host's network"]
        )
        bare = [one.name for one in spec.all_containers() if not (*one.command, *one.args)]
        reasons += [f"container {name}: command: it is missing; no images run here" for name in bare]
        return [*reasons, *security_refusals(pod)]

    async def open(self) -> None:
        """End what an agent before us has left. Raises ProviderError while some of it hasn't ended."""
        with explain(f"make {self._work}"):
            self._work.mkdir(parents=True, exist_ok=True)
            self._label = label(self._work)
        if left := await _ended(self._label, looks=len(_LOOKS)):
            raise ProviderError(f"processes {left} of an earlier agent's containers haven't ended; see what they do")
        with explain(f"clear {self._work}"):
            for path in self._work.glob("protokube-*"):
                if path.is_dir():
                    path.rmdir()
                else:
                    path.unlink()

    async def start(self, spec: ContainerSpec) -> None:
        """Start a container in a mount namespace and a root of its own, and wait until it is in there."""
        if spec.id in self._states:
            return
        rootfs = self._work / str(spec.id)
        with explain(f"make {rootfs}"):
            rootfs.mkdir(parents=True, exist_ok=True)
            log = self._log(spec.id).open("ab")
        place = Place(f"{self._label}{spec.id}", rootfs, self._root)
        told = place.told(spec.argv, spec.env, spec.mounts, directory=spec.container.working_dir, user=_user(spec))
        with log:
            try:
                process = await _started(told, log.fileno())
            except ProviderError:
                await self.remove(spec.id)
                raise
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
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_LAST_GRACE)

    async def _wait(self, ref: ContainerId, process: asyncio.subprocess.Process) -> None:
        """A container has ended when the last of its processes has: the others are killed with the first one."""
        code = await process.wait()
        await _ended(f"{self._label}{ref}")
        self._processes.pop(ref, None)
        if ref in self._states:
            exit_code, number = (128 - code, -code) if code < 0 else (code, None)
            self._states[ref] = replace(
                self._states[ref], state=EXITED, finished_at=self._wall(), exit_code=exit_code, signal=number
            )
        self._events.put_nowait(ref.uid)

    def _log(self, ref: ContainerId) -> Path:
        return self._work / f"{ref}.log"


async def _started(told: bytes, log: int) -> asyncio.subprocess.Process:
    """Start a container's command, and wait until its program is in its root. Raises ProviderError."""
    with open(os.memfd_create("container"), "wb", buffering=0) as memory:  # argument vectors are read by everybody
        memory.write(told)
        memory.seek(0)
        descriptor = memory.fileno()
        process = await asyncprocess.start(
            command(descriptor), stdout=log, pass_fds=[descriptor], remedy="install util-linux"
        )
    assert process.stderr is not None
    said, ready = b"", False
    try:
        async with asyncio.timeout(_MAKING):
            said = await process.stderr.read()
        ready = said.endswith(READY)
    except TimeoutError:
        raise ProviderError(f"its root couldn't be made within {_MAKING:g} s; is a disk hanging?") from None
    finally:
        if not ready:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
    if not ready:
        code = await process.wait()
        reason = said.decode(errors="replace").strip() or f"exit code {code}"
        raise ProviderError(f"its root can't be made: {reason}")
    return process


async def _ended(name: str, *, looks: int | None = None) -> list[int]:
    """Kill all processes in the roots of that name; return those that are left after so many looks."""
    look = 0
    while left := await asyncio.to_thread(inhabitants, name):
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if look == looks:
            break
        await asyncio.sleep(_LOOKS[min(look, len(_LOOKS) - 1)])
        look += 1
    return left


def _user(spec: ContainerSpec) -> tuple[int, int] | None:
    user, group = (user_of(spec.pod, spec.container, field) for field in ("runAsUser", "runAsGroup"))
    return None if user is None and group is None else (int(user or 0), int(group or 0))
