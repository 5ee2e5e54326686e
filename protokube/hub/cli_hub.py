"""protokube-hub: makes a hub, serves it, and lets nodes and operators in and out."""

from __future__ import annotations

import argparse
import asyncio
import getpass
import logging
import os
import secrets
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from protokube import __version__
from protokube.agent.clock import wall_time
from protokube.agent.files import write_atomically
from protokube.core.model import Fault
from protokube.errors import ConfigError, ProviderError, UsageError, explain
from protokube.host.notify import Notifier
from protokube.hub.core.audit import verify
from protokube.hub.core.membership import Standing
from protokube.hub.core.names import Identity, is_name
from protokube.hub.core.tokens import LIFE, LONGEST_LIFE, KeptToken, digest, make_token
from protokube.hub.desk import Desk
from protokube.hub.gate import Gate
from protokube.hub.hubfiles import HubFiles
from protokube.hub.options import DONE, FAILED, Parser, address, run_program
from protokube.hub.pki import make_client, pin, shown_pem
from protokube.hub.server import Server, server_context, serving

DIRECTORY = "/var/lib/protokube/hub"
OPERATOR_LIFE = 90 * 86400.0
LOOK = 3600.0
"""Seconds between looks at the hub's own certificate."""

log = logging.getLogger("protokube.hub")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run protokube-hub, and return its exit code."""
    return run_program("protokube-hub", parser(), arguments, _command)


def parser() -> Parser:
    """The command line's grammar."""
    made = Parser(prog="protokube-hub", description="The hub of a fleet: enrols nodes, relays typed commands.")
    made.add_argument("--dir", default=DIRECTORY, metavar="DIR", help=f"the hub's files ({DIRECTORY})")
    made.add_argument("-v", "--verbose", action="store_true", help="log more")
    made.add_argument("--version", action="version", version=f"protokube-hub {__version__}")
    commands = made.add_subparsers(dest="command", required=True, parser_class=Parser)
    init = commands.add_parser("init", help="make a hub: its authority and its own certificate")
    init.add_argument("--name", required=True, help="the hub's name")
    init.add_argument("--address", action="append", required=True, metavar="NAME", help="where it is reached")
    serve = commands.add_parser("serve", help="serve nodes and operators")
    serve.add_argument("--listen", default="0.0.0.0:7443", metavar="ADDRESS:PORT")
    token = commands.add_parser("token", help="make a one-time token for a node; it is shown once")
    token.add_argument("node")
    token.add_argument("--group", action="append", default=[], metavar="NAME")
    token.add_argument("--minutes", type=int, default=int(LIFE / 60), help="its life, 60 by default, 1440 at most")
    token.add_argument("--replace", action="store_true", help="for a node that is enrolled already")
    for word, what in (("evict", "out until a new token"), ("ban", "out for good")):
        out = commands.add_parser(word, help=f"put a node out: {what}")
        out.add_argument("node")
        out.add_argument("--reason", required=True)
    operator = commands.add_parser("operator", help="let an operator in: writes a key and certificate for nokubectl")
    operator.add_argument("name")
    where = operator.add_mutually_exclusive_group(required=True)
    where.add_argument("--out", metavar="DIR", help="where to write them")
    where.add_argument("--remove", action="store_true", help="put the operator out")
    commands.add_parser("verify", help="prove the audit, line by line")
    return made


def _command(given: argparse.Namespace) -> int:
    files = HubFiles(Path(given.dir), wall_time)
    return _COMMANDS[given.command](files, given)


def _init(files: HubFiles, given: argparse.Namespace) -> int:
    if not is_name(given.name):
        raise ConfigError([Fault("--name", f"lower-case DNS labels were expected, got {given.name!r}")])
    files.init(given.name, given.address)
    print(f"hub {given.name} is made in {files.folder}; serve it: protokube-hub serve")
    return DONE


def _token(files: HubFiles, given: argparse.Namespace) -> int:
    faults = [
        Fault(place, f"lower-case DNS labels were expected, got {name!r}")
        for place, name in (("node", given.node), *(("--group", one) for one in given.group))
        if not is_name(name)
    ]
    if not 1 <= given.minutes <= LONGEST_LIFE / 60:
        faults.append(Fault("--minutes", f"1 to {LONGEST_LIFE / 60:.0f} were expected, got {given.minutes}"))
    if faults:
        raise ConfigError(faults)
    store, pinned = files.store(), pin(files.authority().certificate)
    token = make_token(secrets.token_bytes(5), secrets.token_bytes(16), pinned)
    expires = files.clock() + given.minutes * 60.0
    kept = KeptToken(token.id, digest(token.secret), given.node, tuple(given.group), expires, given.replace)
    with store.transaction():
        files.audit().write(_who(), f"token {token.id} for {given.node}", given.node)
        store.put_token(kept)
    store.close()
    print(token.text())
    return DONE


