"""Pods on this machine: the life cycle over a runtime in memory, from the source to the container."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from protokube.agent.core.expand import Given
from protokube.agent.core.model import Container, Pod, Spec
from protokube.agent.core.pods import uid_of
from protokube.agent.core.references import File
from protokube.agent.ports import LogOptions, Resolved, UnreachableError, UnresolvedError
from protokube.agent.providers.local import LocalProvider
from protokube.agent.records import Record, Records
from protokube.agent.volumes import Volumes
from protokube.core.model import Unknown
from tests.agent.fake_runtime import FakeRuntime, World
from tests.agent.harness import Kept, Spoken, running, settled, until
from tests.agent.pods import UIDS, wanted


class Machine:
    """A machine whose disk and containers outlive the agents on it. `now` is its boot time."""

    def __init__(self, base: Path) -> None:
        self.base, self.world, self.boot = base, World(), "boot-1"
        self.now = 100.0
        self.wall = 1e9
        self.effects = 0
        self.kill_at = 0
        self.died = asyncio.Event()

    def provider(self, **more: Any) -> LocalProvider:
        volumes = Volumes(self.base, self.base / "volumes", self.base / "memory")
        return LocalProvider(
            FakeRuntime(self.world, self.effect),
            Recorded(self),
            volumes,
            boot=self.boot,
            host_ip=lambda: "10.0.0.1",
            clock=lambda: self.now,
            wall=lambda: self.wall,
            **more,
        )

    def effect(self) -> asyncio.Future[None] | None:
        """Counts; at the one to be killed at it never goes on."""
        self.effects += 1
        if self.effects == self.kill_at or self.died.is_set():
            self.died.set()
            return asyncio.get_running_loop().create_future()
        return None


class Recorded(Records):
    """Records whose writes are effects as well."""

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine.base / "pods")
        self._machine = machine

    def save(self, record: Record) -> None:
        self._point()
        super().save(record)
        self._point()

    def remove(self, record: Record) -> None:
        self._point()
        super().remove(record)
        self._point()

    def _point(self) -> None:
        if self._machine.effect() is not None:
            raise asyncio.CancelledError  # the agent ends here


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(test)


C = {"name": "c", "image": "host", "command": ["x"]}


def status(kept: Kept, pod: Pod) -> dict[str, Any]:
    found: dict[str, Any] = kept.pods.get(uid_of(pod), {}).get("status", {})
    return found


def phase(kept: Kept, pod: Pod) -> str:
    return str(status(kept, pod).get("phase", ""))


def test_a_pod_runs_is_restarted_and_ends(machine: Machine) -> None:
    async def test() -> None:
        pod, kept = wanted(), Kept()
        source = Spoken(pods=[pod])
        provider = machine.provider()
        async with running(provider, source, reporter=kept):
            await until("it runs", lambda: phase(kept, pod) == "Running")
            machine.world.exit("c")
            await until("it is restarted at once", lambda: len(machine.world.started) == 2)
            machine.world.exit("c")
            await until("it waits", lambda: "waiting" in status(kept, pod)["containerStatuses"][0]["state"])
            one = status(kept, pod)["containerStatuses"][0]
            assert one["state"]["waiting"]["reason"] == "CrashLoopBackOff" and one["restartCount"] == 1
            machine.now += 10
            provider._wake(None)
            await until("it is restarted after ten seconds", lambda: len(machine.world.started) == 3)
            logs = [part async for part in provider.container_logs("default", "web-n1", "c", LogOptions())]
            assert logs == [f"protokube-{uid_of(pod)}-c-2".encode()]
            source.say([])
            await until("it is gone", lambda: not kept.pods)
        assert machine.world.states == {} and not list((machine.base / "pods").iterdir())

    run(test())


def test_init_containers_run_one_after_the_other(machine: Machine) -> None:
    async def test() -> None:
        inits = [{**C, "name": "i1"}, {**C, "name": "i2"}]
        pod, kept = wanted(initContainers=inits), Kept()
        machine.world.instant = {"i1": 0, "i2": 0}
        async with running(machine.provider(), Spoken(pods=[pod]), reporter=kept):
            await until("it runs", lambda: phase(kept, pod) == "Running")
        assert machine.world.started == ["i1", "i2", "c"]
        async with running(machine.provider(), Spoken(pods=[pod]), reporter=kept) as agent:
            await settled(agent)
        assert machine.world.started == ["i1", "i2", "c"], "they are done (podman#18547)"

    run(test())


def test_a_pod_that_has_succeeded_is_final_even_after_a_reboot(machine: Machine) -> None:
    async def test() -> None:
        pod, kept = wanted(restartPolicy="Never"), Kept()
        machine.world.instant = {"c": 0}
        source = Spoken(pods=[pod])
        async with running(machine.provider(), source, reporter=kept):
            await until("it has succeeded", lambda: phase(kept, pod) == "Succeeded")
        machine.world.reboot()
        machine.boot, machine.now = "boot-2", 5.0
        async with running(machine.provider(), source, reporter=kept) as agent:
            await settled(agent)
            assert phase(kept, pod) == "Succeeded" and machine.world.started == ["c"]
            source.say([])
            await until("it is gone", lambda: not kept.pods)
            source.say([pod])
            await until("it came back, and is another incarnation", lambda: machine.world.started == ["c", "c"])

    run(test())


def test_pods_go_on_while_their_source_is_unknown_and_the_agent_restarts(machine: Machine) -> None:
    async def test() -> None:
        pod, kept = wanted(), Kept()
        async with running(machine.provider(), Spoken(pods=[pod]), reporter=kept):
            await until("it runs", lambda: phase(kept, pod) == "Running")
        assert machine.world.up() == ["c"], "the agent's end ends no pod"
        silent = Spoken(pods=Unknown("the disk hangs"))
        async with running(machine.provider(), silent, reporter=kept) as agent:
            await settled(agent)
            machine.world.exit("c")
            await until("it is restarted all the same", lambda: machine.world.up() == ["c"])
        machine.world.reboot()
        machine.boot, machine.now = "boot-2", 5.0
        async with running(machine.provider(), silent, reporter=kept):
            await until("after a reboot as well", lambda: machine.world.up() == ["c"])

    run(test())


def test_clock_jumps_change_nothing(machine: Machine) -> None:
    async def test() -> None:
        pod, kept = wanted(activeDeadlineSeconds=3000), Kept()
        provider = machine.provider()
        async with running(provider, Spoken(pods=[pod]), reporter=kept) as agent:
            await until("it runs", lambda: phase(kept, pod) == "Running")
            for jump in (3600, -7200):
                machine.wall += jump
                machine.world.now += jump
                provider._wake(None)
                await settled(agent)
                assert machine.world.started == ["c"] and phase(kept, pod) == "Running"

    run(test())


def test_a_kept_pod_that_can_not_be_started_harms_no_other(machine: Machine) -> None:
    """A path with a zero byte, kept by an agent that didn't refuse it."""

    async def test() -> None:
        mount = {"name": "v", "mountPath": "/m", "subPath": "a\0b"}
        bad = wanted("bad", containers=[{**C, "volumeMounts": [mount]}], volumes=[{"name": "v", "emptyDir": {}}])
        good, kept = wanted("good"), Kept()
        machine.provider()._around.records.save(Record(bad, machine.boot, machine.now, machine.wall))
        source = Spoken(pods=[bad, good])
        async with running(machine.provider(), source, reporter=kept):
            await until("the other runs", lambda: phase(kept, good) == "Running")
            await until("it is said", lambda: status(kept, bad).get("containerStatuses"))
            waiting = status(kept, bad)["containerStatuses"][0]["state"]["waiting"]
            assert waiting["reason"] == "CreateContainerError" and "null byte" in waiting["message"]
            source.say([good])
            await until("it is gone", lambda: uid_of(bad) not in kept.pods)

    run(test())


