"""nokubectl: looks at a fleet, and sends typed commands to it."""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import sys
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from protokube import __version__
from protokube.agent.files import write_atomically
from protokube.core.model import Fault
from protokube.errors import ConfigError, explain
from protokube.hub import operatorviews as views
from protokube.hub.core.checks import LONGEST
from protokube.hub.core.rounds import Strategy, read_strategy, rounds
from protokube.hub.core.verbs import UNITS, VERBS, Arguments, read_arguments
from protokube.hub.desk import Submit
from protokube.hub.operatorclient import HubApi
from protokube.hub.options import DONE, Parser, address, run_program
from protokube.hub.pki import make_signing_key, sign

IDENTITY = "~/.config/nokubectl"
_SECONDS = {"logs": 900, "config.put": 1200, "rollback": 1200}
_BESIDE = 60
"""Seconds of a round that its trial doesn't take."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run nokubectl, and return its exit code."""
    return run_program("nokubectl", parser(), arguments, _command)


def parser() -> Parser:
    """The command line's grammar."""
    made = Parser(
        prog="nokubectl", description="Looks at a fleet, and sends typed commands to it. There is no shell."
    )
    made.add_argument("--hub", default=os.environ.get("NOKUBECTL_HUB"), metavar="HOST:PORT", help="($NOKUBECTL_HUB)")
    made.add_argument("--identity", default=IDENTITY, metavar="DIR", help=f"key and certificate ({IDENTITY})")
    made.add_argument("-o", "--output", default="text", choices=("text", "json"))
    made.add_argument("-v", "--verbose", action="store_true", help="log more")
    made.add_argument("--version", action="version", version=f"nokubectl {__version__}")
    commands = made.add_subparsers(dest="command", required=True, parser_class=Parser)
    nodes = commands.add_parser("nodes", help="the fleet")
    nodes.add_argument("--watch", action="store_true", help="follow it on the terminal")
    page = commands.add_parser("page", help="show the hub's page to a browser of this machine")
    page.add_argument("--port", type=int, default=0, help="on 127.0.0.1; any free one by default")
    commands.add_parser("commands", help="the latest commands")
    commands.add_parser("audit", help="fetch the hub's audit and prove it")
    key = commands.add_parser("keygen", help="make a key that signs commands; prints the line for nokubelet.yaml")
    key.add_argument("name")
    for word, what in (("show", "a command at its nodes"), ("cancel", "cancel a command")):
        one = commands.add_parser(word, help=what)
        one.add_argument("id")
    for verb in VERBS:
        mark = " (changes the node)" if VERBS[verb].changes else ""
        _verb(commands.add_parser(verb, help=VERBS[verb].help + mark), verb)
    return made


def _verb(made: argparse.ArgumentParser, verb: str) -> None:
    made.add_argument("--on", required=True, metavar="NODE|GROUP|all,…", help="for which nodes")
    made.add_argument("--strategy", default="all", help="all, one, rolling=N or round-robin")
    made.add_argument("--max-fail", type=int, default=0, metavar="N", help="failures that don't stop the rest")
    made.add_argument("--seconds", type=int, help="until its deadline; by default enough for each round")
    made.add_argument("--key", metavar="NAME", help="the signing key's name on the nodes (the identity's sign.name)")
    if verb == "logs":
        made.add_argument("--unit", default="protokube", choices=UNITS)
        made.add_argument("--lines", type=int, default=200)
        made.add_argument("--since", type=int, metavar="SECONDS")
        made.add_argument("--follow", type=int, default=0, metavar="SECONDS")
    if verb == "hold":
        made.add_argument("--reason", required=True)
        made.add_argument("--minutes", type=int, required=True)
    if verb == "config.put":
        made.add_argument("--file", dest="text", type=_content, required=True, help="the new configuration")
        made.add_argument("--base", type=int, required=True, help="the revision that it was made from")
    if verb in ("manifest.put", "manifest.remove"):
        made.add_argument("--name", required=True, help="of the file: hub-NAME.yaml")
    if verb == "manifest.put":
        made.add_argument("--file", dest="text", type=_content, required=True, help="the pod")
    if verb in ("config.get", "rollback"):
        made.add_argument("--revision", type=int)
    if verb in ("config.confirm", "rollback"):
        made.add_argument("--of", metavar="ID", help="the command that put it", required=verb == "config.confirm")
    if verb in ("config.put", "rollback"):
        made.add_argument("--confirm-within", type=int, default=300, metavar="SECONDS", help="else it is taken back")


def _content(path: str) -> str:
    try:
        return Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise argparse.ArgumentTypeError(f"{path}: {error}") from error


