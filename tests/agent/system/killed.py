"""Agents that are killed right before an effect, one after the other, each forked from a program that has everything
loaded.

    python -m tests.agent.system.killed ARGUMENT…        (virtual-kubelet's own arguments)

It reads `kill` from standard input and runs an agent that is killed at the first kind of effect at which none was
killed before, or `run` for one that lives; any further line ends that agent by SIGTERM. When an agent has ended, the
program says by what: the effect's name, or `ended`.

An effect is whatever changes something: a file or directory of the agent's own that is made, written, renamed or
removed; a call of systemd that starts or ends a unit (before the call, and once more when it has answered); a program
that is started, such as podman's run, stop and rm or a container itself (before, and when its end or its start was
seen). Between two effects nothing changes, so a kill before each is a kill after each as well. With podman, which is
slow, its calls alone count: the files are the same with every runtime.
"""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn
from unittest.mock import patch

from protokube.agent import cli
from protokube.agent.runtimes import commands, podman, process, systemd

ENDED = "ended"
_OWN = "/protokube/agent/"
_REPORTS = "/run/protokube/agent/pods/"
_CHANGES = frozenset({"StartTransientUnit", "StopUnit", "KillUnit", "ResetFailedUnit"})
_PODMAN = frozenset({"run", "stop", "kill", "rm"})
_UID = re.compile(r"[0-9a-f]{32}|(?<=-)\d+\b")
_MOST = 2
_FILES = frozenset({"os.rename", "os.remove", "os.rmdir", "os.mkdir"})


class Killer:
    """Kills its process at the first effect that isn't among the known ones, and names it.

    An effect's name has how often it happened in this life, as far as twice: further ones are the same again,
    for another pod.
    """

    def __init__(self, known: frozenset[str] | None) -> None:
        self._known = known
        self._times: Counter[str] = Counter()

    def effect(self, what: str) -> None:
        what = _UID.sub("*", what)
        self._times[what] += 1
        name = f"{what} #{min(self._times[what], _MOST)}"
        if self._known is not None and name not in self._known:
            os.write(1, f"{name}\n".encode())
            os.kill(os.getpid(), signal.SIGKILL)

    def audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        """An audit hook: it is called before the call, in whatever thread."""
        if event == "open" and _REPORTS in str(arguments[0]):
            return  # the rename of the same report is the effect
        writes = event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if (event in _FILES or writes) and isinstance(arguments[0], str | bytes | os.PathLike):
            path = os.fsdecode(arguments[0])
            if _OWN in path:
                self.effect(f"{event} {Path(path).name}")

    def install(self, *, files: bool) -> None:
        if files:
            sys.addaudithook(self.audit)
        ask, run, started = systemd.SystemdRuntime._ask, commands.run, process._started

        async def counted_ask(runtime: Any, path: str, interface: str, method: str, *more: Any) -> Any:
            if method not in _CHANGES:
                return await ask(runtime, path, interface, method, *more)
            self.effect(method)
            try:
                return await ask(runtime, path, interface, method, *more)
            finally:
                self.effect(f"{method} answered")

        async def counted_run(argv: Sequence[str], *more: Any) -> Any:
            if argv[0] != podman.PODMAN or argv[1] not in _PODMAN:
                return await run(argv, *more)
            self.effect(f"podman {argv[1]}")
            try:
                return await run(argv, *more)
            finally:
                self.effect(f"podman {argv[1]} ended")

        async def counted_started(told: bytes, log: int) -> Any:
            self.effect("container")
            found = await started(told, log)
            self.effect("container started")
            return found

        patch.object(systemd.SystemdRuntime, "_ask", counted_ask).start()
        patch.object(podman, "run", counted_run).start()
        patch.object(process, "_started", counted_started).start()


def _live(known: frozenset[str] | None, arguments: list[str]) -> NoReturn:
    Killer(known).install(files="podman" not in arguments)
    os._exit(cli.main(arguments))


def main() -> None:
    """Run one life after the other until the input ends."""
    known: set[str] = set()
    # Not by sys.stdin: what it has buffered can't be waited for.
    while (line := _line()) is not None:
        said, saying = os.pipe()
        child = os.fork()
        if child == 0:
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(saying, 1)
            _live(frozenset(known) if line == "kill\n" else None, sys.argv[1:])
        os.close(saying)
        descriptor = os.pidfd_open(child)
        if descriptor not in select.select([0, descriptor], [], [])[0]:
            _line()
            signal.pidfd_send_signal(descriptor, signal.SIGTERM)
        _, status = os.waitpid(child, 0)
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        outcome = (
            os.read(said, 1000).decode().strip() if killed else ENDED if status == 0 else f"exit status {status}"
        )
        known.add(outcome)
        os.write(1, f"{outcome}\n".encode())
        os.close(descriptor)
        os.close(said)


def _line() -> str | None:
    found = b""
    while not found.endswith(b"\n"):
        part = os.read(0, 1)
        if not part:
            return None
        found += part
    return found.decode()


class Lives:
    """The program, from a test's side."""

    def __init__(self, command: Sequence[str], **more: Any) -> None:
        self._program = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **more)
        assert self._program.stdin is not None and self._program.stdout is not None
        self._to, self._from = self._program.stdin, self._program.stdout

    def begin(self, *, kill: bool = False) -> None:
        """Start the next agent."""
        self._send("kill" if kill else "run")

    def died(self, within: float = 0.02) -> str | None:
        """The effect at which the agent was killed; None while it lives."""
        if not select.select([self._from], [], [], within)[0]:
            return None
        said = str(self._from.readline().decode().strip())
        assert said and said != ENDED and not said.startswith("exit"), said or "the program has ended"
        return said

    def end(self) -> str:
        """End the agent; by what it has ended."""
        self._send("end")
        return str(self._from.readline().decode().strip())

    def close(self) -> None:
        """End the program; no agent lives any more."""
        self._to.close()
        self._program.wait(60)
        self._from.close()

    def _send(self, line: str) -> None:
        self._to.write(line.encode() + b"\n")
        self._to.flush()


if __name__ == "__main__":
    main()
