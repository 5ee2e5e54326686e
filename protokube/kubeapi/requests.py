"""Kubelets' requests for certificates, as the API server lists them, and the verdict on one."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from msgspec import Struct

from protokube.core.objects.actions import DecideRequest
from protokube.core.objects.joining import TOKEN_USER, joins
from protokube.core.objects.model import BOOTSTRAPPERS
from protokube.core.objects.requests import CLIENT, NODE_USER, SERVING, Request, RequestNames
from protokube.core.objects.tokens import NAMESPACE, Token, is_id, secret_name, tokens_of
from protokube.core.objects.wanted import CONTROL_PLANE_ROLES
from protokube.errors import ProviderError
from protokube.kubeapi.claims import claim
from protokube.kubeapi.client import KubeApi, Object
from protokube.kubeapi.http import KubeError

Read = Callable[[bytes], RequestNames | str]
"""Reads a PKCS #10 request; a text says why it can't be read."""

API = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
_DECIDED = ("Approved", "Denied", "Failed")
_LONGEST = 16384
"""Bytes of a request, in base64. kubelet's have less than 2,000; whoever holds a token may send some of a MiB."""


class Asked(Struct):
    """Requests of kubelets: those that nobody has decided, the oldest first, and the names for which tokens have got
    a certificate, where one of the undecided ones comes from a token."""

    undecided: tuple[Request, ...] = ()
    certified: frozenset[str] = frozenset()


def asked(api: KubeApi, read: Read) -> Asked:
    """All requests that concern protokube."""
    undecided: list[tuple[int, Request]] = []
    approved: list[str] = []
    for one in (each for page in api.pages(API) for each in page.get("items") or ()):
        if not _is_ours(one):
            continue
        if not _decided(one):
            # Two control-plane nodes that decide at once must take the same request for the older one. What stands
            # in the list is as old as its last change, and an undecided one has had none.
            undecided.append((int(one["metadata"]["resourceVersion"]), _request(one, read)))
        elif one["spec"]["signerName"] == CLIENT and _conditions(one) & {"Approved"}:
            approved.append(one["spec"]["request"])
    requests = tuple(request for _, request in sorted(undecided, key=lambda each: each[0]))
    if not any(one.signer == CLIENT for one in requests):
        return Asked(requests)
    names = (_names(text, read) for text in approved)
    certified = (one.common_name.removeprefix(NODE_USER) for one in names if isinstance(one, RequestNames))
    return Asked(requests, frozenset(certified))


def tokens_for(api: KubeApi, requests: Iterable[Request], now: float) -> Mapping[str, str]:
    """The tokens that requests were sent with and that still hold, by id, each with the node that it was made for."""
    users = {one.user for one in requests if joins(one) and one.user.startswith(TOKEN_USER)}
    senders = sorted(filter(is_id, (one.removeprefix(TOKEN_USER) for one in users)))
    secrets = (api.get(api.path("v1", "Secret", NAMESPACE, secret_name(one))) for one in senders)
    found = tokens_of(filter(None, secrets), text_of)
    return {one.id: one.node for one in found if holds(one, now)}


def holds(token: Token, now: float) -> bool:
    """Whether a token hasn't ended. One whose end can't be read has."""
    if not token.expires:
        return True
    try:
        return datetime.fromisoformat(token.expires).timestamp() > now
    except ValueError:
        return False


def control_plane_nodes(nodes: Iterable[Object]) -> frozenset[str]:
    """The names of the nodes that are the control plane's, by their labels or their taints."""
    return frozenset(
        one["metadata"]["name"]
        for one in nodes
        if any(role in (one["metadata"].get("labels") or {}) for role in CONTROL_PLANE_ROLES)
        or any(taint.get("key") in CONTROL_PLANE_ROLES for taint in (one.get("spec") or {}).get("taints") or ())
    )


def workers(api: KubeApi) -> tuple[str, ...]:
    """The names of all nodes that aren't the control plane's."""
    nodes = api.list("/api/v1/nodes")
    control_plane = control_plane_nodes(nodes)
    return tuple(sorted(one["metadata"]["name"] for one in nodes if one["metadata"]["name"] not in control_plane))


