"""Which refusals an operator may overrule, what he is shown, and what a request is refused for."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from protokube.core.accept import Overruling, decide
from protokube.core.assess import assess
from protokube.core.disks.accepted import Acceptance, Accepted, Request, read_accepted
from protokube.core.disks.identity import Identity
from protokube.core.disks.model import Blank, DiskContent, Mounted, VolumeContents
from protokube.core.disks.overrulable import PROTECTS, why_not
from protokube.core.disks.paths import IDENTITY_PATH
from protokube.core.history import History
from protokube.core.model import Unknown
from protokube.core.node.model import Directory, File, FileState
from protokube.core.observed import Observed
from protokube.core.volumes.model import BOOTSTRAPPED_TAG, FILESYSTEM_TAG, EtcdMember
from protokube.core.volumes.uuid import filesystem_uuid
from tests.core.states import (
    CLUSTER,
    NOW,
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
MINE = Identity(CLUSTER, "main", "a", VOLUME, UUID, "3.6.6", True)
DATA = ("var/", "var/etcd/", "var/etcd/data/", "var/etcd/data/member/")
REFERENCE = Path(__file__).parents[2] / "docs/reference.md"
ACCEPTABLE: dict[str, tuple[DiskContent, dict[str, str]]] = {
    "volume/clone": (ext4(contents=contents(*DATA, identity=replace(MINE, volume_id="vol-9"))), {}),
    "volume/foreign-data": (ext4(contents=contents("home/")), {}),
    "volume/identity": (ext4(contents=contents(identity=replace(MINE, member="b"))), {}),
    "volume/lost-root": (ext4(contents=contents("lost+found/#12")), {}),
    "volume/unknown-filesystem": (ext4(uuid=OTHER), {}),
}
"""A disk for each rule that can be overruled, with the volume's tags."""


def documented() -> list[str]:
    return re.findall(r"^#### `([a-z]+/[a-z-]+)`", REFERENCE.read_text(), flags=re.MULTILINE)


def asked(observed: Observed, rule: str, filesystem: str = UUID, volume_id: str = VOLUME) -> Overruling | str:
    return decide(Request(rule, volume_id, filesystem), assess(config_of(), observed, History().seen(observed)), NOW)


def accepting(observed: Observed, *made: Overruling | str) -> Observed:
    """The node once these have been accepted."""
    assert not isinstance(observed.node.files, Unknown)
    files = dict(observed.node.files)
    for one in made:
        assert isinstance(one, Overruling), one
        files[one.acceptance.path] = File(one.acceptance.render(), 0o600, 0)
    return changed(observed, files=files)


def test_every_documented_rule_can_be_overruled_or_says_why_not() -> None:
    assert set(PROTECTS) == set(ACCEPTABLE) < set(documented())
    for rule in documented():
        told = why_not(rule)
        assert (told is None) == (rule in PROTECTS)
        assert told is None or told.startswith("it can't be overruled: ")
    assert "there is no such rule" in str(why_not("volume/nonsense"))


def test_the_reference_lists_the_rules_that_can_be_overruled() -> None:
    section = REFERENCE.read_text().partition("### Overruling a refusal")[2].partition("\n### ")[0]
    assert re.findall(r"^\| `([a-z/-]+)` \|", section, flags=re.MULTILINE) == sorted(PROTECTS)


def test_nothing_of_the_format_family_can_be_overruled() -> None:
    assert not any(rule.startswith("format/") for rule in PROTECTS)
    assert "a format destroys" in str(why_not("format/anything-new"))


@pytest.mark.parametrize("rule", ACCEPTABLE)
def test_what_is_accepted_is_shown_and_no_longer_refused(rule: str) -> None:
    content, tags = ACCEPTABLE[rule]
    observed = state(content, tags=tags)
    uuid = getattr(content, "uuid", "")
    (refusal,) = [one for one in planned(observed).refusals if one.subject == VOLUME]
    assert refusal.rule == rule and kinds(planned(observed)) == []
    made = asked(observed, rule, uuid)
    assert isinstance(made, Overruling)
    assert refusal.evidence in made.as_text() and PROTECTS[rule] in made.as_text()
    after = planned(accepting(observed, made))
    assert rules(after) == [] and kinds(after) == ["mount-volume"]
    assert [(one.subject, one.rule, one.filesystem) for one in after.accepted] == [(VOLUME, rule, uuid)]
    (step,) = [one for one in after.steps if one.action.subject == VOLUME]
    assert step.warning and f"{rule}: overruled by the operator" in step.reason


@pytest.mark.parametrize("rule", ACCEPTABLE)
def test_it_holds_for_this_filesystem_volume_and_evidence_alone(rule: str) -> None:
    content, _ = ACCEPTABLE[rule]
    made = asked(state(content), rule, getattr(content, "uuid", ""))
    assert isinstance(made, Overruling)
    for other in (
        replace(made, acceptance=replace(made.acceptance, filesystem="22222222-2222-4222-8222-222222222222")),
        replace(made, acceptance=replace(made.acceptance, volume_id="vol-2")),
        replace(made, acceptance=replace(made.acceptance, evidence=("something else",))),
    ):
        assert rules(planned(accepting(state(content), other))) == [rule]


