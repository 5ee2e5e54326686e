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
from protokube.core.disks.accepted import Request
from protokube.core.located import Located
from protokube.core.model import Fault
from protokube.core.objects.tokens import DEFAULT, is_id, parse_life
from protokube.core.static_pod import is_version
from protokube.errors import UsageError

Value = str | float | bool


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


class _Parser(argparse.ArgumentParser):
    def __init__(self, prog: str, usage: str | None = None, description: str | None = None, **more: Any) -> None:
        super().__init__(prog, usage, description, formatter_class=_Formatter, **more)

    def error(self, message: str) -> NoReturn:
        raise UsageError(message)


def _only_here() -> str:
    """The options that no configuration file may hold."""
    *names, last = (f"--{option.name}" for option in OPTIONS if not option.in_file)
    return f"{', '.join(names)} and {last}"


def parser() -> argparse.ArgumentParser:
    """The command line of the daemon, --once and --dry-run."""
    return _with_options(
        _Parser(
            prog="protokube",
            usage="protokube [options]\n       protokube accept RULE VOLUME --filesystem UUID [--yes] [options]\n"
            "       protokube pki status|rotate|create|kubeconfig [options]\n"
            "       protokube etcd status|replace|upgrade|defrag|backups|backup|restore [options]\n"
            "       protokube token create|list|delete [options]",
            description="Turns a bare machine into a Kubernetes control-plane node: volumes, etcd, names, kubelet. "
            "`protokube accept --help` tells how to overrule one refusal of one volume, once; "
            "`protokube pki --help` is about certificates, `protokube etcd --help` about running etcd clusters.",
            epilog=f"Every option is also a variable PROTOKUBE_… of the environment and, but for {_only_here()}, "
            "a key of the configuration file.",
            allow_abbrev=False,
        )
    )


def _accept_parser() -> argparse.ArgumentParser:
    out = _Parser(
        prog="protokube accept",
        description="Overrules one refusal of one volume, once, after showing its evidence. It holds for the "
        "filesystem that stands on the volume now, and is used up when the daemon, or --once, has acted on it.",
        allow_abbrev=False,
    )
    out.add_argument("rule", metavar="RULE", help="the rule that refuses it, such as volume/clone")
    out.add_argument("volume", metavar="VOLUME", help="the volume's id")
    out.add_argument("--filesystem", metavar="UUID", required=True, help="the UUID of the filesystem on the volume")
    out.add_argument("--yes", action="store_true", help="don't ask")
    return _with_options(out)


def _pki_parser() -> argparse.ArgumentParser:
    out = _Parser(
        prog="protokube pki",
        description="status shows this node's certificates and the cluster's authorities. rotate issues NAME again, "
        "or takes the next step of an authority's replacement, or, without either, issues what lags behind the "
        "store. create makes the first authorities. kubeconfig prints one for an administrator.",
        allow_abbrev=False,
    )
    out.add_argument("verb", choices=("status", "rotate", "create", "kubeconfig"), help="what to do")
    out.add_argument("name", metavar="NAME", nargs="?", help="with rotate: a certificate of this node")
    out.add_argument("--authority", metavar="NAME", help="with rotate: the authority whose next step to take")
    out.add_argument("--yes", action="store_true", help="don't ask")
    return _with_options(out)


def _etcd_parser() -> argparse.ArgumentParser:
    out = _Parser(
        prog="protokube etcd",
        description="status shows an etcd cluster as this node's member sees it, with all that is wrong. replace "
        "puts a new member in a lost one's place. upgrade shows the way to a version, and takes a backup before it. "
        "defrag gives the free pages of this node's database back to its disk. backups lists an etcd cluster's "
        "backups, or proves one again; backup takes one. restore is this node's part in a restore. What would be "
        "done is shown first; --dry-run only shows it.",
        allow_abbrev=False,
    )
    verbs = ("status", "replace", "upgrade", "defrag", "backups", "backup", "restore")
    out.add_argument("verb", choices=verbs, help="what to do")
    out.add_argument("--cluster", metavar="NAME", help="the etcd cluster; status, defrag, backups, backup: all here")
    out.add_argument("--member", metavar="NAME", help="replace: the lost member")
    out.add_argument("--to", metavar="VERSION", help="upgrade: the version (default: that of the image to run)")
    out.add_argument("--backup", metavar="NAME", help="backups: prove this one again; restore: this one; or latest")
    out.add_argument(
        "--abandon", action="store_true", help="restore: abandon it; members that aren't restored yet won't be"
    )
    out.add_argument("--yes", action="store_true", help="don't ask")
    return _with_options(out)


def _token_parser() -> argparse.ArgumentParser:
    out = _Parser(
        prog="protokube token",
        description="create makes a bootstrap token, with which a machine joins the cluster, and prints what to run "
        "on it: once. list shows tokens without their secrets. delete ends one. On a node with --control-plane.",
        allow_abbrev=False,
    )
    out.add_argument("verb", choices=("create", "list", "delete"), help="what to do")
    out.add_argument("id", metavar="ID", nargs="?", help="with delete: the part of the token before the point")
    out.add_argument("--ttl", metavar="LIFE", help="with create: from 1m to 24h (1h)")
    out.add_argument("--description", metavar="TEXT", default="", help="with create: what list shows")
    return _with_options(out)


