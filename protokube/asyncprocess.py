"""Other programs under asyncio: started and ended as one, whatever cancels the caller."""

from __future__ import annotations

import asyncio
import contextlib
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager

from protokube.errors import ProviderError


async def start(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    stdout: int = PIPE,
    stderr: int = PIPE,
    pass_fds: Collection[int] = (),
    remedy: str = "is its package installed?",
) -> Process:
    """Start a program without input. Raises ProviderError, with the remedy, when it can't be started.

    `env` is this process's own when it is left out; `stdout` and `stderr` are descriptors or asyncio's constants; the
    program keeps the descriptors `pass_fds`.
    """
    starting = asyncio.ensure_future(
        asyncio.create_subprocess_exec(*argv, stdin=DEVNULL, stdout=stdout, stderr=stderr, env=env, pass_fds=pass_fds)
    )
    try:
        # asyncio hangs when it is cancelled while it starts a process: so it never is.
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        with contextlib.suppress(OSError):
            await _end(await starting)
        raise
    except OSError as error:
        raise ProviderError(f"{argv[0]}: {error.strerror}; {remedy}") from error
    except ValueError as error:  # a zero byte, or text that can't be encoded
        raise ProviderError(f"{argv[0]}: its arguments or variables can't be given to a program: {error}") from error


@asynccontextmanager
async def started(argv: Sequence[str], env: Mapping[str, str], stderr: int) -> AsyncIterator[Process]:
    """As `start`, with a pipe for the output; the program is killed where the block ends before it does."""
    process = await start(argv, env=env, stderr=stderr)
    try:
        yield process
    finally:
        await _end(process)


async def _end(process: Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
