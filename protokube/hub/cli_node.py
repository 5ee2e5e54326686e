"""nokubelet: enrols this node at a hub, keeps its link, and tells how it is."""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import json
import logging
import os
import signal
import sys
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml

from protokube import __version__
from protokube.agent.clock import wall_time
from protokube.agent.files import write_atomically
from protokube.core.model import Fault, Unknown
from protokube.core.untrusted_yaml import load
from protokube.errors import ConfigError, PermissionNeededError, ProviderError, UsageError, explain
from protokube.host.notify import Notifier
from protokube.hub.core.checks import Mode
from protokube.hub.core.names import is_name
from protokube.hub.core.policy import Policy, read_policy
from protokube.hub.core.tokens import Token, read_token
from protokube.hub.hubclient import enrol
from protokube.hub.keyring import Keyring
from protokube.hub.nodelink import NodeLink, NoLinkError, OutError
from protokube.hub.nodewiring import Place, node_link, undoing
from protokube.hub.options import BAD_CONFIG, DONE, FAILED, TRY_AGAIN, Parser, address, run_program
from protokube.hub.verbs.programs import Programs

STATE = "/var/lib/protokube/nokubelet"
CONFIG = "/etc/protokube/nokubelet.yaml"

log = logging.getLogger("protokube.hub")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run nokubelet, and return its exit code."""
    return run_program("nokubelet", parser(), arguments, _command)


def parser() -> Parser:
    """The command line's grammar."""
    made = Parser(prog="nokubelet", description="Links this node to a hub, and does what its policy allows.")
    made.add_argument("--state-dir", default=STATE, metavar="DIR", help=f"keys and records ({STATE})")
    made.add_argument("--config", default=CONFIG, metavar="FILE", help=f"the policy ({CONFIG})")
    made.add_argument("-v", "--verbose", action="store_true", help="log more")
    made.add_argument("--version", action="version", version=f"nokubelet {__version__}")
    commands = made.add_subparsers(dest="command", required=True, parser_class=Parser)
    new = commands.add_parser("enrol", help="enrol this node by a one-time token")
    new.add_argument("--hub", required=True, metavar="HOST:PORT")
    new.add_argument("--node", required=True, metavar="NAME")
    new.add_argument("--token-file", required=True, metavar="FILE", help="holds the token; - reads it from stdin")
    commands.add_parser("run", help="keep the link, and take commands")
    status = commands.add_parser("status", help="how this node stands to its hub")
    status.add_argument("-o", "--output", default="text", choices=("text", "json"))
    return made


def _command(given: argparse.Namespace) -> int:
    state = Path(given.state_dir)
    match given.command:
        case "enrol":
            return _enrol(state, given)
        case "status":
            return _status(state, read_config(given.config), given.output)
        case _:
            return _run(Place(state), given.config)


def read_config(path: str) -> Policy:
    """The policy of a file; without one the node is read-only. Raises ConfigError."""
    try:
        value = load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Policy()
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError([Fault(path, str(error))]) from error
    policy = read_policy(value, path)
    if not isinstance(policy, Policy):
        raise ConfigError(policy)
    return policy


def _enrol(state: Path, given: argparse.Namespace) -> int:
    host, port = address(given.hub)
    if not is_name(given.node):
        raise UsageError(f"--node: lower-case DNS labels were expected, got {given.node!r}")
    token = _token(given.token_file)
    own = asyncio.run(enrol(Keyring(state / "keys"), host, port, given.node, token))
    (state / "heard.json").unlink(missing_ok=True)  # it may be of another hub
    print(f"{own.hub.node} is enrolled at {own.hub.name}; start it: systemctl enable --now nokubelet")
    return DONE


def _token(path: str) -> Token:
    try:
        text = sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([Fault("--token-file", f"{path}: {error}")]) from error
    token = read_token(text)
    if isinstance(token, Fault):
        raise ConfigError([token])
    return token


def _status(state: Path, policy: Policy, output: str) -> int:
    own = Keyring(state / "keys").load()
    told = state / "status.json"
    facts: dict[str, object] = {"policy": policy.mode, "keys": sorted(policy.keys)}
    if own is None or isinstance(own, Unknown):
        facts["enrolled"] = False if own is None else own.reason
    else:
        hub = own.hub
        facts |= {"enrolled": True, "node": hub.node, "hub": f"{hub.name} at {hub.host}:{hub.port}"}
        facts["certificate_ends"] = own.validity.ends
    if told.exists():
        facts |= json.loads(told.read_text("utf-8"))
    text = "\n".join(f"{name}: {value}" for name, value in facts.items())
    print(json.dumps(facts, indent=1) if output == "json" else text)
    return DONE if facts["enrolled"] is True else FAILED


def _run(place: Place, config: str) -> int:
    try:
        with _alone(place.state), suppress(asyncio.CancelledError):
            asyncio.run(_kept(place, config, Programs()))
    except OutError as error:
        print(f"nokubelet: {error}", file=sys.stderr)
        return BAD_CONFIG
    except NoLinkError as error:
        print(f"nokubelet: {error}", file=sys.stderr)
        return TRY_AGAIN
    return DONE


async def _kept(place: Place, path: str, programs: Programs) -> None:
    """Link this node, and undo what has to be undone before and after, whatever else is broken."""
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    notifier, links = Notifier(os.environ), list[NodeLink]()

    def changed() -> None:
        for link in links:
            link.changed()

    def told(text: str) -> None:
        notifier.status(text)
        with explain(f"write {place.state / 'status.json'}"):
            facts = json.dumps({"link": text, "since": wall_time()})
            write_atomically(place.state / "status.json", facts.encode(), durable=False)

    kept = undoing(place, programs, changed)
    # Without the hub, and before anything is read that may be broken.
    await kept.changes.look()
    await kept.config.recover()
    watchdog = asyncio.create_task(_watchdog(notifier))
    try:
        policy = read_config(path)
        if policy.mode is Mode.HUB:
            log.warning("policy: hub: whoever has the hub can change this node; signed needs an operator's key too")
        links.append(node_link(place, policy, programs, kept, told))
        notifier.ready("linking")
        await _first(links[0].run(), kept.changes.watch())
    except (OutError, ConfigError) as error:
        # systemd doesn't start the program again after these: what undoes itself has to come to its end first.
        await kept.config.recover("nokubelet ends: the hub won't have this node, or its policy can't be read")
        if await kept.changes.look():
            log.error("protokube is held, and nokubelet ends with the hold: %s", error)
            notifier.ready("ends with the hold")
            await kept.changes.wait_out()
        raise
    finally:
        watchdog.cancel()
        await asyncio.gather(watchdog, return_exceptions=True)


async def _first(*works: Coroutine[Any, Any, None]) -> None:
    """Run these until one ends, and end the others. Raises what the first one raised."""
    tasks = [asyncio.create_task(one) for one in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for one in done:
            one.result()
    finally:
        for one in tasks:
            one.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _watchdog(notifier: Notifier) -> None:
    while True:
        await asyncio.sleep(notifier.watchdog_interval or 3600.0)
        notifier.watchdog()


@contextmanager
def _alone(state: Path) -> Iterator[None]:
    """One nokubelet a node."""
    path = state / ".lock"
    try:
        state.mkdir(parents=True, exist_ok=True, mode=0o700)
        opened = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise PermissionNeededError(f"{path}: {error.strerror}; run it as root") from error
    try:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ProviderError(f"{path}: another nokubelet has it; there is one a node") from None
        yield
    finally:
        os.close(opened)
