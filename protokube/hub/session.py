"""One link of a node's: the hub's hello, then frames both ways, and a renewal beside them, until it ends."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

import aiohttp
import msgspec
from aiohttp import ClientWebSocketResponse, WSMsgType
from msgspec import Struct

from protokube import __version__
from protokube.agent.files import write_atomically
from protokube.core.model import Fault
from protokube.errors import ProviderError, explain
from protokube.hub.core.messages import (
    DEAD,
    EXPELLED,
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
from protokube.hub.core.renewal import due, retry_pause
from protokube.hub.hubclient import HubRefusedError, renew
from protokube.hub.hubword import HubWord
from protokube.hub.keyring import Keyring, Own
from protokube.hub.outbox import Outbox
from protokube.hub.runner import Runner

GREETING = 30.0
"""Seconds that the hub may take for its hello."""
_WORDS = {RENEW: "renew", SUPERSEDED: "superseded by a newer link or certificate", EXPELLED: "out"}

log = logging.getLogger(__name__)


class Chances(Struct, frozen=True):
    """Where time and chance come from: boot time in seconds, and a random number from 0 to 1."""

    boot_time: Callable[[], float]
    fraction: Callable[[], float]


class Parts(Struct, frozen=True):
    """What a node's links have in common. `about`: how the node is; `told` gets a line for people."""

    keyring: Keyring
    word: HubWord
    runner: Runner
    chances: Chances
    about: Callable[[], Mapping[str, object]]
    told: Callable[[str], None]


class Session:
    """A link that is up. `greeted`: the hub was believed, and commands may come."""

    def __init__(self, ws: ClientWebSocketResponse, own: Own, parts: Parts) -> None:
        self._ws = ws
        self._own = own
        self._parts = parts
        self._frames = Outbox()
        self.greeted = False
        self._seen: Mapping[str, int] = {}

    def changed(self) -> None:
        """Tell the hub again how this node is."""
        if self.greeted:
            self._frames.put(self._hello())

    async def talk(self) -> int:
        """Greet, then pass frames both ways until the link ends; the code with which it was closed."""
        hub = self._own.hub
        try:
            async with asyncio.timeout(GREETING):
                first = await self._ws.receive()
        except TimeoutError:
            raise ProviderError(f"{hub.host}:{hub.port}: the hub says nothing") from None
        except (ConnectionError, aiohttp.ClientError) as error:
            raise ProviderError(f"{hub.host}:{hub.port}: the link ended at once: {error}") from error
        if first.type is not WSMsgType.TEXT:
            return self._closed()
        hello = from_hub(first.data)
        if not isinstance(hello, HubHello):
            raise ProviderError(f"the hub's first frame isn't a hello: {str(hello)[:200]}")
        await asyncio.to_thread(self._believe, hello)
        self.greeted, self._seen = True, hello.seen
        self._frames.put(self._hello())
        await self._parts.runner.linked(hello.seen, self._frames.put)
        self._parts.told(f"linked to {hub.name}")
        log.info("linked to %s at %s:%d", hub.name, hub.host, hub.port)
        tasks = [asyncio.create_task(one) for one in (self._read(), self._write(), self._renew_when_due())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            return next(task.result() for task in tasks if task in done)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _believe(self, hello: HubHello) -> None:
        """Take in what the hub says of its time, audit and authorities. Raises ProviderError for what can't be."""
        boot_time = self._parts.chances.boot_time()
        self._parts.word.believe(hello, str(self._parts.about()["boot_id"]), boot_time)
        bundle = self._own.bundle
        if hello.bundle is not None and hello.bundle != bundle.read_text("utf-8"):
            with explain(f"write {bundle}"):
                write_atomically(bundle, hello.bundle.encode())

    async def _read(self) -> int:
        try:
            async for message in self._ws:
                if message.type is WSMsgType.ERROR:
                    log.info("the link is lost: %s", message.data)  # aiohttp: nobody answered a ping
                    break
                if message.type is not WSMsgType.TEXT:
                    raise ProviderError("the hub sent a frame that isn't text")
                await self._take(from_hub(message.data))
        except (ConnectionError, aiohttp.ClientError) as error:
            log.debug("%s", error)  # aiohttp: a ping's answer, on a connection that has just gone
        return self._closed()

    async def _take(self, frame: FromHub | Fault) -> None:
        runner = self._parts.runner
        match frame:
            case Send():
                await runner.take(frame)
            case Cancel():
                runner.cancel(frame.id)
            case Ack():
                runner.acknowledged(frame.id, frame.seq)
            case HubHello():
                raise ProviderError("the hub sent a second hello")
            case Fault():
                raise ProviderError(f"the hub sent garbage: {str(frame)[:200]}")

    async def _write(self) -> int:
        while (frame := await self._frames.get()) is not None:
            try:
                async with asyncio.timeout(DEAD):
                    await self._ws.send_str(encode(frame))
            except (ConnectionError, aiohttp.ClientError):
                return self._closed()
            except TimeoutError:
                break
        log.warning("the hub takes frames too slowly: the link ends, and the next one goes on from there")
        return self._closed()

    async def _renew_when_due(self) -> int:
        """Renew beside the link; then the link ends, and the next one uses the new certificate."""
        heard, own, chances = self._parts.word.heard, self._own, self._parts.chances
        assert heard is not None
        when = due(own.validity, heard, chances.fraction())
        await asyncio.sleep(max(0.0, when - chances.boot_time()))
        life, failures = own.validity.ends - own.validity.issued(), 0
        while True:
            try:
                await renew(self._parts.keyring, own)
            except HubRefusedError:
                raise
            except ProviderError as error:
                failures += 1
                log.warning("the certificate isn't renewed yet: %s", error)
                await asyncio.sleep(retry_pause(failures, chances.fraction(), life))
                continue
            log.info("the certificate is renewed; linking anew with it")
            return 1000

    def _closed(self) -> int:
        code = self._ws.close_code or 1006
        log.info("the link ended (%d %s)", code, _WORDS.get(code, ""))
        return code

    def _hello(self) -> NodeHello:
        runner, node = self._parts.runner, self._own.hub.node
        commands = {"running": runner.running(), "done": runner.done(self._seen)}
        about = {"version": __version__, "verbs": runner.verbs(), **commands}
        made = {"node": node, "audit": self._parts.word.head, **about, **self._parts.about()}
        return msgspec.convert(made, NodeHello)
