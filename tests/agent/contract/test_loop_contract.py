"""The loop over a provider: virtual-kubelet's eight lifecycle scenarios, and ours.

The eight are those of virtual-kubelet's own end-to-end tests (node/lifecycle_test.go).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from protokube.agent.core.model import Pod
from protokube.agent.core.pods import uid_of
from protokube.agent.ports import NotFoundError, RefusedError
from protokube.agent.providers.memory import MemoryProvider
from protokube.core.model import Unknown
from protokube.errors import ProviderError
from tests.agent.harness import Kept, Spoken, running, settled, until
from tests.agent.pods import UIDS, wanted


def failing(times: int, name: str, error: Exception) -> Callable[[str], None]:
    """Makes so many calls of a name fail."""
    left = times

    def obstacle(called: str) -> None:
        nonlocal left
        if called == name and left:
            left -= 1
            raise error

    return obstacle


def names(provider: MemoryProvider) -> list[str]:
    return sorted(pod["metadata"]["name"] for pod in provider.pods.values())


def run(test: Any) -> None:
    asyncio.run(test)


def test_a_pod_is_created_runs_and_is_deleted() -> None:
    async def test() -> None:
        provider, source, reporter = MemoryProvider(), Spoken(), Kept()
        async with running(provider, source, reporter=reporter):
            pod = wanted()
            source.say([pod])
            await until("it is reported to run", lambda: (uid_of(pod), "Running") in reporter.told)
            source.say([])
            await until("it is reported to be gone", lambda: (uid_of(pod), "gone") in reporter.told)
        assert provider.pods == {} and reporter.pods == {}
        assert (provider.calls["create_pod"], provider.calls["delete_pod"]) == (1, 1)

    run(test())


def test_a_delete_that_finds_nothing_has_succeeded() -> None:
    async def test() -> None:
        provider, source, reporter = MemoryProvider(), Spoken(pods=[wanted()]), Kept()
        async with running(provider, source, reporter=reporter) as agent:
            await until("it runs", lambda: provider.pods)

            def lost(called: str) -> None:
                if called == "delete_pod":
                    provider.pods.clear()
                    raise NotFoundError("no such pod")

            provider.obstacle = lost
            source.say([])
            await until("it is gone", lambda: reporter.pods == {} and reporter.told[-1][1] == "gone")
            await settled(agent)
        assert provider.calls["delete_pod"] == 1

    run(test())


def test_a_delete_that_fails_is_tried_again() -> None:
    async def test() -> None:
        provider, source = MemoryProvider(), Spoken(pods=[wanted()])
        async with running(provider, source):
            await until("it runs", lambda: provider.pods)
            provider.obstacle = failing(1, "delete_pod", ProviderError("busy"))
            source.say([])
            await until("it is gone", lambda: not provider.pods)
        assert provider.calls["delete_pod"] == 2

    run(test())


@pytest.mark.parametrize("ending", [False, True], ids=["runs", "is ending"])
def test_a_dangling_pod_is_deleted_once_its_source_has_spoken(ending: bool) -> None:
    """liqo#2748, kip#107: pods killed at the start because the list wasn't complete yet."""

    async def test() -> None:
        provider, source = MemoryProvider(linger=ending), Spoken()
        pod = wanted()
        await provider.create_pod(pod)
        if ending:
            await provider.delete_pod(pod)
        async with running(provider, source) as agent:
            await settled(agent)
            assert names(provider) == ["web-n1"], "its source hasn't spoken yet"
            source.say([])
            if ending:
                await settled(agent)
                provider.end(uid_of(pod))
            await until("it is gone", lambda: not provider.pods)
        assert provider.calls["delete_pod"] == 1, "one that is ending isn't asked again"

    run(test())


