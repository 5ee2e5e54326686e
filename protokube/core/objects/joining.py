"""Judges the requests of machines that join: a bootstrap token for a node's first client certificate.

Whoever holds a token sends such a request, and whoever has a node's certificate reads what its pods use. So a token
makes no node that exists, unless it was made for that very one, and never a control-plane node. Nor does it make one
that another token has made: its certificate may still be used, whatever became of its Node. The controller manager
would approve any name: it is allowed to approve a node's own renewals alone.
"""

from __future__ import annotations

from protokube.core.objects.model import BOOTSTRAPPERS
from protokube.core.objects.requests import (
    CLIENT,
    NODE_USER,
    Claim,
    Known,
    Request,
    RequestNames,
    Reserved,
    Verdict,
    identity_fault,
)
from protokube.core.objects.tokens import is_node_name

TOKEN_USER = "system:bootstrap:"
"""Before a token's id: the user that its holder is."""
_CLIENT = "client auth"
_USAGES = frozenset({_CLIENT, "digital signature", "key encipherment"})


def joins(request: Request) -> bool:
    """Whether a request is a joining machine's, with a token of ours. Others are decided by other hands."""
    return request.signer == CLIENT and BOOTSTRAPPERS in request.groups


def judge(request: Request, known: Known, reserved: Reserved) -> Verdict:
    """Judge a request that `joins`."""
    names = request.names
    if not request.user.startswith(TOKEN_USER):
        return Verdict(False, f"{request.user} is no holder of a token")
    if _CLIENT not in request.usages or not set(request.usages) <= _USAGES:
        usages = ", ".join(request.usages)
        return Verdict(False, f"its usages are {usages} (expected {_CLIENT}, and none but a client's)")
    if isinstance(names, str):
        return Verdict(False, f"the request can't be read: {names}")
    name = names.common_name.removeprefix(NODE_USER)
    if fault := identity_fault(names, NODE_USER + name) or _names_fault(names, name):
        return Verdict(False, fault)
    if reserved.name(name):
        return Verdict(False, f"{name} is a name of the control plane or of a service, and of no node that joins")
    return _by_token(request, name, known)


def _by_token(request: Request, name: str, known: Known) -> Verdict:
    token = request.user.removeprefix(TOKEN_USER)
    made_for = known.tokens.get(token)
    if made_for is None:
        return Verdict(False, f"the token {token} was deleted, or has ended")
    if made_for == name:
        return Verdict(True, f"the token {token} was made for {name}", Claim(name, again=True))
    if made_for:
        return Verdict(False, f"the token {token} was made for {made_for}, and not for {name}")
    again = f"a machine that comes back needs a token of its own: protokube token create --for {name}"
    if name in known.nodes:
        return Verdict(False, f"there is a node {name} already; {again}")
    if name in known.alive:
        return Verdict(False, f"a kubelet has the lease of a node {name}; {again}")
    if name in known.certified or known.claimed.get(name, request.uid) != request.uid:
        return Verdict(False, f"another request has got a certificate for {name}; {again}")
    return Verdict(True, f"no node is called {name} yet", Claim(name))


def _names_fault(names: RequestNames, name: str) -> str | None:
    if names.dns or names.addresses or names.others:
        return "it has names beside its subject (expected none)"
    if not is_node_name(name):
        return f"{name!r} is no name of a node (expected one like worker-1)"
    return None
