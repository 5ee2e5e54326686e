"""A node's link to its hub: connect, renew, and come back, for as long as the program runs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

import aiohttp
from aiohttp import ClientSession, ClientTimeout, TCPConnector

from protokube.core.model import Unknown
from protokube.errors import ProtokubeError, ProviderError
from protokube.hub.core.messages import LARGEST, PING, RENEW
from protokube.hub.core.reconnect import GIVEN_UP, Tries, lost, pause
from protokube.hub.hubclient import HubRefusedError, explained, own_context, renew
from protokube.hub.hubword import HubWord, Notes
from protokube.hub.keyring import Keyring, Own
from protokube.hub.runner import Runner
from protokube.hub.session import GREETING, Chances, Parts, Session

OUT = ("evicted", "banned", "cloned", "expired", "unknown", "replaced")
"""Refusals that a node can't mend by itself."""
_RENEWABLE = ("renew", "superseded")

log = logging.getLogger(__name__)


class OutError(ProtokubeError):
    """The hub doesn't know this node, or won't have it. The message says why, and the way out."""


class NoLinkError(ProtokubeError):
    """There was no link for so long that a fresh start is worth a try."""


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
        self._chances = chances
        self._word = HubWord(notes)
        self._parts = Parts(keyring, self._word, runner(self), chances, about, told)
        self._session: Session | None = None
        self._last_link = 0.0

    def hub_time(self) -> float | None:
        """The hub's time, None before it was heard."""
        return None if self._word.heard is None else self._word.heard.now(self._chances.boot_time())

    def changed(self) -> None:
        """Tell the hub again how this node is."""
        if self._session is not None:
            self._session.changed()

    async def run(self) -> None:
        """Keep the link up. Raises OutError, NoLinkError, or what broke the runner."""
        work = asyncio.create_task(self._parts.runner.work())
        links = asyncio.create_task(self._links())
        try:
            done, _ = await asyncio.wait({work, links}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in (work, links):
                task.cancel()
            await asyncio.gather(work, links, return_exceptions=True)
            await self._parts.runner.close()

    async def _links(self) -> None:
        tries, self._last_link = Tries(), self._chances.boot_time()
        while True:
            own = await asyncio.to_thread(self._parts.keyring.load)
            if own is None or isinstance(own, Unknown):
                why = "it has no certificate" if own is None else own.reason
                raise OutError(f"this node isn't enrolled: {why}; make a token on the hub, then: nokubelet enrol")
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
                self._parts.told(f"no link: {error}")
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
            await renew(self._parts.keyring, own)
            log.info("the certificate is renewed")
            return None
        return lasted

    async def _link(self, own: Own) -> tuple[int, float]:
        host, port = own.hub.host, own.hub.port
        context = await asyncio.to_thread(own_context, own)
        limit = ClientTimeout(total=None, sock_connect=10)
        # A session and a resolution of the name each time: what was cached may be what doesn't work any more.
        async with ClientSession(connector=TCPConnector(ssl=context, use_dns_cache=False), timeout=limit) as client:
            try:
                async with asyncio.timeout(GREETING):
                    ws = await client.ws_connect(
                        f"https://{host}:{port}/v1/link", heartbeat=PING, max_msg_size=LARGEST, autoclose=True
                    )
            except aiohttp.WSServerHandshakeError as error:
                told = None if error.headers is None else error.headers.get("Protokube-Reason")
                reason = told or f"HTTP {error.status}"
                raise HubRefusedError(error.status, reason) from error
            except (aiohttp.ClientError, TimeoutError) as error:
                raise await explained(error, host, port) from error
            began = self._chances.boot_time()
            self._session = session = Session(ws, own, self._parts)
            try:
                code = await session.talk()
            finally:
                self._parts.runner.unlinked()
                if session.greeted:
                    self._last_link = self._chances.boot_time()
                self._session = None
                await ws.close()
            return code, self._chances.boot_time() - began