def _expel(files: HubFiles, given: argparse.Namespace) -> int:
    standing = Standing.BANNED if given.command == "ban" else Standing.EVICTED
    store = files.store()
    gate = Gate(files.about().name, files.authority(), store, files.audit(), files.clock)
    denied = gate.expel(given.node, standing, given.reason, _who())
    store.close()
    if denied is not None:
        raise ProviderError(denied.reason)
    print(f"{given.node} is {standing}; its link ends within a second")
    return DONE


def _operator(files: HubFiles, given: argparse.Namespace) -> int:
    if not is_name(given.name):
        raise ConfigError([Fault("name", f"lower-case DNS labels were expected, got {given.name!r}")])
    about, authority, store = files.about(), files.authority(), files.store()
    if given.remove:
        with store.transaction():
            files.audit().write(_who(), "operator removed", given.name)
            store.put_operator(given.name, None)
        print(f"operator {given.name} is out")
        return DONE
    pair = make_client(authority, Identity(about.name, "operator", given.name), files.clock(), OPERATOR_LIFE)
    folder = Path(given.out)
    with explain(f"write below {folder}"):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_atomically(folder / "key.pem", pair.key.encode())
        write_atomically(folder / "cert.pem", pair.certificate.encode())
        write_atomically(folder / "bundle.pem", authority.certificate.encode())
    with store.transaction():
        files.audit().write(_who(), "operator added", given.name)
        store.put_operator(given.name, shown_pem(pair.certificate).serial)
    store.close()
    print(f"operator {given.name}: {folder} is what nokubectl --identity takes, for 90 days; it holds a key")
    return DONE


def _verify(files: HubFiles, _given: argparse.Namespace) -> int:
    files.about()
    head = verify(files.audit().lines())
    if isinstance(head, Fault):
        print(f"audit: {head}")
        return FAILED
    print(f"audit: {head.n} lines hold, head {head.hash}")
    return DONE


def _serve(files: HubFiles, given: argparse.Namespace) -> int:
    try:
        host, port = address(given.listen)
    except UsageError as error:
        raise ConfigError([Fault("--listen", str(error))]) from error
    with suppress(asyncio.CancelledError):
        asyncio.run(_serving(files, host, port, os.environ))
    return DONE


async def _serving(files: HubFiles, host: str, port: int, environment: Mapping[str, str]) -> None:
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    about, notifier = files.about(), Notifier(environment)
    store, audit = files.store(), files.audit()
    try:
        files.renew_own()
        audit.head()  # a hub whose audit doesn't hold doesn't start
        gate = Gate(about.name, files.authority(), store, audit, files.clock)
        server = Server(gate, Desk(store, audit, files.clock), store, audit, files.clock)
        context = server_context(files.certificate, files.key, files.bundle)
        try:
            async with serving(server, host, port, context) as bound:
                log.info("hub %s on %s:%d", about.name, host, bound)
                notifier.ready(f"hub {about.name} on {host}:{bound}")
                renewing = _renewing(files, lambda: context.load_cert_chain(files.certificate, files.key))
                await asyncio.gather(renewing, server.failed())
        except OSError as error:
            raise ConfigError([Fault("--listen", f"{host}:{port}: {error}")]) from error
    finally:
        store.close()


async def _renewing(files: HubFiles, load: Callable[[], None]) -> None:
    """Keep the hub's own certificate fresh. New connections get it; links go on."""
    while True:
        await asyncio.sleep(LOOK)
        if files.renew_own():
            load()
            log.info("the hub's own certificate is made anew")


def _who() -> str:
    return f"root by {getpass.getuser()}"


_COMMANDS: Mapping[str, Callable[[HubFiles, argparse.Namespace], int]] = {
    "init": _init,
    "serve": _serve,
    "token": _token,
    "evict": _expel,
    "ban": _expel,
    "operator": _operator,
    "verify": _verify,
}
