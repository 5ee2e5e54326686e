"""The identity file of a volume, and the UUID of the filesystem that protokube makes for it."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from protokube.core.disks.identity import Identity, parse_identity
from protokube.core.disks.paths import IDENTITY_PATH
from protokube.core.model import Rejected
from protokube.core.volumes.model import EtcdMember
from protokube.core.volumes.uuid import filesystem_uuid

MEMBER = EtcdMember("main", "a", ("a", "b", "c"))
IDENTITY = Identity("c.example.com", "main", "a", "vol-1", "5f2a", "3.6.6", True)


def test_the_uuid_is_always_the_same() -> None:
    """Formatted volumes in the field bear it: a change would make every one of them unknown."""
    assert filesystem_uuid("c.example.com", EtcdMember("main", "a", ("a",)), "vol-m") == UUID


def test_the_uuid_differs_with_everything_it_names() -> None:
    events = EtcdMember("events", "a", ("a",))
    other = EtcdMember("main", "b", ("a", "b"))
    uuids = {
        filesystem_uuid("c", MEMBER, "vol-1"),
        filesystem_uuid("d", MEMBER, "vol-1"),
        filesystem_uuid("c", MEMBER, "vol-2"),
        filesystem_uuid("c", events, "vol-1"),
        filesystem_uuid("c", other, "vol-1"),
    }
    assert len(uuids) == 5
    assert filesystem_uuid("c", MEMBER, "v") == filesystem_uuid("c", EtcdMember("main", "a", ("a",)), "v")


VERSIONS = st.from_regex(r"[0-9]{1,9}\.[0-9]{1,9}\.[0-9]{1,9}", fullmatch=True)


@given(st.builds(Identity, *[st.text()] * 5, st.none() | VERSIONS, st.booleans()))
def test_a_file_says_what_was_written(identity: Identity) -> None:
    text = identity.render()
    if "\x85" not in text:
        parsed = parse_identity(text)
        assert parsed == identity or isinstance(parsed, Rejected)


@pytest.mark.parametrize(
    "version", ["v3.5.21", "3", "3.6", "3.6.6-0", "", "latest", "9" * 5000 + ".1.1", "³.6.6", "3.6.6\n"]
)
def test_a_version_that_nobody_could_compare_is_refused(version: str) -> None:
    judged = parse_identity(replace(IDENTITY, etcd_version=version).render())
    assert isinstance(judged, Rejected) and judged.rule == "volume/identity"
    expected = "expected a version such as 3.6.6, or null"
    assert judged.evidence == f"{IDENTITY_PATH}: etcdVersion is {version!r}, {expected}"


@pytest.mark.parametrize("version", [None, "3.6.6", "3.4.23", "3.10.0"])
def test_what_the_program_writes_is_read_again(version: str | None) -> None:
    identity = replace(IDENTITY, etcd_version=version)
    assert parse_identity(identity.render()) == identity


def test_a_file_is_the_same_for_the_same_identity() -> None:
    assert IDENTITY.render() == IDENTITY.render()
    assert parse_identity(IDENTITY.render()) == IDENTITY


@given(st.text())
def test_any_text_is_judged(text: str) -> None:
    assert isinstance(parse_identity(text), Identity | Rejected)


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("cluster: c.example.com\n", "", "cluster is None"),
        ("started: true", "started: 1", "started is 1, expected a boolean"),
        ("started: true", "started: 'yes'", "expected a boolean"),
        ("member: a", "member: [a]", "expected a text"),
        ("etcdVersion: 3.6.6", "etcdVersion: 3.6", "etcdVersion is 3.6, expected a version"),
        ("started: true", "started: true\nmore: 1", "unknown keys more"),
        ("member: a", "member: {", "no YAML"),
        ("cluster: c.example.com", "cluster: !!python/object/apply:os.getcwd []", "no YAML"),
    ],
)
def test_a_damaged_file_is_refused(old: str, new: str, why: str) -> None:
    text = IDENTITY.render()
    assert old in text
    judged = parse_identity(text.replace(old, new))
    assert isinstance(judged, Rejected) and judged.rule == "volume/identity" and why in judged.evidence


@pytest.mark.parametrize("text", ["", "[]", "a", "3"])
def test_a_file_that_is_no_mapping(text: str) -> None:
    judged = parse_identity(text)
    assert isinstance(judged, Rejected) and "expected a mapping" in judged.evidence


UUID = "9644bf7b-6614-5e43-9965-42f425e2b2d6"


def test_the_uuid_is_the_standard_library_s_version_5() -> None:
    namespace = uuid.uuid5(uuid.NAMESPACE_DNS, "protokube.k8s.io")
    expected = uuid.uuid5(namespace, "c.example.com\nmain\na\nvol-m")
    assert filesystem_uuid("c.example.com", EtcdMember("main", "a", ("a",)), "vol-m") == str(expected)
