"""This machine's own etcd members: what each serves, and the changes that it is asked for."""

from __future__ import annotations

import re
from pathlib import Path

from protokube.core.etcd.actions import GiveAnyTurnBack, TakeAnyTurn, TellAuthorities, UpdateMember
from protokube.core.etcd.health import ClusterView
from protokube.core.etcd.model import HealthQuestion, LocalMember, ServedEtcd
from protokube.core.etcd.restarts import TOLD
from protokube.core.etcd.tls import CLIENT
from protokube.core.etcd.turns import API_TURN_KEY, TURN_KEY
from protokube.core.model import MIB
from protokube.errors import ProviderError
from protokube.etcdclient.client import EtcdClient
from protokube.etcdclient.peers import parse_release
from protokube.etcdclient.seen import About, Seeing
from protokube.etcdclient.transport import Request, Server, Tls, answer, read

OWN_KEYS = "protokube/"
"""Where our own keys are, in every etcd cluster."""

_METRICS_LIMIT = 5.0
_MOST = 8 * MIB
_STARTED = re.compile(rb"^process_start_time_seconds ([0-9.e+]{1,30})$", re.MULTILINE)


class OwnMembers:
    """Implements `ports.Etcd`. `certificates` is the directory of the node's certificates, a path of this machine."""

    def __init__(self, certificates: Path) -> None:
        self._certificates = certificates

    def served(self, member: LocalMember) -> ServedEtcd:
        """See ports.EtcdReader."""
        client = self._client(member)
        status, alarms = client.status(), client.alarms()
        members, kept = client.members(), client.values(OWN_KEYS)
        told = {key.removeprefix(TOLD): text for key, text in kept.items() if key.startswith(TOLD)}
        started = _started(member.metrics_port) if member.metrics_port else None
        try:
            version = parse_release(status.version)
        except ValueError as error:
            raise ProviderError(f"{member.url}: {error} (expected one as 3.6.6)") from error
        return ServedEtcd(members, told, started, version, alarms, kept.get(TURN_KEY, ""), kept.get(API_TURN_KEY, ""))

    def health(self, question: HealthQuestion, about: About) -> ClusterView:
        """How an etcd cluster is; `about` asks a peer's URL."""
        return Seeing(question.at.name, self._client(question.at), about).view(question.peers)

    def update_member(self, action: UpdateMember) -> None:
        """See core/etcd/actions.py."""
        client, change = self._client(action.at), action.change
        # Looked at again right before: etcd promotes a learner whose URLs are changed (etcd-io/etcd 21694).
        found = next((one for one in client.members() if one.id == change.id), None)
        if found is None or found.learner or found.peer_urls != change.old:
            why = "a learner" if found is not None and found.learner else "others, or no such member"
            raise ProviderError(f"{action.describe()}: its URLs are no longer {', '.join(change.old)} ({why})")
        client.update(change.id, change.new)

    def tell(self, action: TellAuthorities) -> None:
        """See core/etcd/actions.py."""
        self._client(action.at).put(f"{OWN_KEYS}{TOLD}{action.at.name}", action.text)

    def take_turn(self, action: TakeAnyTurn) -> None:
        """See core/etcd/actions.py."""
        self._client(action.at).replace(f"{OWN_KEYS}{action.key}", action.old, action.text, action.life)

    def give_back(self, action: GiveAnyTurnBack) -> None:
        """See core/etcd/actions.py."""
        self._client(action.at).delete(f"{OWN_KEYS}{action.key}", action.text)

    def _client(self, member: LocalMember) -> EtcdClient:
        tls = Tls(self._certificates / CLIENT, "localhost") if member.url.startswith("https:") else None
        return EtcdClient(Server(member.url, tls))


def _started(port: int) -> float:
    """When the process behind a port for metrics was started, by its own account (Prometheus's Go client). The unit
    may not look into processes of others."""
    url = f"http://127.0.0.1:{port}"
    with answer(Server(url), Request("/metrics", limit=_METRICS_LIMIT)) as response:
        found = _STARTED.search(read(response, _MOST))
    if found is None:
        raise ProviderError(f"{url}/metrics: it doesn't say when the process was started")
    return float(found[1])
