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
from protokube.core.observed import Observed
from protokube.core.volumes.assess import Desired
from protokube.core.volumes.model import MemberVolume

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
    """The answer isn't known yet, but will be. `theirs`: another node has to act first. `as_is`: until then a link
    that stands may stay."""

    reason: str
    theirs: bool
    as_is: bool = False


class MemberFacts(Struct, frozen=True):
    """What is known of our own member's past."""

    mine: MemberVolume
    identity: Identity
    has_data: bool


def needs_peers(facts: MemberFacts) -> bool:
    """Whether the other members must be asked: only a member that never started depends on their answer."""
    return not (facts.has_data or facts.identity.started) and len(facts.mine.member.members) > 1


def initial_state(
    desired: Desired,
    template: EtcdTemplate,
    facts: MemberFacts,
    peers: PeerAnswers | Unknown,
    *,
    dns_suffix: str,
    vouched: bool,
    can_tag: bool = True,
    steady: bool = True,
) -> Start | Rejected | Wait:
    """Decide how our member starts, or why that can't be decided.

    `peers` is what the other members' peer ports answered (Unknown when none did). `vouched`: the operator says
    with --etcd-bootstrap that these members never ran; a mark or a peer that says otherwise is still believed.
    `can_tag`: other nodes can mark what they have prepared. `steady`: the answers have been the same for a while. A
    peer that was just restarted replays its log, and its list lacks members and their client URLs for moments.
    """
    member = facts.mine.member
    if facts.has_data:
        return Start("existing")
    name = template.member_name(member.me)
    url = f"http://{name}{dns_suffix}:{template.peer_port}"
    if facts.identity.started:
        advice = REPLACE_VOLUME.format(name=name, url=url)
        lost = f"etcd ran on {facts.mine.id}, and its data directory {template.data_dir} is gone; {advice}"
        return Rejected("etcd/data-lost", lost)
    others = [one for one in desired.all if one.member.cluster == member.cluster and one.id != facts.mine.id]
    all_others = [*others, *(one for one in desired.witnesses if one.member.cluster == member.cluster)]
    ran = [other.id for other in all_others if other.marked_bootstrapped]
    ran += desired.illegible.get(member.cluster, ())
    if len(member.members) == 1:
        return _alone(facts.mine, ran, all_others)
    if not isinstance(peers, Unknown):
        names = {me: template.member_name(me) for me in member.members}
        idle = {names[one.member.me] for one in others if one.member.me in names and _never_ran(one)}
        idle -= {names[one.member.me] for one in all_others if one.member.me in names and not _never_ran(one)}
        judged = _by_peers(_Asked(names, name, url, idle, bool(ran)), peers)
        if (ran or not can_tag) and not steady and isinstance(judged, Start):
            return Wait("its peers have answered, and are asked again whether that stays so", False, as_is=True)
        return judged
    if ran:
        reason = f"etcd already ran on {', '.join(ran)}; waiting for one of its peers to answer ({peers.reason})"
        return Wait(reason, theirs=True)
    if vouched:
        return Start("new")
    if unseen := [one for one in member.members if one != member.me and not desired.of_member(member.cluster, one)]:
        evidence = (
            f"no volume of member {', '.join(unseen)} is known here, so nobody can tell whether the cluster already "
            "ran; if these members never ran, say so with --etcd-bootstrap"
        )
        return Rejected("etcd/bootstrap-unknown", evidence)
    twins = [one for one in all_others if one.member.me == member.me and one not in others]
    unproven = _unproven([*others, *twins])
    if unproven and not can_tag:
        evidence = (
            f"whether etcd ever ran on {', '.join(unproven)} can't be known, since the cloud lets nobody mark "
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


def _alone(mine: MemberVolume, ran: Sequence[str], others: Sequence[MemberVolume]) -> Start | Rejected:
    """The only member of its cluster, unless the cluster's data is on another volume."""
    twins = _unproven([other for other in others if other.member.me == mine.member.me])
    if not ran and not twins:
        return Start("new")
    where = f"etcd ran on {', '.join(ran)}" if ran else f"its data may be on {', '.join(twins)}"
    evidence = (
        f"{mine.id} is to be the only member of etcd cluster {mine.member.cluster}, but {where}; attach the volume "
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
        return Wait(reason, theirs=True)
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


def peers_to_ask(
    observed: Observed, desired: Desired, template: EtcdTemplate, mine: MemberVolume
) -> Mapping[str, str]:
    """The other members of our member's etcd cluster that live somewhere, by their peer URLs (with addresses)."""
    if isinstance(observed.peers, Unknown):
        return {}
    holders = {
        other.volume.attachments[0].instance: other.member.me
        for other in desired.all
        if other.member.cluster == mine.member.cluster
        and other.member.me != mine.member.me
        and other.volume.attachments
    }
    return {
        f"http://{f'[{address}]' if ':' in address else address}:{template.peer_port}": me
        for peer in observed.peers
        if peer.instance != desired.instance.id
        and (me := holders.get(peer.instance) or peer.members.get(mine.member.cluster))
        and me != mine.member.me
        for address in peer.internal
    }
