"""Judges a node's certificates: which must be issued, and what stands in the way.

The store is asked for only when a certificate is to be issued: a converged node makes no call to it. The authorities
of a cluster are made once. Where the store says that there are none, and a volume says that etcd ran, they were lost:
new ones would lock every other member out, so none are made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from protokube.core.model import Unknown
from protokube.core.pki.expiry import EARLY, LATE, days, why_clock_is_wrong, why_from_the_future, why_renew
from protokube.core.pki.model import (
    ETCD_CLIENTS,
    FRONT_PROXY,
    KUBERNETES,
    Authorities,
    Authority,
    Certificate,
    CertificateWanted,
    Damaged,
    Material,
    NoAuthorities,
    PkiAssessment,
    PkiFacts,
    PkiSettings,
    Unreadable,
    Wish,
)
from protokube.core.steps import Findings


class PkiNeeds(Struct, frozen=True):
    """The needs of a node, and what other concerns know.

    `authorities` are the names of all authorities that the cluster's PKI begins with, beside those that every cluster
    has. `etcd_ran` is the evidence that an etcd of this cluster ever ran; empty when there is none.
    """

    cluster: str
    wanted: tuple[CertificateWanted, ...] = ()
    authorities: tuple[str, ...] = ()
    etcd_ran: str = ""


def assess(settings: PkiSettings, facts: PkiFacts, now: float, needs: PkiNeeds) -> PkiAssessment:
    """Judge the certificates that a node needs."""
    findings = Findings()
    cluster, wanted = needs.cluster, needs.wanted
    if not wanted:
        return PkiAssessment(cluster)
    if facts.certificates is None:
        return PkiAssessment(cluster, wanted)
    if isinstance(facts.certificates, Unknown):
        findings.not_known("certificates", facts.certificates.reason)
        return PkiAssessment(cluster, wanted, findings=findings)
    known = facts.authorities.known if isinstance(facts.authorities, Authorities) else {}
    wishes = tuple(
        Wish(one, reason)
        for one in wanted
        if (reason := _why_issue(one, facts.certificates.get(one.name), known, now, findings))
    )
    found = {one.name: facts.certificates.get(one.name) for one in wanted}
    usable = {
        one.name: there for one in wanted if isinstance(there := found[one.name], Certificate) and there.wanted == one
    }
    _report_ends(wanted, facts.certificates, now, findings)
    judged = PkiAssessment(cluster, wanted, usable=usable, asks=bool(wishes), findings=findings)
    return _issue(judged, settings, facts, now, needs, wishes) if wishes else judged


def _issue(
    judged: PkiAssessment,
    settings: PkiSettings,
    facts: PkiFacts,
    now: float,
    needs: PkiNeeds,
    wishes: Sequence[Wish],
) -> PkiAssessment:
    """The judgement with what is to be made or issued now, or why nothing is."""
    findings, authorities = judged.findings, facts.authorities
    if authorities is None:
        return judged
    if isinstance(facts.clock_in_sync, Unknown) and not settings.trust_clock:
        findings.not_known("clock", facts.clock_in_sync.reason)
        return judged
    if wrong := why_clock_is_wrong(now, in_sync=settings.trust_clock or facts.clock_in_sync is True):
        findings.refuse("clock", "pki/time", f"no certificate is issued: {wrong}")
        findings.wait("clock", "it may be synchronised any moment", external=True)
        return judged
    if isinstance(authorities, Unknown):
        _report_store(authorities, findings)
        return judged
    if isinstance(authorities, NoAuthorities):
        return _first(judged, needs)
    missing = tuple(dict.fromkeys(one.wanted.authority for one in wishes if _lacks(authorities, one.wanted)))
    return replace(judged, missing=missing, issue=tuple(one for one in wishes if not _lacks(authorities, one.wanted)))


def _first(judged: PkiAssessment, needs: PkiNeeds) -> PkiAssessment:
    if needs.etcd_ran:
        evidence = (
            f"the store has no authorities of {needs.cluster}, and etcd ran ({needs.etcd_ran}): new ones are never "
            f"made then. Name the right --store, or put {object_name(needs.cluster)} back from a copy. If this "
            "cluster never had any, make the first ones with `protokube pki create`"
        )
        judged.findings.refuse("authorities", "pki/authority-missing", evidence)
        return judged
    names = dict.fromkeys((KUBERNETES, FRONT_PROXY, ETCD_CLIENTS, *needs.authorities))
    return replace(judged, missing=tuple(names), first=True)


def object_name(cluster: str) -> str:
    """The store's object with a cluster's authorities."""
    return f"{cluster}/pki/v1.json"


def _lacks(authorities: Authorities, wanted: CertificateWanted) -> bool:
    return wanted.authority not in authorities.known


def _report_store(authorities: Unknown, findings: Findings) -> None:
    rule = authorities.rule if isinstance(authorities, Unreadable) else "store/unreadable"
    findings.refuse("store", rule, authorities.reason)
    if rule != "store/key":
        findings.wait("store", "it is asked again")


def _why_issue(
    wanted: CertificateWanted,
    found: Certificate | Damaged | Unknown | None,
    known: Mapping[str, Authority],
    now: float,
    findings: Findings,
) -> str | None:
    if found is None:
        return "there is none"
    if isinstance(found, Unknown):
        findings.not_known(f"certificate {wanted.name}", found.reason)
        return None
    if isinstance(found, Damaged):
        return found.reason
    if found.wanted != wanted:
        return "its names, its usages or its authority have changed"
    authority = known.get(wanted.authority)
    if authority is not None and found.issuer != authority.id:
        return f"its authority {wanted.authority} is being replaced"
    if authority is not None and found.trusted != authority.trusted:
        return f"the authorities to trust have changed ({authority.stage.value})"
    if wanted.material is Material.LEAF and (early := why_from_the_future(found.begins, now)):
        if authority is None or authority.begins <= now:
            return early
        evidence = (
            f"{why_from_the_future(authority.begins, now)}, or this node's clock is wrong now; nobody accepts it"
        )
        findings.refuse(f"authority {wanted.authority}", "pki/time", evidence)
        return None
    return why_renew(found, now)


def _report_ends(
    wanted: Sequence[CertificateWanted],
    certificates: Mapping[str, Certificate | Damaged | Unknown],
    now: float,
    findings: Findings,
) -> None:
    """Report ends that are near: of certificates whose renewal has failed for long, and of authorities."""
    ends: dict[str, float] = {}
    for one in wanted:
        found = certificates.get(one.name)
        if isinstance(found, Certificate):
            ends[f"certificate {one.name}"] = found.ends
            ends[f"authority {one.authority}"] = found.issuer_ends
    for subject, end in ends.items():
        if end - now > EARLY:
            continue
        when = f"ends in {days(end, now)}" if end > now else f"ended {days(now, end)} ago"
        remedy = (
            f"replace it: protokube pki rotate --authority {subject.removeprefix('authority ')}"
            if subject.startswith("authority ")
            else "see why it isn't renewed: protokube pki status"
        )
        findings.refuse(subject, "pki/expires", f"it {when}; {remedy}", serious=end - now <= LATE)
    if ends:
        first = min(ends, key=lambda subject: ends[subject])
        findings.hints.append(
            f"pki: of {len(wanted)} certificates and their authorities, {first} ends first, "
            f"in {days(ends[first], now)}"
        )
