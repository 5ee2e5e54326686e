"""The commands beside the daemon: `protokube accept`, `pki`, `etcd` and `token`. Loaded when one of them is given."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Mapping, Sequence

from msgspec import Struct

from protokube.config.options import Parser, with_options
from protokube.core.disks.accepted import Request
from protokube.core.model import Fault
from protokube.core.objects.tokens import DEFAULT, is_id, is_node_name, parse_life
from protokube.core.static_pod import is_version
from protokube.errors import UsageError


def _accept_parser() -> argparse.ArgumentParser:
    out = Parser(
        prog="protokube accept",
        description="Overrules one refusal of one volume, once, after showing its evidence. It holds for the "
        "filesystem that stands on the volume now, and is used up when the daemon, or --once, has acted on it.",
        allow_abbrev=False,
    )
    out.add_argument("rule", metavar="RULE", help="the rule that refuses it, such as volume/clone")
    out.add_argument("volume", metavar="VOLUME", help="the volume's id")
    out.add_argument("--filesystem", metavar="UUID", required=True, help="the UUID of the filesystem on the volume")
    out.add_argument("--yes", action="store_true", help="don't ask")
    return with_options(out)


def _pki_parser() -> argparse.ArgumentParser:
    out = Parser(
        prog="protokube pki",
        description="status shows this node's certificates and the cluster's authorities. rotate issues NAME again, "
        "or takes the next step of an authority's replacement, or, without either, issues what lags behind the "
        "store. create makes the first authorities. kubeconfig prints one: for an administrator, or for a user whose "
        "rights RBAC gives.",
        allow_abbrev=False,
    )
    out.add_argument("verb", choices=("status", "rotate", "create", "kubeconfig"), help="what to do")
    out.add_argument("name", metavar="NAME", nargs="?", help="with rotate: a certificate of this node")
    out.add_argument("--authority", metavar="NAME", help="with rotate: the authority whose next step to take")
    out.add_argument("--user", metavar="NAME", help="with kubeconfig: whose (admin, who may do everything)")
    moved = "with --authority kubernetes: every worker follows the last step"
    out.add_argument("--workers-moved", action="store_true", help=moved)
    out.add_argument("--yes", action="store_true", help="don't ask")
    return with_options(out)


def _etcd_parser() -> argparse.ArgumentParser:
    out = Parser(
        prog="protokube etcd",
        description="status shows an etcd cluster as this node's member sees it, with all that is wrong. replace "
        "puts a new member in a lost one's place. upgrade shows the way to a version, and takes a backup before it. "
        "defrag gives the free pages of this node's database back to its disk. rotate issues this node's members new "
        "certificates. backups lists an etcd cluster's backups, or proves one again; backup takes one. restore is "
        "this node's part in a restore. new lets an etcd cluster be born although there are backups of an older one. "
        "What would be done is shown first; --dry-run only shows it.",
        allow_abbrev=False,
    )
    verbs = ("status", "replace", "upgrade", "defrag", "rotate", "backups", "backup", "restore", "new")
    out.add_argument("verb", choices=verbs, help="what to do")
    out.add_argument("--cluster", metavar="NAME", help="the etcd cluster; where none is needed: all here")
    out.add_argument("--member", metavar="NAME", help="replace: the lost member")
    out.add_argument("--to", metavar="VERSION", help="upgrade: the version (default: that of the image to run)")
    out.add_argument("--backup", metavar="NAME", help="backups: prove this one again; restore: this one; or latest")
    out.add_argument(
        "--abandon", action="store_true", help="restore: abandon it; members that aren't restored yet won't be"
    )
    out.add_argument("--yes", action="store_true", help="don't ask")
    return with_options(out)


def _token_parser() -> argparse.ArgumentParser:
    out = Parser(
        prog="protokube token",
        description="create makes a bootstrap token, with which a machine joins the cluster, and prints what to run "
        "on it: once. list shows tokens without their secrets. delete ends one. On a node with --control-plane.",
        allow_abbrev=False,
    )
    out.add_argument("verb", choices=("create", "list", "delete"), help="what to do")
    out.add_argument("id", metavar="ID", nargs="?", help="with delete: the part of the token before the point")
    out.add_argument("--ttl", metavar="LIFE", help="with create: from 1m to 24h (1h)")
    only = "with create: the only node that it makes, which may exist already"
    out.add_argument("--for", dest="made_for", metavar="NAME", help=only)
    out.add_argument("--description", metavar="TEXT", default="", help="with create: what list shows")
    return with_options(out)


class AcceptCommand(Struct, frozen=True):
    """`protokube accept`: what to overrule. `yes`: without asking."""

    request: Request
    yes: bool


def accept_command(arguments: Sequence[str]) -> AcceptCommand | None:
    """The command to overrule a refusal, if that is what the command line says; raises UsageError."""
    if arguments[:1] != ["accept"]:
        return None
    given = _accept_parser().parse_args(arguments[1:])
    # blkid and e2fsprogs spell UUIDs in lower case, clouds and people not always.
    return AcceptCommand(Request(given.rule, given.volume, given.filesystem.lower()), given.yes)


class PkiCommand(Struct, frozen=True):
    """`protokube pki`: what to do with which certificate or authority. `yes`: without asking.
    `workers_moved`: a person says that all workers follow the last step. `user`: whose kubeconfig; None for the
    administrator's."""

    verb: str
    name: str | None
    authority: str | None
    yes: bool
    workers_moved: bool = False
    user: str | None = None