def test_each_reason_is_accepted_by_itself() -> None:
    """A disk that was exchanged for a copy: the tag and the identity file speak against it."""
    copied = contents(*DATA, identity=replace(MINE, volume_id="vol-9", filesystem=OTHER), uuid=OTHER)
    observed = state(ext4(uuid=OTHER, contents=copied), tags={FILESYSTEM_TAG: UUID})
    identity, clone = asked(observed, "volume/identity", OTHER), asked(observed, "volume/clone", OTHER)
    assert isinstance(identity, Overruling) and isinstance(clone, Overruling)
    assert identity.effects[0] == "nothing, until volume/clone is overruled or cleared as well; then:"
    assert any(FILESYSTEM_TAG in effect for effect in identity.effects)
    assert rules(planned(accepting(observed, identity))) == ["volume/clone"]
    assert rules(planned(accepting(observed, clone))) == ["volume/identity"]
    assert kinds(planned(accepting(observed, identity, clone))) == ["mount-volume"]


def on_mount(held: VolumeContents, **more: Any) -> Observed:
    return state(Mounted(), mounts=(mounted(),), contents={VOLUME: held}, **more)


UNACCEPTABLE: dict[str, tuple[Observed, str, str, str]] = {
    "another filesystem": (state(ext4(uuid=OTHER)), "volume/unknown-filesystem", UUID, f"its filesystem is {OTHER}"),
    "not refused": (
        state(ext4()),
        "volume/clone",
        UUID,
        "does not refuse it for its filesystem (nothing refuses it)",
    ),
    "refused by another rule": (
        state(ext4(contents=contents("home/"))),
        "volume/clone",
        UUID,
        "does not refuse it for its filesystem (volume/foreign-data: the volume holds home/",
    ),
    "no filesystem": (state(Blank()), "volume/clone", UUID, "no filesystem was read on it (nothing refuses it)"),
    "unread": (
        state(ext4(uuid=OTHER, contents=Unknown("debugfs hangs"))),
        "volume/clone",
        OTHER,
        "it can't be read, so that there is no judgement to overrule: debugfs hangs",
    ),
    "a cloud that is silent": (
        state(volumes=Unknown("throttled")),
        "volume/clone",
        UUID,
        "the cloud's volumes aren't known",
    ),
    "a format": (state(Blank(), tags={FILESYSTEM_TAG: UUID}), "volume/lost-filesystem", UUID, "means a format"),
    "a directory for an identity file": (
        state(ext4(contents=contents(f"{IDENTITY_PATH}/"))),
        "volume/identity",
        UUID,
        "is no plain file that can be read: this can't be overruled",
    ),
    "etcd ran, and its file denies it": (
        on_mount(contents(identity=replace(MINE, started=False)), tags={FILESYSTEM_TAG: UUID, BOOTSTRAPPED_TAG: "1"}),
        "volume/identity",
        UUID,
        "does not refuse it for its filesystem (volume/identity: k8s.io/identity.yaml says started: false",
    ),
}


@pytest.mark.parametrize("case", UNACCEPTABLE)
def test_what_cannot_be_overruled_says_why(case: str) -> None:
    observed, rule, filesystem, why = UNACCEPTABLE[case]
    told = asked(observed, rule, filesystem)
    assert isinstance(told, str) and why in told


def test_what_is_final_stays_refused_whatever_a_file_says() -> None:
    observed = state(ext4(contents=contents(f"{IDENTITY_PATH}/")))
    (refusal,) = [one for one in planned(observed).refusals if one.subject == VOLUME]
    forged = Acceptance(refusal.rule, VOLUME, UUID, (refusal.evidence,), NOW)
    assert rules(planned(changed(observed, files={forged.path: File(forged.render(), 0o600, 0)}))) == [refusal.rule]


def test_a_volume_that_is_not_here_is_accepted_where_it_is() -> None:
    told = asked(state(ext4()), "volume/clone", volume_id="vol-7")
    assert isinstance(told, str) and "expected one of vol-1" in told


def test_accepting_nothing_that_is_no_filesystem_of_ours_to_judge_plans_nothing() -> None:
    """An acceptance changes no other rule: a format stays refused with it."""
    made = asked(state(ext4(uuid=OTHER)), "volume/unknown-filesystem", OTHER)
    blank = state(Blank(), tags={FILESYSTEM_TAG: UUID})
    assert rules(planned(accepting(blank, made))) == ["volume/lost-filesystem"]


# --- what is done with it -------------------------------------------------------------------------------