def _with_options(out: argparse.ArgumentParser) -> argparse.ArgumentParser:
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


class AcceptCommand(Struct, frozen=True):
    """`protokube accept`: what to overrule. `yes`: without asking."""

    request: Request
    yes: bool


def accept_command(arguments: Sequence[str]) -> AcceptCommand | None:
    """The command to overrule a refusal, if that is what the command line says; raises UsageError."""
    if not _is_accept(arguments):
        return None
    given = _accept_parser().parse_args(arguments[1:])
    # blkid and e2fsprogs spell UUIDs in lower case, clouds and people not always.
    return AcceptCommand(Request(given.rule, given.volume, given.filesystem.lower()), given.yes)


def _is_accept(arguments: Sequence[str]) -> bool:
    return arguments[:1] == ["accept"]


class PkiCommand(Struct, frozen=True):
    """`protokube pki`: what to do with which certificate or authority. `yes`: without asking."""

    verb: str
    name: str | None
    authority: str | None
    yes: bool


def pki_command(arguments: Sequence[str]) -> PkiCommand | None:
    """The command about certificates, if that is what the command line says; raises UsageError."""
    if arguments[:1] != ["pki"]:
        return None
    given = _pki_parser().parse_args(arguments[1:])
    if (given.name or given.authority) and given.verb != "rotate":
        raise UsageError(f"pki {given.verb}: takes no certificate and no authority")
    if given.name and given.authority:
        raise UsageError("pki rotate: NAME and --authority exclude each other")
    return PkiCommand(given.verb, given.name, given.authority, given.yes)


class EtcdCommand(Struct, frozen=True):
    """`protokube etcd`: what to do with which etcd cluster (None for all of this node's). `yes`: without asking."""

    verb: str
    cluster: str | None
    member: str | None
    yes: bool
    backup: str | None = None
    abandon: bool = False
    to: str | None = None


def etcd_command(arguments: Sequence[str]) -> EtcdCommand | None:
    """The command about etcd, if that is what the command line says; raises UsageError."""
    if arguments[:1] != ["etcd"]:
        return None
    given = _etcd_parser().parse_args(arguments[1:])
    if given.verb == "replace" and not (given.cluster and given.member):
        raise UsageError("etcd replace: needs --cluster and --member")
    if given.member and given.verb != "replace":
        raise UsageError(f"etcd {given.verb}: takes no member")
    if (given.verb == "restore" or given.backup) and not given.cluster:
        raise UsageError(f"etcd {given.verb}: needs --cluster")
    if given.backup and (given.verb not in ("backups", "restore") or given.abandon):
        raise UsageError(f"etcd {given.verb}: takes no backup{' with --abandon' if given.abandon else ''}")
    if given.abandon and given.verb != "restore":
        raise UsageError(f"etcd {given.verb}: there is nothing to abandon")
    if given.to and (given.verb != "upgrade" or not is_version(given.to)):
        raise UsageError(f"etcd {given.verb}: --to {given.to}: upgrade takes a version such as 3.5.30")
    return EtcdCommand(given.verb, given.cluster, given.member, given.yes, given.backup, given.abandon, given.to)


class TokenCommand(Struct, frozen=True):
    """`protokube token`: what to do. `life` of a new one in seconds; `id` of one to delete."""

    verb: str
    id: str
    life: float
    description: str


def token_command(arguments: Sequence[str]) -> TokenCommand | None:
    """The command about bootstrap tokens, if that is what the command line says; raises UsageError."""
    if arguments[:1] != ["token"]:
        return None
    given = _token_parser().parse_args(arguments[1:])
    if (given.verb == "delete") != (given.id is not None):
        raise UsageError(f"token {given.verb}: {'names no token' if given.id is None else 'takes no token'}")
    if given.id is not None and not is_id(given.id):
        raise UsageError(f"token delete: {given.id!r} where the part of a token before the point was expected")
    if given.verb != "create" and (given.ttl is not None or given.description):
        raise UsageError(f"token {given.verb}: --ttl and --description are for create")
    life = DEFAULT if given.ttl is None else parse_life(given.ttl)
    if isinstance(life, Fault):
        raise UsageError(str(life))
    return TokenCommand(given.verb, given.id or "", life, given.description)


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    if _is_accept(arguments):
        return _accept_parser().parse_args(arguments[1:])
    if arguments[:1] == ["pki"]:
        return _pki_parser().parse_args(arguments[1:])
    if arguments[:1] == ["etcd"]:
        return _etcd_parser().parse_args(arguments[1:])
    if arguments[:1] == ["token"]:
        return _token_parser().parse_args(arguments[1:])
    return parser().parse_args(arguments)


def from_arguments(arguments: Sequence[str]) -> dict[str, Value]:
    """The options given on the command line; raises UsageError when they can't be understood."""
    command = arguments[0] if arguments[:1] in (["accept"], ["pki"], ["etcd"], ["token"]) else None
    given = vars(_parse(arguments))
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
    return f"{raw!r} where a number of seconds was expected"


def _choice_problem(option: Option, value: Value) -> str | None:
    if option.choices and value not in option.choices:
        return f"{value!r} where {', '.join(option.choices[:-1])} or {option.choices[-1]} was expected"
    return None
