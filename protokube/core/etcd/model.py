"""etcd's templates, and what its peers answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct


class EtcdPeerMember(Struct, frozen=True):
    """A member as an etcd peer lists it. A member that never started has no client URLs."""

    name: str
    peer_urls: tuple[str, ...]
    client_urls: tuple[str, ...]


class PeerAnswers(Struct, frozen=True):
    """What peers of an etcd cluster answered: the member list of each member that was heard, by the member.

    `silence` says why the others were not.
    """

    lists: Mapping[str, tuple[EtcdPeerMember, ...]]
    silence: str = ""


InitialState = Literal["new", "existing"]


class EtcdTemplate(Struct, frozen=True):
    """One etcd cluster's template: what `<key>.yaml` says, and the pod that all of them share.

    `data_dir` is relative to the volume's root. `pod` is the text of manifest.yaml, placeholders unfilled.
    """

    key: str
    cluster_name: str
    pod_name: str
    client_port: int
    peer_port: int
    data_dir: str
    cpu_request: str
    pod: str

    @property
    def manifest_file(self) -> str:
        """The manifest's file name."""
        return f"{self.cluster_name}.manifest"

    def member_name(self, member: str) -> str:
        """A member's etcd name, which is also the first label of its DNS name."""
        return f"{self.cluster_name}-{member}"
