"""One member at a time: what holds for every change that restarts the members of an etcd cluster that serves.

Whose turn it is follows from what a quorum says, so that nobody coordinates: each node looks, and acts for its own
member alone. Members go in the order of their names.
"""

from __future__ import annotations

from collections.abc import Collection

from msgspec import Struct

from protokube.core.etcd.model import ServedEtcd
from protokube.core.etcd.running import ClusterMember


class Turn(Struct, frozen=True):
    """Our member's turn has come."""


class NotYet(Struct, frozen=True):
    """Something else comes first, and comes by itself or by another node."""

    reason: str


def own_entry(served: ServedEtcd, name: str) -> ClusterMember | None:
    """Our member's entry in the list; None when it isn't listed."""
    return next((one for one in served.members if one.name == name), None)


def unready(served: ServedEtcd) -> list[str]:
    """The members that can't be counted on: learners, and those that never started."""
    return [one.name or one.peer_urls[0] for one in served.members if one.learner or not one.started]


def may_stop(served: ServedEtcd, name: str, heard: Collection[str]) -> Turn | NotYet:
    """Whether our member may stop for a moment: not while any other member is silent.

    A quorum of the others would do for this moment. But a member that is down may be another one's restart.
    """
    if silent := [one.name for one in served.members if one.name != name and one.name not in heard]:
        return NotYet(f"{', '.join(silent)} must answer first")
    return Turn()
