"""A node's link to its hub: connect, talk, renew, and come back, for as long as the program runs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from pathlib import Path

import aiohttp
import msgspec
from aiohttp import ClientSession, ClientTimeout, ClientWebSocketResponse, TCPConnector, WSMsgType
from msgspec import Struct

from protokube import __version__
from protokube.agent.files import write_atomically
from protokube.core.model import Fault, Unknown
from protokube.errors import ProtokubeError, ProviderError, explain
from protokube.hub.core.audit import Head, judge_head
from protokube.hub.core.messages import (
    DEAD,
    EXPELLED,
    LARGEST,
    PING,
    RENEW,
    SUPERSEDED,
    Ack,
    Cancel,
    FromHub,
    HubHello,
    NodeHello,
    Send,
    encode,
    from_hub,
)
from protokube.hub.core.reconnect import GIVEN_UP, Tries, lost, pause
from protokube.hub.core.renewal import Heard, believable, due, retry_pause
from protokube.hub.hubclient import HubRefusedError, explained, own_context, renew
from protokube.hub.keyring import Keyring, Own
from protokube.hub.outbox import Outbox
from protokube.hub.runner import Runner

OUT = ("evicted", "banned", "cloned", "expired", "unknown", "replaced")
"""Refusals that a node can't mend by itself."""
_RENEWABLE = ("renew", "superseded")
GREETING = 30.0

log = logging.getLogger(__name__)


class OutError(ProtokubeError):
    """The hub doesn't know this node, or won't have it. The message says why, and the way out."""


class NoLinkError(ProtokubeError):
    """There was no link for so long that a fresh start is worth a try."""


class Kept(Struct, frozen=True):
    """What was heard of the hub last: its audit's head, and its latest time. A hub that goes back isn't believed."""

    head: Head = Head()
    time: float = 0.0
    boot: str = ""
    boot_time: float = 0.0

    def least(self, boot: str, boot_time: float) -> float:
        """The least that the hub's time is at a boot time: within one boot both go on alike."""
        return Heard(self.time, self.boot_time).now(boot_time) if boot == self.boot else self.time


