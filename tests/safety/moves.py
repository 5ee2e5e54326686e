"""Changes of a running etcd, with a kill right after every step: to TLS, to another authority, a member replaced,
another version, a restore.

Three machines run main's real etcd, and a client writes all the time. Right after a step somebody is killed: the
command that was given, a daemon, or a whole machine. Then all must be as if nothing had happened, and nothing that
was acknowledged is lost (after a restore: nothing of before the backup).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.lab import etcd_changes, etcd_handovers
from tests.lab.cluster import Cluster
from tests.lab.etcd_changes import BEGINNING, CONFIG, NEW, OLD, RESTORED, TWICE, WORDS, Kill
from tests.lab.etcd_handovers import ARRIVAL, CERTIFICATES
from tests.lab.etcd_moves import OFF, ON, cut, machines, move_to_tls, replace_step
from tests.lab.etcd_writer import Writer
from tests.lab.trial import TrialNode
from tests.safety.claims import Job, Result

_TO_TLS = ("update-member", "manifest", "link", "identity")
_TO_AUTHORITY = ("manifest", "link", "tell", "identity")
_VERSIONS = (OLD, NEW)


def jobs() -> list[Job]:
    """One job for each kind of change, step and way to be killed; versions alternate, and members where a change is
    the same for each."""
    moves = [
        _Move(kind, _VERSIONS[(number + "abc".index(member)) % 2], member, Kill(who, step))
        for number, (kind, member, step) in enumerate(
            (kind, member, step)
            for kind, steps in (("tls", _TO_TLS), ("authority", _TO_AUTHORITY))
            for member in "abc"
            for step in steps
        )
        for who in ("daemon", "machine")
    ]
    moves += [
        _Move("replace", _VERSIONS[number % 2], "", Kill(who, step))
        for number, (step, someone) in enumerate(
            [*((word, "command") for word in WORDS), *((step, "daemon") for step in BEGINNING)]
        )
        for who in (someone, "machine")
    ]
    moves += [
        _Move("upgrade", OLD, member, Kill(who, "manifest")) for member in "abc" for who in ("daemon", "machine")
    ]
    moves += [
        _Move("restore", _VERSIONS[number % 2], "abc"[number % 3], Kill(who, step))
        for number, step in enumerate(RESTORED)
        for who in ("command", "daemon", "machine")
    ]
    moves += [
        _Move("another machine", _VERSIONS[number % 2], "", Kill(who, step))
        for number, step in enumerate(ARRIVAL)
        for who in ("daemon", "machine")
    ]
    moves += [
        _Move("certificates", _VERSIONS[number % 2], "", Kill(who, name))
        for number, name in enumerate(CERTIFICATES)
        for who in ("command", "machine")
    ]
    return [Job("moves", one.case, one.run) for one in moves]


@dataclass(frozen=True)
class _Move:
    kind: str
    version: str
    member: str
    kill: Kill

    @property
    def case(self) -> str:
        """What it is called in the table."""
        whose = f"{self.kill.who} of {self.member}" if self.member else self.kill.who
        return f"{self.kind}: {whose} after {self.kill.after.strip(' :')}, etcd {self.version}"

    def run(self, scratch: Path) -> Iterator[Result]:
        """Change a cluster, and read everything back."""
        trouble = ""
        try:
            if self.kind == "restore":
                with machines(scratch, self.version, OFF, size=TWICE, config=CONFIG) as (cluster, nodes):
                    etcd_changes.restore(cluster, nodes, self.version, self.member, self.kill)
            else:
                tls = ON if self.kind in ("authority", "another machine", "certificates") else OFF
                with machines(scratch, self.version, tls) as (cluster, nodes), Writer(cluster, *nodes) as writer:
                    writer.more()
                    self._change(cluster, nodes)
                    writer.more()
                    writer.check(nodes[0])  # the first machine keeps its member in each change
        except AssertionError as error:
            trouble = str(error)
        yield Result("moves", self.case, trouble)

    def _change(self, cluster: Cluster, nodes: Sequence[TrialNode]) -> None:
        if self.kind == "replace":
            etcd_changes.replace(cluster, nodes, self.version, self.kill)
            return
        if self.kind == "another machine":
            etcd_handovers.move(cluster, nodes, self.version, self.kill)
            return
        if self.kind == "certificates":
            etcd_handovers.reissue(nodes, self.version, self.kill)
            return
        if self.kind == "upgrade":
            etcd_changes.upgrade(nodes, self.member, self.kill)
            return
        how = cut(self.member, self.kill.after, power=self.kill.who == "machine", version=self.version)
        if self.kind == "tls":
            move_to_tls(nodes, how)
            return
        step = partial(replace_step, nodes)
        step(restarts=True, killing=how)
        step(restarts=False)
        step(restarts=True)
