"""The program's options: one table for the command line, the environment and the configuration file.

Command line beats environment (PROTOKUBE_…) beats file beats default. In the file an option's kebab-case name
becomes camelCase; in the environment it is upper case with underscores.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from msgspec import Struct

from protokube import __version__
from protokube.core.located import Located
from protokube.core.model import Fault
from protokube.errors import UsageError

Value = str | float | bool

COMMANDS = ("accept", "pki", "etcd", "token")
"""Commands beside the daemon, --once and --dry-run; see commands.py."""


class Option(Struct, frozen=True):
    """One option, in its `group` of --help. `kind` is bool, float (seconds or a count, never negative) or str."""

    name: str
    default: Value | None
    help: str
    group: str
    kind: type = str
    metavar: str | None = None
    choices: tuple[str, ...] = ()
    short: str | None = None
    in_file: bool = True

    @property
    def key(self) -> str:
        """The option's key in the configuration file."""
        first, *rest = self.name.split("-")
        return first + "".join(word.capitalize() for word in rest)

    @property
    def variable(self) -> str:
        """The option's environment variable."""
        return "PROTOKUBE_" + self.name.replace("-", "_").upper()


RUN, NODE, VOLUMES, NAMES, KUBELET, OUTPUT = "Running", "This node", "Volumes and etcd", "Names", "kubelet", "Output"
"""The groups in which --help shows the options, in this order."""

OPTIONS: tuple[Option, ...] = (
    Option(
        "config",
        None,
        "configuration file (<root>/etc/protokube/config.yaml if it exists)",
        RUN,
        metavar="FILE",
        in_file=False,
    ),
    Option(
        "once",
        False,
        "reconcile until the node is converged or nothing more can happen, then exit",
        RUN,
        bool,
        in_file=False,
    ),
    Option("dry-run", False, "print what would be done and why; change nothing", RUN, bool, in_file=False),
    Option("interval", 60.0, "seconds between reconciles on a converged node", RUN, float, metavar="SECONDS"),
    Option("timeout", 600.0, "with --once: give up after so long", RUN, float, metavar="SECONDS"),
    Option("master", False, "this is a control-plane node: volumes, etcd, api names", NODE, bool),
    Option("control-plane", False, "run the control plane on this node; needs --master", NODE, bool),
    Option("api", None, "URL of the API server that this node joins; not with --master", NODE, metavar="URL"),
    Option("cloud", None, "cloud provider (default: detected)", NODE, metavar="NAME", choices=("local", "aws")),
    Option(
        "inventory",
        None,
        "the local cloud's description (<root>/etc/protokube/inventory.yaml)",
        NODE,
        metavar="FILE",
    ),
    Option("node", None, "which node of the inventory this is (the host name)", NODE, metavar="NAME"),
    Option("cluster-id", None, "cluster id (default: from the cloud's tags)", NODE, metavar="NAME"),
    Option("root", "/", "directory below which /etc, /var, /mnt and /run lie", NODE, metavar="DIR", in_file=False),
    Option("store", None, "what control-plane nodes share: file:///PATH or s3://BUCKET/PREFIX", NODE, metavar="URL"),
    Option("store-key", None, "32 bytes that encrypt every object of the store", NODE, metavar="FILE"),
    Option("no-format", False, "never format anything", VOLUMES, bool),
    Option(
        "prove-blank",
        "sampled",
        "how much of a disk is read before it is formatted: places and samples, or every byte",
        VOLUMES,
        metavar="HOW",
        choices=("sampled", "full"),
    ),
    Option("template-dir", None, "etcd templates (the shipped ones)", VOLUMES, metavar="DIR"),
    Option("etcd-image", None, "etcd image (a pinned one)", VOLUMES, metavar="IMAGE"),
    Option(
        "etcd-names-timeout",
        60.0,
        "how long a new member of several waits for the others' names",
        VOLUMES,
        float,
        metavar="SECONDS",
    ),
    Option("etcd-bootstrap", False, "assume that these members never ran, where nothing tells", VOLUMES, bool),
    Option(
        "etcd-tls",
        "auto",
        "TLS for new etcd clusters (auto: where --store is given); with on running ones move to it, too",
        VOLUMES,
        metavar="WHEN",
        choices=("auto", "on", "off"),
    ),
    Option(
        "etcd-clients-listen",
        "127.0.0.1",
        "where etcd listens to clients (node: at this node's address, too, where it uses TLS)",
        VOLUMES,
        metavar="WHERE",
        choices=("127.0.0.1", "node"),
    ),
    Option("trust-clock", False, "issue certificates although the clock isn't synchronised", VOLUMES, bool),
    Option(
        "dns",
        None,
        "where names are kept (route53 on aws, else hosts)",
        NAMES,
        metavar="NAME",
        choices=("hosts", "route53", "aws-route53", "rfc2136", "none"),
    ),
    Option(
        "dns-zone-name",
        None,
        "zone name, or zone id when it has no dot (the longest that fits)",
        NAMES,
        metavar="ZONE",
    ),
    Option("dns-internal-suffix", None, "suffix of internal names (.internal.<cluster id>)", NAMES, metavar="S"),
    Option("dns-server", None, "name server for rfc2136", NAMES, metavar="HOST[:PORT]"),
    Option("dns-tsig-keyfile", None, "TSIG key for rfc2136, in BIND's format", NAMES, metavar="FILE"),
    Option("dns-adopt", False, "replace records that protokube does not own", NAMES, bool),
    Option("manifest-dir", "/etc/kubernetes/manifests", "kubelet's manifest folder", KUBELET, metavar="DIR"),
    Option("kubelet-unit", "kubelet.service", "the unit to start; 'none' starts nothing", KUBELET, metavar="UNIT"),
    Option("kubelet-gate-timeout", 300.0, "how long kubelet waits for volumes", KUBELET, float, metavar="SECONDS"),
    Option(
        "output", "text", "for --dry-run and --once", OUTPUT, metavar="FORMAT", choices=("text", "json"), short="o"
    ),
    Option("detailed-exitcode", False, "with --dry-run: exit 2 when there is something to do", OUTPUT, bool),
    Option(
        "verbose",
        False,
        "log every call to cloud, name server, etcd's peers and systemd, and every look at a disk",
        OUTPUT,
        bool,
        short="v",
    ),
    Option("log-format", "text", "how to log to stderr", OUTPUT, metavar="FORMAT", choices=("text", "json")),
)
BY_NAME: Mapping[str, Option] = {option.name: option for option in OPTIONS}

