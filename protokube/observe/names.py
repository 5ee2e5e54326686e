"""Peers of our etcd members and records: both are read by the names that a judgement wants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from msgspec.structs import replace

from protokube.core.action import Facet
from protokube.core.assess import Wanted
from protokube.core.dns.model import RecordSet
from protokube.core.etcd.model import EtcdPeerMember, PeerAnswers
from protokube.core.etcd.running import PeerAbout
from protokube.core.model import Unknown
from protokube.core.observed import Observed
from protokube.observe.asking import Asker, Reads
from protokube.observe.view import View


def read_names(asker: Asker, view: View, facets: frozenset[Facet]) -> Observed | None:
    """Members that must be asked, and records; again when there are new ones to ask for."""
    observed, wanted = view.observed, view.judged.wanted
    asked = bool(wanted.questions.keys() - observed.answers.keys()) or (
        bool(wanted.questions) and Facet.MEMBERS in facets
    )
    records: Mapping[str, RecordSet] | Unknown = {} if Facet.RECORDS in facets else observed.records
    unread = _unread(asker, wanted, records)
    if not asked and not unread and records == observed.records:
        return None
    reads = _questions(asker, wanted) if asked else {}
    dns = asker.readers.dns
    if dns is not None and unread:
        reads["records"] = lambda: dns.record_sets(unread)
    found = asker.read(reads)
    read: Mapping[str, RecordSet] | Unknown = found.pop("records", {})  # type: ignore[assignment]
    if not isinstance(records, Unknown):
        records = read if isinstance(read, Unknown) else {**records, **read}
    observed = replace(observed, records=records)
    return replace(observed, answers=_answers(wanted, found)) if asked else observed


def _unread(asker: Asker, wanted: Wanted, records: Mapping[str, RecordSet] | Unknown) -> frozenset[str]:
    """Names without records. Unknown records are not read in every pass: a silent server would delay all else."""
    if asker.readers.dns is None or isinstance(records, Unknown):
        return frozenset()
    return wanted.names - records.keys()


def _questions(asker: Asker, wanted: Wanted) -> Reads:
    """Each peer is asked for its member list, and for its version where our own member may restart."""
    restarting = {one.cluster for one in wanted.served}
    reads: Reads = {}
    for cluster, urls in wanted.questions.items():
        for url in urls:
            reads[_question(cluster, url)] = partial(_members, asker, url, cluster)
            if cluster in restarting:
                reads[_version_of(cluster, url)] = partial(asker.readers.etcd.about, url, cluster)
    return reads


def _members(asker: Asker, url: str, cluster: str) -> tuple[EtcdPeerMember, ...]:
    return tuple(asker.readers.etcd.members(url, cluster))


def _question(cluster: str, url: str) -> str:
    return f"members of {cluster} from {url}"


def _version_of(cluster: str, url: str) -> str:
    return f"version of {cluster} at {url}"


def _answers(wanted: Wanted, found: Mapping[str, object]) -> dict[str, PeerAnswers | Unknown]:
    return {
        cluster: _heard(
            [(me, found[_question(cluster, url)]) for url, me in urls.items()],
            [(me, found.get(_version_of(cluster, url))) for url, me in urls.items()],
        )
        for cluster, urls in wanted.questions.items()
    }


def _heard(found: Sequence[tuple[str, object]], about: Sequence[tuple[str, object]]) -> PeerAnswers | Unknown:
    """Each member's answer, from any of its addresses."""
    lists = {me: answer for me, answer in found if isinstance(answer, tuple)}
    silence = "; ".join(answer.reason for me, answer in found if isinstance(answer, Unknown) and me not in lists)
    if lists:
        return PeerAnswers(lists, silence, {me: told.version for me, told in about if isinstance(told, PeerAbout)})
    return Unknown(silence or "no address of another member is known")
