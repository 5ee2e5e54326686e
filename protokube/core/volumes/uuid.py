"""The UUID of the filesystem that protokube makes: known before it is made."""

from __future__ import annotations

import hashlib

from protokube.core.volumes.model import EtcdMember

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
