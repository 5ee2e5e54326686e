"""When a member may start as `new`: the table that stands between a rejoin and a second, empty cluster.

`ETCD_INITIAL_CLUSTER_STATE` matters only while the data directory is empty, and then it decides everything. A
wrong `new` gives a healthy, empty cluster beside the real one, or a quorum without acknowledged writes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct

from protokube.core.disks.identity import Identity
from protokube.core.etcd.model import EtcdPeerMember, EtcdTemplate, InitialState, PeerAnswers
from protokube.core.model import Rejected, Unknown
from protokube.core.volumes.model import CloudSnapshot, MemberVolume, VolumesAssessment

_REPLACE = (
    "if its data is lost for good, replace the member: on a living one run `etcdctl member remove` for the old entry "
    "(if it is listed), then `etcdctl member add {name} --peer-urls={url}`"
)
REPLACE_MEMBER = _REPLACE + "; this node goes on by itself"
REPLACE_VOLUME = _REPLACE + ", and give the member a blank volume, with an id of its own, in this one's place"


class Start(Struct, frozen=True):
    """The member may start. `initial_cluster` is the running cluster's own list, where it has to be joined."""

    state: InitialState
    initial_cluster: str | None = None


class Wait(Struct, frozen=True):
    """The answer isn't known yet, but will be.

    `external`: another node has to act first. `as_is`: until then a link that stands may stay.
    """

    reason: str
    external: bool
    as_is: bool = False


class MemberFacts(Struct, frozen=True):
    """What is known of our own member: its volume, the past that its identity file tells, and how it is named."""

    volume: MemberVolume
    template: EtcdTemplate
    identity: Identity
    has_data: bool
    dns_suffix: str

    @property
    def name(self) -> str:
        """The member's etcd name."""
        return self.template.member_name(self.volume.member.me)

    @property
    def url(self) -> str:
        """The member's peer URL."""
        return f"http://{self.name}{self.dns_suffix}:{self.template.peer_port}"


class Hearing(Struct, frozen=True):
    """What is known of the other members.

    `answers` is what their peer ports answered (Unknown when none did); `stable`: the answers have been the same for
    a while. A peer that was just restarted replays its log, and its list lacks members and their client URLs for
    moments. `assume_new`: the operator says with --etcd-bootstrap that these members never ran; a mark or a peer that
    says otherwise is still believed. `can_tag`: other nodes can mark what they have prepared.
    """

    answers: PeerAnswers | Unknown
    stable: bool = True
    assume_new: bool = False
    can_tag: bool = True


def needs_peers(facts: MemberFacts) -> bool:
    """Whether the other members must be asked: only a member that never started depends on their answer."""
    return not (facts.has_data or facts.identity.started) and len(facts.volume.member.members) > 1


def initial_state(volumes: VolumesAssessment, facts: MemberFacts, hearing: Hearing) -> Start | Rejected | Wait:
    """Decide how our member starts, or why that can't be decided."""
    start = _by_past_and_peers(volumes, facts, hearing)
    if isinstance(start, Start) and start.state == "new" and (differing := _other_lists(volumes, facts.volume)):
        evidence = (
            f"the tags of etcd cluster {facts.volume.member.cluster} disagree on its members, so that several clusters "
            f"would form ({differing}; {facts.volume.id} has {_spell(facts.volume)}): give all of them one list"
        )
        return Rejected("etcd/member-lists", evidence)
    return start


def _other_lists(volumes: VolumesAssessment, own: MemberVolume) -> str:
    """The volumes of our etcd cluster whose tags list other members than ours."""
    known = (*volumes.all, *volumes.evidence)
    others = [one for one in known if one.member.cluster == own.member.cluster and one.id != own.id]
    return ", ".join(
        f"{one.id} has {_spell(one)}" for one in others if set(one.member.members) != set(own.member.members)
    )


def _spell(one: MemberVolume) -> str:
    return f"{one.member.me}/{','.join(one.member.members)}"


