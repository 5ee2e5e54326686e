"""What operators may ask the hub for: the fleet, commands and their events, the audit, the page."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
from aiohttp import web

from protokube.core.model import Fault
from protokube.hub.answers import answer, number, operator, read, refusal
from protokube.hub.auditfile import AuditFile
from protokube.hub.core.membership import Member
from protokube.hub.desk import Desk, Submit
from protokube.hub.page import HEADERS, View, render
from protokube.hub.store import Store


class OperatorRoutes:
    """The handlers. `hub`: its name; `clock`: seconds since the epoch."""

    def __init__(self, hub: str, desk: Desk, store: Store, audit: AuditFile, clock: Callable[[], float]) -> None:
        self._hub = hub
        self._desk = desk
        self._store = store
        self._audit = audit
        self._clock = clock

    async def nodes(self, _request: web.Request) -> web.Response:
        """The fleet."""
        return answer([self._node(member) for member in self._store.members()])

    def _node(self, member: Member) -> dict[str, Any]:
        link = self._desk.links.get(member.node)
        # Whole, and not as a frame has it, which leaves out what is as usual.
        told = {} if link is None else msgspec.structs.asdict(link.hello)
        return {
            "node": member.node,
            "groups": member.groups,
            "standing": member.standing,
            "reason": member.reason,
            "since": member.since,
            "certificate_ends": member.current.ends,
            "linked": link is not None,
            **{key: told.get(key) for key in ("version", "policy", "facts", "held", "running", "verbs", "audit")},
        }

    async def audit_lines(self, request: web.Request) -> web.Response:
        """A part of the audit."""
        body = await asyncio.to_thread(self._audit.part, number(request, "from"))
        return web.Response(body=body, content_type="application/jsonl")

    async def page(self, _request: web.Request) -> web.Response:
        """The page."""
        members = self._store.members()
        links = {node: link.hello for node, link in self._desk.links.items()}
        view = View(self._hub, self._clock(), self._audit.head(), members, links, self._desk.running())
        return web.Response(text=render(view), content_type="text/html", headers=HEADERS)

    async def commands(self, _request: web.Request) -> web.Response:
        """The latest commands."""
        return answer([self._told(kept.id) for kept in self._store.commands()])

    async def command(self, request: web.Request) -> web.Response:
        """One command at its nodes."""
        return answer(self._told(request.match_info["id"]))

    def _told(self, command: str) -> dict[str, Any]:
        kept = self._store.command(command)
        if kept is None:
            raise refusal(404, f"{command[:64]}: there is no such command")
        facts = {"id": kept.id, "verb": kept.verb, "sent_by": kept.sent_by, "at": kept.at, "deadline": kept.deadline}
        return facts | {"nodes": msgspec.to_builtins(self._store.courses(command))}

    async def events(self, request: web.Request) -> web.Response:
        """What a node said of a command."""
        node = request.query.get("node", "")
        return answer(self._store.events(request.match_info["id"], node, number(request, "after"), 64))

    async def submit(self, request: web.Request) -> web.Response:
        """Take a command."""
        made = self._desk.submit(await read(request, Submit), f"operator {operator(request)}")
        if isinstance(made, Fault):
            raise refusal(422, str(made))
        return answer({"id": made}, status=201)

    async def cancel(self, request: web.Request) -> web.Response:
        """Cancel a command."""
        fault = self._desk.cancel(request.match_info["id"], f"operator {operator(request)}")
        if fault is not None:
            raise refusal(404, str(fault))
        return answer({})
