"""Whose volume is this? The identity file, the filesystem's UUID, and what a volume may hold.

The identity file stands on the volume (`k8s.io/identity.yaml`) and names the cluster, the etcd cluster, the
member, the volume and the filesystem it belongs to. A volume is ours when everything that speaks agrees.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

import yaml

from protokube.core.etcd import EtcdTemplate, is_version, manifest_env
from protokube.core.model import EtcdMember, Tree
from protokube.core.strangers_yaml import load
from protokube.core.tags import Rejected
from protokube.core.value import dataclass

IDENTITY_PATH = "k8s.io/identity.yaml"
MANIFESTS = "k8s.io/manifests"
LOST_AND_FOUND = "lost+found/"

_DNS_NAMESPACE = bytes.fromhex("6ba7b8109dad11d180b400c04fd430c8")
"""RFC 9562's namespace for DNS names."""


def filesystem_uuid(cluster_id: str, member: EtcdMember, volume_id: str) -> str:
    """The UUID of the filesystem that protokube makes for a member on a volume: the same one every time.

    So an empty ext4 with exactly this UUID was made for this member on this volume.
    """
    namespace = _uuid5(_DNS_NAMESPACE, "protokube.k8s.io")
    made = _uuid5(namespace, "\n".join((cluster_id, member.cluster, member.me, volume_id))).hex()
    return "-".join((made[:8], made[8:12], made[12:16], made[16:20], made[20:]))


def _uuid5(namespace: bytes, name: str) -> bytes:
    """RFC 9562's version 5. The standard library's module costs 6 ms of every start, to know the platform."""
    digest = bytearray(hashlib.sha1(namespace + name.encode(), usedforsecurity=False).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x50
    digest[8] = digest[8] & 0x3F | 0x80
    return bytes(digest)


@dataclass(frozen=True)
class Identity:
    """The identity file. `etcd_version` is the version that last ran (`3.6.6`), None when unknown; `started` is set
    in the first round that sees etcd's data, and never cleared."""

    cluster_id: str
    etcd_cluster: str
    member: str
    volume_id: str
    filesystem: str
    etcd_version: str | None = None
    started: bool = False

    def render(self) -> str:
        """The file's text, the same for the same identity."""
        return yaml.safe_dump(
            {
                "cluster": self.cluster_id,
                "etcdCluster": self.etcd_cluster,
                "member": self.member,
                "volume": self.volume_id,
                "filesystem": self.filesystem,
                "etcdVersion": self.etcd_version,
                "started": self.started,
            },
            sort_keys=False,
        )


@lru_cache(maxsize=32)
def parse_identity(text: str) -> Identity | Rejected:
    """Read an identity file; anything but exactly its form is rejected."""
    try:
        data = load(text)
    except yaml.YAMLError as error:
        return Rejected("volume/identity", f"{IDENTITY_PATH} is no YAML: {error}")
    words = {"cluster": str, "etcdCluster": str, "member": str, "volume": str, "filesystem": str, "started": bool}
    if not isinstance(data, dict):
        return Rejected("volume/identity", f"{IDENTITY_PATH}: expected a mapping, found {data!r}")
    for key, kind in words.items():
        if not isinstance(data.get(key), kind):
            expected = "a boolean" if kind is bool else "a text"
            return Rejected("volume/identity", f"{IDENTITY_PATH}: {key} is {data.get(key)!r}, expected {expected}")
    version = data.get("etcdVersion")
    if version is not None and not (isinstance(version, str) and is_version(version)):
        expected = "a version such as 3.6.6, or null"
        return Rejected("volume/identity", f"{IDENTITY_PATH}: etcdVersion is {version!r}, expected {expected}")
    if unknown := sorted(map(str, set(data) - set(words) - {"etcdVersion"})):
        return Rejected("volume/identity", f"{IDENTITY_PATH}: unknown keys {', '.join(unknown)}")
    return Identity(
        data["cluster"],
        data["etcdCluster"],
        data["member"],
        data["volume"],
        data["filesystem"],
        version,
        data["started"],
    )


def foreign_entries(tree: Tree, template: EtcdTemplate) -> tuple[str, ...]:
    """The entries of a volume that neither protokube nor kops makes for this etcd cluster, sorted.

    Allowed: lost+found, the identity file, this cluster's manifest, this cluster's data directory, and the
    directories above them.
    """
    data = template.data_dir + "/"
    manifest = f"{MANIFESTS}/{template.manifest_file}"
    allowed = {LOST_AND_FOUND, IDENTITY_PATH, manifest, data, "k8s.io/", MANIFESTS + "/"}
    allowed |= {
        "/".join(template.data_dir.split("/")[:depth]) + "/" for depth in range(1, template.data_dir.count("/") + 1)
    }
    more = ("(more entries than could be listed)",) if tree.overflow else ()
    return (
        tuple(
            sorted(
                entry
                for entry in tree.entries
                if entry not in allowed and not entry.startswith(data) and not _is_leftover(entry)
            )
        )
        + more
    )


def _is_leftover(entry: str) -> bool:
    """A half-written file of ours that a crash left beside its target."""
    name = entry.rpartition("/")[2]
    return name.startswith(".") and name.endswith(".protokube-new")


def is_empty(tree: Tree) -> bool:
    """Whether a volume holds nothing but lost+found."""
    return not tree.overflow and tree.entries <= {LOST_AND_FOUND}


def kops_manifest(tree: Tree, member: EtcdMember, template: EtcdTemplate) -> str | Rejected | None:
    """The text of the member's manifest as kops left it on the volume; None when there is none.

    Rejected when it belongs to another member: a kops volume is adopted only for the member it ran.
    """
    text = tree.texts.get(f"{MANIFESTS}/{template.manifest_file}")
    if text is None:
        return None
    name = manifest_env(text).get("ETCD_NAME")
    expected = template.member_name(member.me)
    if name != expected:
        evidence = f"the volume's manifest {template.manifest_file} has ETCD_NAME={name}, expected {expected}"
        return Rejected("volume/foreign-data", evidence)
    return text
