"""The programs that verbs run: protokube itself, journalctl and systemctl. Nothing of a command is ever a program."""

from __future__ import annotations

import asyncio
import os
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager

from msgspec import Struct

from protokube import asyncprocess
from protokube.core.model import MIB
from protokube.errors import ProviderError

_ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
_MOST = 4 * MIB
_MOST_ERRORS = 4096


class Programs(Struct, frozen=True):
    """How the programs are called."""

    protokube: tuple[str, ...] = ("protokube",)
    virtual_kubelet: tuple[str, ...] = ("virtual-kubelet",)
    journalctl: tuple[str, ...] = ("journalctl",)
    systemctl: tuple[str, ...] = ("systemctl",)


class Ran(Struct, frozen=True):
    """A program's end: exit code, output (at most 4 MiB), and the end of its errors."""

    code: int
    output: str
    errors: str


async def run(argv: Sequence[str], limit: float) -> Ran:
    """Run a program to its end, for at most `limit` seconds. Raises ProviderError."""
    async with _started(argv) as process:
        assert process.stdout is not None and process.stderr is not None
        try:
            async with asyncio.timeout(limit):
                output, errors = await asyncio.gather(_first(process.stdout), _last(process.stderr))
                return Ran(await process.wait(), output, errors)
        except TimeoutError:
            raise ProviderError(f"{argv[0]}: it didn't end within {limit:.0f} s") from None


async def lines(argv: Sequence[str]) -> AsyncIterator[str]:
    """What a program prints, piece by piece, until it ends or nobody listens. Raises ProviderError."""
    async with _started(argv) as process:
        assert process.stdout is not None and process.stderr is not None
        errors = asyncio.create_task(_last(process.stderr))
        try:
            while part := await process.stdout.read(1 << 15):
                yield part.decode(errors="replace")
            code = await process.wait()
            if code != 0:
                raise ProviderError(f"{argv[0]}: exit code {code}: {await errors}")
        finally:
            errors.cancel()


def _started(argv: Sequence[str]) -> AbstractAsyncContextManager[Process]:
    # protokube's own settings, as its unit has them: a dry run must see what the daemon sees.
    own = {name: value for name, value in os.environ.items() if name.startswith("PROTOKUBE_")}
    return asyncprocess.started(argv, {**_ENVIRONMENT, **own}, PIPE)


async def _first(stream: asyncio.StreamReader) -> str:
    kept = bytearray()
    while part := await stream.read(1 << 16):
        kept += part[: _MOST - len(kept)]  # the rest is read and dropped: the program must not wait for us
    return kept.decode(errors="replace")


async def _last(stream: asyncio.StreamReader) -> str:
    kept = b""
    while part := await stream.read(1 << 16):
        kept = (kept + part)[-_MOST_ERRORS:]
    return kept.decode(errors="replace").strip()
