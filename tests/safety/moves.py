"""Moves of a running etcd: to TLS, and to another authority, with a kill right after every step of every member.

Three machines run main's real etcd, and a client writes all the time. Right after a step of one member its daemon is
killed, or its machine switched off. Then all must have moved, and nothing that was acknowledged is lost.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.lab.etcd_moves import Cut, cut, machines, move_to_tls, replace_step
from tests.lab.etcd_writer import Writer
from tests.lab.trial import TrialNode
from tests.safety.claims import Job, Result

_TO_TLS = ("update-member", "manifest", "link", "identity")
_TO_AUTHORITY = ("manifest", "link", "tell", "identity")
_VERSIONS = ("3.4.23", "3.5.30")


def jobs() -> list[Job]:
    """One job for each kind of move, member, step and way to be killed; versions alternate."""
    found: list[Job] = []
    for kind, steps in (("tls", _TO_TLS), ("authority", _TO_AUTHORITY)):
        for member in "abc":
            for step in steps:
                for power in (False, True):
                    version = _VERSIONS[(len(found) // 2 + "abc".index(member)) % len(_VERSIONS)]
                    killed = f"{'power of' if power else 'daemon of'} {member} after {step}, etcd {version}"
                    how = cut(member, step, power=power, version=version)
                    move = _Move(kind, version, how, f"{kind}: {killed}")
                    found.append(Job("moves", move.case, move.run))
    return found


@dataclass(frozen=True)
class _Move:
    kind: str
    version: str
    how: Cut
    case: str

    def run(self, scratch: Path) -> Iterator[Result]:
        """Move a cluster, and read everything back."""
        tls = "off" if self.kind == "tls" else "on"
        with machines(scratch, self.version, tls) as (cluster, nodes), Writer(cluster, *nodes) as writer:
            writer.more()
            trouble = ""
            try:
                self._move(nodes)
                writer.more()
                writer.check(nodes[0])
            except AssertionError as error:
                trouble = str(error)
        yield Result("moves", self.case, trouble)

    def _move(self, nodes: Sequence[TrialNode]) -> None:
        if self.kind == "tls":
            move_to_tls(nodes, self.how)
            return
        replace_step(nodes, restarts=True, killing=self.how)
        replace_step(nodes, restarts=False)
        replace_step(nodes, restarts=True)
