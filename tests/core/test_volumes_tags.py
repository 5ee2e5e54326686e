"""The grammar of volume tags."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protokube.core.model import Rejected
from protokube.core.volumes.model import EtcdMember
from protokube.core.volumes.tags import (
    etcd_member,
    has_master_role,
    in_cluster,
    instance_group,
    is_dns_label,
    parse_spec,
)

LABEL = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True)


@pytest.mark.parametrize(
    ("spec", "me", "members"),
    [
        ("a/a", "a", ("a",)),
        ("a/a,b,c", "a", ("a", "b", "c")),
        ("c/a,b,c", "c", ("a", "b", "c")),
        ("  b/b,a \n", "b", ("b", "a")),
        ("us-east-1a/us-east-1a,1", "us-east-1a", ("us-east-1a", "1")),
    ],
)
def test_accepted(spec: str, me: str, members: tuple[str, ...]) -> None:
    assert parse_spec("main", spec) == EtcdMember("main", me, members)


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ("", "no slash"),
        ("a", "no slash"),
        ("/", "empty"),
        ("a/", "empty"),
        ("/a", "empty"),
        ("a/a,,b", "empty"),
        ("a/a,", "empty"),
        ("a/a,a", "listed twice"),
        ("a/b,c", "not among the members"),
        ("a/a/b", "more than one slash"),
        ("A/A", "no DNS label"),
        ("a/a, b", "no DNS label"),
        ("a_b/a_b", "no DNS label"),
        ("-a/-a", "no DNS label"),
        ("a-/a-", "no DNS label"),
        ("../../etc", "more than one slash"),
        ("../..", "no DNS label"),
        ("a/a,b\x00", "no DNS label"),
        ("a/a,b\nc", "no DNS label"),
        ("ä/ä", "no DNS label"),
        (f"{'a' * 64}/{'a' * 64}", "no DNS label"),
        (f"{'a' * 60}/{'a' * 60}", "too long"),
    ],
)
def test_rejected_with_the_tag_and_the_reason(spec: str, why: str) -> None:
    judged = parse_spec("main", spec)
    assert isinstance(judged, Rejected)
    assert judged.rule == "volume/bad-etcd-tag"
    assert why in judged.evidence and repr(spec) in judged.evidence and "k8s.io/etcd/main" in judged.evidence


@given(st.text())
def test_any_text_is_judged_and_what_is_accepted_is_safe(spec: str) -> None:
    """Names become paths and host names: nothing but labels may come through."""
    judged = parse_spec("main", spec)
    if isinstance(judged, EtcdMember):
        assert judged.me in judged.members and len(set(judged.members)) == len(judged.members)
        assert all(is_dns_label(name) and name.isascii() for name in judged.members)
        assert spec.strip() == f"{judged.me}/{','.join(judged.members)}"


@given(st.lists(LABEL, min_size=1, max_size=7, unique=True), st.data())
def test_what_is_well_formed_is_accepted(members: list[str], data: st.DataObject) -> None:
    me = data.draw(st.sampled_from(members))
    assert parse_spec("main", f"{me}/{','.join(members)}") == EtcdMember("main", me, tuple(members))


@given(st.text())
def test_labels_are_what_the_resolver_takes(name: str) -> None:
    expected = (
        0 < len(name) < 64
        and all(one in "abcdefghijklmnopqrstuvwxyz0123456789-" for one in name)
        and name.strip("-") == name
    )
    assert is_dns_label(name) == expected


def test_the_clusters_key_is_a_label_too() -> None:
    assert isinstance(etcd_member({"k8s.io/etcd/../x": "a/a"}), Rejected)
    assert isinstance(etcd_member({"k8s.io/etcd/": "a/a"}), Rejected)


def test_one_etcd_tag_per_volume() -> None:
    assert etcd_member({"Name": "x"}) is None
    judged = etcd_member({"k8s.io/etcd/main": "a/a", "k8s.io/etcd/events": "a/a"})
    assert isinstance(judged, Rejected) and judged.rule == "volume/several-clusters"


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({"KubernetesCluster": "c"}, True),
        ({"kubernetes.io/cluster/c": "owned"}, True),
        ({"kubernetes.io/cluster/c": "shared"}, True),
        ({"kubernetes.io/cluster/c": "no"}, False),
        ({"KubernetesCluster": "c2"}, False),
        ({"kubernetes.io/cluster/c2": "owned"}, False),
        ({}, False),
    ],
)
def test_cluster(tags: dict[str, str], expected: bool) -> None:
    assert in_cluster(tags, "c") == expected


def test_role_and_group() -> None:
    assert has_master_role({"k8s.io/role/master": ""}) and has_master_role({"k8s.io/role/control-plane": "1"})
    assert not has_master_role({"k8s.io/role/node": "1"})
    assert instance_group({"kops.k8s.io/instance-group": "g"}) == "g"
    assert instance_group({"k8s.io/instance-group": "", "kops.k8s.io/instance-group": "g"}) == "g"
    assert instance_group({}) is None
