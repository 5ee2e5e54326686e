"""The table of when a member may start as `new`, row by row."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import pytest

from protokube.core.backup.model import KeptBackups
from protokube.core.backup.names import BackupName
from protokube.core.disks.identity import Identity
from protokube.core.etcd.bootstrap import (
    MemberFacts,
    PeerFacts,
    Start,
    Wait,
    initial_state,
    needs_peers,
    peers_to_ask,
    with_backups,
)
from protokube.core.etcd.model import EtcdPeerMember, PeerAnswers
from protokube.core.model import Rejected, Unknown
from protokube.core.volumes.model import (
    BOOTSTRAPPED_TAG,
    FILESYSTEM_TAG,
    Attachment,
    AttachState,
    CloudSnapshot,
    CloudVolume,
    EtcdMember,
    Instance,
    MemberVolume,
    Peer,
    VolumesAssessment,
)
from protokube.core.volumes.uuid import filesystem_uuid
from tests.rounds.process import templates

SUFFIX = ".internal.c"
SILENT = Unknown("connection refused")
MAIN = templates()["main"]
INSTANCE = Instance("n1", "n1", "z1", "c", ("10.0.0.1",))
Answer = tuple[EtcdPeerMember, ...] | Unknown


def volume(
    me: str, members: str = "a,b,c", *, id_: str = "", made: bool = False, ran: bool = False,
    pristine: bool | None = None, holder: str | None = None, cluster: str = "main",
) -> MemberVolume:  # fmt: skip
    member = EtcdMember(cluster, me, tuple(members.split(",")))
    id_ = id_ or f"vol-{me}"
    uuid = filesystem_uuid("c", member, id_)
    tags = ({FILESYSTEM_TAG: uuid} if made else {}) | ({BOOTSTRAPPED_TAG: "true"} if ran else {})
    attachments = (Attachment(holder, None, AttachState.ATTACHED),) if holder else ()
    return MemberVolume(CloudVolume(id_, "z2", 1, tags, attachments=attachments, pristine=pristine), member, uuid)


def known(own: MemberVolume, *, started: bool = False, data: bool = False) -> MemberFacts:
    identity = Identity("c", own.member.cluster, own.member.me, own.id, own.uuid, None, started)
    return MemberFacts(own, MAIN, identity, data, SUFFIX)


def assessed(own: MemberVolume, *others: MemberVolume, **more: Any) -> VolumesAssessment:
    return VolumesAssessment("c", INSTANCE, (own, *others), {"main": own}, {}, {}, **more)


def decide(
    own: MemberVolume, *others: MemberVolume, peers: Answer = SILENT, started: bool = False, data: bool = False,
    assume_new: bool = False, can_tag: bool = True, heard: str = "b", evidence: tuple[MemberVolume, ...] = (),
    unparsable: Mapping[str, tuple[str, ...]] = MappingProxyType({}), stable: bool = True,
) -> Start | Rejected | Wait:  # fmt: skip
    volumes = assessed(own, *others, evidence=evidence, unparsable=unparsable)
    answers = peers if isinstance(peers, Unknown) else PeerAnswers(dict.fromkeys(heard, peers), "no route to host")
    peer_facts = PeerFacts(answers, stable=stable, assume_new=assume_new, can_tag=can_tag)
    return initial_state(volumes, known(own, started=started, data=data), peer_facts)


def listed(name: str, *, started: bool, url: str | None = None) -> EtcdPeerMember:
    me = name.removeprefix("etcd-")
    return EtcdPeerMember(
        name, (url or f"http://etcd-{me}{SUFFIX}:2380",), (f"http://etcd-{me}:4001",) if started else ()
    )


ADDED = EtcdPeerMember("", (f"http://etcd-a{SUFFIX}:2380",), ())
B, C = volume("b", made=True), volume("c", made=True)
RAN_B, RAN_C = volume("b", made=True, ran=True), volume("c", made=True, ran=True)
UNKNOWN_B = volume("b")


def rule(judged: object) -> str:
    assert isinstance(judged, Rejected), judged
    return judged.rule


def test_data_means_existing_in_any_case() -> None:
    assert decide(volume("a"), data=True) == Start("existing")
    assert decide(volume("a"), RAN_B, C, data=True, started=True, peers=(listed("etcd-b", started=True),)) == Start(
        "existing"
    )


@pytest.mark.parametrize("peers", [SILENT, (ADDED,), (listed("etcd-a", started=False),)])
def test_started_without_data_is_lost(peers: Answer) -> None:
    judged = decide(volume("a"), B, C, started=True, peers=peers, assume_new=True)
    assert rule(judged) == "etcd/data-lost"
    assert isinstance(judged, Rejected) and "protokube etcd replace --cluster main --member a" in judged.evidence


def test_the_only_member_starts_new() -> None:
    assert decide(volume("a", "a")) == Start("new")


def test_what_is_refused_and_what_cannot_be_parsed_is_evidence() -> None:
    """Refused volumes are no members; but where etcd ran on one, or may have, the only member doesn't start new."""
    alone = volume("a", "a")
    for duplicate in (volume("a", "a", id_="vol-9", ran=True), volume("a", "a", id_="vol-9")):
        assert rule(decide(alone, evidence=(duplicate,))) == "etcd/member-lost"
    assert decide(alone, evidence=(volume("a", "a", id_="vol-9", ran=True, cluster="events"),)) == Start("new")
    assert rule(decide(alone, unparsable={"main": ("vol-9",)})) == "etcd/member-lost"
    assert decide(alone, unparsable={"events": ("vol-9",)}) == Start("new")
    assert isinstance(decide(volume("a"), B, C, unparsable={"main": ("vol-9",)}), Wait)
    assert isinstance(decide(volume("a"), B, C, evidence=(volume("b", id_="vol-9", ran=True),)), Wait)


