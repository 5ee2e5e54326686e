"""What fails or doesn't answer: it keeps nothing else waiting, and isn't asked without a pause."""

from __future__ import annotations

import asyncio

from protokube.agent.clock import boot_time
from protokube.agent.core.model import Pod
from protokube.agent.core.pods import uid_of
from protokube.agent.ports import Say
from protokube.agent.providers.memory import MemoryProvider
from protokube.errors import ProviderError
from tests.agent.harness import Kept, Spoken, running, until
from tests.agent.pods import UIDS, wanted

WORKERS = 2


class Silent(Kept):
    """A reporter that never answers about pods that are being deleted."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    async def pod(self, pod: Pod) -> None:
        if "deletionTimestamp" in pod["metadata"]:
            self.asked += 1
            await asyncio.Event().wait()
        await super().pod(pod)


def test_ends_that_can_t_be_reported_keep_no_pod_from_being_created() -> None:
    async def test() -> None:
        provider, reporter = MemoryProvider(), Silent()
        ending = [wanted(f"e{number}", UIDS[number]) for number in range(WORKERS)]
        for pod in ending:
            pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        source = Spoken(pods=ending)
        async with running(provider, source, reporter=reporter, workers=WORKERS):
            await until("all ends are being reported", lambda: reporter.asked == WORKERS)
            pod = wanted("new")
            source.say([*ending, pod])
            await until("a new pod runs", lambda: uid_of(pod) in provider.pods)

    asyncio.run(test())


class Failing:
    """A source that speaks and then fails; `began` are its starts."""

    name = "file"

    def __init__(self) -> None:
        self.began: list[float] = []

    async def run(self, say: Say) -> None:
        self.began.append(boot_time())
        say({})
        raise ProviderError("it failed")


def test_a_source_that_speaks_and_fails_is_left_alone_longer_each_time() -> None:
    async def test() -> None:
        source = Failing()
        async with running(MemoryProvider(), source, first_pause=0.1):
            await until("six starts", lambda: len(source.began) >= 6)
        gaps = [later - before for before, later in zip(source.began, source.began[1:], strict=False)]
        assert all(gap >= 0.009 * 2**number for number, gap in enumerate(gaps)), gaps

    asyncio.run(test())
