"""Whose filesystem stands on a volume: judged by its UUID, the volume's tags, and its contents.

Invariant: a filesystem is used only when all that can be read agrees on the cluster, the member and the volume.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from protokube.core.disks.identity import parse_identity
from protokube.core.disks.model import Expected, VolumeContents, VolumeLayout
from protokube.core.disks.paths import IDENTITY_PATH, LOST_AND_FOUND, MANIFESTS
from protokube.core.model import Rejected, Unknown
from protokube.core.static_pod import manifest_env
from protokube.core.volumes.model import FILESYSTEM_TAG, EtcdMember, MemberVolume, VolumesAssessment

ETCD_MANAGER = frozenset({"myid", "pki/"})
"""The entries that kops's etcd-manager makes in a volume's root, beside data/<token> and state."""

WRITTEN_BY_US = "# Written by protokube"
"""How every manifest begins that protokube writes."""

EMPTY = "volume/unknown-filesystem"
"""The rule that refuses an empty filesystem which protokube did not make."""

_HOST = r"//([^/:,]+)"
"""A URL's host, in a list of URLs."""

_SHOWN = 5
"""Entries that a refusal lists."""


def judge_ownership(
    volumes: VolumesAssessment, volume: MemberVolume, expected: Expected, found: Filesystem
) -> Iterator[Rejected]:
    """Yield every reason for which a filesystem may not serve a member, the weightiest first.

    Contents that were read without the journal may lack entries, but have none too many: a refusal on them is right.
    """
    uuid, contents = found
    tagged = volume.volume.tags.get(FILESYSTEM_TAG)
    # protokube writes this tag once. Another UUID means that the disk was replaced or formatted by hand.
    if tagged is not None and tagged != uuid:
        evidence = f"the filesystem's UUID is {uuid}, the volume is tagged {FILESYSTEM_TAG}={tagged}"
        yield Rejected("volume/identity", evidence)
    # Our UUIDs follow from the volume's id. Another volume's UUID here means that its blocks were copied; unless the
    # identity file names this volume, since it is written after an operator has accepted the copy.
    clone = next((one.id for one in volumes.all if one.id != volume.id and one.uuid == uuid), None)
    if clone and not _names_volume(volume, contents):
        evidence = f"the filesystem {uuid} was made for volume {clone}: a clone or restored snapshot"
        yield Rejected("volume/clone", evidence)
    if isinstance(contents, Unknown):
        # Nothing is mounted on Unknown contents; assess() reports them, and they are judged once they are read.
        return
    # A directory or a link in the file's place must not pass for a volume without an identity.
    if {IDENTITY_PATH, IDENTITY_PATH + "/"} & contents.entries and IDENTITY_PATH not in contents.texts:
        yield Rejected("volume/identity", f"{IDENTITY_PATH} is no plain file that can be read", final=True)
    elif IDENTITY_PATH in contents.texts:
        yield from _judge_identity(volumes.cluster_id, volume, uuid, contents.texts[IDENTITY_PATH])
    else:
        yield from _judge_unidentified(volume, uuid, contents, expected)


def _names_volume(volume: MemberVolume, contents: VolumeContents | Unknown) -> bool:
    if isinstance(contents, Unknown) or IDENTITY_PATH not in contents.texts:
        return False
    identity = parse_identity(contents.texts[IDENTITY_PATH])
    return not isinstance(identity, Rejected) and identity.volume_id == volume.id


Filesystem = tuple[str, VolumeContents | Unknown]
"""A filesystem's UUID and its contents."""


def _judge_identity(cluster_id: str, volume: MemberVolume, uuid: str, text: str) -> Iterator[Rejected]:
    identity = parse_identity(text)
    if isinstance(identity, Rejected):
        yield identity
        return
    # A volume made from a snapshot has the identity file of the snapshot's volume.
    if identity.volume_id != volume.id:
        evidence = f"{IDENTITY_PATH} says volume {identity.volume_id}: a clone or restored snapshot"
        yield Rejected("volume/clone", evidence)
    wanted = (cluster_id, volume.member.cluster, volume.member.me, uuid)
    if wanted != (identity.cluster_id, identity.etcd_cluster, identity.member, identity.filesystem):
        said = f"{identity.cluster_id}, {identity.etcd_cluster}/{identity.member}, filesystem {identity.filesystem}"
        evidence = (
            f"{IDENTITY_PATH} says {said}; tags and disk say {wanted[0]}, {wanted[1]}/{wanted[2]}, filesystem {uuid}"
        )
        yield Rejected("volume/identity", evidence)


def _judge_unidentified(
    volume: MemberVolume, uuid: str, contents: VolumeContents, expected: Expected
) -> Iterator[Rejected]:
    """Judge a filesystem without an identity file by its entries."""
    # Both are unmanaged entries as well, but an operator who comes from etcd-manager needs this advice instead.
    if contents.entries >= ETCD_MANAGER:
        evidence = (
            "the volume was kept by etcd-manager (it holds myid and pki/), whose layout protokube doesn't take over: "
            "save the data with `etcdctl snapshot save` on the old member, and restore it into a blank volume"
        )
        yield Rejected("volume/foreign-data", evidence)
        return
    if trace := _lost_trace(contents, expected.layout):
        yield Rejected("volume/lost-root", trace)
    if unmanaged := unmanaged_entries(contents, expected.layout):
        more = f" and {len(unmanaged) - _SHOWN} more" if len(unmanaged) > _SHOWN else ""
        evidence = f"the volume holds {', '.join(unmanaged[:_SHOWN])}{more}, which neither protokube nor kops makes"
        yield Rejected("volume/foreign-data", evidence)
    if refused := _judge_adoption(volume, uuid, contents, expected):
        yield refused


