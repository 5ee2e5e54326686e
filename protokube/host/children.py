"""Child processes that touch disks: started light, asked side by side, and abandoned when a disk hangs."""

from __future__ import annotations

import marshal
import os
import select
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from protokube.host.process import spawn
from protokube.together import SAY_AT, say_waiting

_PACKAGE_PARENT = str(Path(__file__).parents[2])
_START = "import sys; sys.path.insert(0, sys.argv[1]); from protokube.host.disk.{module} import main; main()"


class ChildError(Exception):
    """A child gave no answer; the message says why."""


class Child:
    """A child process that was sent `request` and answers once. The answer is marshalled, at most a few MiB."""

    def __init__(self, module: str, request: Any, *, session: bool = False) -> None:
        self.request = request
        self.overdue = False
        self._answer = b""
        asking, question = os.pipe()
        self.fd, answering = os.pipe()
        try:
            os.write(question, marshal.dumps(request))  # far less than a pipe holds
            # Without site, user settings and the environment: a third of the time, and nothing to be led astray by.
            argv = [sys.executable, "-I", "-S", "-c", _START.format(module=module), _PACKAGE_PARENT]
            os.close(question)
            self.pid = spawn(argv, [(asking, 0), (answering, 1), (2, 2)], session=session)
        finally:
            os.close(asking)
            os.close(answering)

    def read(self) -> bool:
        """Take what has come; whether that was the end. Call it when the descriptor is readable."""
        part = os.read(self.fd, 1 << 16)
        self._answer += part
        return not part

    def answer(self) -> Any:
        """Reap the child after the end of its answer, and return that."""
        os.close(self.fd)
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        if code != os.EX_OK:
            raise ChildError(f"process {self.pid} ended with {code}; its error is in the log")
        return marshal.loads(self._answer)


def wait(children: Mapping[str, Child], limit: float, what: str | None = None) -> set[str]:
    """The keys of the children that have ended within `limit` seconds; none of the overdue ones is waited for.

    With `what`, a format for a key, the log says meanwhile which ones are waited for.
    """
    poll = select.poll()
    waiting = {child.fd: key for key, child in children.items()}
    for fd in waiting:
        poll.register(fd, select.POLLIN)
    done: set[str] = set()
    began = time.monotonic()
    for seconds in (*(at for at in SAY_AT if at < limit), limit):
        while patient := sorted(key for key in waiting.values() if not children[key].overdue):
            left = began + seconds - time.monotonic()
            if not (events := poll.poll(max(0.0, left) * 1000)):
                break
            done |= _taken(events, waiting, children, poll)
        if what is not None and seconds < limit:
            for key in patient:
                say_waiting(what.format(key), seconds, limit)
    while waiting and (events := poll.poll(0)):  # an overdue one may have ended
        done |= _taken(events, waiting, children, poll)
    for key in waiting.values():
        children[key].overdue = True
    return done


def _taken(
    events: list[tuple[int, int]], waiting: dict[int, str], children: Mapping[str, Child], poll: select.poll
) -> set[str]:
    """Take what has come; the keys of those that have ended, which are no longer waited for."""
    done = set()
    for fd, _ in events:
        if children[waiting[fd]].read():
            poll.unregister(fd)
            done.add(waiting.pop(fd))
    return done


class Probes:
    """The probes of disks, one at a time for each volume."""

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._open: dict[str, Child] = {}

    def ask(self, requests: Mapping[str, Any]) -> dict[str, Any | ChildError]:
        """Probe volumes side by side.

        A probe that exceeds the limit is left alone; while it lives no other is started for its volume, and when it
        comes to an end after all, its late answer counts.
        """
        for key, request in requests.items():
            if key not in self._open:
                self._open[key] = Child("probe", request)
        answers: dict[str, Any | ChildError] = {}
        for key in wait(self._open, self._limit, "the disk of {}"):
            child = self._open.pop(key)
            try:
                answer = child.answer()
            except ChildError as failed:
                answer = failed
            if _same_question(child.request, requests.get(key)):
                answers[key] = answer
        for key in requests.keys() - answers.keys():
            hung = self._open.get(key)
            who = f"process {hung.pid}" if hung else "an earlier process"
            answers[key] = ChildError(f"the disk does not answer: {who} has waited for more than {self._limit} s")
        return answers


def _same_question(old: Mapping[str, Any], new: Mapping[str, Any] | None) -> bool:
    """Whether a late answer still tells about this volume, found in the same way."""
    return new is not None and all(old[key] == new[key] for key in ("identity", "size"))
