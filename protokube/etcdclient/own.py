"""This machine's own etcd members: what each serves, and the changes that it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from protokube.core.etcd.actions import TellAuthorities, UpdateMember
from protokube.core.etcd.model import LocalMember, ServedEtcd
from protokube.core.etcd.restarts import TOLD_PREFIX, TRUSTED
from protokube.core.etcd.tls import CLIENT
from protokube.errors import ProviderError
from protokube.etcdclient.client import EtcdClient
from protokube.etcdclient.transport import Server, Tls

Environment = Callable[[str, Mapping[str, str]], Mapping[str, str] | None]
"""Finds the environment of a process: host/processes.py."""


class OwnMembers:
    """Implements `ports.Etcd`. `certificates` is the directory of the node's certificates, a path of this machine."""

    def __init__(self, certificates: Path, environment: Environment) -> None:
        self._certificates, self._environment = certificates, environment

    def served(self, member: LocalMember) -> ServedEtcd:
        """See ports.EtcdReader."""
        client = self._client(member)
        members, told = client.members(), client.values(TOLD_PREFIX)
        process = self._environment("etcd", {"ETCD_NAME": member.name, "ETCD_DATA_DIR": member.data_dir})
        return ServedEtcd(members, told, process.get(TRUSTED) if process is not None else None)

    def update_member(self, action: UpdateMember) -> None:
        """See core/etcd/actions.py."""
        client, change = self._client(action.at), action.change
        # Looked at again right before: etcd promotes a learner whose URLs are changed (etcd-io/etcd 21694).
        found = next((one for one in client.members() if one.id == change.id), None)
        if found is None or found.learner or found.peer_urls != change.old:
            told = (
                f"{', '.join(found.peer_urls)}{', a learner' if found.learner else ''}" if found else "no such member"
            )
            raise ProviderError(
                f"{action.describe()}: the list has changed (expected {', '.join(change.old)}, {told})"
            )
        client.update(change.id, change.new)

    def tell(self, action: TellAuthorities) -> None:
        """See core/etcd/actions.py."""
        self._client(action.at).put(f"{TOLD_PREFIX}{action.at.name}", action.text)

    def _client(self, member: LocalMember) -> EtcdClient:
        tls = Tls(self._certificates / CLIENT, "localhost") if member.url.startswith("https:") else None
        return EtcdClient(Server(member.url, tls))
