"""The manifest that a member's volume should have."""

from __future__ import annotations

import re
from functools import lru_cache

import yaml
from msgspec import Struct

from protokube.core.etcd.bootstrap import Start
from protokube.core.etcd.model import EtcdSettings, MountedMember
from protokube.core.etcd.template import render_manifest
from protokube.core.pki.model import CURRENT, PKI_DIR, directory_of
from protokube.core.static_pod import manifest_env
from protokube.core.untrusted_yaml import load

_REMEMBERED = 32
_BY_NAME = re.compile(rf"{re.escape(PKI_DIR)}/([a-z0-9-]+)/")
"""A certificate's files by its name, beside those of all others."""


class Wanted(Struct, frozen=True):
    """What a manifest is made of. `trusted` names the authorities that the process is started with; None: without
    TLS. `clients` is the node's address where it listens to clients there, too, and empty else."""

    start: Start
    image: str
    suffix: str
    trusted: str | None
    clients: str = ""


def wanted_manifest(settings: EtcdSettings, member: MountedMember, wanted: Wanted, *, may_run: bool) -> str:
    """Render the manifest that the volume should have.

    A running member keeps its manifest's initial state and cluster: etcd ignores both once it has data, and a
    changed manifest would make kubelet restart a healthy member for nothing. So would one that mounts the same
    certificates in another way. `may_run`: kubelet may run it.
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
            clients=wanted.clients,
        )

    present = member.contents.texts.get(member.template.manifest)
    text = render(wanted.start)
    if present is None or present == text or not member.has_data or not may_run:
        return text
    env = manifest_env(present)
    state = env.get("ETCD_INITIAL_CLUSTER_STATE")
    as_started = Start("new" if state == "new" else "existing", env.get("ETCD_INITIAL_CLUSTER"))
    kept = render(as_started)
    same = kept == present or _beside_mounts(kept) == _beside_mounts(present)
    return present if same else text


@lru_cache(maxsize=_REMEMBERED)
def _beside_mounts(text: str) -> object:
    """What a manifest says beside the way in which the node's certificates are mounted.

    A member that was started with the directory of all certificates sees keys that it doesn't need. It goes on until
    it starts again for another reason, or its node does.
    """
    try:
        return _without_mounts(load(text))
    except yaml.YAMLError:
        return text


def _without_mounts(node: object) -> object:
    if isinstance(node, str):
        return _BY_NAME.sub(lambda found: f"{PKI_DIR}/{directory_of(found[1])}/{CURRENT}/", node)
    if isinstance(node, list):
        return [_without_mounts(one) for one in node if not _mounts_pki(one)]
    if isinstance(node, dict):
        return {key: _without_mounts(value) for key, value in node.items()}
    return node


def _mounts_pki(node: object) -> bool:
    if not isinstance(node, dict):
        return False
    volume = node.get("hostPath")
    path = volume.get("path") if isinstance(volume, dict) else node.get("mountPath")
    return isinstance(path, str) and f"{path}/".startswith(f"{PKI_DIR}/")