def _judge_adoption(volume: MemberVolume, uuid: str, contents: VolumeContents, expected: Expected) -> Rejected | None:
    """Judge a filesystem without an identity file: protokube's own, or one that kops made for this member."""
    # The UUID follows from cluster, member and volume: only protokube gives it, to this very filesystem.
    if uuid == volume.uuid and not is_kops(contents, expected.layout):
        return None
    if is_empty(contents):
        # mkfs by hand gives another UUID. It may as well be a volume whose files were lost, so no etcd starts on it.
        evidence = f"an empty ext4 filesystem with UUID {uuid} that protokube did not make (expected {volume.uuid})"
        return Rejected(EMPTY, evidence)
    kops = kops_manifest(contents, volume.member, expected)
    if isinstance(kops, Rejected):
        return kops
    if kops is None:
        entries = ", ".join(sorted(contents.entries)[:_SHOWN])
        evidence = f"the volume holds {entries} without the manifest that says whose it is"
        return Rejected("volume/foreign-data", evidence)
    return None


def _lost_trace(contents: VolumeContents, layout: VolumeLayout) -> str | None:
    """The evidence that a filesystem without an identity file lost data: it must never start an empty member."""
    found = sorted(
        entry for entry in contents.entries if entry.startswith(LOST_AND_FOUND) and entry != LOST_AND_FOUND
    )
    if found:
        entries = ", ".join(found[:_SHOWN])
        lost = f"{entries}: e2fsck found lost files, and there is no {IDENTITY_PATH}"
        return f"{lost}; replace the member, or restore its data from a backup"
    if (data := f"{layout.data_dir}/member") in contents.others:
        return f"{data} is a link or a special file, expected a directory; put etcd's data there"
    return None


def unmanaged_entries(contents: VolumeContents, layout: VolumeLayout) -> tuple[str, ...]:
    """The entries of a volume that neither protokube nor kops makes for this etcd cluster, sorted.

    Allowed are lost+found, the identity file, this cluster's manifest and data directory, and their parents.
    """
    data = layout.data_dir + "/"
    allowed = {LOST_AND_FOUND, IDENTITY_PATH, layout.manifest, data, "k8s.io/", MANIFESTS + "/"}
    allowed |= {
        "/".join(layout.data_dir.split("/")[:depth]) + "/" for depth in range(1, layout.data_dir.count("/") + 1)
    }
    allowed |= _leftovers(contents, layout)
    more = ("(more entries than could be listed)",) if contents.overflow else ()
    unmanaged = (
        entry for entry in contents.entries if entry not in allowed and not entry.startswith((data, LOST_AND_FOUND))
    )
    return (*sorted(unmanaged), *more)


def _leftovers(contents: VolumeContents, layout: VolumeLayout) -> set[str]:
    """The half-written files of ours that a crash left beside their targets: plain files under these very names."""
    names = (path.rpartition("/") for path in (IDENTITY_PATH, layout.manifest))
    return {f"{folder}/.{name}.protokube-new" for folder, _, name in names} - contents.others


def is_empty(contents: VolumeContents) -> bool:
    """Whether a volume holds nothing but lost+found."""
    return not contents.overflow and contents.entries <= {LOST_AND_FOUND}


def is_kops(contents: VolumeContents, layout: VolumeLayout) -> bool:
    """Whether a manifest stands on the volume that protokube did not write."""
    text = contents.texts.get(layout.manifest)
    return text is not None and not text.startswith(WRITTEN_BY_US)


def kops_manifest(contents: VolumeContents, member: EtcdMember, expected: Expected) -> str | Rejected | None:
    """The text of the manifest that kops wrote for the member; None when there is none.

    Rejected when it belongs to another member or cluster: a volume of kops is adopted only for the member that ran on
    it. The name alone tells no cluster, since every cluster has an etcd-a.
    """
    layout = expected.layout
    text = contents.texts.get(layout.manifest)
    if text is None:
        return None
    env = manifest_env(text)
    name = layout.member_name(member.me)
    if (said := env.get("ETCD_NAME")) != name:
        return _another_members(layout, "ETCD_NAME", said, name)
    hosts = {one: f"{layout.member_name(one)}{expected.suffix}".lower() for one in member.members}
    for variable, allowed in (
        ("ETCD_INITIAL_CLUSTER", set(hosts.values())),
        ("ETCD_INITIAL_ADVERTISE_PEER_URLS", {hosts[member.me]}),
        ("ETCD_ADVERTISE_CLIENT_URLS", {hosts[member.me]}),
    ):
        said = env.get(variable)
        if said is None and variable != "ETCD_INITIAL_CLUSTER":
            continue
        named = set(re.findall(_HOST, (said or "").lower()))
        if not named or not named <= allowed:
            return _another_members(layout, variable, said, f"only the hosts {', '.join(sorted(allowed))}")
    return text


def _another_members(layout: VolumeLayout, variable: str, said: str | None, expected: str) -> Rejected:
    evidence = f"the volume's manifest {layout.manifest_file} has {variable}={said}, expected {expected}"
    return Rejected("volume/foreign-data", evidence)