@pytest.mark.parametrize("phase", ["Failed", "Succeeded"])
def test_a_pod_that_has_ended_is_final(phase: str) -> None:
    """VK#712: a swallowed report of a terminal status; VK#762: a silent restart after a crash."""

    async def test() -> None:
        provider, reporter, pod = MemoryProvider(), Kept(), wanted()
        source = Spoken(pods=[pod])
        async with running(provider, source, reporter=reporter) as agent:
            await until("it runs", lambda: (uid_of(pod), "Running") in reporter.told)
            reporter.down = True
            provider.set_phase(uid_of(pod), phase)
            await settled(agent)
            reporter.down = False
            await until("it is reported", lambda: (uid_of(pod), phase) in reporter.told)
        async with running(provider, source, reporter=reporter) as agent:
            await settled(agent)
        assert provider.calls["create_pod"] == 1

    run(test())


def test_a_running_pod_is_updated_in_place() -> None:
    """VK#744: a failed update must not set Running back to Pending."""

    async def test() -> None:
        provider, reporter = MemoryProvider(), Kept()
        pod = wanted(uid=UIDS[1])
        source = Spoken(pods=[pod])
        async with running(provider, source, reporter=reporter):
            await until("it runs", lambda: (uid_of(pod), "Running") in reporter.told)
            provider.obstacle = failing(2, "update_pod", ProviderError("busy"))
            changed = wanted(uid=UIDS[1], containers=[{"name": "c", "image": "other"}])
            source.say([changed])
            await until("it is updated", lambda: provider.pods[UIDS[1]]["spec"]["containers"][0]["image"] == "other")
        assert provider.calls["create_pod"] == 1
        assert "Pending" not in [phase for _, phase in reporter.told]

    run(test())


def test_what_can_not_change_in_place_is_replaced() -> None:
    async def test() -> None:
        provider = MemoryProvider()
        source = Spoken(pods=[wanted(uid=UIDS[1])])
        async with running(provider, source):
            await until("it runs", lambda: provider.pods)
            provider.obstacle = failing(9, "update_pod", RefusedError(["not in place"]))
            source.say([wanted(uid=UIDS[1], containers=[{"name": "c", "image": "other"}])])
            await until("it is replaced", lambda: provider.calls["create_pod"] == 2)
        assert (provider.calls["update_pod"], provider.calls["delete_pod"]) == (1, 1)

    run(test())


def test_a_refused_pod_fails_with_every_reason_and_is_not_tried_again() -> None:
    """interLink#427, VK#1257: the reason belongs into the status."""

    async def test() -> None:
        provider, reporter, pod = MemoryProvider(), Kept(), wanted()
        provider.obstacle = failing(9, "create_pod", RefusedError(["no secrets", "no claims"]))
        source = Spoken(pods=[pod])
        async with running(provider, source, reporter=reporter) as agent:
            await until("it is refused", lambda: (uid_of(pod), "Failed") in reporter.told)
            source.say([pod, wanted("other", owner="file:other.yaml")])
            await settled(agent)
            status = reporter.pods[uid_of(pod)]["status"]
        assert (status["reason"], status["message"]) == ("ProviderFailed", "no secrets; no claims")
        assert provider.calls["create_pod"] == 2, "one of them is the other pod"

    run(test())


def test_a_create_that_fails_is_tried_for_ever() -> None:
    """VK#773: a create that fails too often was dropped in silence."""

    async def test() -> None:
        provider, reporter, pod = MemoryProvider(), Kept(), wanted()
        provider.obstacle = failing(6, "create_pod", ProviderError("no room"))
        async with running(provider, Spoken(pods=[pod]), reporter=reporter, first_pause=0.001):
            await until("it waits", lambda: (uid_of(pod), "Pending") in reporter.told)
            status = reporter.pods[uid_of(pod)]["status"]
            await until("it runs", lambda: (uid_of(pod), "Running") in reporter.told)
        assert (status["reason"], status["message"]) == ("ProviderFailed", "no room")
        assert provider.calls["create_pod"] == 7

    run(test())


