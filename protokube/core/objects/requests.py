"""Requests for certificates, as the API server lists them, and what of the control plane's no node may have."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

SERVING = "kubernetes.io/kubelet-serving"
"""The signer of kubelets' serving certificates."""
CLIENT = "kubernetes.io/kube-apiserver-client-kubelet"
"""The signer of the certificates that kubelets show to the API server."""
NODES = "system:nodes"
NODE_USER = "system:node:"

_INSIDE = ("kubernetes", "kubernetes.default", "localhost")
_DOMAINS = ("svc", "localhost")


class Reserved(Struct, frozen=True):
    """What no node may have: addresses, names, and domains with all names below them."""

    addresses: frozenset[str] = frozenset()
    names: frozenset[str] = frozenset()
    domains: frozenset[str] = frozenset()

    def name(self, name: str) -> bool:
        """Whether a name is the control plane's, or a service's."""
        plain = name.lower().rstrip(".")
        domains = (*_DOMAINS, *self.domains)
        return plain in (*_INSIDE, *self.names) or any(
            plain == domain or plain.endswith(f".{domain}") for domain in domains
        )


class RequestNames(Struct, frozen=True):
    """The names in a request. `others` counts those that are neither DNS names nor addresses."""

    common_name: str
    organizations: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    others: int = 0


class Request(Struct, frozen=True):
    """A request that nobody has decided. `user` and `groups` are who sent it, by the API server's word. `names` is a
    text where its PKCS #10 can't be read, and says why. `uid` tells it from a later one of the same name."""

    name: str
    user: str
    groups: tuple[str, ...]
    usages: tuple[str, ...]
    names: RequestNames | str
    signer: str = SERVING
    uid: str = ""


class Claim(Struct, frozen=True):
    """The name of a node that a token gets its certificate for, kept for good. `again`: the token was made for this
    node, and so it doesn't matter who had the name before."""

    node: str
    again: bool = False


class Verdict(Struct, frozen=True):
    """`approve` or deny a request, and why; None in place of a verdict: it is left until more is known.

    `claim`: what the certificate is got for, where it is a node's first one.
    """

    approve: bool
    reason: str
    claim: Claim | None = None


class Known(Struct, frozen=True):
    """What decides about machines that join. `tokens`: the ids of those that hold, each with the node that it was
    made for, or an empty text. `certified`: the names for which tokens have got a certificate lately. `claimed`: the
    names for which tokens ever got one, each with the uid of the request. `alive`: the names whose kubelets have a
    lease: one goes on renewing it when its Node is deleted."""

    nodes: frozenset[str] = frozenset()
    tokens: Mapping[str, str] = {}
    certified: frozenset[str] = frozenset()
    claimed: Mapping[str, str] = {}
    alive: frozenset[str] = frozenset()


def identity_fault(names: RequestNames, user: str) -> str | None:
    """Why a request doesn't ask for the identity of a node, `user`; None when it does."""
    if names.common_name != user:
        return f"it names {names.common_name!r} (expected {user!r})"
    if names.organizations != (NODES,):
        return f"it names the groups {', '.join(names.organizations) or 'none'} (expected {NODES} alone)"
    return None