_TRUE, _FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off", "")


class _Formatter(argparse.HelpFormatter):
    """Help as wide as the terminal. argparse's own asks by shutil, and loads that (3 ms) at every start."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=_columns() - 2)


def _columns() -> int:
    """The terminal's width as shutil.get_terminal_size finds it: COLUMNS, the terminal, or 80."""
    named = os.environ.get("COLUMNS", "")
    if named.isdecimal() and int(named):
        return int(named)
    try:
        return os.get_terminal_size(sys.__stdout__.fileno()).columns or 80 if sys.__stdout__ else 80
    except (OSError, ValueError):
        return 80


class Parser(argparse.ArgumentParser):
    """A parser that raises UsageError."""

    def __init__(self, prog: str, usage: str | None = None, description: str | None = None, **more: Any) -> None:
        super().__init__(prog, usage, description, formatter_class=_Formatter, **more)

    def error(self, message: str) -> NoReturn:
        """See argparse."""
        raise UsageError(message)


def _only_here() -> str:
    """The options that no configuration file may hold."""
    *names, last = (f"--{option.name}" for option in OPTIONS if not option.in_file)
    return f"{', '.join(names)} and {last}"


def parser() -> argparse.ArgumentParser:
    """The command line of the daemon, --once and --dry-run."""
    return with_options(
        Parser(
            prog="protokube",
            usage="protokube [options]\n       protokube accept RULE VOLUME --filesystem UUID [--yes] [options]\n"
            "       protokube pki status|rotate|create|kubeconfig [options]\n"
            "       protokube etcd status|replace|upgrade|defrag|backups|backup|restore|new [options]\n"
            "       protokube token create|list|delete [options]",
            description="Turns a bare machine into a Kubernetes control-plane node: volumes, etcd, names, kubelet. "
            "`protokube accept --help` tells how to overrule one refusal of one volume, once; "
            "`protokube pki --help` is about certificates, `protokube etcd --help` about running etcd clusters.",
            epilog=f"Every option is also a variable PROTOKUBE_… of the environment and, but for {_only_here()}, "
            "a key of the configuration file.",
            allow_abbrev=False,
        )
    )