def pki_command(arguments: Sequence[str]) -> PkiCommand | None:
    """The command about certificates, if that is what the command line says; raises UsageError."""
    if arguments[:1] != ["pki"]:
        return None
    given = _pki_parser().parse_args(arguments[1:])
    if (given.name or given.authority) and given.verb != "rotate":
        raise UsageError(f"pki {given.verb}: takes no certificate and no authority")
    if given.name and given.authority:
        raise UsageError("pki rotate: NAME and --authority exclude each other")
    user = None if given.user == "admin" else given.user
    if user is not None and given.verb != "kubeconfig":
        raise UsageError(f"pki {given.verb}: takes no user")
    if user is not None and not re.fullmatch(r"(?!system:)[A-Za-z0-9][A-Za-z0-9:._@-]{0,63}", user):
        raise UsageError(
            f"pki kubeconfig: --user {user!r} where a name such as anna was expected, and no system: one"
        )
    return PkiCommand(given.verb, given.name, given.authority, given.yes, given.workers_moved, user)


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
    if (given.verb in ("restore", "new") or given.backup) and not given.cluster:
        raise UsageError(f"etcd {given.verb}: needs --cluster")
    if given.backup and (given.verb not in ("backups", "restore") or given.abandon):
        raise UsageError(f"etcd {given.verb}: takes no backup{' with --abandon' if given.abandon else ''}")
    if given.abandon and given.verb != "restore":
        raise UsageError(f"etcd {given.verb}: there is nothing to abandon")
    if given.to and (given.verb != "upgrade" or not is_version(given.to)):
        raise UsageError(f"etcd {given.verb}: --to {given.to}: upgrade takes a version such as 3.5.30")
    return EtcdCommand(given.verb, given.cluster, given.member, given.yes, given.backup, given.abandon, given.to)


class TokenCommand(Struct, frozen=True):
    """`protokube token`: what to do. `life` of a new one in seconds; `id` of one to delete. `node`: the only
    one that it makes; empty: any that isn't there yet."""

    verb: str
    id: str
    life: float
    description: str
    node: str


def token_command(arguments: Sequence[str]) -> TokenCommand | None:
    """The command about bootstrap tokens, if that is what the command line says; raises UsageError."""
    if arguments[:1] != ["token"]:
        return None
    given = _token_parser().parse_args(arguments[1:])
    if (given.verb == "delete") != (given.id is not None):
        raise UsageError(f"token {given.verb}: {'names no token' if given.id is None else 'takes no token'}")
    if given.id is not None and not is_id(given.id):
        raise UsageError(f"token delete: {given.id!r} where the part of a token before the point was expected")
    if given.verb != "create" and (given.ttl is not None or given.description or given.made_for is not None):
        raise UsageError(f"token {given.verb}: --ttl, --for and --description are for create")
    if given.made_for is not None and not is_node_name(given.made_for):
        raise UsageError(f"token create: --for {given.made_for!r} where a node's name such as worker-1 was expected")
    life = DEFAULT if given.ttl is None else parse_life(given.ttl)
    if isinstance(life, Fault):
        raise UsageError(str(life))
    return TokenCommand(given.verb, given.id or "", life, given.description, given.made_for or "")


PARSERS: Mapping[str, Callable[[], argparse.ArgumentParser]] = {
    "accept": _accept_parser,
    "pki": _pki_parser,
    "etcd": _etcd_parser,
    "token": _token_parser,
}
"""The command line of each command, without its name."""
