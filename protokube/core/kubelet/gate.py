"""The gate: what kubelet's start waits for.

kubelet starts static pods at once. Before the volumes are mounted and linked, an API server without its etcd would
only crash and back off. DNS is not in the gate: names may come later, and an outage of DNS must not stop a node.
"""

from __future__ import annotations

from msgspec import Struct

from protokube.core.disks.model import DisksAssessment
from protokube.core.etcd.model import EtcdSettings
from protokube.core.model import Unknown
from protokube.core.node.model import Link, NodeFacts
from protokube.core.volumes.model import MAIN, AttachState, MemberVolume, VolumesAssessment


class Gate(Struct, frozen=True):
    """What kubelet still waits for; empty when the gate is open."""

    closed: tuple[str, ...] = ()


def gate(
    settings: EtcdSettings, node: NodeFacts, volumes: VolumesAssessment | None, disks: DisksAssessment | None
) -> Gate:
    """Judge a control-plane node's gate: each volume that it can have is claimed, mounted and read, its manifest
    linked."""
    if volumes is None or disks is None:
        return Gate(("the cloud has answered",))
    reasons = [f"{one.id} is claimed" for one in volumes.claimable()]
    reasons += [f"{volume_id} is free ({why.reason})" for volume_id, why in volumes.coming.items()]
    # A cloud may list the volumes of a new cluster later than its machines.
    if MAIN not in volumes.ours and not any(_is_main_here(one, volumes) for one in volumes.all):
        reasons.append(f"a volume of etcd cluster {MAIN} is known in zone {volumes.instance.zone}")
    complete = {one.id for one in disks.attached}
    for one in volumes.ours.values():
        # A volume whose detachment was requested won't come back by waiting, so it keeps the gate open. While it is
        # mounted EC2 calls it busy, and may do so for ever (EC2 API, DetachVolume).
        if one.id not in complete:
            attachment = volumes.attachment(one)
            if attachment and attachment.state is AttachState.ATTACHING:
                reasons.append(f"{one.id} is attached")
        elif one.id not in disks.mounted:
            reasons.append(f"{one.id} is mounted")
        elif one.id in disks.unread:
            # A link that stands from before a reboot may lead to a member that must not run.
            reasons.append(f"the contents of {one.id} are read")
        else:
            path = settings.link(settings.templates[one.member.cluster])
            state = None if isinstance(node.files, Unknown) else node.files.get(path)
            if not (isinstance(state, Link) and state.target.startswith(one.target + "/")):
                reasons.append(f"{path} stands")
    return Gate(tuple(reasons))


def _is_main_here(one: MemberVolume, volumes: VolumesAssessment) -> bool:
    return one.member.cluster == MAIN and one.volume.zone == volumes.instance.zone