def test_the_only_member_does_not_start_beside_its_data() -> None:
    assert rule(decide(volume("a", "a"), volume("a", "a", id_="vol-old", ran=True))) == "etcd/member-lost"
    assert rule(decide(volume("a", "a"), volume("a", "a", id_="vol-kops"))) == "etcd/member-lost"
    assert rule(decide(volume("a", "a"), volume("b", "a,b,c", ran=True))) == "etcd/member-lost"
    assert decide(volume("a", "a"), volume("a", "a", id_="vol-new", pristine=True)) == Start("new")


def test_all_made_by_us_and_none_marked_is_new() -> None:
    assert decide(volume("a"), B, C) == Start("new")


def test_pristine_is_as_good_as_made_by_us() -> None:
    assert decide(volume("a"), volume("b", pristine=True), C) == Start("new")


@pytest.mark.parametrize("pristine", [None, False])
def test_another_volume_of_unknown_past_is_waited_for(pristine: bool | None) -> None:
    judged = decide(volume("a"), volume("b", pristine=pristine), C)
    assert isinstance(judged, Wait) and judged.external and "vol-b" in judged.reason


def test_where_no_node_can_mark_the_operator_is_asked() -> None:
    judged = decide(volume("a"), UNKNOWN_B, C, can_tag=False)
    assert rule(judged) == "etcd/bootstrap-unknown"
    assert isinstance(judged, Rejected) and "--etcd-bootstrap" in judged.evidence and "vol-b" in judged.evidence
    assert decide(volume("a"), UNKNOWN_B, C, can_tag=False, assume_new=True) == Start("new")


def test_a_member_whose_volume_is_not_seen_asks_the_operator() -> None:
    assert rule(decide(volume("a"), B)) == "etcd/bootstrap-unknown"
    assert decide(volume("a"), B, assume_new=True) == Start("new")


def test_marks_of_another_etcd_cluster_mean_nothing() -> None:
    assert decide(volume("a"), B, C, volume("b", id_="vol-eb", cluster="events", ran=True)) == Start("new")


@pytest.mark.parametrize("assume_new", [False, True])
def test_some_other_ran_and_no_peer_answers_is_waited_for(assume_new: bool) -> None:
    judged = decide(volume("a"), RAN_B, C, assume_new=assume_new)
    assert isinstance(judged, Wait) and "vol-b" in judged.reason and "connection refused" in judged.reason


@pytest.mark.parametrize("assume_new", [False, True])
@pytest.mark.parametrize("others", [(RAN_B, C), (B, C), (UNKNOWN_B,)])
def test_listed_as_started_is_lost(others: tuple[MemberVolume, ...], assume_new: bool) -> None:
    peers = (listed("etcd-a", started=True), listed("etcd-b", started=True))
    judged = decide(volume("a"), *others, peers=peers, assume_new=assume_new)
    assert rule(judged) == "etcd/member-lost"
    assert isinstance(judged, Rejected) and "protokube etcd replace --cluster main --member" in judged.evidence


@pytest.mark.parametrize("others", [(RAN_B, C), (B, C)])
def test_not_listed_is_lost(others: tuple[MemberVolume, ...]) -> None:
    assert rule(decide(volume("a"), *others, peers=(listed("etcd-b", started=True),))) == "etcd/member-lost"
    assert rule(decide(volume("a"), *others, peers=(), assume_new=True)) == "etcd/member-lost"


def test_added_joins_with_the_running_clusters_own_list() -> None:
    judged = decide(volume("a"), RAN_B, C, peers=(listed("etcd-b", started=True), ADDED))
    joined = f"etcd-b=http://etcd-b{SUFFIX}:2380,etcd-a=http://etcd-a{SUFFIX}:2380"
    assert judged == Start("existing", joined)


def test_added_beside_another_that_has_not_started() -> None:
    other = EtcdPeerMember("", (f"http://etcd-c{SUFFIX}:2380",), ())
    judged = decide(volume("a"), RAN_B, C, peers=(listed("etcd-b", started=True), other, ADDED))
    assert isinstance(judged, Start) and judged.initial_cluster is not None
    assert f"etcd-c=http://etcd-c{SUFFIX}:2380" in judged.initial_cluster.split(",")


def test_added_under_another_url_is_not_ours() -> None:
    other = EtcdPeerMember("", ("http://10.9.9.9:2380",), ())
    assert rule(decide(volume("a"), RAN_B, C, peers=(listed("etcd-b", started=True), other))) == "etcd/member-lost"


