"""From a disk to a mount: what is done with each content, and every refusal with its evidence."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from protokube.core.disks.identity import Identity
from protokube.core.disks.model import Blank, Disk, DiskContent, Mount, Mounted, NoDisk, NotBlank, VolumeContents, Working
from protokube.core.disks.plan import GROW_BY
from protokube.core.model import GIB, MIB, Unknown
from protokube.core.volumes.model import BOOTSTRAPPED_TAG, EtcdMember
from protokube.core.volumes.uuid import filesystem_uuid
from tests.core.states import (
    CLUSTER,
    FORMATTED,
    INTENT,
    RAN,
    TARGET,
    UUID,
    VOLUME,
    ext4,
    kinds,
    mounted,
    planned,
    rules,
    state,
    tree,
    volume,
)  # fmt: skip

OTHER = "11111111-1111-4111-8111-111111111111"
KOPS = "spec: {containers: [{image: etcd:3.5.9, env: [{name: ETCD_NAME, value: %s}]}]}"
MINE = Identity(CLUSTER, "main", "a", VOLUME, UUID)


def kops(name: str) -> VolumeContents:
    path = "k8s.io/manifests/etcd.manifest"
    entries = {"k8s.io/", "k8s.io/manifests/", path, "var/", "var/etcd/", "var/etcd/data/", "var/etcd/data/member/"}
    return VolumeContents(frozenset(entries), {path: KOPS % name}, {path: 0}, uuid=OTHER)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (Blank(), ["format-volume"]),
        (Blank(INTENT), ["format-volume"]),
        (ext4(), ["mount-volume"]),
        (ext4(used=True), ["check-filesystem"]),
        (ext4(used=True, checked=True), ["mount-volume"]),
        (ext4(used=True, checked=True, size=GIB - GROW_BY), ["grow-filesystem"]),
        (ext4(used=True, checked=True, size=GIB - GROW_BY + 1), ["mount-volume"]),
        (ext4(used=False, size=GIB - GROW_BY), ["check-filesystem"]),
        (ext4(used=True, checked=True, uuid=OTHER, tree=kops("etcd-a")), ["mount-volume"]),
        (ext4(used=True, checked=True, tree=tree("k8s.io/", identity=MINE)), ["mount-volume"]),
        (Working("mkfs.ext4"), []),
    ],
)
def test_the_next_action(content: DiskContent, kind: list[str]) -> None:
    made = planned(state(content))
    assert kinds(made) == kind and rules(made) == []
    assert kind or [one.subject for one in made.waiting][:1] == [VOLUME]


def test_a_format_carries_everything_that_is_proven_again() -> None:
    (step,) = [step for step in planned(state()).steps if step.action.kind == "format-volume"]
    action: Any = step.action
    assert (action.intent, action.size, action.number, action.label) == (INTENT, GIB, (259, 1), "etcd-a")
    assert action.identity == volume().identity


REFUSED: list[tuple[str, DiskContent, dict[str, str], str, str]] = [
    ("other content", NotBlank("an xfs superblock at 0"), {}, "format/not-blank", "an xfs superblock at 0"),
    ("blank, but was formatted", Blank(), FORMATTED, "volume/lost-filesystem", UUID),
    ("blank, but etcd ran", Blank(), {BOOTSTRAPPED_TAG: "true"}, "volume/lost-filesystem", "etcd"),
    ("resumes, but was formatted", Blank(INTENT), RAN, "volume/lost-filesystem", UUID),
    ("other intent", Blank(replace(INTENT, member="b")), {}, "format/other-intent", "member='b'"),
    ("other size", Blank(replace(INTENT, size=1)), {}, "format/other-intent", "size=1"),
    ("other tag", ext4(), {"protokube.k8s.io/filesystem": OTHER}, "volume/identity", OTHER),
    ("foreign data", ext4(tree=tree("home/")), {}, "volume/foreign-data", "home/"),
    ("a stranger's empty one", ext4(uuid=OTHER), {}, "volume/unknown-filesystem", OTHER),
    ("another member's", ext4(uuid=OTHER, tree=kops("etcd-b")), {}, "volume/foreign-data", "etcd-b"),
    (
        "data without manifest",
        ext4(uuid=OTHER, tree=tree("var/", "var/etcd/", "var/etcd/data/")),
        {},
        "volume/foreign-data",
        "without the manifest",
    ),
    ("a clone by its file", ext4(tree=tree(identity=replace(MINE, volume_id="vol-9"))), {}, "volume/clone", "vol-9"),
    (
        "another member by its file",
        ext4(tree=tree(identity=replace(MINE, member="b"))),
        {},
        "volume/identity",
        "main/b",
    ),
    (
        "another filesystem by its file",
        ext4(tree=tree(identity=replace(MINE, filesystem=OTHER))),
        {},
        "volume/identity",
        OTHER,
    ),
    ("an unreadable file", ext4(tree=VolumeContents(texts={"k8s.io/identity.yaml": "{"})), {}, "volume/identity", "no YAML"),
    ("e2fsck says no", ext4(used=True, check_failed="exit 4"), {}, "filesystem/check-failed", "exit 4"),
]


@pytest.mark.parametrize(
    ("content", "tags", "rule", "evidence"), [one[1:] for one in REFUSED], ids=[one[0] for one in REFUSED]
)
def test_refusals(content: DiskContent, tags: dict[str, str], rule: str, evidence: str) -> None:
    made = planned(state(content, tags=tags))
    assert rules(made) == [rule]
    assert evidence in made.refusals[0].evidence
    assert kinds(made) == [], "nothing is done to a refused disk"
    assert not made.settled


def test_formatting_can_be_forbidden() -> None:
    made = planned(state(), may_format=False)
    assert rules(made) == ["format/forbidden"] and kinds(made) == []


@pytest.mark.parametrize("size", [GIB - 512, GIB + 512, 2 * GIB, 4 * MIB])
@pytest.mark.parametrize("content", [Blank(), ext4(), ext4(used=True, checked=True)])
def test_a_disk_of_another_size_is_another_disk(content: DiskContent, size: int) -> None:
    made = planned(state(disks={VOLUME: Disk("/dev/sdb", (8, 16), size, content)}))
    assert rules(made) == ["volume/size"] and kinds(made) == []


def test_a_members_uuid_on_another_volume_is_a_clone() -> None:
    original = filesystem_uuid(CLUSTER, EtcdMember("main", "b", ("a", "b")), "vol-2")
    observed = state(ext4(uuid=original))
    observed = replace(observed, volumes=(*observed.volumes, volume("vol-2", "b/a,b")))  # type: ignore[misc]
    made = planned(observed)
    assert rules(made) == ["volume/clone"] and "vol-2" in made.refusals[0].evidence


def test_what_cannot_be_read_is_unknown() -> None:
    for observed in (
        state(disks={VOLUME: Unknown("I/O error")}),
        state(ext4(tree=Unknown("I/O error"))),
        state(mounts=Unknown("no mountinfo")),
    ):
        made = planned(observed)
        assert kinds(made) == [] and rules(made) == [] and made.unknown and not made.settled


def test_a_late_disk_is_waited_for_and_what_was_looked_for_is_said() -> None:
    made = planned(state(disks={VOLUME: NoDisk("no disk has the serial vol1")}))
    (waiting,) = [one for one in made.waiting if one.subject == VOLUME]
    assert "no disk has the serial vol1" in waiting.reason and rules(made) == []


@pytest.mark.parametrize(
    ("mount", "rule", "evidence"),
    [
        (Mount("/mnt/elsewhere", (259, 1), "ext4", False), "mount/elsewhere", "/mnt/elsewhere"),
        (replace(mounted(), fstype="xfs"), "volume/unhealthy", "xfs"),
        (replace(mounted(), read_only=True), "volume/unhealthy", "read-only"),
        (replace(mounted(), shutdown=True), "volume/unhealthy", "shut the filesystem down"),
        (replace(mounted(), errors=3), "volume/unhealthy", "3 filesystem errors"),
    ],
)
def test_a_mounted_disk_is_judged_by_its_mount(mount: Mount, rule: str, evidence: str) -> None:
    made = planned(state(Mounted(), mounts=(mount,)))
    assert rules(made) == [rule] and evidence in made.refusals[0].evidence
    assert kinds(made) == []


def test_another_device_in_our_place() -> None:
    other = Mount(TARGET, (8, 0), "ext4", False)
    assert rules(planned(state(ext4(), mounts=(other,)))) == ["mount/occupied"]
    assert rules(planned(state(Blank(), mounts=(other,)))) == ["mount/occupied"]
    assert rules(planned(state(disks={VOLUME: NoDisk("-")}, mounts=(other,)))) == ["volume/disk-lost"]


def test_a_failed_disk_is_left_alone_for_the_round() -> None:
    assert kinds(planned(state(failed=frozenset({VOLUME})))) == []


def test_the_label_fits_into_ext4() -> None:
    long = "a" * 40
    observed = state()
    observed = replace(observed, volumes=(volume(spec=f"{long}/{long}", holder="n1"),))
    (step,) = [one for one in planned(observed).steps if one.action.kind == "format-volume"]
    assert len(step.action.label.encode()) <= 16  # type: ignore[union-attr]


def test_a_mounted_volume_that_is_no_longer_ours_is_said_and_left_alone() -> None:
    observed = state(Mounted())
    mounts = (Mount(TARGET, (259, 1), "ext4", read_only=False), Mount("/mnt/master-vol-9", (259, 7), "ext4", False))
    made = planned(replace(observed, mounts=mounts))
    assert [(one.subject, one.rule) for one in made.refusals if one.rule == "volume/not-ours"] == [
        ("vol-9", "volume/not-ours")
    ]
    assert not [step for step in made.steps if "vol-9" in step.action.subject]
