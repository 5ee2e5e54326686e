"""What nokubectl shows on a terminal, and what it prints where there is none."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from protokube.hub.show import ROWS, Follow, commands_table, live_table, nodes_table, report_lines

COMMAND = "0d6e0c5e-3a3c-4d3f-9f39-3f0a4a4e9d10"


def course(stage: str, outcome: str | None = None, why: str = "") -> dict[str, Any]:
    return {"stage": stage, "outcome": outcome, "why": why, "seen": 1}


def told(**nodes: dict[str, Any]) -> dict[str, Any]:
    return {"id": COMMAND, "verb": "sync", "nodes": nodes}


def shown(what: Any, width: int = 100, terminal: bool = False) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=terminal)
    console.print(what)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_what_is_under_way_and_what_failed_stands_above_what_is_done() -> None:
    every = {f"n{number:02}": course("done", "ok") for number in range(40)}
    every |= {"n30": course("started"), "n35": course("done", "failed", "no disk\x1b[2J")}
    text = shown(live_table(told(**every)))
    lines = text.splitlines()
    assert lines[0] == "sync: 1 failed, 38 ok, 1 started"
    assert "n30" in lines[2] and "n35" in lines[3] and "\\x1b[2J" in text and "\x1b[2J" not in text
    assert f"and {40 - ROWS} more" in lines[-1]


def test_on_a_terminal_the_table_changes_and_lines_stay() -> None:
    console = Console(file=io.StringIO(), width=80, force_terminal=True)
    with Follow(console) as follow:
        follow.stands(told(n0=course("sent")))
        follow.line("n0", "begun\x07")
        follow.stands(told(n0=course("done", "ok")))
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert "n0: begun\\x07" in text and "1 sent" in text and "1 ok" in text and "\x07" not in text


def test_into_a_pipe_go_lines_alone() -> None:
    console = Console(file=io.StringIO(), width=20)
    with Follow(console) as follow:
        follow.stands(told(n0=course("sent")))
        follow.line("n0", "a line that is longer than the terminal is wide [b]")
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue() == "n0: a line that is longer than the terminal is wide [b]\n"


def test_tables_hold_no_markup_of_a_node_s() -> None:
    node = {"node": "n0", "groups": ["[red]edge"], "linked": True, "standing": "enrolled", "policy": "hub"}
    text = shown(nodes_table([node | {"held": True, "running": ["x"], "version": "[bold]1"}]))
    assert "[red]edge" in text and "[bold]1" in text and "held" in text
    assert COMMAND in shown(commands_table([told(n0=course("done", "ok"))]), width=40)


def test_a_report_is_its_steps_and_else_its_text() -> None:
    assert report_lines('{"steps": []}') == ["nothing to do"]
    assert report_lines('{"steps": [{"action": "a", "subject": "s", "description": "d"}]}') == ["a s: d"]
    assert report_lines("[1]") == ["[1]"] and report_lines("x\ny") == ["x", "y"]


def test_no_node_writes_a_line_of_another_s() -> None:
    forged = "ok\nn1: failed"
    console = Console(file=io.StringIO(), width=100)
    with Follow(console) as follow:
        follow.line("n0", f"result: {forged}")
    assert isinstance(console.file, io.StringIO)
    table = shown(commands_table([told(n0=course("done", "ok", forged))]), width=160)
    live = shown(live_table(told(n0=course("done", "ok", forged))))
    for text in (console.file.getvalue(), table, live):
        assert "ok\\nn1: failed" in text
        assert not any(line.lstrip().startswith("n1") for line in text.splitlines())
