"""From a disk to a mount: what is done with each content, and every refusal with its evidence."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from protokube.core.disks.accepted import Accepted
from protokube.core.disks.actions import FormatVolume
from protokube.core.disks.assess import GROW_BY, assess
from protokube.core.disks.identity import Identity
from protokube.core.disks.model import (
    Blank,
    Disk,
    DiskContent,
    DisksAssessment,
    Ext4,
    Mounted,
    NoDisk,
    NotBlank,
    Todo,
    VolumeContents,
    Working,
)
from protokube.core.disks.paths import IDENTITY_PATH
from protokube.core.history import History, Result
from protokube.core.model import GIB, MIB, Unknown
from protokube.core.node.model import Mount, OnVolume
from protokube.core.observed import Observed
from protokube.core.volumes.assess import assess as assess_volumes
from protokube.core.volumes.model import BOOTSTRAPPED_TAG, FILESYSTEM_TAG, AttachState, EtcdMember
from protokube.core.volumes.tracking import AttachTracking
from protokube.core.volumes.uuid import filesystem_uuid
from tests.core.states import (
    CLUSTER,
    FORMATTED,
    INTENT,
    NOW,
    RAN,
    TARGET,
    UUID,
    VOLUME,
    changed,
    config_of,
    contents,
    ext4,
    kinds,
    mounted,
    planned,
    rules,
    state,
    volume,
)  # fmt: skip

OTHER = "11111111-1111-4111-8111-111111111111"
KOPS = (
    "spec: {containers: [{image: etcd:3.5.9, env: [{name: ETCD_NAME, value: %s}, "
    f"{{name: ETCD_INITIAL_CLUSTER, value: etcd-a=http://etcd-a.internal.{CLUSTER}:2380}}]}}]}}"
)
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
        (ext4(used=True, checked=True, uuid=OTHER, contents=kops("etcd-a")), ["mount-volume"]),
        (ext4(used=True, checked=True, contents=contents("k8s.io/", identity=MINE)), ["mount-volume"]),
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
    ("unmanaged data", ext4(contents=contents("home/")), {}, "volume/foreign-data", "home/"),
    ("an empty one of unknown origin", ext4(uuid=OTHER), {}, "volume/unknown-filesystem", OTHER),
    ("another member's", ext4(uuid=OTHER, contents=kops("etcd-b")), {}, "volume/foreign-data", "etcd-b"),
    (
        "data without manifest",
        ext4(uuid=OTHER, contents=contents("var/", "var/etcd/", "var/etcd/data/")),
        {},
        "volume/foreign-data",
        "without the manifest",
    ),
    (
        "a clone by its file",
        ext4(contents=contents(identity=replace(MINE, volume_id="vol-9"))),
        {},
        "volume/clone",
        "vol-9",
    ),
    (
        "another member by its file",
        ext4(contents=contents(identity=replace(MINE, member="b"))),
        {},
        "volume/identity",
        "main/b",
    ),
    (
        "another filesystem by its file",
        ext4(contents=contents(identity=replace(MINE, filesystem=OTHER))),
        {},
        "volume/identity",
        OTHER,
    ),
    (
        "an unreadable file",
        ext4(contents=VolumeContents(texts={"k8s.io/identity.yaml": "{"})),
        {},
        "volume/identity",
        "no YAML",
    ),
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
    assert not made.converged


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
    observed = changed(observed, volumes=(volume(holder="n1"), volume("vol-2", "b/a,b")))
    made = planned(observed)
    assert rules(made) == ["volume/clone"] and "vol-2" in made.refusals[0].evidence


def test_what_cannot_be_read_is_unknown() -> None:
    for observed in (
        state(disks={VOLUME: Unknown("I/O error")}),
        state(ext4(contents=Unknown("I/O error"))),
        state(mounts=Unknown("no mountinfo")),
    ):
        made = planned(observed)
        assert kinds(made) == [] and rules(made) == [] and made.unknown and not made.converged


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
        (replace(mounted(), cover="tmpfs (0:9), mounted at /mnt"), "mount/covered", "mounted at /mnt: unmount that"),
        (Mount(TARGET, (0, 9), "tmpfs", False), "mount/covered", f"tmpfs (0:9) is mounted at {TARGET}: unmount that"),
    ],
)
def test_a_mounted_disk_is_judged_by_its_mount(mount: Mount, rule: str, evidence: str) -> None:
    made = planned(state(Mounted(), mounts=(mount,)))
    assert rules(made) == [rule] and evidence in made.refusals[0].evidence
    assert kinds(made) == []


def test_another_device_at_our_mount_point() -> None:
    other = Mount(TARGET, (8, 0), "ext4", False)
    assert rules(planned(state(ext4(), mounts=(other,)))) == ["mount/occupied"]
    assert rules(planned(state(Blank(), mounts=(other,)))) == ["mount/occupied"]
    assert rules(planned(state(disks={VOLUME: NoDisk("-")}, mounts=(other,)))) == ["volume/disk-lost"]


@pytest.mark.parametrize("path", ["/mnt", TARGET])
@pytest.mark.parametrize("content", [Blank(), ext4()])
def test_no_disk_is_touched_that_could_not_be_mounted(path: str, content: Blank | Ext4) -> None:
    observed = state(content)
    observed = replace(observed, storage=replace(observed.storage, barred={path: "it leads to nowhere"}))
    made = planned(observed)
    assert [(one.rule, one.evidence) for one in made.refusals] == [("mount/path", "it leads to nowhere")]
    assert kinds(made) == []


def test_a_failed_disk_is_left_alone_for_the_reconcile() -> None:
    (step,) = [step for step in planned(state()).steps if step.action.kind == "format-volume"]
    history = History().recorded(step.action, Result.FAILED, 10.0)
    assert kinds(planned(state(), history)) == []
    assert kinds(planned(state(), history.next_reconcile())) == ["format-volume"]


def test_the_label_fits_into_ext4() -> None:
    long = "a" * 40
    observed = state(volumes=(volume(spec=f"{long}/{long}", holder="n1"),))
    (action,) = [one.action for one in planned(observed).steps if isinstance(one.action, FormatVolume)]
    assert len(action.label.encode()) <= 16


def test_a_mounted_volume_that_is_no_longer_ours_is_said_and_left_alone() -> None:
    observed = state(Mounted())
    mounts = (Mount(TARGET, (259, 1), "ext4", read_only=False), Mount("/mnt/master-vol-9", (259, 7), "ext4", False))
    made = planned(changed(observed, mounts=mounts))
    assert [(one.subject, one.rule) for one in made.refusals if one.rule == "volume/not-ours"] == [
        ("vol-9", "volume/not-ours")
    ]
    assert not [step for step in made.steps if "vol-9" in step.action.subject]


# --- the judgement of one volume's disk -----------------------------------------------------------------


def judge(observed: Observed, **config: Any) -> DisksAssessment:
    settings = config_of(**config)
    volumes = assess_volumes(settings.volumes, observed.cloud, AttachTracking(), observed.storage.mounts)
    assert volumes is not None
    return assess(settings.disks, observed.storage, AttachTracking(), (volumes, Accepted()))


@pytest.mark.parametrize(
    ("content", "todo", "reason"),
    [
        (Blank(), Todo.FORMAT, "the disk is proven blank"),
        (Blank(INTENT), Todo.FORMAT, "an interrupted format is repeated"),
        (ext4(), Todo.MOUNT, "the filesystem is new"),
        (ext4(used=True), Todo.CHECK, "it was mounted before"),
        (ext4(used=True, checked=True), Todo.MOUNT, "the filesystem passed its check"),
        (ext4(size=GIB - GROW_BY), Todo.CHECK, "it is to be grown"),
        (
            ext4(checked=True, size=GIB - GROW_BY),
            Todo.GROW,
            f"the filesystem has {GIB - GROW_BY} bytes, the disk {GIB}",
        ),
    ],
)
def test_a_verdict_says_what_the_disk_needs_and_why(content: DiskContent, todo: Todo, reason: str) -> None:
    (verdict,) = judge(state(content)).verdicts
    assert (verdict.volume.id, verdict.uuid, verdict.todo, verdict.reason) == (VOLUME, UUID, todo, reason)


def test_a_mounted_disk_gets_no_verdict() -> None:
    judged = judge(state(Mounted(), mounts=(mounted(),)))
    assert judged.verdicts == () and judged.mounted == {VOLUME: OnVolume(TARGET, (259, 1))}
    assert judged.unhealthy == frozenset() and [one.id for one in judged.attached] == [VOLUME]
    sick = judge(state(Mounted(), mounts=(replace(mounted(), read_only=True),)))
    assert sick.unhealthy == {VOLUME} and sick.mounted == judged.mounted


@pytest.mark.parametrize("phase", [one for one in AttachState if one is not AttachState.ATTACHED])
def test_only_a_complete_attachment_is_looked_at(phase: AttachState) -> None:
    given = volume(holder="n1", state=phase, status="available" if phase is AttachState.UNCONFIRMED else "in-use")
    judged = judge(state(volumes=(given,)))
    assert (judged.attached, judged.verdicts) == ((), ())
    assert kinds(planned(state(volumes=(given,)))) in ([], ["attach-volume"])


def test_while_the_mounts_are_unknown_nothing_is_judged() -> None:
    judged = judge(state(ext4(), mounts=Unknown("no mountinfo")))
    assert judged.verdicts == () and judged.mounted == {} and [one.id for one in judged.attached] == [VOLUME]
    assert [(one.subject, one.reason) for one in judged.findings.unknown] == [("mounts", "no mountinfo")]


# --- a journal that was not replayed --------------------------------------------------------------------

DAMAGED = VolumeContents(texts={IDENTITY_PATH: "{"})
"""Contents that were read without the journal."""


@pytest.mark.parametrize("read", [DAMAGED, contents("home/"), contents(), Unknown("bad checksum")])
def test_our_own_filesystem_is_checked_before_its_contents_are_judged(read: VolumeContents | Unknown) -> None:
    content = ext4(used=True, needs_recovery=True, contents=read)
    (verdict,) = (judged := judge(state(content))).verdicts
    assert (verdict.todo, verdict.reason) == (Todo.CHECK, "its journal was not replayed")
    assert judged.findings.refusals == [] and judged.findings.unknown == []
    assert kinds(planned(state(content))) == ["check-filesystem"]


def test_the_filesystem_that_the_tag_names_is_checked_first_as_well() -> None:
    """An adopted one has a UUID of its own."""
    content = ext4(uuid=OTHER, used=True, needs_recovery=True, contents=DAMAGED)
    made = planned(state(content, tags={FILESYSTEM_TAG: OTHER}))
    assert kinds(made) == ["check-filesystem"] and rules(made) == []


@pytest.mark.parametrize(
    ("content", "tags", "rule"),
    [
        (ext4(uuid=OTHER), {}, "volume/unknown-filesystem"),
        (ext4(uuid=OTHER, contents=contents("home/")), {}, "volume/foreign-data"),
        (ext4(uuid=OTHER, contents=kops("etcd-b")), {}, "volume/foreign-data"),
        (ext4(uuid=OTHER, contents=DAMAGED), {}, "volume/identity"),
        (ext4(uuid=OTHER), FORMATTED, "volume/identity"),
    ],
    ids=["empty", "unmanaged data", "another member's", "a damaged file", "another than the tag names"],
)
def test_no_other_filesystems_journal_is_replayed(content: Ext4, tags: dict[str, str], rule: str) -> None:
    content = replace(content, used=True, needs_recovery=True)
    made = planned(state(content, tags=tags))
    assert rules(made) == [rule] and kinds(made) == []
    assert rules(planned(state(replace(content, needs_recovery=False), tags=tags))) == [rule], "as without a journal"


def test_another_filesystem_that_cannot_be_read_is_unknown_and_left_alone() -> None:
    made = planned(state(ext4(uuid=OTHER, used=True, needs_recovery=True, contents=Unknown("bad checksum"))))
    assert kinds(made) == [] and rules(made) == [] and [one.reason for one in made.unknown] == ["bad checksum"]


def test_a_clone_is_refused_although_its_journal_was_not_replayed() -> None:
    original = filesystem_uuid(CLUSTER, EtcdMember("main", "b", ("a", "b")), "vol-2")
    observed = state(ext4(uuid=original, used=True, needs_recovery=True))
    made = planned(changed(observed, volumes=(volume(holder="n1"), volume("vol-2", "b/a,b"))))
    assert rules(made) == ["volume/clone"] and kinds(made) == []


def test_a_failed_check_is_not_repeated_for_the_journal() -> None:
    made = planned(state(ext4(used=True, needs_recovery=True, check_failed="exit 4")))
    assert rules(made) == ["filesystem/check-failed"] and kinds(made) == []


def test_the_check_replays_the_journal() -> None:
    """In the model as well, so that a dry run goes on."""
    observed = state(ext4(used=True, needs_recovery=True))
    (step,) = [one for one in planned(observed).steps if one.action.kind == "check-filesystem"]
    after = replace(observed, storage=step.action.predict(observed.storage, NOW))
    assert kinds(planned(after)) == ["mount-volume"]


def cut_off(held: bool, mount: Mount) -> list[str]:
    """What a volume with an empty log of etcd is planned and waited for."""
    entries = ("var/", "var/etcd/", "var/etcd/data/", "var/etcd/data/member/")
    seen = replace(contents(*entries, identity=MINE), cut_off={"var/etcd/data": held})
    made = planned(state(Mounted(), mounts=(mount,), contents={VOLUME: seen}, tags=RAN))
    waits = ["wait" for one in made.waiting if "has no entry yet" in one.reason]
    return [kind for kind in kinds(made) if kind == "take-back-first-start"] + waits


def test_a_first_start_that_was_cut_off_is_taken_back() -> None:
    assert cut_off(held=False, mount=mounted()) == ["take-back-first-start"]


def test_not_while_an_etcd_holds_its_log_and_not_on_an_unhealthy_volume() -> None:
    assert cut_off(held=True, mount=mounted()) == ["wait"]
    assert cut_off(held=False, mount=replace(mounted(), read_only=True)) == []
