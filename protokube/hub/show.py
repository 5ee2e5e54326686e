"""A fleet and its commands for people: tables, and one that follows what happens while it happens."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Column, Table
from rich.text import Text

from protokube.hub.core.printable import one_line

ROWS = 20
"""Nodes that a live table shows: those that haven't ended, then those that failed."""
_COLOURS = {"ok": "green", "failed": "red", "unknown": "red", "cancelled": "yellow", "skipped": "yellow"}


def nodes_table(nodes: Sequence[Mapping[str, Any]]) -> Table:
    """The fleet."""
    table = Table("NODE", "GROUPS", "LINK", "STANDING", "POLICY", "HELD", "RUNNING", "VERSION", box=None)
    for one in nodes:
        link = Text("up", "green") if one["linked"] else Text("down", "red")
        held, running = "held" if one["held"] else "", str(len(one["running"] or ()) or "")
        row = (one["policy"], held, running, one["version"])
        table.add_row(
            _cell(one["node"]), _cell(",".join(one["groups"])), link, _cell(one["standing"]), *map(_cell, row)
        )
    return table


def commands_table(commands: Sequence[Mapping[str, Any]]) -> Table:
    """Commands at their nodes, whole, however narrow the terminal is: people copy the id."""
    table = Table(Column("COMMAND", no_wrap=True, min_width=36), "VERB", "NODE", "STAGE", "OUTCOME", "WHY", box=None)
    for one in commands:
        for node, course in one["nodes"].items():
            row = (one["id"], one["verb"], node, course["stage"], course["outcome"], course["why"])
            table.add_row(*map(_cell, row))
    return table


def live_table(told: Mapping[str, Any]) -> Group:
    """One command under way: how many nodes are how far, and the nodes that matter now."""
    counts = Counter(_state(course) for course in told["nodes"].values())
    head = Text(f"{told['verb']}: ")
    head.append(", ".join(f"{count} {state}" for state, count in sorted(counts.items())))
    table = Table("NODE", "STATE", "WHY", box=None)
    ordered = sorted(told["nodes"].items(), key=lambda item: (_rank(item[1]), item[0]))
    for node, course in ordered[:ROWS]:
        state = _state(course)
        table.add_row(_cell(node), Text(state, _COLOURS.get(state, "")), _cell(course["why"]))
    more = len(ordered) - ROWS
    return Group(head, table, *([Text(f"and {more} more")] if more > 0 else []))


class Follow:
    """Shows a command while it runs: lines as they come and, on a terminal, a table below them that changes."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None

    def __enter__(self) -> Follow:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def line(self, node: str, text: str) -> None:
        """One line of a node's output."""
        # Neither markup nor colours nor folding: it may be copied, or piped.
        self._console.print(Text(f"{node}: {one_line(text)}"), soft_wrap=True)

    def stands(self, told: Mapping[str, Any]) -> None:
        """How far the command is."""
        if self._live is not None:
            self._live.update(live_table(told), refresh=True)


def report_lines(report: str) -> list[str]:
    """A node's report: what it would do, step by step; or its text, where it is none."""
    try:
        steps = json.loads(report)["steps"]
        return [f"{step['action']} {step['subject']}: {step['description']}" for step in steps] or ["nothing to do"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return report.splitlines()


def _state(course: Mapping[str, Any]) -> str:
    return str(course["outcome"] or course["stage"])


def _rank(course: Mapping[str, Any]) -> int:
    """What is under way comes first, then what went wrong."""
    state = _state(course)
    return {"queued": 1, "ok": 4, "skipped": 3}.get(state, 2 if course["outcome"] else 0)


def _cell(value: object) -> Text:
    return Text(one_line(str(value or "")))
