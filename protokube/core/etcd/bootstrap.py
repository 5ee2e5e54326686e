"""When a member may start as `new`, joins as `existing`, waits, or is refused.

etcd reads `ETCD_INITIAL_CLUSTER_STATE` only while the data directory is empty. A wrong `new` makes a second, empty
cluster beside the real one, or a quorum without acknowledged writes. Invariant: `new` needs proof that no member of
the etcd cluster ever ran, or the answers of members that are at their very first start.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct

from protokube.core.backup.model import KeptBackups
from protokube.core.disks.identity import Identity
from protokube.core.etcd.model import EtcdPeerMember, EtcdTemplate, InitialState, PeerAnswers
from protokube.core.model import Rejected, Unknown
from protokube.core.volumes.model import CloudSnapshot, EtcdMember, MemberVolume, VolumesAssessment

_REPLACE = (
    "if its data is lost for good, replace the member: on a living one's node run "
    "`protokube etcd replace --cluster {cluster} --member {me}`"
)
_RESTORE = "; where a majority of the members is lost, restore a backup: `protokube etcd restore --cluster {cluster}`"
REPLACE_MEMBER = _REPLACE + "; this node goes on by itself" + _RESTORE
REPLACE_VOLUME = (
    _REPLACE + ", and give the member a blank volume, with an id of its own, in this one's place" + _RESTORE
)


class Start(Struct, frozen=True):
    """The member may start. `initial_cluster` is the running cluster's own list, where the member joins one."""

    state: InitialState
    initial_cluster: str | None = None


class Wait(Struct, frozen=True):
    """The decision needs facts that will come by themselves.

    `external`: another node has to act first. `as_is`: an existing link may stay until then.
    """

    reason: str
    external: bool
    as_is: bool = False


class MemberFacts(Struct, frozen=True):
    """The facts of our own member: its volume, its identity file, its data, its names, and whether it uses TLS."""

    volume: MemberVolume
    template: EtcdTemplate
    identity: Identity
    has_data: bool
    dns_suffix: str
    tls: bool = False

    @property
    def name(self) -> str:
        """The member's etcd name."""
        return self.template.member_name(self.volume.member.me)

    @property
    def url(self) -> str:
        """The member's peer URL."""
        return f"{'https' if self.tls else 'http'}://{self.name}{self.dns_suffix}:{self.template.peer_port}"


class PeerFacts(Struct, frozen=True):
    """The facts of the other members.

    `answers` are the answers of their peer ports, Unknown when none came. `stable`: they have been the same for a
    while. `assume_new`: the operator says with --etcd-bootstrap that these members never ran; a tag or a peer that
    contradicts is still believed. `can_tag`: other nodes can tag the volumes that they have prepared.
    """

    answers: PeerAnswers | Unknown
    stable: bool = True
    assume_new: bool = False
    can_tag: bool = True


def needs_peers(facts: MemberFacts) -> bool:
    """Whether to ask the other members: only a member that never started depends on their answers."""
    return not (facts.has_data or facts.identity.started) and len(facts.volume.member.members) > 1


def initial_state(volumes: VolumesAssessment, facts: MemberFacts, peer_facts: PeerFacts) -> Start | Rejected | Wait:
    """Decide how our member starts, or why it can't.

    The strongest evidence comes first: our own data, our identity file, the answers of peers, the tags of the other
    volumes, the operator's word. The last is proof that no other volume ever had data.
    """
    start = _by_past_and_peers(volumes, facts, peer_facts)
    # Members that start as `new` with different lists form different clusters.
    if isinstance(start, Start) and start.state == "new" and (differing := _other_lists(volumes, facts.volume)):
        evidence = (
            f"the tags of etcd cluster {facts.volume.member.cluster} disagree on its members, so that several "
            f"clusters would form ({differing}; {facts.volume.id} has {_spell(facts.volume)}): "
            "give all of them one list"
        )
        return Rejected("etcd/member-lists", evidence)
    return start