def test_content_that_can_not_be_written_harms_no_other(machine: Machine) -> None:
    async def test() -> None:
        contents = iter([{"key": File(b"1")}, {"a\0b": File(b"2")}])

        async def resolve(pod: Pod, spec: Spec, container: Container) -> Resolved:
            return Resolved(files={"v": next(contents, {"key": File(b"3")})})

        mount = {"name": "v", "mountPath": "/m"}
        volumes = [{"name": "v", "configMap": {"name": "m"}}]
        pod = wanted(uid=UIDS[1], owner="api", containers=[{**C, "volumeMounts": [mount]}], volumes=volumes)
        provider = machine.provider(refresh_every=0.01)
        provider.resolve_by(resolve)
        async with running(provider, Spoken("api", pods=[pod]), reporter=Kept()):
            place = machine.base / "memory" / UIDS[1] / "v/key"
            await until("later content is written", lambda: place.exists() and place.read_bytes() == b"3")

    run(test())


def test_what_a_container_had_is_kept_for_an_agent_that_starts_while_the_api_server_is_away(machine: Machine) -> None:
    had = Resolved(Given({"FIRST": "1"}, {"PASSWORD": "x", "NONE": None}), {"v": {"key": File(b"\0", 0o440)}})

    async def here(pod: Pod, spec: Spec, container: Container) -> Resolved:
        return had

    async def away(pod: Pod, spec: Spec, container: Container) -> Resolved:
        raise UnreachableError("no route to it")

    async def gone(pod: Pod, spec: Spec, container: Container) -> Resolved:
        raise UnresolvedError("secret s: there is none")

    async def test() -> None:
        secret = {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "s", "key": "p"}}}
        mounts = [{"name": "v", "mountPath": "/m"}]
        volumes = [{"name": "v", "secret": {"secretName": "s"}}]
        one = {**C, "env": [secret], "volumeMounts": mounts}
        pod, kept = wanted(uid=UIDS[1], owner="api", containers=[one], volumes=volumes), Kept()
        place = machine.base / "memory" / UIDS[1]
        provider = machine.provider()
        provider.resolve_by(here)
        async with running(provider, Spoken("api", pods=[pod]), reporter=kept):
            await until("it runs", lambda: machine.world.up() == ["c"])
        (file,) = place.glob(".given-*")
        assert file.stat().st_mode & 0o777 == 0o600

        provider, source = machine.provider(), Spoken("api", pods=Unknown("no route to it"))
        provider.resolve_by(away)
        async with running(provider, source, reporter=kept):
            machine.world.exit("c")
            await until("it runs again", lambda: len(machine.world.specs) == 2 and machine.world.up() == ["c"])
            first, second = machine.world.specs.values()
            assert second.env == first.env and dict(second.env)["PASSWORD"] == "x"
            assert (place / "v/key").read_bytes() == b"\0"

        provider = machine.provider()
        provider.resolve_by(gone)
        source = Spoken("api", pods=[pod])
        async with running(provider, source, reporter=kept):
            machine.world.exit("c")
            await until("who says that there is none is believed", lambda: "there is none" in str(status(kept, pod)))
            assert machine.world.up() == []
            source.say([])
            await until("it is gone", lambda: not kept.pods)
        assert not place.exists()

    run(test())


