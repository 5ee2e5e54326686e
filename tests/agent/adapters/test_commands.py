"""Programs run to their end, or to our limit."""

from __future__ import annotations

import asyncio

import psutil
import pytest

from protokube.agent.runtimes.commands import follow, run
from protokube.errors import ProviderError


def test_all_of_the_output_is_read_however_it_comes() -> None:
    done = asyncio.run(run(["sh", "-c", "printf a; head -c 300000 /dev/zero; printf b >&2; exit 3"], 60.0))
    assert done.code == 3 and len(done.output) == 300002
    assert done.output.startswith(b"a") and done.output.endswith(b"b")


def test_one_that_does_not_end_is_killed() -> None:
    with pytest.raises(ProviderError, match="it didn't end within"):
        asyncio.run(run(["sleep", "1000"], 0.1))


def test_one_that_is_not_installed_is_said() -> None:
    with pytest.raises(ProviderError, match="is its package installed"):
        asyncio.run(run(["/nonexistent/podman"], 1.0))


@pytest.mark.parametrize("text", ["a\0b", "a\ud800b"])
def test_text_that_no_program_can_be_given_is_said(text: str) -> None:
    for argv, env in ((["true", text], None), (["true"], {"A": text})):
        with pytest.raises(ProviderError, match="true: its arguments or variables can't be given"):
            asyncio.run(run(argv, 60.0, env))


def test_output_is_followed() -> None:
    async def test() -> bytes:
        return b"".join([part async for part in follow(["sh", "-c", "echo a; echo b"])])

    assert asyncio.run(test()) == b"a\nb\n"


@pytest.mark.parametrize("steps", range(12))
def test_a_caller_that_is_cancelled_leaves_nothing_behind(steps: int) -> None:
    """At every step of the start: asyncio itself may hang there."""

    async def test() -> None:
        running = asyncio.create_task(run(["sleep", "1000"], 600.0))
        for _ in range(steps):
            await asyncio.sleep(0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(running, 120.0)

    asyncio.run(test())
    assert not [one for one in psutil.Process().children() if one.name() == "sleep"]
