"""A running etcd cluster gets another version, one member at a time; what runs is what etcd itself says.

Whose turn it is follows from the versions alone, as the members' ports tell them: the first by name that doesn't run
the wanted one. So nobody coordinates, a killed daemon goes on, and no two nodes restart their members side by side.
All members must serve, and be ready for the step: an old patch can leave things behind that the next minor version
refuses (versions.py has them), and it is the whole cluster that has to be rid of them.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from protokube.core.etcd.health import name_of
from protokube.core.etcd.model import NotListening, ServedEtcd
from protokube.core.etcd.rolling import NotYet, Turn, may_stop, unready
from protokube.core.etcd.versions import why_no_step
from protokube.core.model import Rejected, Unknown

RULE = "etcd/upgrade-path"


class Upgrade(Struct, frozen=True):
    """What our member is to run: its etcd name, and the version that the wanted image names (None: it names none)."""

    name: str
    version: str | None


def may_change(
    wanted: Upgrade, served: ServedEtcd | Unknown, versions: Mapping[str, str]
) -> Turn | NotYet | Rejected:
    """Whether our member may restart with another image now. `versions`: what the other members run, by name, where
    they answer."""
    if isinstance(served, NotListening):
        return Turn()  # it is down: a restart takes nothing away, and another image may be the remedy
    if isinstance(served, Unknown):
        return NotYet(f"{wanted.name} doesn't answer with quorum ({served.reason})")
    if others := unready(served):
        return NotYet(f"{', '.join(others)} never started, or is a learner")
    waits = may_stop(served, wanted.name, versions)
    if isinstance(waits, NotYet):
        return waits
    if served.alarms:
        told = ", ".join(sorted({one.kind for one in served.alarms}))
        return Rejected(RULE, f"the etcd cluster has the alarm {told}: see `protokube etcd status`")
    schemes = {url.partition(":")[0] for one in served.members for url in one.peer_urls}
    if len(schemes) > 1:
        return NotYet("the etcd cluster's move to TLS comes first")
    running = {name_of(one): versions.get(name_of(one), served.version) for one in served.members}
    return _in_turn(wanted, running)


def _in_turn(wanted: Upgrade, running: Mapping[str, str]) -> Turn | NotYet | Rejected:
    if wanted.version is None:
        return Turn()
    if barred := barred_by(wanted.version, running):
        return Rejected(RULE, barred)
    if first := next((name for name in order(running) if running[name] != wanted.version), None):
        return Turn() if first == wanted.name else NotYet(f"{first} comes first, and runs {running[first]}")
    return Turn()  # every member runs that version: the image alone differs, say by its registry


def order(running: Mapping[str, str]) -> list[str]:
    """The members in the order in which they are upgraded."""
    return sorted(running)


def barred_by(version: str, running: Mapping[str, str]) -> str:
    """Why the step to a version isn't safe for the cluster as it runs; empty when it is."""
    reasons = {name: why for name in order(running) if (why := why_no_step(running[name], version))}
    return "; ".join(f"{name} runs {running[name]}: {why}" for name, why in reasons.items())
