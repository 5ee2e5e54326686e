"""The nodes' links at the hub: each from its hello to its end, and who isn't let in any more."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable
from functools import partial

from aiohttp import WSMessage, WSMsgType, web

from protokube.core.model import MIB, Fault
from protokube.hub.answers import refusal
from protokube.hub.auditfile import AuditFile
from protokube.hub.core.membership import Shut
from protokube.hub.core.messages import (
    EXPELLED,
    LARGEST,
    PING,
    RENEW,
    SUPERSEDED,
    Event,
    FromHub,
    HubHello,
    NodeHello,
    Send,
    from_node,
)
from protokube.hub.desk import Desk, Link
from protokube.hub.gate import Gate
from protokube.hub.peer import Peer

GREETING = 30.0
"""Seconds that a node may take for its hello."""
RATE = MIB
"""Bytes a second that are taken from one node."""

log = logging.getLogger(__name__)


class Links:
    """One link a node. `clock`: seconds since the epoch."""

    def __init__(self, gate: Gate, desk: Desk, audit: AuditFile, clock: Callable[[], float]) -> None:
        self._gate = gate
        self._desk = desk
        self._audit = audit
        self._clock = clock
        self._peers: dict[str, Peer] = {}

    async def serve(self, request: web.Request, node: str, serial: str) -> web.WebSocketResponse:
        """A link, from its request to its end. Raises a refusal for who isn't let in."""
        member = self._gate.admit(node, serial)
        if isinstance(member, Shut):
            raise refusal(403, f"{member.rule}: {member.reason}")
        ws = web.WebSocketResponse(heartbeat=PING, max_msg_size=LARGEST, compress=False)
        await ws.prepare(request)
        assert request.transport is not None
        own = Peer(ws, member, serial, request.transport.abort)
        if (before := self._peers.get(node)) is not None:
            before.close(SUPERSEDED, "a newer link of this node is up")
        self._peers[node] = own
        writer = asyncio.create_task(own.write())
        try:
            seen, bundle = dict(self._desk.seen(node)), self._gate.bundle
            own.put(HubHello(str(uuid.uuid4()), self._clock(), self._audit.head(), seen, bundle))
            await self._talk(own)
        finally:
            if self._peers.get(node) is own:
                del self._peers[node]
            own.close(1000, "")
            await asyncio.gather(writer, return_exceptions=True)
        return ws

    def judge(self, node: str) -> None:
        """Close a node's link, where there is one, if it isn't let in any more."""
        if (peer := self._peers.get(node)) is not None:
            self._judge(peer)

    def sweep(self, *, everything: bool) -> None:
        """Close the links whose certificate has ended; with `everything` also those of who is out."""
        for peer in list(self._peers.values()):
            if not self._over(peer) and everything:
                self._judge(peer)

    def close(self) -> None:
        """Close all of them: the hub ends."""
        for peer in list(self._peers.values()):
            peer.close(1001, "the hub is going away")

    def _judge(self, peer: Peer) -> None:
        judged = self._gate.admit(peer.node, peer.serial)
        if isinstance(judged, Shut):
            code = SUPERSEDED if judged.rule == "superseded" else EXPELLED
            peer.close(code, f"{judged.rule}: {judged.reason}")

    def _over(self, peer: Peer) -> bool:
        """Whether its certificate has ended, for which its link is closed."""
        if self._clock() >= peer.ends:
            peer.close(RENEW, "renew: the certificate has ended")
            return True
        return False

    def _put(self, peer: Peer, frame: FromHub) -> None:
        """Hand a frame over; a command to who is let in at this moment alone: the next sweep may be later."""
        if isinstance(frame, Send) and not self._over(peer):
            self._judge(peer)
        peer.put(frame)

    async def _talk(self, peer: Peer) -> None:
        """Take a node's frames until its link ends."""
        link: Link | None = None
        loop = asyncio.get_running_loop()
        allowance, since = float(RATE), loop.time()
        greeting = loop.call_later(GREETING, peer.close, 1008, "no hello came")
        try:
            async for message in peer.ws:
                if peer.closing is not None:
                    break  # who is out isn't listened to any more
                frame = self._read(peer, message)
                if frame is None:
                    break
                now = loop.time()
                allowance, since = min(float(RATE), allowance + (now - since) * RATE) - len(message.data), now
                if allowance < 0:
                    await asyncio.sleep(-allowance / RATE)  # its connection fills up, and it waits
                if isinstance(frame, NodeHello):
                    greeting.cancel()
                    if link is None:
                        link = Link(peer.node, frame, partial(self._put, peer))
                        log.info("node %s: link up", peer.node)
                        self._desk.attach(link)
                    else:
                        self._desk.greeted(link, frame)
                elif link is None:
                    peer.close(1008, "a hello was expected first")
                    break
                else:
                    self._desk.hear(link, frame)
        except ConnectionError as error:
            # aiohttp: a ping's answer, on a connection that has just gone
            log.debug("node %s: %s", peer.node, error)
        finally:
            greeting.cancel()
            if link is not None:
                self._desk.detach(link)
                log.info("node %s: link down", peer.node)

    @staticmethod
    def _read(peer: Peer, message: WSMessage) -> NodeHello | Event | None:
        """A node's frame; None for what is none, for which its link is closed."""
        if message.type is not WSMsgType.TEXT:
            peer.close(1003, "text frames were expected")
            return None
        frame = from_node(message.data)
        if isinstance(frame, Fault):
            log.warning("node %s: %s; its link is closed", peer.node, frame)
            peer.close(1008, str(frame)[:120])
            return None
        return frame
