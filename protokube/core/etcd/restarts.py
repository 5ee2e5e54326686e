"""etcd reads the authorities that it trusts at its start alone: when they change, members restart one by one.

A member's manifest says which authorities its process was started with; changing that restarts it. When it runs with
them, the member tells the others by a key in etcd: what it trusts, and who has issued its certificates.
So a quorum knows who lags, and the next step of a replacement can be refused until nobody does.

A volume's identity file holds what the member has told last. While it differs from what is to be told the telling
goes on, whoever was killed in between; on a converged node nothing is asked.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from msgspec import Struct

from protokube.core.disks.identity import Identity
from protokube.core.etcd.model import EtcdTemplate, LocalMember, MountedMember, ServedEtcd
from protokube.core.etcd.rolling import NotYet, Turn, may_stop, unready
from protokube.core.model import Unknown
from protokube.core.pki.model import BACKDATED, Certificate
from protokube.core.static_pod import manifest_env

TRUSTED = "PROTOKUBE_TRUSTED"
"""The variable in the manifest that names the authorities; etcd itself doesn't know it."""

SETTLED = 5.0
"""Seconds for which certificates stand before a member restarts for them."""
_EARLY = 2.0
"""Seconds by which a process's start may seem too early: etcd's metrics know the boot's whole second only."""

TOLD = "authorities/"
"""Where members tell, in etcd below `protokube/`: a key for each, by its name."""

_SHORT = 12
"""Digits of a fingerprint that tell authorities of one cluster from one another."""


class Trust(Struct, frozen=True):
    """The authorities of a member's certificates, as they stand in its directory: what it is to trust, and to tell.

    `several`: an authority is being replaced, and more than one is trusted. `since`: when the last certificate was
    issued, in seconds since the epoch.
    """

    trusted: str
    issuers: str
    several: bool
    since: float = 0.0

    @property
    def told(self) -> str:
        """What the member tells the others."""
        return f"{self.trusted}/{self.issuers}"


def trust_of(certificates: Collection[Certificate]) -> Trust:
    """The trust of a member with these certificates."""
    trusted = {one.wanted.authority: sorted(id_[:_SHORT] for id_ in one.trusted) for one in certificates}
    issuers = {one.wanted.authority: one.issuer[:_SHORT] for one in certificates}
    return Trust(
        " ".join("+".join(trusted[authority]) for authority in sorted(trusted)),
        " ".join(issuers[authority] for authority in sorted(issuers)),
        any(len(ids) > 1 for ids in trusted.values()),
        max(one.begins for one in certificates) + BACKDATED,
    )


def local_member(template: EtcdTemplate, name: str, *, secure: bool) -> LocalMember:
    """This machine's own member with an etcd name, as it is to be asked; `secure`: it speaks TLS."""
    url = f"{'https' if secure else 'http'}://127.0.0.1:{template.client_port}"
    return LocalMember(template.key, name, url, template.metrics_port if secure else template.client_port)


def present_trust(member: MountedMember) -> str:
    """The authorities that the manifest on the volume names; empty when it names none."""
    return manifest_env(member.manifest).get(TRUSTED, "")


def restart_due(member: MountedMember, trust: Trust) -> bool:
    """Whether a member that runs must restart. A manifest that names none is one from before they were named: what
    its process trusts isn't known, and doesn't matter until an authority is replaced."""
    present = present_trust(member)
    return present != trust.trusted and (bool(present) or trust.several)


def telling_due(member: MountedMember, identity: Identity, trust: Trust) -> bool:
    """Whether a member has to tell something: not before an authority is replaced for the first time."""
    news = trust.several if identity.told is None else identity.told != trust.told
    return news and not restart_due(member, trust)


def has_restarted(member: MountedMember, served: ServedEtcd, now: float) -> bool:
    """Whether the member's process was started by the manifest that stands now, and so has read the authorities that
    it names.

    A start that seems a little too early counts: when the manifest was written the certificates had stood for longer
    (`SETTLED`). A clock that was ahead then proves nothing.
    """
    written = member.contents.mtimes.get(member.template.manifest, 0) / 1e9
    return served.started is not None and (served.started >= written - _EARLY or written > now)


def may_restart(
    name: str, trust: Trust, served: ServedEtcd | Unknown, heard: Collection[str], *, now: float
) -> Turn | NotYet:
    """Whether our member may restart now."""
    if isinstance(served, Unknown):
        return NotYet(f"{name} doesn't answer with quorum ({served.reason})")
    if others := unready(served):
        return NotYet(f"{', '.join(others)} never started, or is a learner")
    lagging = sorted(one.name for one in served.members if trusts(served.told, one.name) != trust.trusted)
    if lagging and lagging[0] != name:
        return NotYet(f"{lagging[0]} restarts first")
    if now < trust.since + SETTLED:
        return NotYet("its certificates were issued a moment ago")
    return may_stop(served, name, heard)


def trusts(told: Mapping[str, str], name: str) -> str:
    """The authorities that a member has told to trust; empty when it has told nothing."""
    return told.get(name, "").partition("/")[0]


def lagging(trust: Trust, served: ServedEtcd) -> list[str]:
    """The members that haven't told what a member with this trust would tell."""
    return sorted(one.name for one in served.members if served.told.get(one.name) != trust.told)