def test_a_cluster_that_is_being_born_is_new_for_every_member() -> None:
    born = tuple(listed(f"etcd-{me}", started=False) for me in "abc")
    assert decide(volume("a"), B, C, peers=born) == Start("new")


def test_a_birth_that_all_who_ran_tell_of_is_a_birth() -> None:
    """`existing` would make etcd look up the names of members that never started."""
    born = tuple(listed(f"etcd-{me}", started=False) for me in "abc")
    assert decide(volume("a"), RAN_B, C, peers=born) == Start("new")
    assert decide(volume("a"), RAN_B, RAN_C, peers=born, heard="bc") == Start("new")
    four = (*born, listed("etcd-d", started=False))
    assert decide(volume("a"), RAN_B, RAN_C, peers=four, heard="bc") != Start("new")


def test_peers_that_may_be_replaying_their_logs_are_not_believed_at_once() -> None:
    """A blank volume in a member's place, at the moment in which the others come back from a power cut."""
    replaying = tuple(listed(f"etcd-{me}", started=False) for me in "abc")
    assert isinstance(decide(volume("a"), RAN_B, RAN_C, peers=replaying, heard="bc", stable=False), Wait)
    added = (listed("etcd-b", started=True), ADDED)
    assert isinstance(decide(volume("a"), RAN_B, C, peers=added, stable=False), Wait)
    assert decide(volume("a"), B, C, peers=replaying, stable=False) == Start("new"), "a birth is not delayed"
    assert isinstance(decide(volume("a"), B, C, peers=replaying, stable=False, can_tag=False), Wait), "no marks"
    lost = (listed("etcd-b", started=True), listed("etcd-a", started=True))
    assert rule(decide(volume("a"), RAN_B, C, peers=lost, stable=False)) == "etcd/member-lost"


@pytest.mark.parametrize("started", [False, True])
@pytest.mark.parametrize("ours", [listed("etcd-a", started=False), ADDED])
def test_one_peer_may_have_missed_our_first_start(ours: EtcdPeerMember, started: bool) -> None:
    """b was down when a and c took writes: with an empty a it would have a majority without them."""
    stale = (ours, listed("etcd-b", started=started), listed("etcd-c", started=started))
    for other in (RAN_C, volume("c")):
        judged = decide(volume("a"), RAN_B, other, peers=stale)
        assert isinstance(judged, Wait) and judged.external
        assert "etcd-c" in judged.reason and "no route to host" in judged.reason
        assert isinstance(decide(volume("a"), RAN_B, other, peers=stale, heard="bc"), Start)
    assert isinstance(decide(volume("a"), RAN_B, peers=stale), Wait)


def test_a_majority_is_enough_to_hear() -> None:
    others = [volume(me, "a,b,c,d,e", ran=True) for me in "bcde"]
    stale = (ADDED, *(listed(f"etcd-{me}", started=True) for me in "bcde"))
    assert isinstance(decide(volume("a", "a,b,c,d,e"), *others, peers=stale, heard="bc"), Wait)
    assert isinstance(decide(volume("a", "a,b,c,d,e"), *others, peers=stale, heard="bcd"), Start)


def test_only_a_member_that_never_started_asks_its_peers() -> None:
    many, one = volume("a"), volume("a", "a")
    assert needs_peers(known(many))
    assert not needs_peers(known(many, data=True))
    assert not needs_peers(known(many, started=True))
    assert not needs_peers(known(one))


def test_the_holders_of_other_members_are_asked() -> None:
    own, other, free = volume("a", holder="n1"), volume("b", holder="n2"), volume("c")
    volumes = assessed(own, other, free)
    peers = (
        Peer("n1", ("10.0.0.1",)),
        Peer("n2", ("10.0.0.2", "fd00::2")),
        Peer("n3", ("10.0.0.3",)),
        Peer("n4", ("10.0.0.4",), members={"main": "c"}),
    )
    assert peers_to_ask(CloudSnapshot(INSTANCE, (), peers), volumes, known(own), maybe_tls=False) == {
        "http://10.0.0.2:2380": "b", "http://10.0.0.4:2380": "c", "http://[fd00::2]:2380": "b",
    }  # fmt: skip
    assert peers_to_ask(CloudSnapshot(INSTANCE, (), Unknown("throttled")), volumes, known(own), maybe_tls=False) == {}


def test_backups_of_the_very_cluster_bar_a_new_one_and_a_silent_store_is_waited_for() -> None:
    member = EtcdMember("main", "a", ("a", "b", "c"))
    assert with_backups(member, KeptBackups()) is None
    for unknown in (None, Unknown("no answer")):
        judged = with_backups(member, unknown)
        assert isinstance(judged, Wait) and judged.as_is
    refused = with_backups(member, KeptBackups(3, BackupName(1_700_000_000, 7)))
    assert isinstance(refused, Rejected) and refused.rule == "etcd/cluster-lost"
    assert "3 backups" in refused.evidence and "etcd restore --cluster main" in refused.evidence
