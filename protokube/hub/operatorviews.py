"""What nokubectl shows of what the hub says: a command as it goes, the fleet, the audit's proof, the page."""

from __future__ import annotations

import asyncio
import io
import json
import signal
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from rich.console import Console
from rich.live import Live

from protokube.core.model import Fault
from protokube.errors import ConfigError
from protokube.hub.core.audit import Head, contradicted, verify
from protokube.hub.operatorclient import HubApi
from protokube.hub.options import DONE, FAILED
from protokube.hub.pagerelay import relaying
from protokube.hub.show import Follow, commands_table, nodes_table, report_lines

LOOK, WATCH = 0.5, 2.0
"""Seconds between two looks at a command, and at the fleet."""
_OUTPUT = ("log", "progress")


async def follow(api: HubApi, command: str, output: str) -> int:
    """Show what the nodes say until each has ended."""
    seen: dict[str, int] = {}
    reports: dict[str, str] = {}
    results: dict[str, Any] = {}
    quiet = output == "json"
    with Follow(Console(file=io.StringIO()) if quiet else Console()) as shown:
        while True:
            told = await api.get(f"/v1/commands/{command}")
            shown.stands(told)
            for node, course in told["nodes"].items():
                while seen.get(node, 0) < course["seen"]:
                    after = seen.get(node, 0)
                    events = await api.get(f"/v1/commands/{command}/events?node={node}&after={after}")
                    for event in events:
                        _take_in(node, event, reports, results, None if quiet else shown)
                    seen[node] = events[-1]["seq"] if events else course["seen"]
            if all(_over(course) for course in told["nodes"].values()):
                break
            await asyncio.sleep(LOOK)
        for node, report in () if quiet else reports.items():
            for line in report_lines(report):
                shown.line(node, line)
    if quiet:
        print(json.dumps(told | {"output": reports, "results": results}, indent=1))
    else:
        Console().print(commands_table([told]))
    sent = [course for course in told["nodes"].values() if course["stage"] != "skipped"]
    return DONE if sent and all(course["outcome"] == "ok" for course in sent) else FAILED


def _over(course: Mapping[str, Any]) -> bool:
    return course["stage"] in ("done", "refused", "skipped") or course["outcome"] is not None


def _take_in(
    node: str, event: Mapping[str, Any], reports: dict[str, str], results: dict[str, Any], shown: Follow | None
) -> None:
    data = event["data"]
    text = data.get("text")
    if event["kind"] not in _OUTPUT:
        if event["kind"] == "done":
            results[node] = data.get("result")
        if shown is not None:
            for name, value in (data.get("result") or {}).items():
                shown.line(node, f"{name}: {value}")
        return
    if not isinstance(text, str):
        text = f"({data.get('dropped')} pieces of output were dropped)\n"
    if data.get("stream") == "report" or shown is None:
        reports[node] = reports.get(node, "") + text
        return
    for line in text.splitlines():
        shown.line(node, line)


async def nodes(api: HubApi, output: str, *, watch: bool) -> int:
    """The fleet; with --watch until it is interrupted."""
    told = await api.get("/v1/nodes")
    if output == "json":
        print(json.dumps(told, indent=1))
        return DONE
    console = Console()
    if not watch:
        console.print(nodes_table(told))
        return DONE
    if not console.is_terminal:
        raise ConfigError([Fault("--watch", "a terminal was expected; scripts ask again with -o json")])
    with Live(nodes_table(told), console=console, auto_refresh=False, screen=True) as live:
        while True:
            await asyncio.sleep(WATCH)
            live.update(nodes_table(await api.get("/v1/nodes")), refresh=True)


def show(commands: Sequence[Mapping[str, Any]], output: str) -> int:
    """Commands at their nodes."""
    if output == "json":
        print(json.dumps(commands, indent=1))
    else:
        Console().print(commands_table(commands))
    return DONE


async def audit(api: HubApi) -> int:
    """Prove the hub's audit, page by page: it only ever grows. Linked nodes tell what they heard of it before."""
    told = await api.get("/v1/nodes")
    heads = {one["node"]: msgspec.convert(one["audit"], Head) for one in told if one["audit"]}
    head: Head | Fault = Head()
    begin, others = 0, list[str]()
    while isinstance(head, Head) and (part := await api.ask("GET", f"/v1/audit?from={begin}", None)):
        head, begin = verify(part.splitlines(), head), begin + len(part)
        others += contradicted(part.splitlines(), heads) if isinstance(head, Head) else ()
    for node in others:
        print(f"audit: {node} heard another line {heads[node].n} before: the audit was rewritten, or the node lies")
    print(f"audit: {head}" if isinstance(head, Fault) else f"audit: {head.n} lines hold, head {head.hash}")
    return FAILED if isinstance(head, Fault) or others else DONE


async def page(api: HubApi, port: int) -> int:
    """Relay the hub's page to this machine's browser until it is interrupted."""
    await api.ask("GET", "/v1/page", None)  # what the hub has against it is told here
    try:
        async with relaying(api, port) as url:
            # Python's own handling of ^C wakes a loop that sleeps only where the kernel hands it to the main thread.
            ended = asyncio.Event()
            for number in (signal.SIGINT, signal.SIGTERM):
                asyncio.get_running_loop().add_signal_handler(number, ended.set)
            print(f"{url} until this ends; who knows it, sees the page", flush=True)
            await ended.wait()
    except OSError as error:
        raise ConfigError([Fault("--port", f"{port}: {error.strerror}")]) from error
    return DONE