class Notes:
    """What is remembered of the hub, in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> Kept:
        """What was heard last. Raises ProviderError."""
        with explain(f"read {self._path}"):
            try:
                data = self._path.read_bytes()
            except FileNotFoundError:
                return Kept()
        try:
            return msgspec.json.decode(data, type=Kept)
        except msgspec.MsgspecError as error:
            raise ProviderError(f"{self._path}: {error}; see `audit verify` on the hub, then remove it") from error

    def save(self, kept: Kept) -> None:
        """Keep what was heard. Raises ProviderError."""
        with explain(f"write {self._path}"):
            write_atomically(self._path, msgspec.json.encode(kept))


class Chances(Struct, frozen=True):
    """Where time and chance come from: boot time in seconds, and a random number from 0 to 1."""

    boot_time: Callable[[], float]
    fraction: Callable[[], float]


class NodeLink:
    """The link of one node. `told` gets a line for people whenever something changes."""

    def __init__(
        self,
        keyring: Keyring,
        notes: Notes,
        runner: Callable[[NodeLink], Runner],
        chances: Chances,
        about: Callable[[], Mapping[str, object]],
        told: Callable[[str], None] = lambda _text: None,
    ) -> None:
        self._keyring = keyring
        self._notes = notes
        self._runner = runner(self)
        self._chances = chances
        self._about = about
        self._told = told
        self._heard: Heard | None = None
        self._head = Head()
        """The end of the hub's audit as it was at the link before: operators compare."""
        self._frames: Outbox | None = None
        self._last_link = 0.0
        self._own: Own | None = None
        self._renewals_failed = 0

    def hub_time(self) -> float | None:
        """The hub's time, None before it was heard."""
        return None if self._heard is None else self._heard.now(self._chances.boot_time())

    def changed(self) -> None:
        """Tell the hub again how this node is."""
        if self._frames is not None and self._own is not None:
            self._frames.put(self._hello(self._own))

    async def run(self) -> None:
        """Keep the link up. Raises OutError, NoLinkError, or what broke the runner."""
        work = asyncio.create_task(self._runner.work())
        links = asyncio.create_task(self._links())
        try:
            done, _ = await asyncio.wait({work, links}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in (work, links):
                task.cancel()
            await asyncio.gather(work, links, return_exceptions=True)
            await self._runner.close()

    async def _links(self) -> None:
        tries, self._last_link = Tries(), self._chances.boot_time()
        while True:
            own = await asyncio.to_thread(self._keyring.load)
            if own is None or isinstance(own, Unknown):
                why = "it has no certificate" if own is None else own.reason
                raise OutError(f"this node isn't enrolled: {why}; make a token on the hub, then: nokubelet enrol")
            self._own = own
            try:
                lasted = await self._once(own)
                tries = Tries() if lasted is None else lost(tries, lasted)
            except HubRefusedError as error:
                if error.rule == "banned":
                    raise OutError(f"the hub won't have this node: {error.reason}; no token lets it in") from error
                if error.rule in OUT:
                    raise OutError(
                        f"the hub won't have this node: {error.reason}; to enrol it anew, make a token on the hub, "
                        "then: nokubelet enrol"
                    ) from error
                log.warning("%s", error)
                tries = lost(tries, 0.0)
            except ProviderError as error:
                log.warning("no link: %s", error)
                self._told(f"no link: {error}")
                tries = lost(tries, 0.0)
            if self._chances.boot_time() - self._last_link > GIVEN_UP:
                raise NoLinkError(f"no link for {GIVEN_UP:.0f} s")
            await asyncio.sleep(pause(tries, self._chances.fraction()))

    async def _once(self, own: Own) -> float | None:
        """One link, from its start to its end: how long it lasted, or None after a renewal, which goes on at once.

        Raises ProviderError where none could be made.
        """
        try:
            code, lasted = await self._link(own)
        except HubRefusedError as error:
            if error.rule not in _RENEWABLE:
                raise
            code, lasted = RENEW, 0.0
        if code == RENEW:
            await renew(self._keyring, own)
            log.info("the certificate is renewed")
            return None
        return lasted

    async def _link(self, own: Own) -> tuple[int, float]:
        host, port = own.hub.host, own.hub.port
        context = await asyncio.to_thread(own_context, own)
        limit = ClientTimeout(total=None, sock_connect=10)
        # A session and a resolution of the name each time: what was cached may be what doesn't work any more.
        async with ClientSession(connector=TCPConnector(ssl=context, use_dns_cache=False), timeout=limit) as session:
            try:
                async with asyncio.timeout(GREETING):
                    ws = await session.ws_connect(
                        f"https://{host}:{port}/v1/link", heartbeat=PING, max_msg_size=LARGEST, autoclose=True
                    )
            except aiohttp.WSServerHandshakeError as error:
                told = None if error.headers is None else error.headers.get("Protokube-Reason")
                reason = told or f"HTTP {error.status}"
                raise HubRefusedError(error.status, reason) from error
            except (aiohttp.ClientError, TimeoutError) as error:
                raise await explained(error, host, port) from error
            began = self._chances.boot_time()
            try:
                code = await self._talk(ws, own)
            finally:
                self._runner.unlinked()
                if self._frames is not None:
                    self._last_link = self._chances.boot_time()
                self._frames = None
                await ws.close()
            return code, self._chances.boot_time() - began

    async def _talk(self, ws: ClientWebSocketResponse, own: Own) -> int:
        """Greet, then pass frames both ways until the link ends; the code with which it was closed."""
        try:
            async with asyncio.timeout(GREETING):
                first = await ws.receive()
        except TimeoutError:
            raise ProviderError(f"{own.hub.host}:{own.hub.port}: the hub says nothing") from None
        except (ConnectionError, aiohttp.ClientError) as error:
            raise ProviderError(f"{own.hub.host}:{own.hub.port}: the link ended at once: {error}") from error
        if first.type is not WSMsgType.TEXT:
            return self._closed(ws)
        hello = from_hub(first.data)
        if not isinstance(hello, HubHello):
            raise ProviderError(f"the hub's first frame isn't a hello: {str(hello)[:200]}")
        await asyncio.to_thread(self._believe, hello, own)
        frames = Outbox()
        self._frames = frames
        frames.put(self._hello(own))
        await self._runner.linked(hello.seen, frames.put)
        self._told(f"linked to {own.hub.name}")
        log.info("linked to %s at %s:%d", own.hub.name, own.hub.host, own.hub.port)
        tasks = [asyncio.create_task(self._read(ws)), asyncio.create_task(self._write(ws, frames))]
        tasks.append(asyncio.create_task(self._renew_when_due(own)))
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            return next(task.result() for task in tasks if task in done)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _believe(self, hello: HubHello, own: Own) -> None:
        """Take in what the hub says of its time and audit. Raises ProviderError for what can't be."""
        kept = self._notes.load()
        heard, boot = Heard(hello.hub_time, self._chances.boot_time()), str(self._about()["boot_id"])
        least = kept.least(boot, heard.boot_time)
        problem = believable(heard, least) or judge_head(kept.head, hello.audit)
        if problem is not None:
            raise ProviderError(f"the hub isn't believed: {problem}")
        self._heard, self._head = heard, kept.head
        self._notes.save(Kept(hello.audit, max(least, hello.hub_time), boot, heard.boot_time))
        if hello.bundle is not None and hello.bundle != own.bundle.read_text("utf-8"):
            with explain(f"write {own.bundle}"):
                write_atomically(own.bundle, hello.bundle.encode())

    async def _read(self, ws: ClientWebSocketResponse) -> int:
        try:
            async for message in ws:
                if message.type is WSMsgType.ERROR:
                    log.info("the link is lost: %s", message.data)  # aiohttp: nobody answered a ping
                    break
                if message.type is not WSMsgType.TEXT:
                    raise ProviderError("the hub sent a frame that isn't text")
                await self._take(from_hub(message.data))
        except (ConnectionError, aiohttp.ClientError) as error:
            log.debug("%s", error)  # aiohttp: a ping's answer, on a connection that has just gone
        return self._closed(ws)

    async def _take(self, frame: FromHub | Fault) -> None:
        match frame:
            case Send():
                await self._runner.take(frame)
            case Cancel():
                self._runner.cancel(frame.id)
            case Ack():
                self._runner.acknowledged(frame.id, frame.seq)
            case HubHello():
                raise ProviderError("the hub sent a second hello")
            case Fault():
                raise ProviderError(f"the hub sent garbage: {str(frame)[:200]}")

    async def _write(self, ws: ClientWebSocketResponse, frames: Outbox) -> int:
        while (frame := await frames.get()) is not None:
            try:
                async with asyncio.timeout(DEAD):
                    await ws.send_str(encode(frame))
            except (ConnectionError, aiohttp.ClientError):
                return self._closed(ws)
            except TimeoutError:
                break
        log.warning("the hub takes frames too slowly: the link ends, and the next one goes on from there")
        return self._closed(ws)

    async def _renew_when_due(self, own: Own) -> int:
        """Renew beside the link; then the link ends, and the next one uses the new certificate."""
        assert self._heard is not None
        when = due(own.validity, self._heard, self._chances.fraction())
        await asyncio.sleep(max(0.0, when - self._chances.boot_time()))
        life, failures = own.validity.ends - own.validity.issued(), 0
        while True:
            try:
                await renew(self._keyring, own)
            except HubRefusedError:
                raise
            except ProviderError as error:
                failures += 1
                log.warning("the certificate isn't renewed yet: %s", error)
                await asyncio.sleep(retry_pause(failures, self._chances.fraction(), life))
                continue
            log.info("the certificate is renewed; linking anew with it")
            return 1000

    def _closed(self, ws: ClientWebSocketResponse) -> int:
        code = ws.close_code or 1006
        word = {RENEW: "renew", SUPERSEDED: "superseded by a newer link or certificate", EXPELLED: "out"}.get(
            code, ""
        )
        log.info("the link ended (%d %s)", code, word)
        return code

    def _hello(self, own: Own) -> NodeHello:
        about = {"version": __version__, "verbs": self._runner.verbs(), "running": self._runner.running()}
        return msgspec.convert({"node": own.hub.node, "audit": self._head, **about, **self._about()}, NodeHello)
