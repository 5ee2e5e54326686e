"""`protokube etcd replace`: carries out core/etcd/replace.py step by step, and looks again before each."""

from __future__ import annotations

import logging
from collections.abc import Callable

from protokube.core.etcd.replace import (
    NO_QUORUM,
    NOT_IN_SYNC,
    Add,
    Await,
    Promote,
    Remove,
    Replaced,
    Step,
    Wanted,
    next_step,
    plan_text,
)
from protokube.core.model import Rejected
from protokube.errors import EtcdRefusedError
from protokube.etcdcommand.look import Cluster, ImpossibleError, Node, pause, take_back_alarms

log = logging.getLogger("protokube")

EVERY = 1.0
"""Seconds between two looks while another node, or the learner, has to go on."""

ELECTION = 15
"""So many looks without a quorum are no reason to give up what has been begun."""

LOOKS = 3
"""A member that is to be removed must have been silent so often in a row."""

Backup = Callable[[], str]
"""Takes a backup of the etcd cluster now, checks it, and returns where it is; raises ProviderError."""


def replace_member(
    node: Node, cluster: Cluster, me: str, backup: Backup, confirm: Callable[[], None] | None, patience: float
) -> None:
    """Replace a member, or go on with its replacement. `confirm` asks; None only shows the plan.

    Raises ImpossibleError when it isn't possible now, or hasn't ended within `patience` seconds.
    """
    if me not in cluster.own.volume.member.members:
        known = ", ".join(cluster.own.volume.member.members)
        raise ImpossibleError(f"etcd cluster {cluster.key} has no member {me}: its volumes' tags name {known}")
    wanted = Wanted(cluster.own.template.member_name(me), cluster.peer_url(me), cluster.names)
    step = _allowed(next_step(wanted, node.view(cluster)))
    if isinstance(step, Replaced):
        print(f"{wanted.name} is a member that votes, and answers: there is nothing to replace.")
        return
    print(plan_text(cluster.key, wanted, node.view(cluster), step), flush=True)
    if confirm is None:
        return
    confirm()
    _Run(node, cluster, wanted, backup, step).to_the_end(patience)
    print(f"{wanted.name} is replaced: it votes, and answers.")


def _allowed(step: Step | Rejected) -> Step:
    if isinstance(step, Rejected):
        raise ImpossibleError(f"{step.rule}: {step.evidence}")
    return step


class _Run:
    """One run of the command. `planned` is the step that the operator was shown."""

    def __init__(self, node: Node, cluster: Cluster, wanted: Wanted, backup: Backup, planned: Step) -> None:
        self._node, self._cluster, self._wanted = node, cluster, wanted
        self._backup, self._planned = backup, planned
        self._saved = False

    def to_the_end(self, patience: float) -> None:
        """Take step after step; `patience` are the seconds for which others may let it wait."""
        before: Step | None = None
        told, waited = "", 0.0
        while not isinstance(step := self._look(), Replaced):
            if step == before:
                raise ImpossibleError(f"{step}: done, and not seen in the member list")
            waiting = self._take(step)
            before = None if waiting else step
            if not waiting:
                continue
            if waiting != told:
                print(f"waiting until {waiting}", flush=True)
                told = waiting
            if waited >= patience:
                raise ImpossibleError(f"not yet, after {patience:.0f} s: {waiting}; run the command again to go on")
            pause(EVERY)
            waited += EVERY

    def _look(self) -> Step:
        """The next step. An election in the middle is waited for."""
        for _ in range(ELECTION):
            step = next_step(self._wanted, self._node.view(self._cluster))
            if not (isinstance(step, Rejected) and step.rule == NO_QUORUM):
                break
            pause(EVERY)
        return _allowed(step)

    def _take(self, step: Step) -> str:
        """Take a step. What to wait for, where it isn't in our hands; empty when the step is done."""
        name, client = self._wanted.name, self._cluster.client
        match step:
            case Remove():
                self._save()
                self._still_silent(step)
                client.remove(step.id)
                self._tell(f"removed {name} ({step.id:x})")
                self._take_back()
            case Add():
                self._save()
                self._take_back()
                added = client.add_learner(self._wanted.url)
                self._tell(f"added {name} ({added.id:x}) as a learner")
            case Promote():
                try:
                    client.promote(step.id)
                except EtcdRefusedError as error:
                    if NOT_IN_SYNC not in error.reason:
                        raise
                    return f"{name} has caught up"
                self._tell(f"promoted {name} ({step.id:x})")
            case Await():
                return step.reason
            case Replaced():
                pass
        return ""

    def _save(self) -> None:
        """Take a backup, once in a run."""
        if not self._saved:
            print(f"backup: {self._backup()}", flush=True)
            self._saved = True

    def _take_back(self) -> None:
        for alarm in take_back_alarms(self._cluster.client):
            self._tell(f"took back the alarm {alarm.kind} of {alarm.member_id:x}, which is no member any more")

    def _still_silent(self, step: Remove) -> None:
        """Look again, and again: a member that was slow for a moment isn't lost, and one that has just been promoted
        even less."""
        for _ in range(LOOKS):
            if step != self._planned or self._look() != step:
                name = self._wanted.name
                raise ImpossibleError(f"{name} isn't as it was when the plan was shown; run the command again")
            pause(EVERY)

    def _tell(self, done: str) -> None:
        log.warning("etcd cluster %s: %s", self._cluster.key, done)
        print(done, flush=True)
