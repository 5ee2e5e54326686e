"""Variables reach a unit by a file of root's, which is there until systemd has read it, and no longer."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from protokube.agent.core.lifecycle import ContainerId
from protokube.agent.core.model import spec_of
from protokube.agent.ports import ContainerSpec
from protokube.agent.runtimes.envfiles import environment_text
from protokube.agent.runtimes.systemd import SystemdRuntime
from protokube.errors import ProviderError
from protokube.host.bus import CallError, Variant
from tests.agent.pods import UIDS, wanted

REF = ContainerId(UIDS[1], "c", 0)
UNIT = f"{REF}.service"
SECRET = 'a "b" $HOME `id` \\ %n\n# second'


class Runtime(SystemdRuntime):
    """A systemd that keeps what it was asked to start. `units`: active and sub state, and when it was started."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.units: dict[str, tuple[str, str, int]] = {}
        self.properties: dict[str, Variant] = {}
        self.refuses: str | None = None

    async def _connected(self) -> Any:
        return None

    async def _watch(self, unit: str) -> None: ...

    async def _unwatch(self, unit: str) -> None: ...

    async def _manager(self, method: str, signature: str, *body: Any) -> list[Any]:
        if method == "ListUnitsByPatterns":
            return [[[unit, "", "", active, sub, "", unit] for unit, (active, sub, _) in self.units.items()]]
        if method == "StartTransientUnit":
            if self.refuses is not None:
                raise CallError(self.refuses, "it says no")
            self.properties = dict(body[2])
            self.units[body[0]] = ("inactive", "dead", 0)
        return []

    async def _ask(self, path: str, interface: str, method: str, signature: str, *body: Any) -> list[Any]:
        return [{"ExecMainStartTimestamp": Variant("t", self.units[path][2])}]


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(test)


def spec(*env: tuple[str, str]) -> ContainerSpec:
    pod = wanted(uid=UIDS[1])
    return ContainerSpec(REF, pod, spec_of(pod).containers[0], env, ("/bin/sh", "-c", "x"))


def test_values_are_in_the_file_and_nowhere_else(tmp_path: Path) -> None:
    async def test() -> None:
        runtime, folder = Runtime(tmp_path / "env"), tmp_path / "env"
        await runtime.start(spec(("KEY", SECRET)))
        assert "second" not in repr(runtime.properties) and "Environment" not in runtime.properties
        assert runtime.properties["EnvironmentFiles"].value == [[str(folder / UNIT), False]]
        assert (folder / UNIT).read_text() == 'KEY="a \\"b\\" \\$HOME \\`id\\` \\\\ %n\n# second"\n'
        assert stat.S_IMODE((folder / UNIT).stat().st_mode) == 0o600
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700

    run(test())


@pytest.mark.parametrize(
    ("state", "there"),
    [
        (("inactive", "dead", 0), True),  # its job waits
        (("activating", "start", 0), True),
        (("activating", "start", 5), True),
        (("active", "running", 5), False),
        (("active", "exited", 5), False),
        (("failed", "failed", 0), False),
    ],
)
def test_the_file_is_there_until_systemd_has_read_it(
    tmp_path: Path, state: tuple[str, str, int], *, there: bool
) -> None:
    async def test() -> None:
        runtime = Runtime(tmp_path)
        await runtime.start(spec(("KEY", "x")))
        runtime.units[UNIT] = state
        await runtime.containers()
        assert (tmp_path / UNIT).exists() is there
        await runtime.remove(REF)
        assert list(tmp_path.iterdir()) == []

    run(test())


def test_a_start_that_is_refused_leaves_no_file(tmp_path: Path) -> None:
    async def test() -> None:
        runtime = Runtime(tmp_path)
        runtime.refuses = "org.freedesktop.DBus.Error.InvalidArgs"
        with pytest.raises(CallError):
            await runtime.start(spec(("KEY", "x")))
        assert list(tmp_path.iterdir()) == []

    run(test())


def test_what_a_killed_agent_has_left_is_removed(tmp_path: Path) -> None:
    """But not the file of a unit that systemd is about to start."""

    async def test() -> None:
        runtime = Runtime(tmp_path)
        await runtime.start(spec(("KEY", "x")))
        (tmp_path / f"{ContainerId(UIDS[2], 'c', 0)}.service").touch()
        await runtime.open()
        assert [path.name for path in tmp_path.iterdir()] == [UNIT]

    run(test())


@pytest.mark.parametrize(("name", "value"), [("A-B", "x"), ("A\nB", "x"), ("KEY", "x\0y"), ("KEY", "x\ry")])
def test_what_systemd_would_leave_out_is_said(name: str, value: str) -> None:
    with pytest.raises(ProviderError, match=r"variable .*: systemd takes") as caught:
        environment_text([(name, value)])
    assert repr(value) not in str(caught.value)
