"""The command line of nodeup."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import NoReturn

from msgspec import Struct

from protokube import __version__
from protokube.errors import UsageError

TARGETS = ("direct", "image", "cloudinit")
COMMANDS = ("assets", "image-check")
OUTPUTS = ("text", "json")

_RUN = ("--config", "--target", "--root", "--cache", "--dry-run", "--detailed-exitcode", "--output")
FITTING = {
    "--target direct": _RUN,
    "--target image": _RUN,
    "--target cloudinit": ("--config", "--target"),
    "assets": ("--config", "--output"),
    "image-check": ("--root", "--output"),
}
"""The options that go with each target and command; -v goes with all."""


class Options(Struct, frozen=True):
    """What the command line says. `command` is None for the usual run."""

    command: str | None
    config: str | None
    target: str
    root: str
    cache: str | None
    dry_run: bool
    output: str
    detailed_exitcode: bool
    verbose: bool


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    out = _Parser(
        prog="nodeup",
        description="Prepares a machine to be a Kubernetes node: files, units, binaries. It never starts kubelet.",
        epilog="`nodeup assets --config FILE` lists what would be fetched, to mirror it beforehand. "
        "`nodeup image-check --root DIR` looks for what must not be in an image.",
        allow_abbrev=False,
    )
    out.add_argument("--version", action="version", version=f"nodeup {__version__}")
    out.add_argument("command", nargs="?", choices=COMMANDS, metavar="COMMAND", help=" or ".join(COMMANDS))
    out.add_argument("--config", metavar="FILE|URL", help="what the machine is to become")
    out.add_argument(
        "--target",
        choices=TARGETS,
        help="this machine, now (the default); the tree of an image below --root; or user-data, which is printed",
    )
    out.add_argument("--root", metavar="DIR", help="directory below which the machine's files lie (/)")
    out.add_argument("--cache", metavar="DIR", help="where fetched files are kept")
    out.add_argument("--dry-run", action="store_true", help="print what would be done and why; change nothing")
    out.add_argument("-o", "--output", choices=OUTPUTS, help="how the report is printed")
    out.add_argument(
        "--detailed-exitcode", action="store_true", help="with --dry-run: exit 2 when there is something to do"
    )
    out.add_argument("-v", "--verbose", action="store_true", help="log more; with --dry-run: show new files whole")
    return out


def _said(given: argparse.Namespace) -> list[str]:
    """The options that the command line holds, but for -v, which goes with everything."""
    options = {
        "--config": given.config is not None,
        "--target": given.target is not None,
        "--root": given.root is not None,
        "--cache": given.cache is not None,
        "--dry-run": given.dry_run,
        "--detailed-exitcode": given.detailed_exitcode,
        "--output": given.output is not None,
    }
    return [name for name, said in options.items() if said]


def _misfits(given: argparse.Namespace) -> None:
    """Refuse options that would say nothing: whoever wrote them expects something of them."""
    wish = given.command or f"--target {given.target or 'direct'}"
    others = [name for name in _said(given) if name not in FITTING[wish]]
    if others:
        what = {"--target cloudinit": " only prints user-data", "assets": " only lists what would be fetched"}
        reason = what.get(wish, " only looks at the tree below --root")
        raise UsageError(f"{wish}{reason}: leave {', '.join(others)} out")
    if given.detailed_exitcode and not given.dry_run:
        raise UsageError("--detailed-exitcode is about --dry-run: add that, or leave it out")


def read_options(arguments: Sequence[str]) -> Options:
    """The command line's options. Raises UsageError when they don't fit together."""
    given = parser().parse_args(arguments)
    if given.command != "image-check" and given.config is None:
        raise UsageError("--config is missing: a file or a URL that says what the machine is to become")
    _misfits(given)
    if (given.target == "image" or given.command == "image-check") and given.root is None:
        raise UsageError("--root is missing: the directory that holds the image's tree")
    if given.root == "":  # a script's unset variable is no wish for this machine
        raise UsageError("--root is empty (expected a directory); leave it out for this machine itself")
    return Options(
        given.command,
        given.config,
        given.target or "direct",
        given.root or "/",
        given.cache,
        given.dry_run,
        given.output or "text",
        given.detailed_exitcode,
        given.verbose,
    )
