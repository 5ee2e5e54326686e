"""Who is asked before a member is judged: the other members' peer ports, and our own member's client port."""

from __future__ import annotations

from collections.abc import Mapping

from protokube.core.disks.identity import Identity
from protokube.core.etcd.bootstrap import Start, needs_peers, peers_to_ask
from protokube.core.etcd.manifest import Wanted, wanted_manifest
from protokube.core.etcd.members import first_identity
from protokube.core.etcd.migration import wants_tls
from protokube.core.etcd.model import LocalMember, MountedMember
from protokube.core.etcd.restarts import local_member, present_trust, restart_due, telling_due, trust_of
from protokube.core.etcd.sight import Sight
from protokube.core.etcd.tls import may_use_tls
from protokube.core.etcd.versions import image_due, unconfirmed
from protokube.core.model import Rejected
from protokube.core.static_pod import manifest_image


class Questions(Sight, frozen=True):
    """Asks as little as can be: nobody for a converged member."""

    def question(self, member: MountedMember) -> tuple[str, Mapping[str, str]] | None:
        """The etcd cluster and the peer URLs to ask; None for a member that started, or that is refused."""
        identity = self.identified(member) or first_identity(self.volumes.cluster_id, member)
        if isinstance(identity, Rejected):
            return None
        known = self.known(member, identity)
        lost_manifest = member.has_data and not member.manifest
        if not (needs_peers(known) or self.asked(member) or lost_manifest):
            return None
        maybe_tls = may_use_tls(self.settings, member) or bool(self.asked(member)) or lost_manifest
        return member.volume.member.cluster, peers_to_ask(self.facts.cloud, self.volumes, known, maybe_tls=maybe_tls)

    def asked(self, member: MountedMember) -> LocalMember | None:
        """Our member's client port, where what it serves matters: it is to restart, or to tell something."""
        identity = self.identified(member)
        certificates = self.certificates(member)
        if not isinstance(identity, Identity) or not member.has_data:
            return None
        secure = self.uses_tls(member)
        moves = False
        if certificates:
            trust = trust_of(certificates)
            due = restart_due(member, trust) or telling_due(member, identity, trust)
            moves = due if secure else wants_tls(self.settings, member)
        due = moves or unconfirmed(member, identity) or image_due(self.settings, member, identity)
        # Someone has a turn to restart, and it may be over; or the manifest is to change for another reason.
        if not (due or member.volume.member.cluster in self.tracking.turns or self._pod_due(member)):
            return None
        name = member.template.member_name(member.volume.member.me)
        return local_member(member.template, name, secure=secure)

    def _pod_due(self, member: MountedMember) -> bool:
        """Whether the manifest of a member that runs differs, with its own image and authorities: by the template."""
        image = manifest_image(member.manifest)
        if image is None or not self.is_linked(member):
            return False
        suffix = self.settings.suffix(self.volumes.cluster_id)
        trusted = present_trust(member) if self.uses_tls(member) else None
        clients = self.clients() if trusted is not None else ""
        wanted = Wanted(Start("existing"), image, suffix, trusted, clients)
        return wanted_manifest(self.settings, member, wanted, may_run=True) != member.manifest
