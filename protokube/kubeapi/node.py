"""The API server of this very machine, with the certificate that protokube has for it."""

from __future__ import annotations

import logging
import time
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any

from msgspec.structs import replace

from protokube.core.controlplane.model import Health
from protokube.core.controlplane.own import SIGNING
from protokube.core.objects.actions import DecideRequest
from protokube.core.objects.joining import joins
from protokube.core.objects.model import CERTIFICATE, ChannelSource, Manifest, ObjectFacts, ObjectKey
from protokube.core.pki.model import PKI_DIR
from protokube.errors import ProviderError, explain
from protokube.kubeapi.channels import Channels
from protokube.kubeapi.claims import alive_nodes, claimed
from protokube.kubeapi.client import MANAGER, KubeApi
from protokube.kubeapi.http import Credentials, KubeHttp
from protokube.kubeapi.lease import AddonLease
from protokube.kubeapi.requests import (
    Asked,
    Read,
    api_server_addresses,
    asked,
    control_plane_nodes,
    decide,
    node_addresses,
    service_addresses,
    tokens_for,
    watch_requests,
)

HEALTH_LIMIT = 5.0
"""Seconds for one question to another node's API server."""

log = logging.getLogger("protokube")


def node_certificate(root: str, name: str) -> Path:
    """The directory of one of this node's certificates."""
    return Path(root, PKI_DIR.lstrip("/"), name)


def signer_age(root: str, now: float) -> float | None:
    """Seconds since the authority with which this node signs was exchanged; None where it is the first, or there is
    none. The directory before it stays until the next exchange: see protokube/pki/directory.py."""
    kept = node_certificate(root, f"{SIGNING}.d")
    try:
        exchanged = kept.joinpath("current").lstat().st_mtime
        several = sum(one.is_dir() and not one.is_symlink() for one in kept.iterdir()) > 1
    except FileNotFoundError:
        return None
    return now - exchanged if several else None


def node_api(root: str, port: int) -> KubeApi:
    """A client of this machine's API server. Raises ProviderError when the node has no certificate for it."""
    directory = node_certificate(root, CERTIFICATE)
    if not directory.is_dir():
        raise ProviderError(f"{directory} is missing (expected: the certificate of a node with --control-plane)")
    return KubeApi(KubeHttp(f"https://127.0.0.1:{port}", Credentials(directory / "ca.crt", certificate=directory)))


def ask_version(root: str, url: str) -> Health:
    """The answer of an API server, ours or another's, at its /version. Raises ProviderError when there is none."""
    directory = node_certificate(root, CERTIFICATE)
    credentials = Credentials(directory / "ca.crt", certificate=directory)
    status, text = KubeHttp(url.removesuffix("/version"), credentials, HEALTH_LIMIT).text("/version")
    return Health(status, text)


class NodeObjects:
    """The objects of this machine's API server; implements `ports.Objects`.

    `read` reads a PKCS #10 request. `wake` is called with a reason when a kubelet asks for a certificate. `channels`
    are the addon channels to keep.
    """

    def __init__(
        self,
        root: str,
        port: int,
        read: Read,
        wake: Callable[[str], None],
        channels: tuple[ChannelSource, ...] = (),
    ) -> None:
        self._lease = AddonLease()
        self.channels = Channels(root, channels, self._lease, changed=lambda: self._tell("an addon channel was read"))
        self._root, self._port, self._read, self._wake = root, port, read, wake
        self._changed = Event()
        self._lock = Lock()
        self._watching: tuple[Thread, KubeApi] | None = None
        self._closed = False

    def close(self) -> None:
        """End the watch, for good: another configuration's objects follow."""
        with self._lock:
            self._closed, watching = True, self._watching
        if watching is not None:
            watching[1].end()

    def changed(self) -> bool:
        """See ports.ObjectReader."""
        return self._changed.is_set()

    def look(self, keys: Sequence[ObjectKey]) -> ObjectFacts:
        """See ports.ObjectReader."""
        api = node_api(self._root, self._port)
        if (reason := api.not_ready()) is not None:
            return ObjectFacts(asked=True, not_ready=reason)
        self._changed.clear()
        found: Mapping[ObjectKey, Manifest | None] = {
            one: api.get(api.path(one.api_version, one.kind, one.namespace, one.name)) for one in keys
        }
        with explain("read the authorities of the API server"):
            ca = node_certificate(self._root, CERTIFICATE).joinpath("ca.crt").read_bytes()
        requests = asked(api, self._read)
        facts = ObjectFacts(asked=True, found=found, ca=b64encode(ca).decode(), requests=requests.undecided)
        self._follow(api)
        if facts.requests:
            facts = replace(facts, **self._about(api, requests))
        return replace(facts, **self.channels.look(api))

    def _about(self, api: KubeApi, requests: Asked) -> Mapping[str, Any]:
        """What decides about requests. Nodes are asked for last: one that was made meanwhile counts."""
        tokens = tokens_for(api, requests.undecided, time.time())
        reserved = service_addresses(api) | api_server_addresses(api)
        nodes = api.list("/api/v1/nodes")
        return {
            "nodes": node_addresses(nodes),
            "control_plane": control_plane_nodes(nodes),
            "reserved": reserved,
            "tokens": tokens,
            "certified": requests.certified,
            "signer_age": signer_age(self._root, time.time()),
            **({"claimed": claimed(api), "alive": alive_nodes(api)} if any(map(joins, requests.undecided)) else {}),
        }

    def apply(self, manifest: Manifest, owner: str) -> None:
        """See core/objects/actions.py."""
        api = node_api(self._root, self._port)
        if owner != MANAGER:
            self._lease.keep(api)
        api.apply(manifest, owner)

    def remove(self, key: ObjectKey, owner: str) -> None:
        """See core/objects/actions.py."""
        api = node_api(self._root, self._port)
        self._lease.keep(api)
        self.channels.remove(api, key, owner)

    def take_lease(self, node: str) -> None:
        """See core/objects/actions.py."""
        self._lease.take(node_api(self._root, self._port), node)

    def decide(self, action: DecideRequest) -> None:
        """See core/objects/actions.py."""
        decide(node_api(self._root, self._port), action)

    def _follow(self, api: KubeApi) -> None:
        """Watch for requests, if nobody does. The watch ends with the first error, and the next look begins it."""
        with self._lock:
            if self._closed or (self._watching is not None and self._watching[0].is_alive()):
                return
            thread = Thread(target=self._watch, args=(api,), name="watch of requests", daemon=True)
            self._watching = thread, api
            thread.start()

    def _watch(self, api: KubeApi) -> None:
        try:
            while True:
                watch_requests(api, lambda: self._tell("a kubelet asks for a certificate"))
        except ProviderError as error:
            log.debug("%s", error)

    def _tell(self, reason: str) -> None:
        self._changed.set()
        self._wake(reason)
