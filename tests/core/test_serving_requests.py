"""Which requests for kubelets' serving certificates are approved."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from protokube.core.objects.requests import Request, RequestNames, Reserved, Verdict
from protokube.core.objects.serving import judge

NODES = {"w1": ("10.0.0.1", "fd00::1"), "w2": ("10.0.0.2",), "cp": ("10.0.0.9",)}
RESERVED = Reserved(
    frozenset({"10.96.0.1", "fd00:0::9", "None"}),
    frozenset({"api.internal.dev.example.com", "api.dev.example.com", "cp"}),
    frozenset({"cluster.local"}),
)
GOOD = Request(
    "csr-1", "system:node:w1", ("system:nodes", "system:authenticated"),
    ("digital signature", "key encipherment", "server auth"),
    RequestNames("system:node:w1", ("system:nodes",), ("w1",), ("10.0.0.1",)),
)  # fmt: skip


def verdict(nodes: dict[str, tuple[str, ...]] | None = None, **changes: Any) -> Verdict | None:
    assert isinstance(GOOD.names, RequestNames)
    about = {key: value for key, value in changes.items() if key in ("user", "groups", "usages", "names")}
    inside = {key: value for key, value in changes.items() if key not in about}
    request = replace(GOOD, **({"names": replace(GOOD.names, **inside)} if inside else {}))
    return judge(replace(request, **about), NODES if nodes is None else nodes, RESERVED)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"usages": ("digital signature", "server auth")},
        {"dns": ()},
        {"addresses": ()},
        {"addresses": ("10.0.0.1", "fd00::1")},
    ],
)
def test_a_node_gets_its_own_name_and_addresses(changes: dict[str, Any]) -> None:
    made = verdict(**changes)
    assert made is not None and made.approve


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"user": "admin"}, "no node"),
        ({"user": "system:node:"}, "no node"),
        ({"user": "system:bootstrap:abcdef"}, "no node"),
        ({"groups": ("system:bootstrappers",)}, "no node"),
        ({"common_name": "system:node:w2"}, "expected 'system:node:w1'"),
        ({"user": "system:node:w2"}, "expected 'system:node:w2'"),
        ({"organizations": ()}, "none"),
        ({"organizations": ("system:masters",)}, "system:masters"),
        ({"organizations": ("system:nodes", "system:masters")}, "alone"),
        ({"usages": ("digital signature", "client auth")}, "client auth"),
        ({"usages": ("server auth", "client auth")}, "client auth"),
        ({"usages": ("digital signature",)}, "expected server auth"),
        ({"usages": ()}, "expected server auth"),
        ({"others": 1}, "neither DNS names nor addresses"),
        ({"dns": ("w1", "kubernetes.default")}, "kubernetes.default"),
        ({"dns": ("w2",)}, "w2"),
        ({"dns": ("*.example.com",)}, "*.example.com"),
        ({"dns": (), "addresses": ()}, "neither a name nor an address"),
        ({"addresses": ("10.0.0.2",)}, "none of its node's addresses"),
        ({"addresses": ("10.0.0.1", "10.0.0.9")}, "10.0.0.9"),
        ({"addresses": ("127.0.0.1",)}, "no address of a node"),
        ({"addresses": ("0.0.0.0",)}, "no address of a node"),
        ({"addresses": ("10.96.0.1",)}, "no address of a node"),
        ({"addresses": ("fd00::9",)}, "no address of a node"),
        ({"addresses": ("::ffff:10.0.0.1",)}, "another form"),
        ({"addresses": ("::ffff:10.96.0.1",)}, "another form"),
        ({"names": "not ASN.1"}, "can't be read"),
    ],
)
def test_anything_else_is_denied(changes: dict[str, Any], reason: str) -> None:
    made = verdict(**changes)
    assert made is not None and not made.approve and reason in made.reason


def test_an_address_that_two_nodes_claim_goes_to_none() -> None:
    thief = NODES | {"w2": ("10.0.0.2", "10.0.0.1")}
    made = verdict(thief)
    assert made is not None and not made.approve and "claimed by w2 as well" in made.reason
    loopback = verdict({"w1": ("127.0.0.1",)}, addresses=("127.0.0.1",))
    assert loopback is not None and not loopback.approve


@pytest.mark.parametrize(
    ("claim", "asked"),
    [("fd00:0:0::1", "fd00::1"), ("fd00::0001", "fd00::1"), ("FD00::1", "fd00::1"), ("::ffff:10.0.0.1", "10.0.0.1")],
)
def test_an_address_is_the_same_however_it_is_written(claim: str, asked: str) -> None:
    own = verdict({"w1": (claim, "no address")}, addresses=(asked,))
    assert own is not None and own.approve
    both = verdict({"w1": (asked,), "w2": (claim,)}, addresses=(asked,))
    assert both is not None and not both.approve and "claimed by w2 as well" in both.reason


@pytest.mark.parametrize(
    "name",
    [
        "api.internal.dev.example.com",
        "api.dev.example.com",
        "API.dev.example.com.",
        "cp",
        "localhost",
        "a.localhost",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
        "svc",
        "a.b.svc",
        "cluster.local",
        "a.cluster.local",
    ],
)
@pytest.mark.parametrize("addresses", [(), ("10.0.0.1",)])
def test_no_node_has_a_name_of_the_control_plane_or_of_a_service(name: str, addresses: tuple[str, ...]) -> None:
    user = f"system:node:{name}"
    for dns in ((name,), ()):
        made = verdict({name: ("10.0.0.1",)}, user=user, common_name=user, dns=dns, addresses=addresses)
        assert made is not None and not made.approve
        assert f"{name} is a name of the control plane" in made.reason


def test_a_node_that_is_not_there_yet_is_waited_for() -> None:
    assert verdict({}) is None
    denied = verdict({}, organizations=("system:masters",))
    assert denied is not None and not denied.approve, "what is wrong in any case isn't waited for"
