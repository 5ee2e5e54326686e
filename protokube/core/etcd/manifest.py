"""The manifest that a member's volume should have."""

from __future__ import annotations

from msgspec import Struct

from protokube.core.etcd.bootstrap import Start
from protokube.core.etcd.model import EtcdSettings, MountedMember
from protokube.core.etcd.template import render_manifest
from protokube.core.static_pod import manifest_env


class Wanted(Struct, frozen=True):
    """What a manifest is made of. `trusted` names the authorities that the process is started with; None: without
    TLS."""

    start: Start
    image: str
    suffix: str
    trusted: str | None


def wanted_manifest(settings: EtcdSettings, member: MountedMember, wanted: Wanted, *, may_run: bool) -> str:
    """Render the manifest that the volume should have.

    A running member keeps its manifest's initial state and cluster: etcd ignores both once it has data, and a
    changed manifest would make kubelet restart a healthy member for nothing. `may_run`: kubelet may run it.
    """

    def render(start: Start) -> str:
        return render_manifest(
            member.template,
            member.volume.member,
            mount_point=member.volume.target,
            dns_suffix=wanted.suffix,
            image=wanted.image,
            state=start.state,
            hosts=settings.private_names,
            initial_cluster=start.initial_cluster,
            tls=wanted.trusted is not None,
            trusted=wanted.trusted or "",
            quota=settings.quota,
        )

    present = member.contents.texts.get(member.template.manifest)
    text = render(wanted.start)
    if present is None or present == text or not member.has_data or not may_run:
        return text
    env = manifest_env(present)
    state = env.get("ETCD_INITIAL_CLUSTER_STATE")
    as_started = Start("new" if state == "new" else "existing", env.get("ETCD_INITIAL_CLUSTER"))
    return present if render(as_started) == present else text