def _command(given: argparse.Namespace) -> int:
    identity = Path(given.identity).expanduser()
    if given.command == "keygen":
        return _keygen(identity, given.name)
    if not given.hub:
        raise ConfigError([Fault("--hub", "HOST:PORT was expected, here or in NOKUBECTL_HUB")])
    host, port = address(given.hub)

    async def asked() -> int:
        async with HubApi(host, port, identity) as api:
            match given.command:
                case "nodes":
                    return await views.nodes(api, given.output, watch=given.watch)
                case "page":
                    return await views.page(api, given.port)
                case "commands":
                    return views.show(await api.get("/v1/commands"), given.output)
                case "audit":
                    return await views.audit(api)
                case "show":
                    return views.show([await api.get(f"/v1/commands/{_id(given.id)}")], given.output)
                case "cancel":
                    await api.post(f"/v1/commands/{_id(given.id)}/cancel", {})
                    return DONE
                case _:
                    return await _send(api, given, identity)

    try:
        return asyncio.run(asked())
    except KeyboardInterrupt:
        if given.command == "page" or getattr(given, "watch", False):
            return DONE  # how both end
        raise


def _id(text: str) -> str:
    try:
        return str(uuid.UUID(text))
    except ValueError:
        raise ConfigError([Fault("id", f"a command's id was expected, got {text!r}")]) from None


def _keygen(identity: Path, name: str) -> int:
    with explain(f"write below {identity}"):
        identity.mkdir(parents=True, exist_ok=True, mode=0o700)
        if (identity / "sign.pem").exists():
            raise ConfigError([Fault(str(identity), "there is a signing key already; move it away to make another")])
        key, public = make_signing_key()
        write_atomically(identity / "sign.pem", key.encode())
        write_atomically(identity / "sign.name", name.encode())
    print(f"policy: signed\nkeys:\n  {name}: {base64.b64encode(public).decode()}")
    return DONE


# --- sending ---


async def _send(api: HubApi, given: argparse.Namespace, identity: Path) -> int:
    strategy = read_strategy(given.strategy, given.max_fail)
    arguments = _arguments(given)
    if isinstance(strategy, Fault):
        raise ConfigError([strategy])
    if isinstance(arguments, tuple):
        raise ConfigError(arguments)
    nodes = _chosen(await api.get("/v1/nodes"), given.on)
    seconds = _seconds(given, strategy, len(nodes)) if given.seconds is None else given.seconds
    text = json.dumps(
        {
            "id": str(uuid.uuid4()),
            "nodes": nodes,
            "verb": given.command,
            "args": arguments,
            "issued": api.hub_time,
            "deadline": api.hub_time + seconds,
            "hub": api.hub,
        }
    )
    key, signature = _signed(text, identity, given.key) if VERBS[given.command].changes else (None, None)
    made = await api.post("/v1/commands", Submit(text, strategy, key, signature))
    print(f"command {made['id']}", file=sys.stderr)
    if given.command in ("config.put", "rollback"):
        print(f"confirm it: nokubectl config.confirm --on {given.on} --of {made['id']}", file=sys.stderr)
    return await views.follow(api, made["id"], given.output)


def _seconds(given: argparse.Namespace, strategy: Strategy, nodes: int) -> float:
    """Until the deadline. A trial of the last round needs its time as well; an hour is the most that there is."""
    trial = getattr(given, "confirm_within", None)
    wanted = 0 if trial is None else (rounds(strategy, nodes) + 1) * (trial + _BESIDE)
    return min(LONGEST, max(_SECONDS.get(given.command, 300), wanted))


def _arguments(given: argparse.Namespace) -> dict[str, Any] | tuple[Fault, ...]:
    verb = VERBS[given.command]
    names = [field.encode_name for field in msgspec.structs.fields(verb.arguments)]
    # `command` is the command line's own word: the argument of that name is --of.
    values = {name: getattr(given, "of" if name == "command" else name, None) for name in names}
    named = {name: value for name, value in values.items() if value is not None}
    read = read_arguments(verb, named)
    return named if isinstance(read, Arguments) else read


def _chosen(nodes: Sequence[Mapping[str, Any]], on: str) -> list[str]:
    chosen: dict[str, None] = {}
    for word in on.split(","):
        found = [one["node"] for one in nodes if word in ("all", one["node"], *one["groups"])]
        if not found:
            raise ConfigError(
                [Fault("--on", f"a node, a group or all was expected, got {word!r}; see nokubectl nodes")]
            )
        chosen |= dict.fromkeys(found)
    return list(chosen)


def _signed(text: str, identity: Path, name: str | None) -> tuple[str | None, str | None]:
    """The key's name and its signature; nothing without a key: nodes of policy `hub` take it as it is."""
    try:
        key = (identity / "sign.pem").read_text("utf-8")
        name = name or (identity / "sign.name").read_text("utf-8").strip()
        return name, base64.b64encode(sign(key, text.encode())).decode()
    except FileNotFoundError:
        return None, None
    except (OSError, ValueError) as error:
        raise ConfigError([Fault("--identity", f"{identity / 'sign.pem'}: {error}")]) from error