def _by_past_and_peers(volumes: VolumesAssessment, facts: MemberFacts, hearing: Hearing) -> Start | Rejected | Wait:
    member, peers = facts.volume.member, hearing.answers
    if facts.has_data:
        return Start("existing")
    if facts.identity.started:
        advice = REPLACE_VOLUME.format(name=facts.name, url=facts.url)
        gone = f"its data directory {facts.template.data_dir} is gone"
        return Rejected("etcd/data-lost", f"etcd ran on {facts.volume.id}, and {gone}; {advice}")
    others = [one for one in volumes.all if one.member.cluster == member.cluster and one.id != facts.volume.id]
    all_others = [*others, *(one for one in volumes.evidence if one.member.cluster == member.cluster)]
    ran = [other.id for other in all_others if other.marked_bootstrapped]
    ran += volumes.unparsable.get(member.cluster, ())
    if len(member.members) == 1:
        return _alone(facts.volume, ran, all_others)
    if not isinstance(peers, Unknown):
        judged = _by_peers(_asked(facts, others, all_others, ran=bool(ran)), peers)
        if (ran or not hearing.can_tag) and not hearing.stable and isinstance(judged, Start):
            return Wait("its peers have answered, and are asked again whether that stays so", False, as_is=True)
        return judged
    if ran:
        reason = f"etcd already ran on {', '.join(ran)}; waiting for one of its peers to answer ({peers.reason})"
        return Wait(reason, external=True)
    if hearing.assume_new:
        return Start("new")
    return _unheard(volumes, facts, others, all_others, can_tag=hearing.can_tag)


def _asked(
    facts: MemberFacts, others: Sequence[MemberVolume], all_others: Sequence[MemberVolume], *, ran: bool
) -> _Asked:
    member = facts.volume.member
    names = {me: facts.template.member_name(me) for me in member.members}
    idle = {names[one.member.me] for one in others if one.member.me in names and _never_ran(one)}
    idle -= {names[one.member.me] for one in all_others if one.member.me in names and not _never_ran(one)}
    return _Asked(names, facts.name, facts.url, idle, ran)


def _unheard(
    volumes: VolumesAssessment,
    facts: MemberFacts,
    others: Sequence[MemberVolume],
    all_others: Sequence[MemberVolume],
    *,
    can_tag: bool,
) -> Start | Rejected | Wait:
    """No peer answers and no mark says that etcd ran: `new`, if every other volume is proven not to have run."""
    member = facts.volume.member
    if unseen := [one for one in member.members if one != member.me and not volumes.of_member(member.cluster, one)]:
        evidence = (
            f"no volume of member {', '.join(unseen)} is known here, so nothing tells whether the cluster already "
            "ran; if these members never ran, say so with --etcd-bootstrap"
        )
        return Rejected("etcd/bootstrap-unknown", evidence)
    duplicates = [one for one in all_others if one.member.me == member.me and one not in others]
    unproven = _unproven([*others, *duplicates])
    if unproven and not can_tag:
        evidence = (
            f"whether etcd ever ran on {', '.join(unproven)} can't be known, since the cloud lets no node mark "
            "volumes here; if these members never ran, say so with --etcd-bootstrap"
        )
        return Rejected("etcd/bootstrap-unknown", evidence)
    if unproven:
        return Wait(f"{', '.join(unproven)} must be prepared first (not made by protokube, nor proven blank)", True)
    return Start("new")


def _unproven(volumes: Sequence[MemberVolume]) -> list[str]:
    return [one.id for one in volumes if not (one.made_by_us or one.volume.pristine)]


def _never_ran(volume: MemberVolume) -> bool:
    return not volume.marked_bootstrapped and bool(volume.made_by_us or volume.volume.pristine)


def _alone(own: MemberVolume, ran: Sequence[str], others: Sequence[MemberVolume]) -> Start | Rejected:
    """The only member of its cluster, unless the cluster's data is on another volume."""
    duplicates = _unproven([other for other in others if other.member.me == own.member.me])
    if not ran and not duplicates:
        return Start("new")
    where = f"etcd ran on {', '.join(ran)}" if ran else f"its data may be on {', '.join(duplicates)}"
    evidence = (
        f"{own.id} is to be the only member of etcd cluster {own.member.cluster}, but {where}; attach the volume "
        "with the data instead, or, if that data is given up, remove the etcd tags of the others"
    )
    return Rejected("etcd/member-lost", evidence)