def with_backups(member: EtcdMember, kept: KeptBackups | Unknown | None) -> Rejected | Wait | None:
    """Why an etcd cluster isn't born although nothing else tells that it ran: the store has backups of it. None when
    it may be. `kept`: what the store has of it; None where it wasn't asked yet.

    Not even --etcd-bootstrap overrules them: it stays in configurations, and backups are there for the day on which
    every volume is lost.
    """
    cluster = member.cluster
    if kept is None:
        return Wait("the store is asked whether it has backups of it", external=False, as_is=True)
    if isinstance(kept, Unknown):
        reason = f"whether the store has backups of it isn't known, and it would start empty ({kept.reason})"
        return Wait(reason, external=False, as_is=True)
    if kept.newest is None:
        return None
    return Rejected(
        "etcd/cluster-lost",
        f"etcd cluster {cluster} would start empty, and the store has {kept.count} backups of it, the newest "
        f"{kept.newest}. Restore one, on each member's node: protokube etcd restore --cluster {cluster}. If those "
        f"are of an older cluster that is given up, say so once: protokube etcd new --cluster {cluster}",
    )


def _other_lists(volumes: VolumesAssessment, own: MemberVolume) -> str:
    """The volumes of our etcd cluster whose tags list other members than ours."""
    known = (*volumes.all, *volumes.evidence)
    others = [one for one in known if one.member.cluster == own.member.cluster and one.id != own.id]
    return ", ".join(
        f"{one.id} has {_spell(one)}" for one in others if set(one.member.members) != set(own.member.members)
    )


def _spell(one: MemberVolume) -> str:
    return f"{one.member.me}/{','.join(one.member.members)}"


def _by_past_and_peers(
    volumes: VolumesAssessment, facts: MemberFacts, peer_facts: PeerFacts
) -> Start | Rejected | Wait:
    member, peers = facts.volume.member, peer_facts.answers
    if facts.has_data:
        # etcd ignores the state when it has data; `existing` is the safe one should the data vanish.
        return Start("existing")
    if facts.identity.started:
        # It may have acknowledged writes that it lost: an empty member in its place would vote without them.
        advice = REPLACE_VOLUME.format(cluster=member.cluster, me=member.me)
        gone = f"its data directory {facts.template.data_dir} is gone"
        return Rejected("etcd/data-lost", f"etcd ran on {facts.volume.id}, and {gone}; {advice}")
    others = [one for one in volumes.all if one.member.cluster == member.cluster and one.id != facts.volume.id]
    # A refused volume can't serve a member, but it can prove that the cluster ran.
    all_others = [*others, *(one for one in volumes.evidence if one.member.cluster == member.cluster)]
    ran = [other.id for other in all_others if other.marked_bootstrapped]
    # Tags that can't be parsed don't undo that etcd ran on a volume.
    ran += volumes.unparsable.get(member.cluster, ())
    if len(member.members) == 1:  # there is no peer to ask
        return _alone(facts.volume, ran, all_others)
    if not isinstance(peers, Unknown):
        judged = _by_peers(_cluster(facts, others, all_others, ran=bool(ran)), peers)
        # A restarted etcd replays its log. Its list lacks members and client URLs for moments, and a cluster that
        # ran looks as if it were at its first start. Without a tag that it ran, where tags can be written, it is.
        if (ran or not peer_facts.can_tag) and not peer_facts.stable and isinstance(judged, Start):
            return Wait("its peers have answered, and are asked again whether that stays so", False, as_is=True)
        return judged
    if ran:
        # The other members have the data: only they can tell whether this one may join.
        reason = f"etcd already ran on {', '.join(ran)}; waiting for one of its peers to answer ({peers.reason})"
        return Wait(reason, external=True)
    # After tags and peers: an option that was right once stays in the configuration.
    if peer_facts.assume_new:
        return Start("new")
    return _without_answers(volumes, facts, others, all_others, can_tag=peer_facts.can_tag)


