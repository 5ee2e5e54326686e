"""Which refusals an operator may overrule, what each protects, and what helps against all others.

Invariant: only the judgement whose filesystem this is can be overruled. It rests on what was read, and the operator
may know more. What would destroy (a format), what is no judgement of ours (a failed read, a tag, the kernel's word)
and what would start an empty member can't be.
"""

from __future__ import annotations

from collections.abc import Mapping

PROTECTS: Mapping[str, str] = {
    "volume/clone": (
        "the etcd cluster against a copy with older data: a member that returns with it has lost acknowledged writes"
    ),
    "volume/foreign-data": "data of others, and etcd data of another member or cluster, against this member",
    "volume/identity": "a filesystem that was made for another member, or that was exchanged, against this member",
    "volume/lost-root": "a member that lost files against being started with less than it had",
    "volume/unknown-filesystem": "a member whose files were lost against being started empty",
}
"""The rules that can be overruled → what each protects."""

_TAGS = "it follows from the volume's tags: correct those, and it is judged again"
_CLOUD = "it is the cloud's word, or the kernel's: clear the cause that the report names"
_PEERS = "it keeps a second or an empty etcd cluster from being formed"

_REMEDIES: Mapping[str, str] = {
    "disk/write-protected": _CLOUD,
    "etcd/bootstrap-unknown": f"{_PEERS}; if these members never ran, say so with --etcd-bootstrap",
    "etcd/data-lost": f"{_PEERS}; replace the member with the commands that the report spells",
    "etcd/manifest-occupied": "another's file stands in kubelet's folder: move it away",
    "etcd/member-lists": f"{_PEERS}; give all volumes of the etcd cluster one list",
    "etcd/cluster-lost": f"{_PEERS}; restore a backup, or say once that they are of an older one: protokube etcd new",
    "etcd/member-lost": f"{_PEERS}; replace the member with the commands that the report spells",
    "etcd/version": "etcd supports one minor step at a time; name the image with --etcd-image",
    "filesystem/check-failed": "a mount may add to the damage: run e2fsck -f on the unmounted disk",
    "filesystem/damaged": "its contents can't be read, so that there is nothing to judge: run e2fsck on the disk",
    "grow/not-blank": "growing would overwrite what stands there: zero that part, or resize by hand",
    "mount/covered": "it is a fact of the machine: unmount what the report names",
    "mount/elsewhere": "it is a fact of the machine: let the disk go there",
    "mount/occupied": "it is a fact of the machine: unmount what the report names",
    "mount/path": "it is a fact of the machine: clear the way that the report names",
    "volume/attach-stuck": _CLOUD,
    "volume/bad-etcd-tag": _TAGS,
    "volume/detach-stuck": _CLOUD,
    "volume/disk-lost": _CLOUD,
    "volume/duplicate-member": _TAGS,
    "volume/image-missing": "there is no image to use: bring it back, or make one with the command in the report",
    "volume/lost-filesystem": (
        "the disk is blank, and using it means a format; if the data is lost for good, take off the two tags that "
        "the reference names"
    ),
    "volume/member-elsewhere": "it has no filesystem: give the etcd tag back to the volume that has the data",
    "volume/multi-attach": "no filesystem here survives two machines at once: make a volume without multi-attach",
    "volume/no-cluster": _TAGS,
    "volume/no-device-name": _CLOUD,
    "volume/no-disk": _CLOUD,
    "volume/no-role": _TAGS,
    "volume/not-ours": _TAGS,
    "volume/second-of-cluster": "one volume serves each etcd cluster on a machine: detach the other one",
    "volume/several-clusters": _TAGS,
    "volume/size": "it may be another disk: wait for the cloud to resize it, or correct the inventory",
    "volume/status": _CLOUD,
    "volume/unhealthy": "the kernel has errors for the mount: unmount it, run e2fsck -f, and mount it again",
    "volume/unknown-etcd-cluster": _TAGS,
}

_FORMAT = (
    "a format destroys what stands on the disk; if that can go, zero the disk with the command that the report names"
)
_OF_VOLUMES = frozenset({"disk", "filesystem", "grow", "mount", "volume"})
"""The families in which every rule is about a volume, and so stands above."""


def why_not(rule: str) -> str | None:
    """Why a rule can't be overruled, and what helps instead; None when it can be."""
    if rule in PROTECTS:
        return None
    family = rule.partition("/")[0]
    if family == "format":
        return f"it can't be overruled: {_FORMAT}"
    if remedy := _REMEDIES.get(rule):
        return f"it can't be overruled: {remedy}"
    if family in _OF_VOLUMES:
        return f"there is no such rule (expected one of {', '.join(PROTECTS)})"
    return "it can't be overruled: it isn't about a volume's filesystem; docs/reference.md has its remedy"