def test_another_pod_of_the_same_name_waits_until_the_first_is_gone() -> None:
    """kubernetes#112814: two etcd of one member; VK#867: the new one deleted by the old one's timer."""

    async def test() -> None:
        provider, old = MemoryProvider(linger=True), wanted()
        source = Spoken(pods=[old])
        async with running(provider, source) as agent:
            await until("it runs", lambda: provider.pods)
            new = wanted(containers=[{"name": "c", "image": "other"}])
            source.say([new])
            await until("the old one is asked to end", lambda: provider.calls["delete_pod"])
            await settled(agent)
            assert set(provider.pods) == {uid_of(old)}
            provider.end(uid_of(old))
            await until("the new one runs", lambda: set(provider.pods) == {uid_of(new)})
            await settled(agent)
            assert set(provider.pods) == {uid_of(new)}

    run(test())


def test_a_pod_that_comes_back_during_its_grace_starts_again_when_it_is_gone() -> None:
    """kubernetes#104648, #116880: removed and added again with the same UID."""

    async def test() -> None:
        provider, pod = MemoryProvider(linger=True), wanted()
        source = Spoken(pods=[pod])
        async with running(provider, source) as agent:
            await until("it runs", lambda: provider.pods)
            source.say([])
            await until("it is ending", lambda: provider.calls["delete_pod"])
            source.say([pod])
            await settled(agent)
            assert provider.calls["create_pod"] == 1
            provider.end(uid_of(pod))
            await until("it runs again", lambda: provider.calls["create_pod"] == 2)
            await settled(agent)
        assert provider.calls["delete_pod"] == 1 and set(provider.pods) == {uid_of(pod)}

    run(test())


def test_no_pod_is_touched_while_its_source_is_unknown() -> None:
    """kubernetes#112814, #88402: each source speaks for its own pods alone."""

    async def test() -> None:
        provider = MemoryProvider()
        pods = {name: wanted(name, owner=owner) for name, owner in (("a", "file:a"), ("b", "http"), ("c", "api"))}
        files, url, api = Spoken("file", [pods["a"]]), Spoken("http", [pods["b"]]), Spoken("api", [pods["c"]])
        now = 0.0
        async with running(provider, files, url, api, clock=lambda: now) as agent:
            await until("they run", lambda: len(provider.pods) == 3)
            url.say(Unknown("the server is down"))
            files.say([])
            api.say([wanted("d", owner="api")])
            await until("the others follow", lambda: names(provider) == ["b-n1", "d-n1"])
            before = provider.pods[uid_of(pods["b"])]
            for _ in range(60):  # an hour
                now += 60.0
                url.say(Unknown("the server is down"))
                await settled(agent)
            assert provider.pods[uid_of(pods["b"])] is before
        silent = Spoken("http")
        calls = provider.calls.copy()
        async with running(provider, files, silent, api) as agent:
            await settled(agent)
            assert provider.pods[uid_of(pods["b"])] is before, "after a restart it hasn't spoken yet"
        for name in ("create_pod", "update_pod", "delete_pod"):
            assert provider.calls[name] == calls[name]

    run(test())


def test_a_file_that_can_not_be_read_holds_its_pod_and_no_other() -> None:
    async def test() -> None:
        provider = MemoryProvider()
        a, b = wanted("a", owner="file:a"), wanted("b", owner="file:b")
        source = Spoken(pods=[a, b])
        async with running(provider, source) as agent:
            await until("they run", lambda: len(provider.pods) == 2)
            source.say([], held={"file:a"})
            await until("b is gone", lambda: names(provider) == ["a-n1"])
            await settled(agent)
            assert names(provider) == ["a-n1"]
            source.say([])
            await until("the file is gone, and so is the pod", lambda: not provider.pods)

    run(test())


def test_pods_of_nobody_and_of_an_unconfigured_source_are_left_alone() -> None:
    async def test() -> None:
        provider = MemoryProvider()
        stranger = {**wanted("s", uid=UIDS[7]), "metadata": {"name": "s", "namespace": "x", "uid": UIDS[7]}}
        await provider.create_pod(stranger)
        await provider.create_pod(wanted("r", owner="redis"))
        async with running(provider, Spoken(pods=[])) as agent:
            await settled(agent)
            assert len(provider.pods) == 2

    run(test())


