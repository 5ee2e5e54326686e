"""How an etcd cluster looks from one node: its own member, asked at its client port, and the others' peer ports."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TypeVar

from msgspec.structs import replace

from protokube.core.etcd.health import ClusterView, name_of
from protokube.core.etcd.model import NotListening
from protokube.core.etcd.running import ClusterMember, PeerAbout
from protokube.core.model import Unknown
from protokube.errors import NotListeningError, ProviderError
from protokube.etcdclient.client import EtcdClient
from protokube.together import Limited

LIMIT = 30.0
"""Seconds within which all members have answered, or count as silent."""

T = TypeVar("T")

About = Callable[[str], PeerAbout]
"""Asks a peer URL."""


class Seeing:
    """Looks at one etcd cluster through its own member, whose etcd name is given. A peer that hangs isn't asked a
    second time meanwhile."""

    def __init__(self, name: str, client: EtcdClient, about: About) -> None:
        self._name, self._client, self._about = name, client, about
        self._asking = Limited[PeerAbout](LIMIT, "asking")

    def view(self, peers: Mapping[str, Sequence[str]]) -> ClusterView:
        """What is seen now. `peers`: where other members may be, by name: hosts with ports. A member for which there
        is no host is asked at its listed peer URLs: nobody is silent who wasn't asked."""
        client = self._client
        status = _known(client.status)
        if not isinstance(status, Unknown) and status.quota is None:
            quota = _known(client.quota)
            status = replace(status, quota=None if isinstance(quota, Unknown) else quota)
        members, alarms = _known(client.members), _known(client.alarms)
        listed = () if isinstance(members, Unknown) else members
        return ClusterView(self._name, status, members, alarms, self._ask(listed, peers))

    def _ask(
        self, members: Sequence[ClusterMember], hosts: Mapping[str, Sequence[str]]
    ) -> Mapping[str, PeerAbout | Unknown]:
        peers: dict[str, PeerAbout | Unknown] = {}
        asks: dict[str, Callable[[], PeerAbout]] = {}
        for member in members:
            name, scheme = name_of(member), member.peer_urls[0].partition(":")[0]
            if name == self._name:
                continue
            peers[name] = Unknown("it wasn't asked")
            known = [f"{scheme}://{host}" for host in hosts.get(name, ())]
            for url in known or member.peer_urls:
                asks[f"{name} {url}"] = partial(self._about, url)
        for key, future in self._asking.run(asks).items():
            name = key.partition(" ")[0]
            if not isinstance(peers[name], PeerAbout):
                peers[name] = _known(future.result)
        return peers


def _known(ask: Callable[[], T]) -> T | Unknown:
    try:
        return ask()
    except NotListeningError as error:
        return NotListening(str(error))
    except ProviderError as error:
        return Unknown(str(error))
