"""What does a verb's work on a node, and what it says of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from msgspec import Struct

from protokube.hub.core.checks import Order
from protokube.hub.core.course import Outcome


class End(Struct, frozen=True):
    """What came of a command. `result` is small: what is long was said before."""

    outcome: Outcome
    why: str = ""
    result: Mapping[str, Any] = {}


class Say(Protocol):
    """Tells of a command that runs."""

    def progress(self, text: str) -> None:
        """One line for people."""

    def output(self, text: str, stream: str = "log") -> None:
        """A piece of output, of any length."""


Handler = Callable[[Order, Say, float], Awaitable[End]]
"""Does a command's work, in so many seconds."""