def test_a_provider_that_can_not_be_read_makes_nothing_happen() -> None:
    async def test() -> None:
        provider, source = MemoryProvider(), Spoken(pods=[wanted("a", owner="file:a")])
        async with running(provider, source, resync=0.01) as agent:
            await until("it runs", lambda: provider.pods)

            def dark(called: str) -> None:
                if called.startswith("get_"):
                    raise ProviderError("dark")

            provider.obstacle = dark
            await until("it is noticed", lambda: not agent.facts.readable)
            before = provider.calls["create_pod"], provider.calls["delete_pod"]
            source.say([wanted("b", owner="file:b")])
            looks = provider.calls["get_pods"]
            await until("it looks again", lambda: provider.calls["get_pods"] > looks + 1)
            assert (provider.calls["create_pod"], provider.calls["delete_pod"]) == before
            provider.obstacle = None
            await until("it goes on", lambda: names(provider) == ["b-n1"])

    run(test())


@pytest.mark.parametrize("owner", ["file:web.yaml", "api"])
def test_a_pod_that_the_provider_lost(owner: str) -> None:
    """A static pod is created again; an API pod has failed, and its controller makes another."""

    async def test() -> None:
        provider, reporter, pod = MemoryProvider(), Kept(), wanted(owner=owner)
        async with running(provider, Spoken(owner.partition(":")[0], [pod]), reporter=reporter) as agent:
            await until("it runs", lambda: (uid_of(pod), "Running") in reporter.told)
            provider.lose(uid_of(pod))
            if owner == "api":
                await until("it has failed", lambda: (uid_of(pod), "Failed") in reporter.told)
                await settled(agent)
                assert provider.calls["create_pod"] == 1
            else:
                await until("it runs again", lambda: provider.pods)

    run(test())


def test_pods_start_and_end_while_nobody_listens() -> None:
    async def test() -> None:
        provider, source, reporter = MemoryProvider(), Spoken(pods=[wanted()]), Kept()
        reporter.down = True
        async with running(provider, source, reporter=reporter):
            await until("it runs", lambda: provider.pods)
            source.say([])
            await until("it is gone", lambda: not provider.pods)

    run(test())


def test_killed_before_or_after_every_effect_it_ends_in_the_same_place() -> None:
    """One pod replaced, one removed, one new: killed at the n-th call, before it or after, and started again."""

    async def life(provider: MemoryProvider, pods: list[Pod], kill_at: int, after: bool) -> bool:
        source, calls = Spoken(pods=pods), 0
        real = {name: getattr(provider, name) for name in ("create_pod", "delete_pod")}
        died = asyncio.Event()

        def effect(name: str) -> Callable[[Pod], Any]:
            async def call(pod: Pod) -> None:
                nonlocal calls
                calls += 1
                if calls == kill_at and not after:
                    died.set()
                    await asyncio.Event().wait()
                await real[name](pod)
                running_names = [one["metadata"]["name"] for one in provider.pods.values()]
                assert len(running_names) == len(set(running_names)), "two of one name"
                if calls == kill_at:
                    died.set()
                    await asyncio.Event().wait()

            return call

        for name in real:
            setattr(provider, name, effect(name))
        try:
            async with running(provider, source, workers=1) as agent:
                await until("it ends", lambda: died.is_set() or (agent.idle and agent.facts.readable and calls))
                await settled(agent) if not died.is_set() else None
        finally:
            for name in real:
                delattr(provider, name)
        return died.is_set()

    async def test() -> None:
        before = [wanted("a", owner="file:a"), wanted("b", owner="file:b")]
        after = [wanted("a", owner="file:a", restartPolicy="Never"), wanted("c", owner="file:c")]
        kills = 0
        for late in (False, True):
            for number in range(1, 9):
                provider = MemoryProvider()
                for pod in before:
                    await provider.create_pod(pod)
                kills += await life(provider, after, number, late)
                async with running(provider, Spoken(pods=after)) as agent:
                    await settled(agent)
                assert set(provider.pods) == {uid_of(pod) for pod in after}, (number, late)
        assert kills >= 8, "four effects, before and after"

    run(test())
