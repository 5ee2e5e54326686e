"""The API server of this very machine, with the certificate that protokube has for it."""

from __future__ import annotations

import logging
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import Event, Thread

from msgspec.structs import replace

from protokube.core.objects.model import CERTIFICATE, Manifest, ObjectFacts, ObjectKey
from protokube.core.pki.model import PKI_DIR
from protokube.errors import ProviderError, explain
from protokube.kubeapi.client import KubeApi
from protokube.kubeapi.http import Credentials, KubeHttp
from protokube.kubeapi.requests import (
    Read,
    api_server_addresses,
    decide,
    node_addresses,
    service_addresses,
    undecided,
    watch_requests,
)

log = logging.getLogger("protokube")


def node_certificate(root: str, name: str) -> Path:
    """The directory of one of this node's certificates."""
    return Path(root, PKI_DIR.lstrip("/"), name)


def node_api(root: str, port: int) -> KubeApi:
    """A client of this machine's API server. Raises ProviderError when the node has no certificate for it."""
    directory = node_certificate(root, CERTIFICATE)
    if not directory.is_dir():
        raise ProviderError(f"{directory} is missing (expected: the certificate of a node with --control-plane)")
    return KubeApi(KubeHttp(f"https://127.0.0.1:{port}", Credentials(directory / "ca.crt", certificate=directory)))


class NodeObjects:
    """The objects of this machine's API server; implements `ports.Objects`.

    `read` reads a PKCS #10 request. `wake` is called with a reason when a kubelet asks for a certificate.
    """

    def __init__(self, root: str, port: int, read: Read, wake: Callable[[str], None]) -> None:
        self._root, self._port, self._read, self._wake = root, port, read, wake
        self._changed = Event()
        self._watching: Thread | None = None

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
        facts = ObjectFacts(asked=True, found=found, ca=b64encode(ca).decode(), requests=undecided(api, self._read))
        self._follow(api)
        if facts.requests:
            reserved = service_addresses(api) | api_server_addresses(api)
            return replace(facts, nodes=node_addresses(api), reserved=reserved)
        return facts

    def apply(self, manifest: Manifest) -> None:
        """See core/objects/actions.py."""
        node_api(self._root, self._port).apply(manifest)

    def decide(self, request: str, *, approve: bool, reason: str) -> None:
        """See core/objects/actions.py."""
        decide(node_api(self._root, self._port), request, approve=approve, reason=reason)

    def _follow(self, api: KubeApi) -> None:
        """Watch for requests, if nobody does. The watch ends with the first error, and the next look begins it."""
        if self._watching is None or not self._watching.is_alive():
            self._watching = Thread(target=self._watch, args=(api,), name="watch of requests", daemon=True)
            self._watching.start()

    def _watch(self, api: KubeApi) -> None:
        try:
            while True:
                watch_requests(api, self._tell)
        except ProviderError as error:
            log.debug("%s", error)

    def _tell(self) -> None:
        self._changed.set()
        self._wake("a kubelet asks for a certificate")
