"""Whose volume is this? The identity file, the filesystem's UUID, and what a volume may hold.

The identity file stands on the volume (`k8s.io/identity.yaml`) and names the cluster, the etcd cluster, the
member, the volume and the filesystem it belongs to. A volume is ours when everything that speaks agrees.
"""

from __future__ import annotations

from functools import lru_cache

import yaml
from msgspec import Struct

from protokube.core.disks.model import Tree
from protokube.core.etcd.model import EtcdTemplate
from protokube.core.etcd.template import is_version, manifest_env
from protokube.core.model import Rejected
from protokube.core.untrusted_yaml import load
from protokube.core.volumes.model import EtcdMember

IDENTITY_PATH = "k8s.io/identity.yaml"
MANIFESTS = "k8s.io/manifests"
LOST_AND_FOUND = "lost+found/"


class Identity(Struct, frozen=True):
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