def with_options(out: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """The parser with the options of the table, which every command takes."""
    out.add_argument("--version", action="version", version=f"protokube {__version__}")
    groups = {name: out.add_argument_group(name) for name in dict.fromkeys(option.group for option in OPTIONS)}
    for option in OPTIONS:
        group = groups[option.group]
        flags = [f"-{option.short}"] if option.short else []
        flags.append(f"--{option.name}")
        if option.kind is bool:
            group.add_argument(*flags, action="store_true", default=None, help=option.help)
        else:
            metavar = "|".join(option.choices) if option.choices and len(option.choices) < 3 else option.metavar
            shown = "" if option.default is None else f" ({option.default})"
            group.add_argument(*flags, metavar=metavar, help=option.help + shown)
    return out


def command_of(arguments: Sequence[str]) -> str | None:
    """The command that the command line begins with; None for the daemon, --once and --dry-run."""
    return arguments[0] if arguments and arguments[0] in COMMANDS else None


def from_arguments(arguments: Sequence[str]) -> dict[str, Value]:
    """The options given on the command line; raises UsageError when they can't be understood."""
    command = command_of(arguments)
    if command is None:
        given = vars(parser().parse_args(arguments))
    else:
        from protokube.config.commands import PARSERS  # nothing that a daemon needs

        given = vars(PARSERS[command]().parse_args(arguments[1:]))
    values: dict[str, Value] = {}
    for option in OPTIONS:
        raw = given[option.name.replace("-", "_")]
        if raw is None:
            continue
        value = _read(option, raw)
        if isinstance(value, str) and option.kind is float:
            raise UsageError(f"--{option.name}: {value}")
        if problem := _choice_problem(option, value):
            raise UsageError(f"--{option.name}: {problem}")
        values[option.name] = value
    if values.get("once") and values.get("dry-run"):
        raise UsageError("--once and --dry-run exclude each other")
    if command and (values.get("once") or (values.get("dry-run") and command != "etcd")):
        raise UsageError(f"{command}: --once and --dry-run are commands of their own")
    return values


def from_environment(environment: Mapping[str, str], faults: list[Fault]) -> dict[str, Value]:
    """The options given in the environment."""
    values: dict[str, Value] = {}
    for option in OPTIONS:
        raw = environment.get(option.variable)
        if raw is None:
            continue
        value = _read(option, raw)
        problem = value if isinstance(value, str) and option.kind is not str else _choice_problem(option, value)
        if problem:
            faults.append(Fault(f"environment variable {option.variable}", str(problem)))
        else:
            values[option.name] = value
    return values


def from_file(items: Mapping[str, Located], faults: list[Fault]) -> dict[str, Value]:
    """The options given in the configuration file, already parsed."""
    values: dict[str, Value] = {}
    for option in OPTIONS:
        item = items.get(option.key) if option.in_file else None
        if item is None or item.value is None:
            continue
        value = item.value
        if option.kind is float and type(value) in (int, float) and value >= 0:  # type: ignore[operator]
            values[option.name] = float(value)  # type: ignore[arg-type]
        elif option.kind is not float and type(value) is option.kind:
            assert isinstance(value, str | bool)
            if problem := _choice_problem(option, value):
                faults.append(item.fault(problem))
            else:
                values[option.name] = value
        else:
            faults.append(
                item.expected({bool: "true or false", float: "a number of seconds", str: "a text"}[option.kind])
            )
    return values


def _read(option: Option, raw: str | bool) -> Value:
    """A value from its text. For a bool or float that can't be read, a text comes back: the problem."""
    if isinstance(raw, bool) or option.kind is str:
        return raw
    if option.kind is bool:
        if raw.lower() in _TRUE:
            return True
        return False if raw.lower() in _FALSE else f"{raw!r} where true or false was expected"
    if re.fullmatch(r"\d+(\.\d+)?", raw):
        return float(raw)
    return f"{raw!r} where a number of seconds, 0 or more, was expected"


def _choice_problem(option: Option, value: Value) -> str | None:
    if option.choices and value not in option.choices:
        return f"{value!r} where {', '.join(option.choices[:-1])} or {option.choices[-1]} was expected"
    return None
