"""A real browser without a screen: Debian's chromium, unpacked below build/browser, driven by its own protocol.

    async with browser(tmp_path) as tab:
        await tab.open("http://127.0.0.1:1/")
        assert await tab.value("document.title") == "x"
        assert tab.complaints == []

Each browser has a profile of its own, and ends with its block.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp

from tests.lab.trial import CHECKOUT

UNPACKED = CHECKOUT / "build/browser/root"
LIMIT = 120.0
"""Seconds that only a hang exceeds, however busy the machine is."""
_PROGRAM = UNPACKED / "usr/lib/chromium/chromium-headless-shell"
_LIBRARIES = UNPACKED / "usr/lib/x86_64-linux-gnu"
_ADDRESS = re.compile(rb"DevTools listening on ws://([^/]+)/")


class Tab:
    """One tab. `requested`: every URL that was asked for. `complaints`: what the browser held against the page."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._loads: asyncio.Queue[None] = asyncio.Queue()
        self.requested: list[str] = []
        self.complaints: list[str] = []

    async def ask(self, method: str, **parameters: Any) -> Any:
        """One command of the protocol; its result."""
        number = len(self._answers) + 1
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        async with asyncio.timeout(LIMIT):
            return await answer

    async def open(self, url: str) -> None:
        """Open a page, and wait until it has loaded."""
        await self.ask("Page.navigate", url=url)
        await self.loaded()

    async def loaded(self) -> None:
        """Wait for the next load of the page."""
        async with asyncio.timeout(LIMIT):
            await self._loads.get()

    async def value(self, expression: str) -> Any:
        """What an expression has in the page, from outside of its policy."""
        told = await self.ask("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in told, told
        return told["result"].get("value")

    async def listen(self) -> None:
        """Take what the browser says, until it ends."""
        async for message in self._socket:
            said = json.loads(message.data)
            parameters = said.get("params", {})
            match said.get("method"):
                case None:
                    answer = self._answers[said["id"]]
                    if "error" in said:
                        answer.set_exception(AssertionError(said["error"]))
                    else:
                        answer.set_result(said["result"])
                case "Network.requestWillBeSent":
                    self.requested.append(parameters["request"]["url"])
                case "Page.loadEventFired":
                    self._loads.put_nowait(None)
                case "Log.entryAdded":
                    self.complaints.append(parameters["entry"]["text"])
                case "Runtime.exceptionThrown" | "Runtime.consoleAPICalled" | "Page.javascriptDialogOpening":
                    self.complaints.append(json.dumps(parameters)[:500])


@asynccontextmanager
async def browser(folder: Path) -> AsyncIterator[Tab]:
    """A browser with one tab."""
    paths = f"{_LIBRARIES}:{_LIBRARIES / 'pulseaudio'}"
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "LD_LIBRARY_PATH": paths, "LC_ALL": "C"}
    # Root has no sandbox in chromium; the pages are the test's own.
    words = (
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--remote-debugging-port=0",
    )
    process = await asyncio.create_subprocess_exec(
        *(str(_PROGRAM), *words, f"--user-data-dir={folder / 'profile'}", "about:blank"),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env=environment,
        start_new_session=True,
    )
    try:
        async with aiohttp.ClientSession() as session:
            async with asyncio.timeout(LIMIT):
                where = await _listening(process)
            draining = asyncio.create_task(_drain(process))
            async with session.get(f"http://{where}/json/list") as answer:
                (target,) = [one for one in await answer.json() if one["type"] == "page"]
            async with session.ws_connect(target["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                tab = Tab(socket)
                listening = asyncio.create_task(tab.listen())
                try:
                    for domain in ("Page", "Network", "Log", "Runtime"):
                        await tab.ask(f"{domain}.enable")
                    yield tab
                finally:
                    for task in (listening, draining):
                        task.cancel()
                    await asyncio.gather(listening, draining, return_exceptions=True)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


async def _listening(process: asyncio.subprocess.Process) -> str:
    assert process.stderr is not None
    said = b""
    while line := await process.stderr.readline():
        said += line
        if found := _ADDRESS.search(line):
            return found[1].decode()
    raise AssertionError(said.decode(errors="replace"))


async def _drain(process: asyncio.subprocess.Process) -> None:
    assert process.stderr is not None
    while await process.stderr.read(1 << 16):
        pass
