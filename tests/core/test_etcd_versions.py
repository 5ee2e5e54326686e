"""Which etcd image runs: legal steps between versions, and versions that corrupt data."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from protokube.core.disks.identity import Identity
from protokube.core.disks.model import Mounted, VolumeContents
from protokube.core.etcd.model import EtcdSettings, MountedMember
from protokube.core.etcd.versions import image_to_run, way, why_no_step
from protokube.core.model import Rejected
from protokube.core.node.actions import WriteFile
from protokube.core.node.model import OnVolume
from protokube.core.steps import Plan
from protokube.core.volumes.model import MemberVolume
from tests.core.states import (
    CLUSTER,
    MEMBER,
    TARGET,
    UUID,
    VOLUME,
    changed,
    contents,
    mounted,
    planned,
    rules,
    state,
    volume,
)
from tests.rounds.process import templates

IMAGE = "registry.k8s.io/etcd:{}-0"
DEFAULT = IMAGE.format("3.6.12")
MANIFEST = "k8s.io/manifests/etcd.manifest"
POD = "spec: {containers: [{image: %s}]}"


def chosen(ran: str | None, *, image: str | None = None, manifest: str | None = None) -> str | Rejected:
    """The image for a member on which version `ran` was the last one; None when none ever was."""
    identity = Identity(CLUSTER, "main", "a", VOLUME, UUID, ran, started=ran is not None)
    texts = {} if manifest is None else {MANIFEST: POD % manifest}
    member = MountedMember(
        MemberVolume(volume(), MEMBER, UUID),
        templates()["main"],
        "/etc/kubernetes/manifests/etcd.manifest",
        OnVolume(TARGET, (259, 1)),
        VolumeContents(frozenset(texts), texts, uuid=UUID),
    )
    return image_to_run(EtcdSettings(image=image, default_image=DEFAULT), member, identity)


@pytest.mark.parametrize("version", ["3.5.0", "3.5.1", "3.5.2"])
@pytest.mark.parametrize("ran", [None, "3.4.27", "3.5.0", "3.5.21"])
def test_a_version_that_corrupts_data_never_starts(version: str, ran: str | None) -> None:
    refused = chosen(ran, image=IMAGE.format(version))
    assert isinstance(refused, Rejected) and refused.rule == "etcd/version"
    assert "3.5.0 to 3.5.2 can corrupt data; take 3.5.32 or newer" in refused.evidence


@pytest.mark.parametrize(
    ("ran", "version"),
    [
        ("3.5.2", "3.5.3"),  # away from a version that corrupts data
        ("3.5.32", "3.6.6"),
        ("3.5.40", "3.6.12"),
        ("3.6.11", "3.7.0"),
        ("3.6.6", "3.6.5"),  # patches go both ways
        ("3.4.27", "3.5.32"),
        (None, "3.7.0"),
    ],
)
def test_a_legal_step_is_taken(ran: str | None, version: str) -> None:
    assert chosen(ran, image=IMAGE.format(version)) == IMAGE.format(version)


@pytest.mark.parametrize(
    ("ran", "version", "patch"),
    [("3.5.31", "3.6.12", "3.5.32"), ("3.5.9", "3.6.6", "3.5.32"), ("3.6.10", "3.7.0", "3.6.11")],
)
def test_a_step_from_too_old_a_patch_names_the_one_to_run_first(ran: str, version: str, patch: str) -> None:
    refused = chosen(ran, image=IMAGE.format(version))
    assert isinstance(refused, Rejected) and refused.rule == "etcd/version"
    assert f"etcd {ran} ran here" in refused.evidence and f"run {patch} first" in refused.evidence


@pytest.mark.parametrize(("ran", "version"), [("3.5.32", "3.7.0"), ("3.6.12", "3.5.32"), ("3.6.12", "4.0.0")])
def test_more_than_one_step_and_a_step_down_are_refused(ran: str, version: str) -> None:
    refused = chosen(ran, image=IMAGE.format(version))
    assert isinstance(refused, Rejected) and "one minor version up at a time, never down" in refused.evidence


def test_the_operators_word_counts_where_versions_cant_be_compared() -> None:
    assert chosen("3.5.9", image="example.com/etcd@sha256:00") == "example.com/etcd@sha256:00"


def test_without_a_configured_image_a_member_keeps_its_minor_version() -> None:
    old = IMAGE.format("3.5.32")
    assert chosen(None) == chosen("3.6.6") == chosen("3.6.6", manifest=IMAGE.format("3.6.6")) == DEFAULT
    assert chosen("3.5.32", manifest=old) == old
    refused = chosen("3.5.32")
    assert isinstance(refused, Rejected) and "no manifest says which image; give --etcd-image" in refused.evidence


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("3.4.23", "3.5.30", ("3.5.30",)),
        ("3.4.23", "3.6.8", ("3.5.32", "3.6.8")),
        ("3.4.23", "3.7.1", ("3.5.32", "3.6.11", "3.7.1")),
        ("3.5.16", "3.6.8", ("3.5.32", "3.6.8")),
        ("3.5.40", "3.6.8", ("3.6.8",)),
        ("3.6.8", "3.7.1", ("3.6.11", "3.7.1")),
        ("3.5.16", "3.5.30", ("3.5.30",)),
        ("3.7.1", "3.9.0", ("3.8.0", "3.9.0")),
    ],
)
def test_the_way_to_a_version_goes_by_steps_that_are_all_safe(
    before: str, after: str, expected: tuple[str, ...]
) -> None:
    assert way(before, after) == expected
    for one, following in zip((before, *expected), expected, strict=False):
        assert why_no_step(one, following) == ""


def started_unrecorded(image: str) -> Plan:
    """One pass on a member that started under 3.5.21, which nothing has recorded yet."""
    pod = "# Written by protokube\nspec: {containers: [{image: 'registry.k8s.io/etcd:3.5.21-0', env: []}]}"
    identity = Identity(CLUSTER, "main", "a", VOLUME, UUID)
    held = contents("k8s.io/", "var/etcd/data/", "var/etcd/data/member/", MANIFEST, identity=identity)
    held = replace(held, texts={**held.texts, MANIFEST: pod}, mtimes={**held.mtimes, MANIFEST: 0})
    observed = changed(state(Mounted()), mounts=(mounted(),), contents={VOLUME: held})
    return planned(observed, etcd_image=image)


def test_a_start_is_recorded_before_the_image_is_judged() -> None:
    made = started_unrecorded("registry.k8s.io/etcd:3.7.0")
    assert rules(made) == ["etcd/version"]
    (written,) = [one.action for one in made.steps if one.action.subject.startswith("/mnt/")]
    assert isinstance(written, WriteFile) and "started: true" in written.content
    assert "etcdVersion: 3.5.21" in written.content


def test_the_manifest_is_replaced_only_once_the_version_that_ran_is_recorded() -> None:
    made = started_unrecorded("registry.k8s.io/etcd:3.5.33")
    subjects = [one.action.subject for one in made.steps if "/mnt/" in one.action.subject]
    assert subjects == [f"/mnt/master-{VOLUME}/k8s.io/identity.yaml"] and rules(made) == []
