"""Containers as the agent's own children: what they see, how they end, and that none is left."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import pytest

from protokube import asyncprocess
from protokube.agent.clock import wall_time
from protokube.agent.providers.local import LocalProvider
from protokube.agent.records import Records
from protokube.agent.runtimes.ownroot import inhabitants, label
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
        self.runtime = ProcessRuntime(self.root, self.work, wall_time)
        volumes = Volumes(self.root, base / "volumes", base / "memory")
        self.provider = LocalProvider(self.runtime, Records(base / "pods"), volumes, boot="b")

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


def test_a_sub_path_is_mounted_and_taken_away(place: Place) -> None:
    async def test(source: Spoken, kept: Kept) -> None:
        mounts = [{"name": "data", "mountPath": "/part", "subPath": "deep/er"}]
        source.say([place.pod("ls -A / >/part/file; sleep 600", volumeMounts=mounts)])
        await until("it has written", lambda: (place.root / "mnt/data/deep/er/file").exists())
        source.say([])
        await until("it is gone", lambda: not kept.pods)

    run(place, test)
    assert "part" in (place.root / "mnt/data/deep/er/file").read_text()
    assert not list((place.root.parent / "subpaths").iterdir())


def test_a_read_only_mount_follows_its_file(place: Place) -> None:
    async def test(source: Spoken, kept: Kept) -> None:
        script = "until grep -q moved /etc/hosts; do sleep 0.05; done; echo seen >/var/data/seen; sleep 600"
        source.say([place.pod(script)])
        await until("it runs", lambda: [pod for pod in kept.pods.values() if pod["status"]["phase"] == "Running"])
        with (place.root / "etc/hosts").open("r+") as hosts:
            hosts.write("10.0.0.2 moved\n")
        await until("it has seen it", lambda: (place.root / "mnt/data/seen").exists())

    run(place, test)


def test_a_path_that_is_not_what_its_type_says_is_waited_for(place: Place) -> None:
    async def test(source: Spoken, kept: Kept) -> None:
        data = place.root / "mnt/data"
        data.rmdir()
        data.touch()
        source.say([place.pod("touch /var/data/up; sleep 600")])

        def said() -> bool:
            return any("it is no directory" in str(pod["status"]) for pod in kept.pods.values())

        await until("it is said", said)
        data.unlink()
        data.mkdir()
        await until("it runs", lambda: (data / "up").exists())

    run(place, test)


def test_a_root_that_can_not_be_made_is_said(place: Place) -> None:
    """Here a mount point lies in a mount that is read-only: it can't be made."""

    async def test(source: Spoken, kept: Kept) -> None:
        mounts = [
            {"name": "data", "mountPath": "/var/data", "readOnly": True},
            {"name": "hosts", "mountPath": "/var/data/below/hosts"},
        ]
        source.say([place.pod("sleep 600", volumeMounts=mounts)])

        def said() -> bool:
            texts = [str(pod["status"]) for pod in kept.pods.values()]
            return any("CreateContainerError" in one and "Read-only file system" in one for one in texts)

        await until("it is said", said)

    run(place, test)


@pytest.mark.parametrize("target", ["/var/data/link", "/var/data/link/hosts"])
def test_no_mount_point_leads_over_a_link_that_a_container_left(place: Place, target: str) -> None:
    async def test(source: Spoken, kept: Kept) -> None:
        (place.root / "outside").mkdir()
        (place.root / "mnt/data/link").symlink_to(place.root / "outside")
        mounts = [{"name": "data", "mountPath": "/var/data"}, {"name": "hosts", "mountPath": target}]
        source.say([place.pod("sleep 600", volumeMounts=mounts)])

        def said() -> bool:
            return any(f"{target}: link is a symbolic link" in str(pod["status"]) for pod in kept.pods.values())

        await until("it is said", said)
        assert not list((place.root / "outside").iterdir())

    run(place, test)