def test_a_missing_host_path_is_waited_for(machine: Machine) -> None:
    async def test() -> None:
        volumes = [{"name": "v", "hostPath": {"path": "/data", "type": "Directory"}}]
        one = {**C, "volumeMounts": [{"name": "v", "mountPath": "/data"}]}
        pod, kept = wanted(volumes=volumes, containers=[one]), Kept()
        provider = machine.provider()
        async with running(provider, Spoken(pods=[pod]), reporter=kept):
            await until("it waits", lambda: status(kept, pod).get("containerStatuses"))
            waiting = status(kept, pod)["containerStatuses"][0]["state"]["waiting"]
            assert waiting["reason"] == "CreateContainerError" and "it isn't there" in waiting["message"]
            (machine.base / "data").mkdir()
            machine.now += 1
            provider._wake(None)
            await until("it runs", lambda: phase(kept, pod) == "Running")
        (spec,) = machine.world.specs.values()
        assert [(one.source, one.target) for one in spec.mounts] == [(str(machine.base / "data"), "/data")]

    run(test())


def test_a_liveness_probe_restarts_and_a_startup_probe_gates(machine: Machine) -> None:
    async def test() -> None:
        probe = {"exec": {"command": ["true"]}, "periodSeconds": 0, "failureThreshold": 1}
        pod, kept = wanted(containers=[{**C, "livenessProbe": probe, "readinessProbe": probe}]), Kept()
        async with running(machine.provider(), Spoken(pods=[pod]), reporter=kept):
            await until("it is ready", lambda: status(kept, pod).get("containerStatuses", [{}])[0].get("ready"))
            machine.world.answers["c"] = False
            await until("it is restarted", lambda: len(machine.world.started) == 2)

    run(test())