def _cluster(
    facts: MemberFacts, others: Sequence[MemberVolume], all_others: Sequence[MemberVolume], *, ran: bool
) -> _Cluster:
    member = facts.volume.member
    names = {me: facts.template.member_name(me) for me in member.members}
    idle = {names[one.member.me] for one in others if one.member.me in names and _never_ran(one)}
    idle -= {names[one.member.me] for one in all_others if one.member.me in names and not _never_ran(one)}
    advice = REPLACE_MEMBER.format(cluster=member.cluster, me=member.me)
    return _Cluster(names, facts.name, facts.url, idle, ran, advice)


def _without_answers(
    volumes: VolumesAssessment,
    facts: MemberFacts,
    others: Sequence[MemberVolume],
    all_others: Sequence[MemberVolume],
    *,
    can_tag: bool,
) -> Start | Rejected | Wait:
    """Decide without answers and without a tag that says that etcd ran: `new` needs proof for every other volume."""
    member = facts.volume.member
    if unseen := [one for one in member.members if one != member.me and not volumes.of_member(member.cluster, one)]:
        evidence = (
            f"no volume of member {', '.join(unseen)} is known here, so nothing tells whether the cluster already "
            "ran; if these members never ran, say so with --etcd-bootstrap"
        )
        return Rejected("etcd/bootstrap-unknown", evidence)
    # A refused volume of our own member may be the one with the data.
    duplicates = [one for one in all_others if one.member.me == member.me and one not in others]
    unproven = _unproven([*others, *duplicates])
    if unproven and not can_tag:
        evidence = (
            f"whether etcd ever ran on {', '.join(unproven)} can't be known, since the cloud lets no node mark "
            "volumes here; if these members never ran, say so with --etcd-bootstrap"
        )
        return Rejected("etcd/bootstrap-unknown", evidence)
    # Each node tags the volume that it prepares, so this proof comes without an operator.
    if unproven:
        return Wait(f"{', '.join(unproven)} must be prepared first (not made by protokube, nor proven blank)", True)
    return Start("new")


def _unproven(volumes: Sequence[MemberVolume]) -> list[str]:
    """The volumes that may hold data: protokube didn't make their filesystem, and they aren't proven pristine."""
    return [one.id for one in volumes if not (one.made_by_us or one.volume.pristine)]


def _never_ran(volume: MemberVolume) -> bool:
    return not volume.marked_bootstrapped and bool(volume.made_by_us or volume.volume.pristine)


def _alone(own: MemberVolume, ran: Sequence[str], others: Sequence[MemberVolume]) -> Start | Rejected:
    """Start the only member of its etcd cluster, unless the cluster's data may be on another volume."""
    duplicates = _unproven([other for other in others if other.member.me == own.member.me])
    if not ran and not duplicates:
        return Start("new")
    where = f"etcd ran on {', '.join(ran)}" if ran else f"its data may be on {', '.join(duplicates)}"
    evidence = (
        f"{own.id} is to be the only member of etcd cluster {own.member.cluster}, but {where}; attach the volume "
        "with the data instead, or, if that data is given up, remove the etcd tags of the others"
    )
    return Rejected("etcd/member-lost", evidence)


class _Cluster(Struct, frozen=True):
    """The etcd cluster that peers' answers are compared with.

    `names` are all members' etcd names, by member; `name` and `url` our own. `idle` are the names of members that are
    proven never to have run. `ran`: another member's volume is tagged as having run. `advice`: how to replace ours.
    """

    names: Mapping[str, str]
    name: str
    url: str
    idle: set[str]
    ran: bool
    advice: str


