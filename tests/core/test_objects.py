"""Which objects are applied, and when."""

from __future__ import annotations

from typing import Any

import pytest

from protokube.core.model import Fault
from protokube.core.objects.actions import ApplyObject
from protokube.core.objects.assess import assess as judge_objects
from protokube.core.objects.assess import has_fields
from protokube.core.objects.coredns import ClusterDns
from protokube.core.objects.model import (
    BOOTSTRAPPERS,
    ObjectFacts,
    ObjectKey,
    ObjectsAssessment,
    ObjectWanted,
    key_of,
)
from protokube.core.objects.requests import CLIENT, Request, RequestNames, Reserved
from protokube.core.objects.tokens import Token, parse_life, secret_manifest, tokens_of
from protokube.core.objects.wanted import ObjectsInput, wanted_objects

DNS = ClusterDns("10.96.0.10", "cluster.local", "registry.k8s.io/coredns:1.7.0")
INPUT = ObjectsInput("node-a", "https://api.internal.dev.example.com:6443", "Q0E=", (1, 20, 2), DNS)
WANTED = wanted_objects(INPUT)
NODE = ObjectKey("v1", "Node", "node-a")
ALL = {one.key: dict(one.manifest) for one in WANTED}


def assess(wanted: tuple[ObjectWanted, ...], facts: ObjectFacts) -> ObjectsAssessment:
    return judge_objects(wanted, facts, Reserved(frozenset({"10.0.0.9"})))


@pytest.mark.parametrize(
    ("present", "wanted", "has"),
    [
        ({"a": 1, "b": 2}, {"a": 1}, True),
        ({"a": 1}, {"a": 2}, False),
        ({}, {"a": 1}, False),
        (None, {"a": 1}, False),
        ({"a": {"b": 1, "c": 2}}, {"a": {"c": 2}}, True),
        ([{"a": 1, "more": 2}], [{"a": 1}], True),
        ([{"a": 1}, {"a": 2}], [{"a": 1}], False),
        (["a", "b"], ["b", "a"], False),
        ("text", "text", True),
        ("text", ["t"], False),
        ({"a": ""}, {"a": ""}, True),
    ],
)
def test_an_object_is_right_when_it_has_every_wanted_field(present: Any, wanted: Any, has: bool) -> None:
    assert has_fields(present, wanted) is has


def test_an_api_server_that_was_not_asked_gets_nothing() -> None:
    judged = assess(WANTED, ObjectFacts())
    assert not judged.apply and judged.findings.converged and judged.wanted == WANTED


def test_an_api_server_that_is_not_ready_is_waited_for() -> None:
    judged = assess(WANTED, ObjectFacts(asked=True, not_ready="/readyz answers 500: [-]etcd failed"))
    assert not judged.apply and "etcd failed" in judged.findings.waiting[0].reason


def test_all_that_is_missing_is_applied_but_for_the_node_which_kubelet_makes() -> None:
    judged = assess(WANTED, ObjectFacts(asked=True, found=dict.fromkeys(ALL), ca="Q0E="))
    assert [one.key for one in judged.apply] == [one.key for one in WANTED if one.key != NODE]
    assert [one.subject for one in judged.findings.waiting] == ["Node node-a"]


def test_nothing_is_applied_to_objects_that_are_right_and_a_changed_one_is_mended() -> None:
    assert assess(WANTED, ObjectFacts(asked=True, found=ALL)).apply == ()
    name = "protokube:kubelet-bootstrap"
    key = ObjectKey("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", name)
    judged = assess(WANTED, ObjectFacts(asked=True, found=ALL | {key: {**ALL[key], "subjects": []}}))
    assert [one.key for one in judged.apply] == [key]


def test_applying_predicts_that_it_is_done() -> None:
    facts = ObjectFacts(asked=True, found={**dict.fromkeys(ALL), NODE: {"metadata": {"labels": {}}}})
    for one in assess(WANTED, facts).apply:
        facts = ApplyObject.of(one.manifest).predict(facts, 0.0)
    assert assess(WANTED, facts).apply == ()


@pytest.mark.parametrize(("address", "approved"), [("10.0.0.1", True), ("10.0.0.9", False), ("10.96.0.1", False)])
def test_no_address_of_this_api_server_or_of_those_that_it_tells_of_goes_to_a_node(
    address: str, approved: bool
) -> None:
    names = RequestNames("system:node:w1", ("system:nodes",), ("w1",), (address,))
    request = Request("r", "system:node:w1", ("system:nodes",), ("server auth",), names)
    facts = ObjectFacts(
        asked=True, found=ALL, requests=(request,), nodes={"w1": (address,)}, reserved=frozenset({"10.96.0.1"})
    )
    ((_, verdict),) = assess(WANTED, facts).decide
    assert verdict.approve is approved


