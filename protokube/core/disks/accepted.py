"""What an operator has accepted: one refusal of one volume, overruled once, for the filesystem that stands there now.

An acceptance is a file of its own on this machine, and holds the evidence that was shown. It covers that evidence
alone: whatever is found later is refused again. The effect is an identity file on the volume, which then says whose
the volume is. So a lost acceptance costs another one, and never an effect.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from msgspec import Struct

from protokube.core.codec import decode, encode
from protokube.core.model import Rejected, Unknown
from protokube.core.node.model import Absent, File, FileState

ACCEPTED_DIR = "/var/lib/protokube/accepted"


class Request(Struct, frozen=True):
    """What the operator wants overruled. `filesystem` is the UUID that he names."""

    rule: str
    volume_id: str
    filesystem: str


class Acceptance(Struct, frozen=True, forbid_unknown_fields=True):
    """One accepted refusal. `filesystem` is its UUID, `at` is in seconds since the epoch."""

    rule: str
    volume_id: str
    filesystem: str
    evidence: tuple[str, ...]
    at: float

    @property
    def path(self) -> str:
        """Its file, without the root prefix."""
        return f"{ACCEPTED_DIR}/{self.volume_id}.{self.rule.replace('/', '.')}.json"

    def render(self) -> str:
        """Its file's text."""
        return encode(self).decode() + "\n"

    def covers(self, refused: Rejected) -> bool:
        """Whether this very refusal was shown and accepted."""
        return refused.rule == self.rule and refused.evidence in self.evidence


class Accepted(Struct, frozen=True):
    """All acceptances of this machine, and the files that hold none: path → the fault."""

    pending: tuple[Acceptance, ...] = ()
    unparsable: Mapping[str, str] = {}

    def of(self, volume_id: str, filesystem: str) -> tuple[Acceptance, ...]:
        """The acceptances for a volume with this filesystem."""
        wanted = (volume_id, filesystem)
        return tuple(one for one in self.pending if (one.volume_id, one.filesystem) == wanted)


def read_accepted(files: Mapping[str, FileState] | Unknown) -> Accepted:
    """Read the acceptances among a machine's files; none while these are Unknown."""
    if isinstance(files, Unknown):
        return Accepted()
    pending: list[Acceptance] = []
    unparsable: dict[str, str] = {}
    for path, state in sorted(files.items()):
        if path.rpartition("/")[0] != ACCEPTED_DIR or isinstance(state, Absent):
            continue
        text = state.text if isinstance(state, File) else None
        try:
            found = decode(text or "", Acceptance)
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            unparsable[path] = f"expected an acceptance as `protokube accept` writes it: {error}"
            continue
        if found.path == path:
            pending.append(found)
        else:
            unparsable[path] = f"it holds the acceptance that belongs into {found.path}"
    return Accepted(tuple(pending), unparsable)


class Ownership(Struct, frozen=True):
    """Whose filesystem a volume has, as far as it could be read.

    `refused` are all reasons against it, the weightiest first; `accepted` are the acceptances for it. `has_data`:
    etcd ran on it. `mounted`: its contents are those of the mounted filesystem, so that nothing is missing in them.
    """

    filesystem: str
    refused: tuple[Rejected, ...] = ()
    accepted: tuple[Acceptance, ...] = ()
    has_data: bool = False
    mounted: bool = False

    @property
    def barring(self) -> Rejected | None:
        """The first reason that no operator has overruled."""
        return next((one for one in self.refused if not self._is_covered(one)), None)

    @property
    def overruled(self) -> tuple[str, ...]:
        """The rules that were overruled; none while another reason stands."""
        return () if self.barring else tuple(dict.fromkeys(one.rule for one in self.refused))

    def _is_covered(self, refused: Rejected) -> bool:
        return not refused.final and any(one.covers(refused) for one in self.accepted)


def used_up(accepted: Accepted, ownerships: Mapping[str, Ownership]) -> tuple[tuple[Acceptance, str], ...]:
    """The acceptances that have had their effect, or can't have it any more, and why.

    What was read of an unmounted filesystem proves no absence: only a mounted one shows that nothing is refused.
    """
    ended = []
    for one in accepted.pending:
        found = ownerships.get(one.volume_id)
        if found is None:
            continue
        if found.filesystem != one.filesystem:
            ended.append((one, f"the filesystem is {found.filesystem} now"))
        elif found.mounted and one.rule not in {refused.rule for refused in found.refused}:
            ended.append((one, f"{one.rule} refuses it no more"))
    return tuple(ended)
