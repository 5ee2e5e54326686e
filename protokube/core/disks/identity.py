"""The identity file of a volume, `k8s.io/identity.yaml`.

It names the cluster, the etcd cluster, the member, the volume and the filesystem that it belongs to. A volume is used
only when all of them agree with tags and disk.
"""

from __future__ import annotations

from functools import lru_cache

import yaml
from msgspec import Struct

from protokube.core.disks.paths import IDENTITY_PATH
from protokube.core.model import Rejected
from protokube.core.static_pod import is_version
from protokube.core.untrusted_yaml import load

_OPTIONAL = {"tls": bool, "told": str}
"""Written where they say something: an older file lacks them."""


class Identity(Struct, frozen=True):
    """The identity file.

    `etcd_version` is the version that last ran (`3.6.6`), None when unknown. `started` is set by the first reconcile
    that sees etcd's data, and never cleared: etcd's data may be lost, the fact that it ran must not be. `tls`: it ran
    with TLS, and never starts without again. `told` is what this member last told the others about its authorities
    (core/etcd/restarts.py), None before one was ever replaced.
    """

    cluster_id: str
    etcd_cluster: str
    member: str
    volume_id: str
    filesystem: str
    etcd_version: str | None = None
    started: bool = False
    tls: bool = False
    told: str | None = None

    def render(self) -> str:
        """The file's text; the same identity always gives the same text."""
        return yaml.safe_dump(
            {
                "cluster": self.cluster_id,
                "etcdCluster": self.etcd_cluster,
                "member": self.member,
                "volume": self.volume_id,
                "filesystem": self.filesystem,
                "etcdVersion": self.etcd_version,
                "started": self.started,
                **({"tls": True} if self.tls else {}),
                **({"told": self.told} if self.told is not None else {}),
            },
            sort_keys=False,
        )


@lru_cache(maxsize=32)
def parse_identity(text: str) -> Identity | Rejected:
    """Parse an identity file; anything but its exact form is rejected."""
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
    for key, kind in _OPTIONAL.items():
        if key in data and not isinstance(data[key], kind):
            expected = "a boolean" if kind is bool else "a text"
            return Rejected("volume/identity", f"{IDENTITY_PATH}: {key} is {data[key]!r}, expected {expected}")
    if unknown := sorted(map(str, set(data) - set(words) - {"etcdVersion", *_OPTIONAL})):
        return Rejected("volume/identity", f"{IDENTITY_PATH}: unknown keys {', '.join(unknown)}")
    return Identity(
        data["cluster"],
        data["etcdCluster"],
        data["member"],
        data["volume"],
        data["filesystem"],
        version,
        data["started"],
        data.get("tls", False),
        data.get("told"),
    )
