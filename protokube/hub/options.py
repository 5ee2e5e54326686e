"""The command lines' common grammar: wrong usage is an error with a message, and never half of a run."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Sequence

from protokube.errors import ConfigError, PermissionNeededError, ProtokubeError, UsageError
from protokube.logs import log_to

DONE, FAILED, USAGE, TRY_AGAIN, NOT_PERMITTED, BAD_CONFIG = 0, 1, 64, 75, 77, 78


class Parser(argparse.ArgumentParser):
    """A parser that raises UsageError."""

    def error(self, message: str) -> None:  # type: ignore[override]
        """Raise what is wrong."""
        raise UsageError(message)


def address(text: str) -> tuple[str, int]:
    """HOST:PORT. Raises UsageError."""
    host, _, port = text.rpartition(":")
    if not host or not port.isascii() or not port.isdecimal() or int(port) > 65535:
        raise UsageError(f"HOST:PORT was expected, got {text!r}")
    return host.strip("[]"), int(port)


def run_program(
    name: str, parser: Parser, arguments: Sequence[str] | None, command: Callable[[argparse.Namespace], int]
) -> int:
    """Read the command line, run the command, and turn what went wrong into words and an exit code."""
    try:
        given = parser.parse_args(sys.argv[1:] if arguments is None else list(arguments))
        log_to(sys.stderr, logging.DEBUG if given.verbose else logging.INFO)
        return command(given)
    except UsageError as error:
        print(f"{name}: {error}; see {name} --help", file=sys.stderr)
        return USAGE
    except ConfigError as error:
        for fault in error.faults:
            print(f"{name}: {fault}", file=sys.stderr)
        return BAD_CONFIG
    except PermissionNeededError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return NOT_PERMITTED
    except ProtokubeError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return FAILED
