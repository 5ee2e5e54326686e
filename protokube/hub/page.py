"""The hub's one page: nodes, links, running commands and the audit's head, for looking at. It holds no script.

Nothing that a node says is markup: every text is escaped, and what a terminal or a browser could obey is spelled out.
"""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Mapping, Sequence
from html import escape

from msgspec import Struct

from protokube.hub.core.audit import Head
from protokube.hub.core.course import Course
from protokube.hub.core.membership import Member, Standing
from protokube.hub.core.messages import NodeHello
from protokube.hub.core.printable import printable

REFRESH = 5
"""Seconds after which a browser asks again."""
LONGEST = 200
"""Characters of a text that are shown."""

STYLE = """
body { font: 14px/1.4 system-ui, sans-serif; margin: 2rem; color: #222; background: #fff; }
h1 { font-size: 1.3rem; } h2 { font-size: 1.05rem; margin-top: 1.6rem; }
table { border-collapse: collapse; } th, td { text-align: left; padding: .15rem 1rem .15rem 0; vertical-align: top; }
th { font-weight: 600; border-bottom: 1px solid #bbb; } td { border-bottom: 1px solid #eee; }
.bad { color: #a40000; } .quiet { color: #666; } code { font-size: 12px; overflow-wrap: anywhere; }
"""
POLICY = (
    "default-src 'none'; style-src 'sha256-"
    + base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    + "'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""What goes with the page: a browser loads nothing for it and runs nothing in it."""


class Running(Struct, frozen=True):
    """A command under way, and how far it is by node."""

    id: str
    verb: str
    sent_by: str
    deadline: float
    courses: Mapping[str, Course]


class View(Struct, frozen=True):
    """What the page shows. `now`: seconds since the epoch; `links`: what each linked node said of itself."""

    hub: str
    now: float
    audit: Head
    members: Sequence[Member]
    links: Mapping[str, NodeHello]
    running: Sequence[Running]


def render(view: View) -> str:
    """The page."""
    linked = sum(one.node in view.links for one in view.members)
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="refresh" content="{REFRESH}">',
        f"<title>{_text(view.hub)}: {linked} of {len(view.members)} linked</title>",
        f"<style>{STYLE}</style></head><body>",
        f"<h1>Hub {_text(view.hub)}</h1>",
        f'<p>{linked} of {len(view.members)} nodes are linked. <span class="quiet">{_time(view.now)}</span></p>',
        "<h2>Nodes</h2>",
        _table(
            "nodes",
            ("Node", "Groups", "Link", "Standing", "Policy", "Held", "Running", "Version", "Certificate ends"),
            [_node(one, view.links.get(one.node)) for one in view.members],
        ),
        "<h2>Running commands</h2>",
        _table(
            "commands",
            ("Command", "Verb", "Sent by", "Deadline", "Nodes"),
            [_command(one) for one in view.running],
        ),
        "<h2>Audit</h2>",
        f'<p id="audit">{view.audit.n} lines, head <code>{_text(view.audit.hash)}</code></p>',
        "</body></html>\n",
    ]
    return "\n".join(parts)


def _node(member: Member, link: NodeHello | None) -> tuple[str, ...]:
    standing = _text(member.standing)
    if member.standing is not Standing.ENROLLED:
        standing = _bad(f"{member.standing}: {member.reason}")
    told = ("", "", "", "")
    if link is not None:
        held = _bad("held") if link.held else ""
        told = (_text(link.policy), held, str(len(link.running) or ""), _text(link.version))
    return (
        _text(member.node),
        _text(", ".join(member.groups)),
        "up" if link is not None else _bad("down"),
        standing,
        *told,
        _time(member.current.ends),
    )


def _command(running: Running) -> tuple[str, ...]:
    stages: dict[str, list[str]] = {}
    for node, course in running.courses.items():
        stages.setdefault(course.outcome or course.stage, []).append(node)
    told = "; ".join(
        f"{stage}: {len(nodes)} ({', '.join(nodes[:4])}{', …' if len(nodes) > 4 else ''})"
        for stage, nodes in stages.items()
    )
    return (
        f"<code>{_text(running.id)}</code>",
        _text(running.verb),
        _text(running.sent_by),
        _time(running.deadline),
        _text(told),
    )


def _table(name: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of cells that are markup already."""
    if not rows:
        return f'<p class="quiet" id="{name}">none</p>'
    head = "".join(f"<th>{one}</th>" for one in heads)
    body = "\n".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<table id="{name}"><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table>'


def _bad(text: str) -> str:
    return f'<span class="bad">{_text(text)}</span>'


def _text(text: str) -> str:
    cut = text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
    return escape(printable(cut))


def _time(seconds: float) -> str:
    # A certificate of ours ends within the calendar; what else comes here is the hub's own clock.
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))