class _Asked(Struct, frozen=True):
    """What the answers are judged by: all members' etcd names (by member), our own name and peer URL, the names of
    members that are known never to have run (`idle`), and whether any other member is marked as having run."""

    names: Mapping[str, str]
    name: str
    url: str
    idle: set[str]
    ran: bool


def _by_peers(asked: _Asked, peers: PeerAnswers) -> Start | Rejected | Wait:
    """Peers answered: their member lists decide.

    While a cluster is being born every peer lists all members, and none with client URLs: that is the very first
    start, in which every member is `new`. A member that was added to a running cluster is listed by its peer URL,
    without client URLs and, until it started, without a name.

    A peer tells what it knew when it last had a quorum: one that was down while our member first ran still lists it
    as not started. With an empty log we would give that peer the majority which acknowledged writes were made
    without. So everybody who may know better has to be heard, or a majority, of which one knows for certain.
    """
    lists = list(peers.lists.values())
    advice = REPLACE_MEMBER.format(name=asked.name, url=asked.url)
    found = [(listed, ours) for listed in lists if (ours := _ours(asked, listed))]
    if not found:
        listed = ", ".join(sorted({peer.name or "(not started)" for one in lists for peer in one}))
        evidence = f"a running cluster does not list {asked.name} (it lists {listed}); {advice}"
        return Rejected("etcd/member-lost", evidence)
    if any(ours.client_urls for _, ours in found):
        evidence = f"a running cluster lists {asked.name} as started, and this volume has no data; {advice}"
        return Rejected("etcd/member-lost", evidence)
    newest, ours = max(found, key=lambda one: sum(bool(peer.client_urls) for peer in one[0]))
    names = {_name_of(peer, ours, asked.name) for peer in newest}
    heard = {asked.names[me] for me in peers.lists if me in asked.names}
    unheard = names - {asked.name} - heard - asked.idle
    if unheard and len(heard) <= len(newest) // 2:
        reason = (
            f"{', '.join(sorted(heard))} may have missed when {asked.name} first ran; waiting for "
            f"{', '.join(sorted(unheard))} to answer ({peers.silence})"
        )
        return Wait(reason, external=True)
    born = not any(peer.client_urls for listed in lists for peer in listed)
    if born and (not asked.ran or names == set(asked.names.values())):
        return Start("new")
    return Start("existing", ",".join(f"{_name_of(peer, ours, asked.name)}={peer.peer_urls[0]}" for peer in newest))


def _ours(asked: _Asked, listed: Sequence[EtcdPeerMember]) -> EtcdPeerMember | None:
    return next(
        (peer for peer in listed if peer.name == asked.name or (not peer.name and asked.url in peer.peer_urls)), None
    )


def _name_of(peer: EtcdPeerMember, ours: EtcdPeerMember, name: str) -> str:
    """A listed member's name; one that never started has none, so its host's first label stands for it."""
    if peer is ours:
        return name
    return peer.name or peer.peer_urls[0].partition("//")[2].partition(".")[0]


def peers_to_ask(cloud: CloudSnapshot, volumes: VolumesAssessment, facts: MemberFacts) -> Mapping[str, str]:
    """The other members of our member's etcd cluster that live on an instance, by their peer URLs (with
    addresses)."""
    if isinstance(cloud.peers, Unknown):
        return {}
    member = facts.volume.member
    holders = {
        other.volume.attachments[0].instance: other.member.me
        for other in volumes.all
        if other.member.cluster == member.cluster and other.member.me != member.me and other.volume.attachments
    }
    return {
        f"http://{f'[{address}]' if ':' in address else address}:{facts.template.peer_port}": me
        for peer in cloud.peers
        if peer.instance != volumes.instance.id
        and (me := holders.get(peer.instance) or peer.members.get(member.cluster))
        and me != member.me
        for address in peer.internal
    }
