"""kubeleet: argv → a worker, a scheduler, the service API, or a look at what stands in Redis; and exit codes."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import re
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from protokube import __version__
from protokube.agent.alone import NotAloneError, alone
from protokube.agent.http.webconfig import Serving
from protokube.agent.loop import Agent
from protokube.agent.options import read_options
from protokube.agent.ports import Closes
from protokube.agent.wiring import LOCAL, make_provider
from protokube.core.model import Fault
from protokube.errors import ConfigError, PermissionNeededError, ProtokubeError, UsageError
from protokube.host.notify import Notifier
from protokube.kubeleet.core.settings import is_loopback, read_target
from protokube.kubeleet.keys import Keys
from protokube.logs import log_to

if TYPE_CHECKING:
    from protokube.kubeleet.connect import Connector

DONE, FAILED, USAGE, NOT_PERMITTED, BAD_CONFIG = 0, 1, 64, 77, 78
STATE_DIR = "/var/lib/protokube/kubeleet"
REDIS = "redis://127.0.0.1:6379"
LISTEN = "127.0.0.1:7480"
_NAME = re.compile(r"[a-z0-9]([-a-z0-9._]{0,251}[a-z0-9])?")

log = logging.getLogger("protokube.kubeleet")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # type: ignore[override]
        raise UsageError(message)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run kubeleet, and return its exit code."""
    try:
        given = parser().parse_args(sys.argv[1:] if arguments is None else list(arguments))
        quiet = logging.WARNING if given.command == "status" else logging.INFO
        log_to(sys.stderr, logging.DEBUG if given.verbose else quiet)
        return _COMMANDS[given.command](given)
    except UsageError as error:
        print(f"kubeleet: {error}; see kubeleet --help", file=sys.stderr)
        return USAGE
    except ConfigError as error:
        for fault in error.faults:
            print(f"kubeleet: {fault}", file=sys.stderr)
        return BAD_CONFIG
    except ModuleNotFoundError as error:
        if error.name not in ("redis", "aiohttp"):
            raise
        print(f"kubeleet: {error.name} isn't installed; pip install 'protokube[kubeleet]'", file=sys.stderr)
        return BAD_CONFIG
    except PermissionNeededError as error:
        print(f"kubeleet: {error}", file=sys.stderr)
        return NOT_PERMITTED
    except NotAloneError as error:
        print(f"kubeleet: {error}", file=sys.stderr)
        return BAD_CONFIG
    except ProtokubeError as error:
        print(f"kubeleet: {error}", file=sys.stderr)
        return FAILED


def parser() -> argparse.ArgumentParser:
    """The command line's grammar."""
    host = socket.gethostname().lower()
    common = _Parser(add_help=False)
    common.add_argument(
        "--redis",
        default=REDIS,
        metavar="URL",
        help=f"redis, rediss, unix, redis+sentinel, rediss+sentinel ({REDIS})",
    )
    common.add_argument("--redis-auth-file", metavar="FILE", help="its password, or USER:PASSWORD")
    common.add_argument("--redis-ca-file", metavar="FILE", help="the authority of rediss (the system's)")
    common.add_argument("--redis-cert-file", metavar="FILE", help="the certificate to show there")
    common.add_argument("--redis-key-file", metavar="FILE", help="its key")
    common.add_argument("--prefix", default="", help="what all keys begin with")
    common.add_argument("-v", "--verbose", action="store_true", help="log more")
    made = _Parser(prog="kubeleet", description="Services of N replicas on a few machines, through Redis.")
    made.add_argument("--version", action="version", version=f"kubeleet {__version__}")
    commands = made.add_subparsers(dest="command", required=True, parser_class=_Parser)
    worker = commands.add_parser("worker", parents=[common], help="run pods on this machine")
    worker.add_argument("--name", default=host, help="unique among all workers (host name)")
    worker.add_argument("--provider", required=True, metavar="NAME", help="podman, systemd, memory, module:Class")
    worker.add_argument("--provider-config", metavar="FILE", help="the provider's configuration file")
    worker.add_argument("--state-dir", default=STATE_DIR, metavar="DIR", help=f"what outlives it ({STATE_DIR})")
    worker.add_argument("--root", default="/", metavar="DIR", help="the machine's root: all paths lie below it (/)")
    worker.add_argument(
        "--stop-when-cut-off",
        action="store_true",
        help="end all pods after 12 s without Redis, before others start them",
    )
    scheduler = commands.add_parser("scheduler", parents=[common], help="place pods; any number may run")
    scheduler.add_argument("--name", default=host, help="unique among all schedulers (host name)")
    service = commands.add_parser("service", parents=[common], help="serve the service API")
    service.add_argument("--listen", default=LISTEN, metavar="ADDRESS:PORT", help=f"where to listen ({LISTEN})")
    service.add_argument("--token-file", metavar="FILE", help="the token that who asks must show")
    service.add_argument("--tls-cert-file", metavar="FILE", help="the server's certificate")
    service.add_argument("--tls-key-file", metavar="FILE", help="its key")
    service.add_argument("--client-ca-file", metavar="FILE", help="the authority of those who may ask")
    service.add_argument(
        "--replicas", type=int, default=0, metavar="N", help="answer once N replicas have a service (0)"
    )
    status = commands.add_parser("status", parents=[common], help="show what stands in Redis")
    status.add_argument("-o", "--output", default="text", choices=("text", "json"))
    return made