def test_the_objects_give_a_bootstrap_token_no_more_than_a_certificate() -> None:
    given = [
        one.manifest["roleRef"]["name"]
        for one in WANTED
        if any(subject["name"] == BOOTSTRAPPERS for subject in one.manifest.get("subjects", ()))
    ]
    assert given == ["system:node-bootstrapper"]
    assert len({key_of(one.manifest) for one in WANTED}) == len(WANTED)


def test_the_clusters_dns_is_made_and_its_corefile_is_left_to_people() -> None:
    config = ObjectKey("v1", "ConfigMap", "coredns", "kube-system")
    assert ALL[config]["data"]["Corefile"].count("kubernetes cluster.local ") == 1
    mine = {**ALL[config], "data": {"Corefile": "mine"}}
    assert not assess(WANTED, ObjectFacts(asked=True, found=ALL | {config: mine})).apply
    deployment = ObjectKey("apps/v1", "Deployment", "coredns", "kube-system")
    older = {**ALL[deployment], "spec": {"replicas": 1}}
    judged = assess(WANTED, ObjectFacts(asked=True, found=ALL | {deployment: older}))
    assert [one.key for one in judged.apply] == [deployment]
    others = wanted_objects(ObjectsInput("n", "https://a", ""))
    assert not {config, deployment} & {one.key for one in others}


def test_labels_of_the_node_follow_the_version() -> None:
    def labels(version: tuple[int, int, int]) -> dict[str, str]:
        (node,) = [one for one in wanted_objects(ObjectsInput("n", "https://a", "", version)) if one.only_present]
        return dict(node.manifest["metadata"]["labels"])

    assert "node-role.kubernetes.io/master" in labels((1, 20, 2))
    assert "node-role.kubernetes.io/master" not in labels((1, 36, 2))
    assert "node-role.kubernetes.io/control-plane" in labels((1, 36, 2))


@pytest.mark.parametrize(("text", "seconds"), [("60s", 60.0), ("1m", 60.0), ("90m", 5400.0), ("24h", 86400.0)])
def test_a_life_is_read(text: str, seconds: float) -> None:
    assert parse_life(text) == seconds


@pytest.mark.parametrize("text", ["", "0s", "59s", "25h", "1441m", "1d", "1h30m", "-1h", "1.5h", "h", "١h"])
def test_a_life_that_is_too_long_or_no_life_is_refused(text: str) -> None:
    assert isinstance(parse_life(text), Fault)


def test_a_list_of_tokens_shows_no_secret() -> None:
    made = Token("abcdef", "2026-11-28T06:00:00Z", "rack 7", "w1")
    secret = secret_manifest(made, "0123456789abcdef")
    foreign = {"data": {"token-id": "not an id"}}
    listed = tokens_of([{**secret, "data": secret["stringData"]}, foreign, {}], lambda text: text)
    assert listed == (made,)
    assert "0123456789abcdef" not in repr(listed)


def test_of_two_requests_for_one_name_the_older_one_gets_it() -> None:
    names = RequestNames("system:node:w1", ("system:nodes",))
    usages = ("digital signature", "client auth")
    user = "system:bootstrap:abcdef"
    older, later = (
        Request(name, user, (BOOTSTRAPPERS,), usages, names, CLIENT, f"uid of {name}") for name in ("z", "a")
    )
    facts = ObjectFacts(asked=True, found=ALL, requests=(older, later), tokens={"abcdef": ""})
    decided = [(one.name, verdict.approve) for one, verdict in assess(WANTED, facts).decide]
    assert decided == [("z", True), ("a", False)]


@pytest.mark.parametrize(("age", "decided"), [(None, 1), (5.0, 0), (89.0, 0), (90.0, 1), (-3600.0, 1)])
def test_a_request_waits_until_the_new_authority_signs(age: float | None, decided: int) -> None:
    names = RequestNames("system:node:w1", ("system:nodes",))
    usages = ("digital signature", "client auth")
    request = Request("r", "system:bootstrap:abcdef", (BOOTSTRAPPERS,), usages, names, CLIENT, "uid")
    facts = ObjectFacts(asked=True, found=ALL, requests=(request,), tokens={"abcdef": ""}, signer_age=age)
    judged = assess(WANTED, facts)
    assert len(judged.decide) == decided and bool(judged.findings.waiting) is not bool(decided)


def test_no_machine_joins_as_a_control_plane_node() -> None:
    names = RequestNames("system:node:n2", ("system:nodes",))
    request = Request("r", "system:bootstrap:abcdef", (BOOTSTRAPPERS,), ("client auth",), names, CLIENT)
    facts = ObjectFacts(
        asked=True, found=ALL, requests=(request,), tokens={"abcdef": "n2"}, control_plane=frozenset({"n2"})
    )
    ((_, verdict),) = assess(WANTED, facts).decide
    assert not verdict.approve and "control plane" in verdict.reason
