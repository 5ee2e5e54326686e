"""What a node remembers of its hub: its time, and the end of its audit. A hub that goes back isn't believed."""

from __future__ import annotations

from pathlib import Path

import msgspec
from msgspec import Struct

from protokube.agent.files import write_atomically
from protokube.errors import ProviderError, explain
from protokube.hub.core.audit import Head, judge_head
from protokube.hub.core.messages import HubHello
from protokube.hub.core.renewal import Heard, believable


class Kept(Struct, frozen=True):
    """What was heard of the hub last: its audit's head, and its latest time."""

    head: Head = Head()
    time: float = 0.0
    boot: str = ""
    boot_time: float = 0.0

    def least(self, boot: str, boot_time: float) -> float:
        """The least that the hub's time is at a boot time: within one boot both go on alike."""
        return Heard(self.time, self.boot_time).now(boot_time) if boot == self.boot else self.time


class Notes:
    """What is remembered of the hub, in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> Kept:
        """What was heard last. Raises ProviderError."""
        with explain(f"read {self._path}"):
            try:
                data = self._path.read_bytes()
            except FileNotFoundError:
                return Kept()
        try:
            return msgspec.json.decode(data, type=Kept)
        except msgspec.MsgspecError as error:
            remedy = "see `protokube-hub verify` on the hub, then remove it"
            raise ProviderError(f"{self._path}: {error}; {remedy}") from error

    def save(self, kept: Kept) -> None:
        """Keep what was heard. Raises ProviderError."""
        with explain(f"write {self._path}"):
            write_atomically(self._path, msgspec.json.encode(kept))


class HubWord:
    """The hub's time and audit, as far as they are believed. `head`: the audit's end as it was at the link before."""

    def __init__(self, notes: Notes) -> None:
        self._notes = notes
        self.heard: Heard | None = None
        self.head = Head()

    def believe(self, hello: HubHello, boot: str, boot_time: float) -> None:
        """Take in a hello that came at a boot time. Raises ProviderError for what can't be."""
        kept = self._notes.load()
        heard = Heard(hello.hub_time, boot_time)
        least = kept.least(boot, boot_time)
        problem = believable(heard, least) or judge_head(kept.head, hello.audit)
        if problem is not None:
            raise ProviderError(f"the hub isn't believed: {problem}")
        self.heard, self.head = heard, kept.head
        self._notes.save(Kept(hello.audit, max(least, hello.hub_time), boot, boot_time))
