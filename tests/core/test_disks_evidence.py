"""Disks that must not be used as they look: what once ran etcd, what is damaged, protected or overgrown."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from protokube.core.disks.assess import GROW_BY
from protokube.core.disks.identity import Identity
from protokube.core.disks.model import Disk, Ext4, Mounted
from protokube.core.model import GIB, Unknown
from protokube.core.node.model import Mount
from protokube.core.observed import Observed
from tests.core.states import (
    CLUSTER,
    TARGET,
    UUID,
    VOLUME,
    changed,
    contents,
    ext4,
    kinds,
    planned,
    rules,
    state,
    volume,
)

OTHER = "11111111-1111-4111-8111-111111111111"
OURS = Identity(CLUSTER, "main", "a", VOLUME, UUID)
MANIFEST = "k8s.io/manifests/etcd.manifest"
POD = (
    "spec: {containers: [{image: etcd:3.5.9, env: [{name: ETCD_NAME, value: etcd-a}, "
    f"{{name: ETCD_INITIAL_CLUSTER, value: etcd-a=http://etcd-a.internal.{CLUSTER}:2380}}]}}]}}"
)


def disk(content: Ext4, **more: Any) -> Observed:
    return state(disks={VOLUME: Disk("/dev/nvme1n1", (259, 1), GIB, content, **more)})


def test_a_write_protected_disk_is_refused_by_name_whatever_stands_on_it() -> None:
    made = planned(disk(ext4(), read_only=True))
    assert rules(made) == ["disk/write-protected"] and kinds(made) == []
    assert "blockdev --setrw /dev/nvme1n1" in made.refusals[0].evidence


@pytest.mark.parametrize(
    ("uuid", "planned_kinds", "rule"), [(UUID, ["check-filesystem"], []), (OTHER, [], ["filesystem/damaged"])]
)
def test_a_damaged_filesystem_is_checked_when_it_is_ours_and_refused_else(
    uuid: str, planned_kinds: list[str], rule: list[str]
) -> None:
    made = planned(disk(ext4(uuid=uuid, used=True, contents=Unknown("unreadable"), damaged="root directory")))
    assert kinds(made) == planned_kinds and rules(made) == rule


def test_a_filesystem_is_not_grown_over_what_stands_behind_it() -> None:
    found = ext4(size=GIB - GROW_BY, used=True, checked=True)
    assert kinds(planned(disk(found))) == ["grow-filesystem"]
    made = planned(disk(replace(found, behind="a swap signature at 900 MiB")))
    assert kinds(made) == ["mount-volume"] and rules(made) == ["grow/not-blank"], "its member serves nevertheless"


def test_lost_files_without_an_identity_are_no_empty_volume() -> None:
    found = ext4(used=True, checked=True, contents=contents("lost+found/#12/"))
    assert rules(planned(disk(found))) == ["volume/lost-root"]
    known = ext4(used=True, checked=True, contents=contents("lost+found/#12/", identity=OURS))
    assert kinds(planned(disk(known))) == ["mount-volume"], "the identity file says whose it is"


def test_a_link_in_the_place_of_etcds_data_is_no_missing_data() -> None:
    held = contents("var/", "var/etcd/", "var/etcd/data/", "var/etcd/data/member")
    linked = replace(held, others=frozenset({"var/etcd/data/member"}))
    assert rules(planned(disk(ext4(used=True, checked=True, contents=linked)))) == ["volume/lost-root"]


def test_a_leftover_counts_only_as_the_plain_file_that_we_write() -> None:
    name = "k8s.io/.identity.yaml.protokube-new"
    assert kinds(planned(disk(ext4(contents=contents("k8s.io/", name))))) == ["mount-volume"]
    linked = replace(contents("k8s.io/", name), others=frozenset({name}))
    assert rules(planned(disk(ext4(contents=linked)))) == ["volume/foreign-data"]
    elsewhere = contents("k8s.io/", "k8s.io/.passwords.protokube-new")
    assert rules(planned(disk(ext4(contents=elsewhere)))) == ["volume/foreign-data"]


def mounted_kops(*entries: str) -> Observed:
    """A volume that kops's etcd ran on, mounted."""
    held = contents("k8s.io/", "k8s.io/manifests/", MANIFEST, *entries, uuid=OTHER)
    held = replace(held, texts={MANIFEST: POD}, mtimes={MANIFEST: 0})
    where = Mount(TARGET, (259, 1), "ext4", read_only=False)
    return changed(state(Mounted()), mounts=(where,), contents={VOLUME: held})


def test_a_member_that_kops_ran_and_whose_data_is_gone_never_starts_as_new() -> None:
    made = planned(mounted_kops())
    (step,) = [one for one in made.steps if one.action.subject.endswith("identity.yaml")]
    assert "started: true" in step.action.content  # type: ignore[attr-defined]
    assert "etcd.manifest" not in " ".join(one.action.subject for one in made.steps)


def test_tags_that_disagree_on_the_members_form_no_cluster() -> None:
    single = volume(holder="n1")  # a/a
    other = volume("vol-b", "b/a,b,c")
    held = contents(identity=OURS)
    where = Mount(TARGET, (259, 1), "ext4", read_only=False)
    observed = changed(state(Mounted()), mounts=(where,), contents={VOLUME: held}, volumes=(single, other))
    made = planned(observed)
    assert rules(made) == ["etcd/member-lists"] and not [
        one for one in made.steps if "manifest" in one.action.subject
    ]
    assert "vol-b has b/a,b,c" in next(one.evidence for one in made.refusals if one.rule == "etcd/member-lists")
