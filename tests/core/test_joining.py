"""Which machines get a first certificate for a bootstrap token."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from protokube.core.assess_control_plane import names_of
from protokube.core.objects.joining import joins, judge
from protokube.core.objects.model import BOOTSTRAPPERS
from protokube.core.objects.requests import CLIENT, SERVING, Known, Request, RequestNames, Reserved, Verdict
from protokube.core.volumes.model import Peer

KNOWN = Known(
    frozenset({"w1"}),
    {"anyone": "", "forwtw": "w2", "forwon": "w1", "forapi": "cp", "forold": "w6"},
    frozenset({"w8"}),
    {"w6": "another", "w5": "u"},
    frozenset({"w7"}),
)
RESERVED = Reserved(names=frozenset({"cp", "api.dev.example.com"}), domains=frozenset({"cluster.local"}))
USAGES = ("digital signature", "key encipherment", "client auth")
GOOD = Request(
    "csr-1", "system:bootstrap:anyone", (BOOTSTRAPPERS, "system:bootstrappers"), USAGES,
    RequestNames("system:node:w2", ("system:nodes",)), CLIENT, "u",
)  # fmt: skip


def verdict(**changes: Any) -> Verdict:
    assert isinstance(GOOD.names, RequestNames)
    about = {key: value for key, value in changes.items() if key in ("user", "usages", "names")}
    inside = {key: value for key, value in changes.items() if key not in about}
    if name := inside.pop("node", None):
        inside["common_name"] = f"system:node:{name}"
    request = replace(GOOD, **({"names": replace(GOOD.names, **inside)} if inside else {}))
    return judge(replace(request, **about), KNOWN, RESERVED)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"usages": ("digital signature", "client auth")},
        {"node": "ip-10-0-0-1.eu-west-1.compute.internal"},
        {"user": "system:bootstrap:forwtw"},
        {"user": "system:bootstrap:forwon", "node": "w1"},
        {"user": "system:bootstrap:forold", "node": "w6"},
        {"node": "w5"},
    ],
)
def test_a_new_machine_and_the_one_that_a_token_names_get_one(changes: dict[str, Any]) -> None:
    assert verdict(**changes).approve


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"node": "w1"}, "token create --for w1"),
        ({"node": "w8"}, "another request"),
        ({"node": "w6"}, "another request"),
        ({"node": "w7"}, "has the lease"),
        ({"node": "cp"}, "control plane"),
        ({"user": "system:bootstrap:forapi", "node": "cp"}, "control plane"),
        ({"node": "kubernetes.default.svc"}, "control plane"),
        ({"node": "x.cluster.local"}, "control plane"),
        ({"user": "system:bootstrap:forwtw", "node": "w3"}, "made for w2"),
        ({"user": "system:bootstrap:forwtw", "node": "w1"}, "made for w2"),
        ({"user": "system:bootstrap:nobody"}, "deleted"),
        ({"user": "system:bootstrap:"}, "deleted"),
        ({"user": "admin"}, "no holder"),
        ({"node": "W2"}, "no name of a node"),
        ({"node": "a" * 254}, "no name of a node"),
        ({"common_name": "system:node:"}, "no name of a node"),
        ({"common_name": "w2"}, "expected 'system:node:w2'"),
        ({"organizations": ("system:masters",)}, "system:masters"),
        ({"organizations": ("system:nodes", "system:masters")}, "alone"),
        ({"organizations": ()}, "none"),
        ({"dns": ("w2",)}, "beside its subject"),
        ({"addresses": ("10.0.0.1",)}, "beside its subject"),
        ({"others": 1}, "beside its subject"),
        ({"usages": ("server auth",)}, "server auth"),
        ({"usages": ("client auth", "server auth")}, "server auth"),
        ({"usages": ()}, "expected client auth"),
        ({"names": "not ASN.1"}, "can't be read"),
    ],
)
def test_anything_else_is_denied(changes: dict[str, Any], reason: str) -> None:
    made = verdict(**changes)
    assert not made.approve and reason in made.reason


def test_requests_of_other_hands_are_left_to_them() -> None:
    assert joins(GOOD)
    assert not joins(replace(GOOD, signer=SERVING))
    assert not joins(replace(GOOD, user="system:node:w1", groups=("system:nodes",)))
    assert not joins(replace(GOOD, groups=("system:bootstrappers:kubeadm:default-node-token",)))


def test_the_node_names_of_control_plane_machines_are_theirs_where_the_cloud_has_other_names() -> None:
    peers = (Peer("i-1", (), name="ip-10-0-0-1.ec2.internal"), Peer("N2", ()))
    assert names_of(peers) == {"i-1", "ip-10-0-0-1.ec2.internal", "n2"}