def _worker(given: argparse.Namespace) -> int:
    from protokube.kubeleet.generation import Generation
    from protokube.kubeleet.reading import machine_load
    from protokube.kubeleet.worker import Worker

    name = _name(given)
    words = ["--standalone", "--provider", given.provider, "--nodename", name, "--state-dir", given.state_dir]
    words += ["--root", given.root, *(["--provider-config", given.provider_config] if given.provider_config else [])]
    options = read_options(words, {})
    if options.provider in LOCAL and os.geteuid() != 0:
        raise PermissionNeededError("needs root: it runs the machine's pods; try sudo")
    connector = _connector(given)

    async def run() -> None:
        provider = make_provider(options)
        pressure = Path(given.root, "proc/pressure")
        worker = Worker(
            name,
            connector,
            Keys(given.prefix),
            provider.get_pods,
            lambda: machine_load(pressure),
            Generation(options.state_dir / "generation"),
            stop_when_cut_off=given.stop_when_cut_off,
        )
        if not machine_load(pressure).psi:
            log.warning("%s can't be read: this kernel has no PSI, and pressure counts as none", pressure)
        Notifier(os.environ).ready(f"worker {name}")
        try:
            await Agent(provider, [worker], worker, workers=options.workers, resync=options.resync).run()
        finally:
            if isinstance(provider, Closes):
                await provider.close()

    with alone(options.state_dir):
        return _run(run)


def _scheduler(given: argparse.Namespace) -> int:
    from protokube.kubeleet.scheduler import Scheduler

    connector = _connector(given)
    scheduler = Scheduler(_name(given), connector, Keys(given.prefix))
    Notifier(os.environ).ready(f"scheduler {given.name}")
    return _run(scheduler.run)


def _service(given: argparse.Namespace) -> int:
    from protokube.agent.http.serving import token_of
    from protokube.kubeleet.service import Service, serve

    where = _serving(given)
    connector = _connector(given)
    ready = Notifier(os.environ).ready
    trusting = where.token_file is None and where.client_ca_file is None
    service = Service(connector, Keys(given.prefix), token_of(where), given.replicas, trusting=trusting)
    return _run(lambda: serve(service, where, ready))


def _status(given: argparse.Namespace) -> int:
    from protokube.kubeleet.status import read_status, status_json, status_text

    connector = _connector(given)
    status = asyncio.run(read_status(connector, Keys(given.prefix)))
    print(status_json(status) if given.output == "json" else status_text(status))
    return DONE


def _connector(given: argparse.Namespace) -> Connector:
    from protokube.kubeleet.connect import Connector, Files

    files = Files(given.redis_auth_file, given.redis_ca_file, given.redis_cert_file, given.redis_key_file)
    return Connector(read_target(given.redis), files)


def _run(work: Callable[[], Awaitable[None]]) -> int:
    """Work until a signal ends it. No pod ends with it."""

    async def run() -> None:
        task = asyncio.current_task()
        assert task is not None
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        await work()

    with suppress(asyncio.CancelledError):
        asyncio.run(run())
    return DONE


def _name(given: argparse.Namespace) -> str:
    if not _NAME.fullmatch(given.name):
        raise ConfigError(
            [Fault("--name", f"lower-case letters, digits, dots and dashes were expected, got {given.name!r}")]
        )
    name: str = given.name
    return name


def _serving(given: argparse.Namespace) -> Serving:
    host, _, port = given.listen.rpartition(":")
    faults = []
    if not host or not port.isascii() or not port.isdecimal() or int(port) > 65535:
        raise ConfigError([Fault("--listen", f"ADDRESS:PORT was expected, got {given.listen!r}")])
    files = (given.token_file, given.tls_cert_file, given.tls_key_file, given.client_ca_file)
    for option, path in zip(("token", "tls-cert", "tls-key", "client-ca"), files, strict=True):
        if path is not None and not Path(path).is_file():
            faults.append(Fault(f"--{option}-file", f"{path}: there is no such file"))
    if (given.tls_cert_file is None) != (given.tls_key_file is None):
        faults.append(Fault("--tls-cert-file", "it goes together with --tls-key-file; give both, or neither"))
    if given.client_ca_file is not None and given.tls_cert_file is None:
        faults.append(Fault("--client-ca-file", "it needs --tls-cert-file: without TLS nobody shows a certificate"))
    if not is_loopback(host) and not (given.token_file or given.client_ca_file):
        text = f"{host} can be reached by others; say with --token-file or --client-ca-file who may ask"
        faults.append(Fault("--listen", text))
    if given.replicas < 0:
        faults.append(Fault("--replicas", f"0 or more were expected, got {given.replicas}"))
    if faults:
        raise ConfigError(faults)
    return Serving(host.strip("[]"), int(port), *files)


_COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "worker": _worker,
    "scheduler": _scheduler,
    "service": _service,
    "status": _status,
}
