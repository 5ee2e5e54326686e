"""Who may ask for what: a route of the hub is for one role. What isn't listed is for nobody."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from protokube.hub.core.names import Identity

ANYONE, NODE, OPERATOR = "anyone", "node", "operator"

ROUTES = {
    ("GET", "/v1/ca"): ANYONE,
    ("POST", "/v1/enrol"): ANYONE,  # its token says who asks
    ("POST", "/v1/renew"): NODE,
    ("GET", "/v1/link"): NODE,
    ("GET", "/v1/nodes"): OPERATOR,
    ("GET", "/v1/audit"): OPERATOR,
    ("GET", "/v1/page"): OPERATOR,
    ("GET", "/v1/commands"): OPERATOR,
    ("GET", "/v1/commands/{id}"): OPERATOR,
    ("GET", "/v1/commands/{id}/events"): OPERATOR,
    ("POST", "/v1/commands"): OPERATOR,
    ("POST", "/v1/commands/{id}/cancel"): OPERATOR,
}
JSON = "application/json"


class Denied(Struct, frozen=True):
    """A request that isn't answered. `status` is HTTP's."""

    status: int
    reason: str


def of_a_page(method: str, headers: Mapping[str, str]) -> Denied | None:
    """Judge a request that changes something: None when a program of ours sends it, and no web page.

    A browser that holds an operator's certificate shows it whichever page makes the request. Browsers name their
    pages in these headers, and ask first (with a method that has no route) before a page may send JSON. `headers`
    ignores case.
    """
    if method == "GET":
        return None
    for name in ("Origin", "Sec-Fetch-Site"):
        if name in headers:
            return Denied(403, f"{name}: a browser sends this; what changes something is taken from nokubectl alone")
    if headers.get("Content-Type", "").partition(";")[0].strip().lower() != JSON:
        return Denied(415, f"Content-Type: {JSON} was expected")
    return None


def may(hub: str, method: str, route: str, shown: Identity | None) -> Denied | None:
    """Judge a request by the identity of its certificate; None when it may pass."""
    wanted = ROUTES.get((method, route))
    if wanted is None:
        return Denied(404, f"{method} {route}: there is no such route")
    if wanted == ANYONE:
        return None
    if shown is None:
        return Denied(401, f"{route}: a certificate of a {wanted} is needed; this connection showed none of ours")
    if shown.hub != hub:
        return Denied(403, f"{route}: the certificate is for hub {shown.hub}, and this is {hub}")
    if shown.role != wanted:
        return Denied(403, f"{route}: it is for a {wanted}, and {shown.name} is a {shown.role}")
    return None