def node_addresses(nodes: Iterable[Object]) -> Mapping[str, tuple[str, ...]]:
    """The addresses that each node claims, by its name."""
    return {
        one["metadata"]["name"]: tuple(
            address["address"]
            for address in (one.get("status") or {}).get("addresses") or ()
            if address["type"] in ("InternalIP", "ExternalIP")
        )
        for one in nodes
    }


def service_addresses(api: KubeApi) -> frozenset[str]:
    """The addresses of all services."""
    return frozenset(address for one in api.list("/api/v1/services") for address in _addresses(one["spec"]))


def api_server_addresses(api: KubeApi) -> frozenset[str]:
    """The addresses of all API servers, as these say themselves."""
    found = api.get("/api/v1/namespaces/default/endpoints/kubernetes") or {}
    subsets = found.get("subsets") or ()
    kinds = ("addresses", "notReadyAddresses")
    return frozenset(each["ip"] for one in subsets for kind in kinds for each in one.get(kind) or ())


def decide(api: KubeApi, action: DecideRequest) -> None:
    """Approve or deny a request, unless it is decided or gone, or another one of the same name stands there."""
    found = api.get(f"{API}/{action.request}")
    if found is None or found["metadata"]["uid"] != action.uid or _decided(found):
        return
    if action.claim is not None and not claim(api, action.claim, action.uid, datetime.now(UTC)):
        return  # another request has just got the name: the next look denies this one
    kind = "Approved" if action.approve else "Denied"
    condition = {"type": kind, "status": "True", "reason": "Protokube", "message": action.reason}
    status = found.get("status") or {}
    after = {**found, "status": {**status, "conditions": [*(status.get("conditions") or ()), condition]}}
    try:
        api.replace(f"{API}/{action.request}/approval", after)
    except KubeError as error:
        # Another control-plane node has decided it a moment before.
        if error.status not in (404, 409):
            raise


def _is_ours(one: Object) -> bool:
    """Whether a request concerns protokube: other tokens' and nodes' own renewals are decided by other hands."""
    spec = one["spec"]
    signer = spec.get("signerName")
    return signer == SERVING or (signer == CLIENT and BOOTSTRAPPERS in (spec.get("groups") or ()))


def _request(one: Object, read: Read) -> Request:
    spec: Mapping[str, Any] = one["spec"]
    groups, usages = tuple(spec.get("groups") or ()), tuple(spec.get("usages") or ())
    metadata, names = one["metadata"], _names(spec["request"], read)
    user, signer = spec.get("username", ""), spec["signerName"]
    return Request(metadata["name"], user, groups, usages, names, signer, metadata["uid"])


def _names(text: str, read: Read) -> RequestNames | str:
    if len(text) > _LONGEST:
        return f"it has {len(text)} bytes (expected at most {_LONGEST})"
    try:
        return read(b64decode(text, validate=True))
    except ValueError as error:
        return str(error)


def text_of(encoded: str) -> str:
    """The text in base64 of a Secret."""
    return b64decode(encoded).decode("utf-8", "replace")


def _conditions(one: Object) -> frozenset[str]:
    return frozenset(each["type"] for each in (one.get("status") or {}).get("conditions") or ())


def _decided(one: Object) -> bool:
    return not _conditions(one).isdisjoint(_DECIDED)


def _addresses(spec: Mapping[str, Any]) -> Iterator[str]:
    yield from (spec[key] for key in ("clusterIP", "loadBalancerIP") if spec.get(key) not in (None, "", "None"))
    for key in ("clusterIPs", "externalIPs"):
        yield from spec.get(key) or ()


def watch_requests(api: KubeApi, changed: Callable[[], None]) -> None:
    """Call `changed` with each request that comes, until the API server ends the watch; it does every few minutes.

    Raises ProviderError when it doesn't answer.
    """
    version = ""
    for page in api.pages(API):
        version = version or (page.get("metadata") or {}).get("resourceVersion") or ""
        if any(_is_ours(one) and not _decided(one) for one in page.get("items") or ()):
            changed()
    for event in api.watch(API, resourceVersion=version):
        if event.get("type") == "ERROR":
            raise ProviderError(f"the API server ends the watch of requests: {event.get('object')}")
        if event.get("type") == "ADDED" and _is_ours(event["object"]):
            changed()
