"""Requests for kubelets' serving certificates, as the API server lists them, and the verdict on one."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from protokube.core.objects.serving import SIGNER, ServingNames, ServingRequest
from protokube.errors import ProviderError
from protokube.kubeapi.client import KubeApi, Object
from protokube.kubeapi.http import KubeError

Read = Callable[[bytes], ServingNames | str]
"""Reads a PKCS #10 request; a text says why it can't be read."""

API = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
OURS = f"spec.signerName={SIGNER}"
_DECIDED = ("Approved", "Denied", "Failed")


def undecided(api: KubeApi, read: Read) -> tuple[ServingRequest, ...]:
    """The requests that nobody has decided."""
    listed = api.list(API, fieldSelector=OURS)
    return tuple(_request(one, read) for one in listed if not _decided(one))


def node_addresses(api: KubeApi) -> Mapping[str, tuple[str, ...]]:
    """The addresses that each node claims, by its name."""
    return {
        one["metadata"]["name"]: tuple(
            address["address"]
            for address in (one.get("status") or {}).get("addresses") or ()
            if address["type"] in ("InternalIP", "ExternalIP")
        )
        for one in api.list("/api/v1/nodes")
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


def decide(api: KubeApi, name: str, *, approve: bool, reason: str) -> None:
    """Approve or deny a request, unless it is decided or gone."""
    found = api.get(f"{API}/{name}")
    if found is None or _decided(found):
        return
    kind = "Approved" if approve else "Denied"
    condition = {"type": kind, "status": "True", "reason": "Protokube", "message": reason}
    status = found.get("status") or {}
    after = {**found, "status": {**status, "conditions": [*(status.get("conditions") or ()), condition]}}
    try:
        api.replace(f"{API}/{name}/approval", after)
    except KubeError as error:
        # Another control-plane node has decided it a moment before.
        if error.status not in (404, 409):
            raise


def _request(one: Object, read: Read) -> ServingRequest:
    spec: Mapping[str, Any] = one["spec"]
    try:
        names = read(b64decode(spec["request"], validate=True))
    except ValueError as error:
        names = str(error)
    groups, usages = tuple(spec.get("groups") or ()), tuple(spec.get("usages") or ())
    return ServingRequest(one["metadata"]["name"], spec.get("username", ""), groups, usages, names)


def _decided(one: Object) -> bool:
    conditions = (one.get("status") or {}).get("conditions") or ()
    return any(condition["type"] in _DECIDED for condition in conditions)


def _addresses(spec: Mapping[str, Any]) -> Iterator[str]:
    yield from (spec[key] for key in ("clusterIP", "loadBalancerIP") if spec.get(key) not in (None, "", "None"))
    for key in ("clusterIPs", "externalIPs"):
        yield from spec.get(key) or ()


def watch_requests(api: KubeApi, changed: Callable[[], None]) -> None:
    """Call `changed` with each request that comes, until the API server ends the watch; it does every few minutes.

    Raises ProviderError when it doesn't answer.
    """
    page = api.page(API, fieldSelector=OURS)
    version = (page.get("metadata") or {}).get("resourceVersion") or ""
    if any(not _decided(one) for one in page.get("items") or ()):
        changed()
    for event in api.watch(API, fieldSelector=OURS, resourceVersion=version):
        if event.get("type") == "ERROR":
            raise ProviderError(f"the API server ends the watch of requests: {event.get('object')}")
        if event.get("type") == "ADDED":
            changed()
