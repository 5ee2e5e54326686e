"""1,000 simulated nodes on one hub: memory, idle CPU, a plan for all, and what comes back after a restart.

.venv/bin/python -m benchmarks hub
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import secrets
import ssl
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp
import psutil

from protokube.hub.core.messages import LARGEST, PING, Event, EventKind, HubHello, NodeHello, Send, encode, from_hub
from protokube.hub.core.names import Identity
from protokube.hub.core.reconnect import Tries, lost, pause
from protokube.hub.core.tokens import KeptToken, digest
from protokube.hub.desk import Submit
from protokube.hub.gate import Enrol, Gate, Granted
from protokube.hub.hubfiles import HubFiles
from protokube.hub.operatorclient import HubApi
from protokube.hub.pki import make_client, make_key, make_request, shown_pem

MANY, HOST = 1000, "127.0.0.1"
IDLE, AWAY = 30.0, 20.0
"""Seconds for which idleness is measured, and for which the hub is away."""
STEP = 5
"""Seconds of which each is told by itself, when the fleet comes back."""
REPORT = json.dumps({"version": 1, "settled": True, "steps": [], "padding": "x" * 2000})


class Node:
    """A node's link and nothing behind it: it says what a plan's node says."""

    def __init__(self, name: str, context: ssl.SSLContext, port: int) -> None:
        self.name, self._context, self._port = name, context, port
        self.linked = False
        self.tried: list[float] = []
        self.came = 0.0
        """When its link was up."""

    async def run(self) -> None:
        """Come back as a real node does."""
        tries = Tries()
        while True:
            self.tried.append(time.monotonic())
            lasted = 0.0
            with suppress(aiohttp.ClientError, TimeoutError, ConnectionError):
                lasted = await self._link()
            self.linked = False
            tries = lost(tries, lasted)
            await asyncio.sleep(pause(tries, random.random()))

    async def _link(self) -> float:
        connector, url = aiohttp.TCPConnector(ssl=self._context), f"https://{HOST}:{self._port}/v1/link"
        began = time.monotonic()
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.ws_connect(url, heartbeat=PING, max_msg_size=LARGEST) as ws,
        ):
            async for message in ws:
                if message.type is not aiohttp.WSMsgType.TEXT:
                    break
                match from_hub(message.data):
                    case HubHello():
                        await ws.send_str(encode(NodeHello(self.name, "boot", "0.1", "read-only", ("plan",))))
                        self.linked, self.came = True, time.monotonic()
                    case Send() as sent:
                        own = json.loads(sent.body)["id"]
                        said: tuple[tuple[EventKind, dict[str, str]], ...] = (
                            ("accepted", {}),
                            ("started", {}),
                            ("log", {"stream": "report", "text": REPORT}),
                            ("done", {"outcome": "ok"}),
                        )
                        for seq, (kind, data) in enumerate(said, 1):
                            await ws.send_str(encode(Event(own, seq, kind, time.time(), dict(data))))
        return time.monotonic() - began


@asynccontextmanager
async def served(folder: Path, port: int) -> AsyncIterator[tuple[psutil.Process, int]]:
    """The hub, as a process of its own; its port."""
    code = "import sys; from protokube.hub.cli_hub import main; sys.exit(main(sys.argv[1:]))"
    argv = [sys.executable, "-c", code, "--dir", str(folder), "serve", "--listen", f"{HOST}:{port}"]
    with (folder / "log").open("wb") as log, subprocess.Popen(argv, stderr=log) as process:
        try:
            while not (found := re.search(r"hub \S+ on \S+:(\d+)", (folder / "log").read_text())):
                await asyncio.sleep(0.02)
            yield psutil.Process(process.pid), int(found[1])
        finally:
            process.kill()


def cpu(process: psutil.Process) -> float:
    """Seconds of CPU that a process has used."""
    times = process.cpu_times()
    return float(times.user + times.system)


def enrolled(files: HubFiles, folder: Path) -> dict[str, ssl.SSLContext]:
    """A fleet that is enrolled already."""
    store, contexts = files.store(), {}
    gate = Gate("hub", files.authority(), store, files.audit(), files.clock)
    key = make_key()  # one for all: the figures don't depend on it
    for number in range(MANY):
        name, token = f"n{number:04}", secrets.token_hex(8)
        store.put_token(KeptToken(token[:8], digest(token), name, (), files.clock() + 3600))
        granted = gate.enrol(Enrol(token[:8], token, name, make_request(key, name)))
        assert isinstance(granted, Granted), granted
        (folder / "node.pem").write_text(key + granted.certificate)
        contexts[name] = ssl.create_default_context(cadata=granted.bundle)
        contexts[name].load_cert_chain(folder / "node.pem")
    pair = make_client(files.authority(), Identity("hub", "operator", "anna"), files.clock(), 86400.0)
    (folder / "anna").mkdir()
    for word, text in (("key", pair.key), ("cert", pair.certificate), ("bundle", gate.bundle)):
        (folder / "anna" / f"{word}.pem").write_text(text)
    store.put_operator("anna", shown_pem(pair.certificate).serial)
    store.close()
    return contexts


async def all_linked(nodes: list[Node]) -> None:
    while not all(node.linked for node in nodes):
        await asyncio.sleep(0.05)


async def plan(port: int, folder: Path) -> None:
    """A plan for all, until the hub has every report."""
    async with HubApi(HOST, port, folder / "anna") as api:
        names = [one["node"] for one in await api.get("/v1/nodes")]
        body = {"id": str(uuid.uuid4()), "nodes": names, "verb": "plan", "args": {}}
        text = json.dumps(body | {"issued": api.hub_time, "deadline": api.hub_time + 900})
        made = await api.post("/v1/commands", Submit(text))
        while any(one["stage"] != "done" for one in (await api.get(f"/v1/commands/{made['id']}"))["nodes"].values()):
            await asyncio.sleep(0.5)


def spread(nodes: list[Node], since: float) -> None:
    """How the fleet came back: full jitter is as many in each second, and no crowd at the start."""
    came = sorted(node.came - since for node in nodes)
    shares = ", ".join(f"{share} % within {came[MANY * share // 100 - 1]:.1f} s" for share in (10, 50, 90, 100))
    seconds = Counter(int(one) for one in came)
    tries = Counter(int((at - since) // STEP) for node in nodes for at in node.tried if at >= since)
    links = Counter(int(one // STEP) for one in came)
    print(f"linked again: {shares}; at most {max(seconds.values())} in one second")
    for what, counted in (("tries", tries), ("links", links)):
        print(f"{what} in each {STEP} s: {', '.join(str(counted[step]) for step in range(max(counted) + 1))}")


def megabytes(process: psutil.Process) -> str:
    return f"{process.memory_info().rss / 1e6:.0f} MB"


async def measure(folder: Path) -> None:
    files = HubFiles(folder / "hub", time.time)
    files.init("hub", [HOST])
    contexts = enrolled(files, folder)
    async with served(files.folder, 0) as (hub, port):
        print(f"a hub without links: {megabytes(hub)}, start {cpu(hub):.2f} s of CPU")
        nodes = [Node(name, context, port) for name, context in contexts.items()]
        tasks = [asyncio.create_task(node.run()) for node in nodes]
        since, used = time.monotonic(), cpu(hub)
        await all_linked(nodes)
        print(f"{MANY} links: {time.monotonic() - since:.1f} s, CPU {cpu(hub) - used:.1f} s, {megabytes(hub)}")
        await asyncio.sleep(5)
        used = cpu(hub)
        await asyncio.sleep(IDLE)
        print(f"idle for {IDLE:.0f} s: CPU {cpu(hub) - used:.2f} s (pings every {PING:.0f} s)")
        since, used = time.monotonic(), cpu(hub)
        await plan(port, folder)
        print(f"a plan for all: {time.monotonic() - since:.1f} s, CPU {cpu(hub) - used:.1f} s, {megabytes(hub)}")
    while any(node.linked for node in nodes):
        await asyncio.sleep(0.05)
    await asyncio.sleep(AWAY)
    for node in nodes:
        node.tried.clear()
    async with served(files.folder, port) as (hub, port):
        since, used = time.monotonic(), cpu(hub)
        await all_linked(nodes)
        print(f"after a restart, {AWAY:.0f} s away: CPU {cpu(hub) - used:.1f} s")
        spread(nodes, since)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def main() -> None:
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(measure(Path(folder)))