def test_no_variable_stands_on_a_command_line(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[str] = []
    start = asyncprocess.start

    async def noted(argv: Sequence[str], **more: Any) -> asyncio.subprocess.Process:
        started.extend(argv)
        return await start(argv, **more)

    async def test(source: Spoken, kept: Kept) -> None:
        source.say([place.pod("echo up >/var/data/up; sleep 600", workingDir="/var")])
        await until("it runs", lambda: (place.root / "mnt/data/up").exists())

    monkeypatch.setattr(asyncprocess, "start", noted)
    run(place, test)
    assert any("unshare" in one for one in started) and not any("deep blue" in one for one in started)


def test_a_program_that_is_not_there_ends_as_in_a_shell(place: Place) -> None:
    async def test(source: Spoken, kept: Kept) -> None:
        source.say([place.pod("", command=["no-such-program"])])

        def ended() -> bool:
            text = str([pod["status"] for pod in kept.pods.values()])
            return "'exitCode': 127" in text

        await until("it is told", ended)
        assert "no-such-program: No such file or directory" in place.logs()

    run(place, test)


def test_what_would_run_differently_here_is_refused(place: Place) -> None:
    async def test(source: Spoken, kept: Kept) -> None:
        pods = [
            wanted("a", owner="file:a", hostNetwork=False),
            wanted("b", owner="file:b", containers=[{"name": "c", "image": "any"}]),
            wanted("c", owner="file:c", securityContext={"runAsNonRoot": True}),
        ]
        source.say(pods)
        await until("all are refused", lambda: len(kept.pods) == 3)
        reasons = sorted(pod["status"]["message"] for pod in kept.pods.values())
        expected = ("container c: command", "spec.hostNetwork", "spec.securityContext.runAsNonRoot")
        assert all(text in reason for text, reason in zip(expected, reasons, strict=True)), reasons

    run(place, test)


def test_a_container_has_the_user_that_it_asks_for(place: Place) -> None:
    async def test(source: Spoken, kept: Kept) -> None:
        (place.root / "mnt/data").chmod(0o777)
        who = {"runAsUser": 1234, "runAsGroup": 4321}
        source.say(
            [place.pod("id >/var/data/id.new; mv /var/data/id.new /var/data/id; sleep 600", securityContext=who)]
        )
        await until("it said", lambda: (place.root / "mnt/data/id").exists())

    run(place, test)
    assert (place.root / "mnt/data/id").read_text() == "uid=1234 gid=4321 groups=4321\n"


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


def test_a_liveness_probe_looks_into_the_container_from_its_start_and_restarts_it(place: Place) -> None:
    """The first probe may come as soon as the container is up: it must not look at the machine instead."""
    data = place.root / "mnt/data"
    (data / "alive").touch()
    look = "echo seen >>/var/data/seen; test ! -e /etc/passwd && test -e /var/data/alive"
    probe = {
        "exec": {"command": ["sh", "-c", look]},
        "periodSeconds": 1,
        "timeoutSeconds": 60,
        "failureThreshold": 1,
    }

    def lines(name: str) -> int:
        return len((data / name).read_text().splitlines()) if (data / name).exists() else 0

    async def test(source: Spoken, kept: Kept) -> None:
        script = "echo up >>/var/data/up; sleep 600"
        source.say([place.pod(script, livenessProbe=probe, readinessProbe=probe)])
        await until("it was looked at a few times", lambda: lines("seen") >= 4)
        assert lines("up") == 1, "it passed each time"
        (data / "alive").unlink()
        await until("it is started again", lambda: lines("up") >= 2)
        (data / "alive").touch()

        def restarted() -> bool:
            (status,) = [pod["status"]["containerStatuses"][0] for pod in kept.pods.values()]
            return bool(status["ready"]) and status["restartCount"] == lines("up") - 1

        await until("it is ready again", restarted)

    run(place, test)


def test_what_a_container_leaves_behind_ends_with_it(place: Place) -> None:
    async def test(source: Spoken, kept: Kept) -> None:
        script = "echo up >>/var/data/up; sleep 601 & test $(wc -l </var/data/up) = 2 && wait"
        source.say([place.pod(script)])
        up = place.root / "mnt/data/up"
        await until("it is started again", lambda: up.exists() and up.read_text() == "up\nup\n")
        states = place.runtime._states
        await until("it runs", lambda: [one for one in states.values() if one.id.attempt == 1])
        assert inhabitants(f"{label(place.work)}") != []
        first = next(one for one in states if one.attempt == 0)
        assert inhabitants(f"{label(place.work)}{first}") == []

    run(place, test)
    assert inhabitants(label(place.work)) == []


def test_the_agent_s_end_ends_the_containers(place: Place) -> None:
    async def test(source: Spoken, kept: Kept) -> None:
        source.say([place.pod("trap 'echo ended >/var/data/ended; exit' TERM; touch /var/data/up; sleep 600 & wait")])
        await until("it runs", lambda: (place.root / "mnt/data/up").exists())

    run(place, test)
    assert (place.root / "mnt/data/ended").read_text() == "ended\n"
