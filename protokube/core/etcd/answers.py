"""For how long an etcd cluster's members have given the same answers.

A restarted etcd replays its log, and its list lacks members for moments: only time tells. Losing this at any moment
costs delay, never an effect.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from protokube.core.etcd.model import EtcdPeerMember, PeerAnswers, ServedEtcd
from protokube.core.model import Unknown

MemberList = tuple[EtcdPeerMember, ...]


class AnswerTracking(Struct, frozen=True):
    """etcd cluster → member → its answer, and the uptime in seconds at which it first gave that.

    `stable_for`: seconds for which all answers of an etcd cluster have been the same. `turns`: the etcd clusters
    in which a member had the turn to restart when ours was asked last.
    """

    since: Mapping[str, Mapping[str, tuple[MemberList, float]]] = {}
    stable_for: Mapping[str, float] = {}
    turns: frozenset[str] = frozenset()

    def seen(self, uptime: float, answers: Mapping[str, PeerAnswers | Unknown]) -> AnswerTracking:
        """Take in a snapshot. Silence is no change: the last answer of a silent member is kept."""
        since = dict(self.since)
        stable = {}
        for cluster, heard in answers.items():
            lists = heard.lists if isinstance(heard, PeerAnswers) else {}
            known = dict(since.get(cluster, {}))
            for me, answer in lists.items():
                if me not in known or known[me][0] != answer:
                    known[me] = answer, uptime
            since[cluster] = known
            stable[cluster] = uptime - max((known[me][1] for me in lists), default=uptime)
        return AnswerTracking(since, stable, self.turns)

    def with_turns(self, served: Mapping[str, ServedEtcd | Unknown]) -> AnswerTracking:
        """Take in what our own members serve. One that doesn't answer changes nothing."""
        told = {etcd: bool(one.turn) for etcd, one in served.items() if isinstance(one, ServedEtcd)}
        turns = (self.turns - told.keys()) | {etcd for etcd, taken in told.items() if taken}
        return AnswerTracking(self.since, self.stable_for, frozenset(turns))
