"""Other programs: run to their end with a limit, or followed while they print."""

from __future__ import annotations

import asyncio
from asyncio.subprocess import STDOUT, Process
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager

from protokube import asyncprocess
from protokube.agent.ports import ExecResult
from protokube.errors import ProviderError

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_MOST = 16 << 20
"""Bytes of output that are kept; the rest is read and dropped."""


async def run(argv: Sequence[str], limit: float, env: Mapping[str, str] | None = None) -> ExecResult:
    """Run a program; its errors go into its output. Raises ProviderError after `limit` seconds."""
    async with _started(argv, env) as process:
        assert process.stdout is not None
        try:
            async with asyncio.timeout(limit):
                output = bytearray()
                while part := await process.stdout.read(1 << 16):
                    output += part[: _MOST - len(output)]
                return ExecResult(await process.wait(), bytes(output))
        except TimeoutError:
            raise ProviderError(f"{argv[0]}: it didn't end within {limit:g} s") from None


async def follow(argv: Sequence[str]) -> AsyncIterator[bytes]:
    """Yield what a program prints, until it ends or nobody listens."""
    async with _started(argv, None) as process:
        assert process.stdout is not None
        while part := await process.stdout.read(1 << 15):
            yield part
        await process.wait()


def _started(argv: Sequence[str], env: Mapping[str, str] | None) -> AbstractAsyncContextManager[Process]:
    own = {"PATH": PATH, "LC_ALL": "C"} if env is None else env
    return asyncprocess.started(argv, own, STDOUT)
