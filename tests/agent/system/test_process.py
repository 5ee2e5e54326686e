"""Containers as the agent's own children: what they see, how they end, and that none is left."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from protokube.agent.clock import wall_time
from protokube.agent.providers.local import LocalProvider
from protokube.agent.records import Records
from protokube.agent.runtimes.process import ProcessRuntime
from protokube.agent.volumes import Volumes
from tests.agent.harness import Kept, Spoken, running, until
from tests.agent.pods import wanted

pytestmark = pytest.mark.root


class Place:
    """A machine's root below a test's folder."""

    def __init__(self, base: Path) -> None:
        self.root, self.work = base / "root", base / "work"
        (self.root / "mnt/data").mkdir(parents=True)
        (self.root / "etc").mkdir()
        (self.root / "etc/hosts").write_text("10.0.0.1 there\n")
        runtime = ProcessRuntime(self.root, self.work, wall_time)
        volumes = Volumes(self.root, base / "volumes", base / "memory")
        self.provider = LocalProvider(runtime, Records(base / "pods"), volumes, boot="b")

    def logs(self) -> str:
        """Everything that was printed."""
        return "".join(path.read_text() for path in sorted(self.work.glob("*.log")))

    def pod(self, script: str, **more: Any) -> dict[str, Any]:
        """A pod with etcd's shape whose command is a shell script."""
        container = {
            "name": "c",
            "image": "any",
            "command": ["sh", "-c", script],
            "env": [{"name": "COLOUR", "value": "deep blue"}],
            "volumeMounts": [
                {"name": "data", "mountPath": "/var/data"},
                {"name": "hosts", "mountPath": "/etc/hosts", "readOnly": True},
            ],
            **more,
        }
        volumes = [
            {"name": "data", "hostPath": {"path": "/mnt/data", "type": "Directory"}},
            {"name": "hosts", "hostPath": {"path": "/etc/hosts", "type": "File"}},
        ]
        return wanted(containers=[container], volumes=volumes)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def run(place: Place, test: Callable[[Spoken, Kept], Coroutine[Any, Any, None]]) -> None:
    """Run a test beside an agent; its end ends the containers."""

    async def whole() -> None:
        source, kept = Spoken(), Kept()
        try:
            async with running(place.provider, source, reporter=kept):
                await test(source, kept)
        finally:
            await place.provider.close()

    asyncio.run(whole())


def test_a_container_has_its_environment_its_mounts_and_nothing_else(place: Place) -> None:
    async def test(source: Spoken, kept: Kept) -> None:
        script = "env; cat /etc/hosts; ls -A / /etc /var; echo no > /etc/hosts; echo kept > /var/data/file; sleep 600"
        source.say([place.pod(script, workingDir="/var")])
        await until("it has looked", lambda: (place.root / "mnt/data/file").exists())

    run(place, test)
    said = place.logs()
    assert "COLOUR=deep blue\n" in said and "HOME=" not in said
    assert "10.0.0.1 there\n" in said and "Read-only file system" in said
    assert "passwd" not in said and "tmp" not in said.split("\n")


def test_it_is_started_again_changed_and_ended(place: Place) -> None:
    async def test(source: Spoken, kept: Kept) -> None:
        count = place.root / "mnt/data/count"
        source.say([place.pod("echo again >> /var/data/count; test $(wc -l </var/data/count) = 2 && sleep 600")])
        await until("it ran twice", lambda: count.exists() and count.read_text().count("again") == 2)
        changed = place.pod("echo second > /var/data/second; exec sleep 600")
        source.say([changed])
        await until("the new one runs", lambda: (place.root / "mnt/data/second").exists())
        source.say([])
        await until("none is left", lambda: not kept.pods)
        assert not list(place.work.iterdir())

    run(place, test)


def test_the_agent_s_end_ends_the_containers(place: Place) -> None:
    async def test(source: Spoken, kept: Kept) -> None:
        source.say([place.pod("trap 'echo ended >/var/data/ended; exit' TERM; touch /var/data/up; sleep 600 & wait")])
        await until("it runs", lambda: (place.root / "mnt/data/up").exists())

    run(place, test)
    assert (place.root / "mnt/data/ended").read_text() == "ended\n"
