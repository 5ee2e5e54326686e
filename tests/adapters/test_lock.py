"""The lock of a root: who holds it is refused to others, and what a killed holder left behind is waited for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from protokube.lock import AlreadyRunningError, Lock

HOLD = """
import os, sys, time
from pathlib import Path
from protokube.lock import Lock
with Lock(Path(sys.argv[1])):
    child = os.fork()
    if child == 0:
        time.sleep(600)
    print(child, flush=True)
    time.sleep(600)
"""
"""A daemon in the moment in which it starts a tool: its child has everything open that it has."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run/lock"


@pytest.fixture
def holder(path: Path) -> Iterator[tuple[int, int]]:
    """The pids of a process that holds the lock, and of its child."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, path], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    child = int(process.stdout.readline())
    try:
        yield process.pid, child
    finally:
        process.kill()
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        process.communicate()


def test_a_living_holder_is_named_at_once(
    path: Path, holder: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    with pytest.raises(AlreadyRunningError, match=f"pid {holder[0]} holds"), Lock(path):
        pass
    assert pauses == []


def test_what_a_killed_holder_left_to_its_child_is_waited_for(
    path: Path, holder: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    process, child = holder
    os.kill(process, signal.SIGKILL)
    os.waitid(os.P_PID, process, os.WEXITED | os.WNOWAIT)
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            os.kill(child, signal.SIGKILL)
        if len(pauses) >= 3:
            wait(0.01)

    wait = time.sleep
    monkeypatch.setattr(time, "sleep", pause)
    with Lock(path):
        assert len(pauses) >= 3


def test_what_never_ends_is_refused_in_the_end(
    path: Path, holder: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    os.kill(holder[0], signal.SIGKILL)
    os.waitid(os.P_PID, holder[0], os.WEXITED | os.WNOWAIT)
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    with pytest.raises(AlreadyRunningError, match="already runs on this root"), Lock(path):
        pass
    assert len(pauses) == 500