def written_identity(observed: Observed) -> str:
    (step,) = [one for one in planned(observed).steps if one.action.subject == f"{TARGET}/{IDENTITY_PATH}"]
    assert step.warning
    return str(getattr(step.action, "content", ""))


@pytest.mark.parametrize("rule", ACCEPTABLE)
def test_the_identity_file_is_the_effect_and_only_an_empty_filesystem_may_start_as_new(rule: str) -> None:
    content, _ = ACCEPTABLE[rule]
    held = getattr(content, "contents", None)
    assert isinstance(held, VolumeContents)
    uuid = getattr(content, "uuid", "")
    observed = on_mount(replace(held, uuid=uuid))
    text = written_identity(accepting(observed, asked(observed, rule, uuid)))
    assert f"volume: {VOLUME}\nfilesystem: {uuid}\n" in text
    assert ("started: false" in text) == (rule == "volume/unknown-filesystem")


def test_an_empty_filesystem_of_a_member_that_ran_never_starts_as_new() -> None:
    observed = on_mount(contents(uuid=OTHER), tags={BOOTSTRAPPED_TAG: "true"})
    assert "started: true" in written_identity(
        accepting(observed, asked(observed, "volume/unknown-filesystem", OTHER))
    )


def test_it_is_used_up_by_its_effect() -> None:
    before = on_mount(contents(*DATA, identity=replace(MINE, volume_id="vol-9")))
    made = asked(before, "volume/clone")
    assert isinstance(made, Overruling)
    assert "remove-file" not in kinds(planned(accepting(before, made)), made.acceptance.path)
    after = planned(accepting(on_mount(contents(*DATA, identity=MINE)), made))
    assert kinds(after, made.acceptance.path) == ["remove-file"] and after.accepted == []
    unmounted = planned(accepting(state(ext4(contents=contents(*DATA, identity=MINE))), made))
    assert kinds(unmounted, made.acceptance.path) == [], "what was read without the journal proves no absence"


def test_a_copy_beside_its_original_is_used_up_as_well() -> None:
    """The UUID stays that of the original: the identity file alone says that the copy is accepted."""
    original = volume("vol-9", "b/a,b", holder="n2")
    uuid = filesystem_uuid(CLUSTER, EtcdMember("main", "b", ("a", "b")), "vol-9")
    both = (volume(spec="a/a,b", holder="n1"), original)
    copied = Identity(CLUSTER, "main", "a", VOLUME, uuid, "3.6.6", True)
    before = changed(state(ext4(uuid=uuid, contents=contents(uuid=uuid))), volumes=both)
    assert rules(planned(before)) == ["volume/clone"]
    made = asked(before, "volume/clone", uuid)
    assert isinstance(made, Overruling)
    after = changed(on_mount(contents(*DATA, identity=copied, uuid=uuid)), volumes=both)
    done = planned(accepting(after, made))
    assert rules(done) == [] and kinds(done, made.acceptance.path) == ["remove-file"]


def test_it_ends_with_the_filesystem() -> None:
    made = asked(state(ext4(uuid=OTHER)), "volume/unknown-filesystem", OTHER)
    assert isinstance(made, Overruling)
    assert kinds(planned(accepting(state(ext4()), made)), made.acceptance.path) == ["remove-file"]


def test_a_wrong_tag_is_put_right() -> None:
    observed = on_mount(contents(*DATA, identity=replace(MINE, filesystem=OTHER), uuid=OTHER))
    observed = changed(observed, volumes=state(tags={FILESYSTEM_TAG: UUID}).cloud.volumes)
    made = planned(accepting(observed, asked(observed, "volume/identity", OTHER)))
    assert kinds(made, f"{VOLUME}:{FILESYSTEM_TAG}") == ["tag-volume"]


# --- the files ------------------------------------------------------------------------------------------


def test_files_that_hold_no_acceptance_are_told_and_accept_nothing() -> None:
    made = asked(state(ext4(uuid=OTHER)), "volume/unknown-filesystem", OTHER)
    assert isinstance(made, Overruling)
    folder, text = made.acceptance.path.rpartition("/")[0], made.acceptance.render()
    bad: dict[str, FileState] = {
        f"{folder}/a.json": File("{", 0o600, 0),
        f"{folder}/b.json": File(None, 0o600, 0),
        f"{folder}/c": Directory(0o755),
        f"{folder}/d.json": File(text, 0o600, 0),
        f"{folder}/e.json": File(text.replace('"at"', '"when"'), 0o600, 0),
    }
    found = read_accepted(bad)
    assert found.pending == () and found.unparsable.keys() == bad.keys()
    told = planned(changed(state(ext4(uuid=OTHER)), files=bad))
    assert rules(told) == ["volume/unknown-filesystem"]
    assert {one.subject for one in told.unknown} == bad.keys()
    assert read_accepted(Unknown("I/O error")) == Accepted()
    assert read_accepted({"/etc/kubernetes/manifests/x": File(text, 0o600, 0)}) == Accepted()
