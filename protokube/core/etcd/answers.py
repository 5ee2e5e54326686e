"""For how long an etcd cluster's members have given the same answers.

A peer that was just restarted replays its log, and its list lacks members for moments; only time tells. All of it may
be lost at any moment; that costs delay, never an effect.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from protokube.core.etcd.model import EtcdPeerMember, PeerAnswers
from protokube.core.model import Unknown

MemberList = tuple[EtcdPeerMember, ...]


class AnswerTracking(Struct, frozen=True):
    """etcd cluster → member → its answer, and the uptime in seconds since which it has been that.

    `stable_for` says for how many seconds all members of an etcd cluster that answer have given these answers.
    """

    since: Mapping[str, Mapping[str, tuple[MemberList, float]]] = {}
    stable_for: Mapping[str, float] = {}

    def seen(self, uptime: float, answers: Mapping[str, PeerAnswers | Unknown]) -> AnswerTracking:
        """Take in a snapshot. Silence is no change: what a member said before it fell silent is kept."""
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
        return AnswerTracking(since, stable)