def _by_peers(cluster: _Cluster, peers: PeerAnswers) -> Start | Rejected | Wait:
    """Decide by the member lists that peers answered.

    During a cluster's first start every peer lists all members, none of them with client URLs: each member is `new`.
    `etcdctl member add` lists a member by its peer URL, without client URLs and, until it starts, without a name.

    A list is as old as its peer's last quorum. A peer that was down while our member first ran still lists it as not
    started. Together with our empty log, that peer would be a majority without acknowledged writes. So either all
    members that may know better must answer, or a majority: one of a majority always knows.
    """
    lists = list(peers.lists.values())
    advice = cluster.advice
    found = [(listed, ours) for listed in lists if (ours := _ours(cluster, listed))]
    # The cluster runs without this member: it was removed, or the volume is of an older cluster.
    if not found:
        listed = ", ".join(sorted({peer.name or "(not started)" for one in lists for peer in one}))
        evidence = f"a running cluster does not list {cluster.name} (it lists {listed}); {advice}"
        return Rejected("etcd/member-lost", evidence)
    # A member publishes its client URLs once it has started (etcd, EtcdServer.publish), so it had data, and lost it.
    if any(ours.client_urls for _, ours in found):
        evidence = f"a running cluster lists {cluster.name} as started, and this volume has no data; {advice}"
        return Rejected("etcd/member-lost", evidence)
    # Members get client URLs as they start, so the list with the most of them is the newest.
    newest, ours = max(found, key=lambda one: sum(bool(peer.client_urls) for peer in one[0]))
    names = {_name_of(peer, ours, cluster.name) for peer in newest}
    heard = {cluster.names[me] for me in peers.lists if me in cluster.names}
    silent = names - {cluster.name} - heard - cluster.idle
    if silent and len(heard) <= len(newest) // 2:
        reason = (
            f"{', '.join(sorted(heard))} may have missed when {cluster.name} first ran; waiting for "
            f"{', '.join(sorted(silent))} to answer ({peers.silence})"
        )
        return Wait(reason, external=True)
    # Where a tag says that the cluster ran, a list that isn't the tag's own was made by `etcdctl member add`.
    born = not any(peer.client_urls for listed in lists for peer in listed)
    if born and (not cluster.ran or names == set(cluster.names.values())):
        return Start("new")
    # etcd refuses to join with a list that differs from the cluster's: "the member count is unequal" (etcd's runtime
    # reconfiguration guide).
    return Start("existing", ",".join(f"{_name_of(peer, ours, cluster.name)}={peer.peer_urls[0]}" for peer in newest))


def _ours(cluster: _Cluster, listed: Sequence[EtcdPeerMember]) -> EtcdPeerMember | None:
    return next(
        (peer for peer in listed if peer.name == cluster.name or (not peer.name and cluster.url in peer.peer_urls)),
        None,
    )


def _name_of(peer: EtcdPeerMember, ours: EtcdPeerMember, name: str) -> str:
    """A listed member's name. A member that never started has none: its URL's first label is its name."""
    if peer is ours:
        return name
    return peer.name or peer.peer_urls[0].partition("//")[2].partition(".")[0]


def peers_to_ask(
    cloud: CloudSnapshot, volumes: VolumesAssessment, facts: MemberFacts, *, maybe_tls: bool
) -> Mapping[str, str]:
    """The peer URLs to ask, with the member behind each: the other members of our etcd cluster on other instances.

    The URLs have addresses, not names: names may not be in DNS yet. `maybe_tls`: a cluster that runs may use TLS or
    not, and answers one of two URLs.
    """
    return {
        f"{scheme}://{address}:{facts.template.peer_port}": me
        for me, addresses in peer_addresses(cloud, volumes, facts.volume.member).items()
        for address in addresses
        for scheme in (("https", "http") if maybe_tls else ("http",))
    }


def peer_addresses(
    cloud: CloudSnapshot, volumes: VolumesAssessment, member: EtcdMember
) -> Mapping[str, tuple[str, ...]]:
    """Where the other members of an etcd cluster run, on other instances: member → addresses, as in URLs."""
    if isinstance(cloud.peers, Unknown):
        return {}
    holders = {
        other.volume.attachments[0].instance: other.member.me
        for other in volumes.all
        if other.member.cluster == member.cluster and other.member.me != member.me and other.volume.attachments
    }
    found: dict[str, tuple[str, ...]] = {}
    for peer in cloud.peers:
        me = holders.get(peer.instance) or peer.members.get(member.cluster)
        if peer.instance != volumes.instance.id and me and me != member.me:
            addresses = (f"[{one}]" if ":" in one else one for one in peer.internal)
            found[me] = (*found.get(me, ()), *addresses)
    return found