@pytest.mark.parametrize("some", [True, False], ids=["with pods", "without pods"])
def test_a_runtime_that_is_lost_is_waited_for_and_nothing_is_done_meanwhile(machine: Machine, some: bool) -> None:
    async def test() -> None:
        pods = [wanted("a", owner="file:a")] if some else []
        kept, source = Kept(), Spoken(pods=pods)
        async with running(machine.provider(), source, reporter=kept) as agent:
            await until("it runs", lambda: len(machine.world.up()) == len(pods))
            machine.world.lose("the bus is gone")
            await until("it is noticed", lambda: not agent.facts.readable)
            source.say([*pods, wanted("b", owner="file:b")])
            machine.world.dark = None
            await until("it goes on", lambda: len(machine.world.up()) == len(pods) + 1)
            assert len(machine.world.started) == len(pods) + 1

    run(test())


def test_a_container_that_ignores_its_end_is_killed_and_a_shorter_grace_shortens(machine: Machine) -> None:
    async def test() -> None:
        pod, kept = wanted(), Kept()
        machine.world.stubborn = {"c"}
        provider, source = machine.provider(), Spoken(pods=[pod])
        async with running(provider, source, reporter=kept) as agent:
            await until("it runs", lambda: phase(kept, pod) == "Running")
            source.say([])
            await until("it is asked to end", lambda: machine.world.graces == [30.0])
            hurried = {**pod, "metadata": {**pod["metadata"], "deletionGracePeriodSeconds": 5}}
            await provider.delete_pod(hurried)
            machine.now += 5
            provider._wake(None)
            await settled(agent)
            assert machine.world.up() == ["c"]
            machine.now += 2.5
            provider._wake(None)
            await until("it was killed", lambda: not kept.pods)

    run(test())


def test_killed_at_every_effect_it_ends_in_the_same_place_and_never_two_run(machine: Machine, tmp_path: Path) -> None:
    """One pod replaced by another of its name, one removed, one with init containers new."""
    old = [wanted("etcd", owner="file:etcd"), wanted("b", owner="file:b")]
    new = [
        wanted("etcd", owner="file:etcd", terminationGracePeriodSeconds=7),
        wanted("n", owner="file:n", initContainers=[{**C, "name": "i"}]),
    ]

    async def life(machine: Machine, pods: list[Pod], settle: Callable[[], bool]) -> None:
        machine.died.clear()
        task = asyncio.create_task(_agent(machine, pods, settle))
        await asyncio.wait({task})

    async def _agent(machine: Machine, pods: list[Pod], settle: Callable[[], bool]) -> None:
        try:
            async with running(machine.provider(), Spoken(pods=pods)):
                await until("it ends", lambda: machine.died.is_set() or settle())
        except (AssertionError, asyncio.CancelledError):
            if not machine.died.is_set():
                raise

    async def test() -> None:
        kills, number = 0, 0
        while True:
            number += 1
            machine = Machine(tmp_path / str(number))
            machine.world.instant = {"i": 0}
            before = machine.world
            await life(machine, old, lambda: before.up() == ["c", "c"])
            machine.effects, machine.kill_at = 0, number

            def done(machine: Machine = machine) -> bool:
                up = {uid_of(machine.world.specs[ref].pod) for ref, one in machine.world.states.items() if one.up}
                files = {path.stem for path in (machine.base / "pods").glob("[!.]*")}
                return up == files == {uid_of(pod) for pod in new}

            await life(machine, new, done)
            killed = machine.died.is_set()
            machine.kill_at = 0
            await life(machine, new, done)
            assert done(), number
            kills += killed
            if not killed:
                break
        assert kills > 20

    run(test())
