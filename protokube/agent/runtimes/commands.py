"""Other programs: run to their end with a limit, or followed while they print."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence

from protokube.agent.ports import ExecResult
from protokube.errors import ProviderError

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_MOST = 16 << 20
"""Bytes of output that are kept; the rest is read and dropped."""


async def run(argv: Sequence[str], limit: float, env: Mapping[str, str] | None = None) -> ExecResult:
    """Run a program; its errors go into its output. Raises ProviderError after `limit` seconds."""
    process = await _start(argv, env)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(limit):
            output = bytearray()
            while part := await process.stdout.read(1 << 16):
                output += part[: _MOST - len(output)]
            return ExecResult(await process.wait(), bytes(output))
    except TimeoutError:
        raise ProviderError(f"{argv[0]}: it didn't end within {limit:g} s") from None
    finally:
        await _end(process)


async def follow(argv: Sequence[str]) -> AsyncIterator[bytes]:
    """Yield what a program prints, until it ends or nobody listens."""
    process = await _start(argv, None)
    assert process.stdout is not None
    try:
        while part := await process.stdout.read(1 << 15):
            yield part
    finally:
        await _end(process)


async def _start(argv: Sequence[str], env: Mapping[str, str] | None) -> asyncio.subprocess.Process:
    own = {"PATH": PATH, "LC_ALL": "C"} if env is None else dict(env)
    try:
        return await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=own,
        )
    except OSError as error:
        raise ProviderError(f"{argv[0]}: {error.strerror}; is its package installed?") from error


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
