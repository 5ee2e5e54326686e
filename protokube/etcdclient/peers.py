"""Asks etcd's peer port who the members of its cluster are, and which version it runs.

The peer port answers other nodes, where the client port listens on 127.0.0.1 alone. It answers without quorum.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from email.utils import parsedate_to_datetime
from typing import Annotated, TypeVar

from msgspec import Meta, MsgspecError, Struct
from msgspec.json import decode

from protokube.core.etcd.model import EtcdPeerMember
from protokube.core.etcd.running import PeerAbout
from protokube.core.model import MIB
from protokube.core.static_pod import is_version
from protokube.errors import ProviderError
from protokube.etcdclient.transport import Request, Server, Tls, answer, read

log = logging.getLogger("protokube")

LIMIT = 2.0
"""Seconds, from connecting to the last byte."""

T = TypeVar("T")


class _Listed(Struct):
    """A member as etcd writes it (etcd's membership.Member); later versions may add fields."""

    peerURLs: Annotated[tuple[str, ...], Meta(min_length=1)]  # noqa: N815 - etcd's own spelling
    name: str = ""
    clientURLs: tuple[str, ...] | None = None  # noqa: N815 - etcd's own spelling


_Answer = Annotated[list[_Listed], Meta(min_length=1)]


class _Versions(Struct):
    etcdserver: str


class HttpEtcdPeers:
    """The peers of one etcd cluster. `limit` is in seconds. Without `tls` only http URLs can be asked.

    The name in `tls` is the one that every peer's certificate has.
    """

    def __init__(self, limit: float = LIMIT, tls: Tls | None = None) -> None:
        self._limit = limit
        self._tls = tls

    def members(self, peer_url: str) -> Sequence[EtcdPeerMember]:
        """The peer's member list, in its order. A member that was added and never started has no client URLs, and no
        name."""
        # A list above 2 KiB comes in chunks, without its length (Go's net/http).
        members, _ = self._asked(peer_url, "/members", parse_members)
        log.debug("etcd peer %s: members %s", peer_url, ", ".join(one.name or "(not started)" for one in members))
        return members

    def about(self, peer_url: str) -> PeerAbout:
        """The version of etcd that the peer runs, and how far its clock is ahead of ours."""
        before = time.time()
        version, date = self._asked(peer_url, "/version", parse_version)
        told = PeerAbout(version, _ahead(date, before, time.time()))
        log.debug("etcd peer %s: version %s, clock ahead by %s s", peer_url, version, told.ahead)
        return told

    def _asked(self, url: str, path: str, parse: Callable[[bytes], T]) -> tuple[T, str]:
        """What the body of an answer says, and its Date."""
        try:
            with answer(Server(url, self._tls), Request(path, limit=self._limit)) as response:
                if response.status != 200:
                    raise ValueError(f"HTTP {response.status} {response.reason}")
                return parse(read(response, MIB)), response.headers.get("Date", "")
        except ProviderError as error:
            log.debug("etcd peer %s", error)
            raise


def _ahead(date: str, before: float, after: float) -> float | None:
    """By how many seconds the clock that wrote a Date is ahead of ours, which showed `before` and `after` around it.

    A Date has no fractions: it is half a second later on average.
    """
    try:
        told = parsedate_to_datetime(date)
    except (ValueError, TypeError):
        return None
    return round(told.timestamp() + 0.5 - (before + after) / 2, 1)


def parse_members(body: bytes) -> Sequence[EtcdPeerMember]:
    """etcd's JSON as values. Raises ValueError when it is not a list of members."""
    try:
        listed = decode(body, type=_Answer)
    except MsgspecError as error:
        raise ValueError(f"not a list of members: {error}") from error
    return [EtcdPeerMember(one.name, one.peerURLs, one.clientURLs or ()) for one in listed]


def parse_version(body: bytes) -> str:
    """The version in etcd's JSON. Raises ValueError when it is none."""
    try:
        version = decode(body, type=_Versions).etcdserver
    except MsgspecError as error:
        raise ValueError(f"not etcd's versions: {error}") from error
    return parse_release(version)


def parse_release(version: str) -> str:
    """The release in what an etcd calls its version: `3.6.0-rc.1` is of 3.6.0. Raises ValueError when it is none."""
    release = version.partition("-")[0]
    if not is_version(release):
        raise ValueError(f"not a version of etcd: {version[:40]!r}")
    return release
