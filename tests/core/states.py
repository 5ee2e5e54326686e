"""Observed states for the planners' tests: a running node with one etcd volume, to be changed by the test."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from protokube.core.assess import assess
from protokube.core.disks.identity import Identity
from protokube.core.disks.model import Blank, Disk, DiskContent, Ext4, Intent, StorageFacts, VolumeContents
from protokube.core.history import History
from protokube.core.model import GIB, Moment
from protokube.core.node.model import Mount, NodeFacts, UnitState
from protokube.core.observed import Observed
from protokube.core.plan import plan
from protokube.core.settings import NodeConfig
from protokube.core.steps import Plan
from protokube.core.volumes.model import (
    BOOTSTRAPPED_TAG,
    FILESYSTEM_TAG,
    Attachment,
    AttachState,
    CloudSnapshot,
    CloudVolume,
    EtcdMember,
    Instance,
)
from protokube.core.volumes.uuid import filesystem_uuid
from tests.rounds.process import node_config

NOW = 1_800_000_000.0
CLUSTER = "c.example.com"
VOLUME = "vol-1"
MEMBER = EtcdMember("main", "a", ("a",))
UUID = filesystem_uuid(CLUSTER, MEMBER, VOLUME)
INTENT = Intent(CLUSTER, "main", "a", VOLUME, GIB, UUID)
INSTANCE = Instance("n1", "n1", "z1", CLUSTER, ("10.0.0.1",))
TARGET = f"/mnt/master-{VOLUME}"
BLANK = Blank()
FORMATTED = {FILESYSTEM_TAG: UUID}
NO_HISTORY = History()
RAN = {FILESYSTEM_TAG: UUID, BOOTSTRAPPED_TAG: "true"}


def volume(id_: str = VOLUME, spec: str = "a/a", key: str = "main", **more: Any) -> CloudVolume:
    """A volume of etcd cluster `key`; `tags` are added to the usual ones, `holder` attaches it."""
    tags = {"KubernetesCluster": CLUSTER, "k8s.io/role/master": "1", f"k8s.io/etcd/{key}": spec} | more.pop(
        "tags", {}
    )
    holder, state = more.pop("holder", None), more.pop("state", AttachState.ATTACHED)
    attachments = (Attachment(holder, "/dev/xvdu", state),) if holder else ()
    status = more.pop("status", "in-use" if holder else "available")
    return CloudVolume(
        id_, more.pop("zone", "z1"), more.pop("size", GIB), tags, status=status, attachments=attachments, **more
    )


def contents(*entries: str, identity: Identity | None = None, uuid: str = UUID) -> VolumeContents:
    """A volume's content: lost+found, the entries, and an identity file."""
    texts = {} if identity is None else {"k8s.io/identity.yaml": identity.render()}
    return VolumeContents(frozenset({"lost+found/", *entries, *texts}), texts, dict.fromkeys(texts, 0), uuid=uuid)


def ext4(**more: Any) -> Ext4:
    """Our own filesystem, fresh from mkfs."""
    values: dict[str, Any] = {
        "uuid": UUID, "label": "etcd-a", "size": GIB, "used": False, "checked": False, "contents": contents(),
    }  # fmt: skip
    return Ext4(**(values | more))


FACTS = {
    "instance": "cloud", "volumes": "cloud", "peers": "cloud", "can_tag": "cloud",
    "mounts": "storage", "disks": "storage", "contents": "storage",
    "files": "node", "unit": "node",
    "now": "at", "uptime": "at",
    "binary": "kubelet", "machine": "kubelet",
}  # fmt: skip
"""The part of a snapshot in which a fact stands."""


def changed(observed: Observed, **facts: Any) -> Observed:
    """The snapshot with other facts, by their names."""
    for name, value in facts.items():
        part = FACTS.get(name)
        if part is None:
            observed = replace(observed, **{name: value})
        else:
            observed = replace(observed, **{part: replace(getattr(observed, part), **{name: value})})
    return observed


def state(content: DiskContent = BLANK, *, tags: dict[str, str] | None = None, **more: Any) -> Observed:
    """A node that holds VOLUME, whose disk has this content."""
    observed = Observed(
        Moment(NOW, 10.0),
        CloudSnapshot(INSTANCE, (volume(holder="n1", tags=tags or {}),)),
        StorageFacts(disks={VOLUME: Disk("/dev/nvme1n1", (259, 1), GIB, content)}),
        NodeFacts({}, UnitState("loaded", "inactive", "dead")),
    )
    return changed(observed, **more)


def mounted() -> Mount:
    """The mount of VOLUME in its place."""
    return Mount(TARGET, (259, 1), "ext4", read_only=False)


def planned(observed: Observed, history: History = NO_HISTORY, **config: Any) -> Plan:
    """One pass."""
    judged = assess(config_of(**config), observed, history.seen(observed))
    return plan(judged, history.failed)


def config_of(**changes: Any) -> NodeConfig:
    """A master without DNS, unless changed."""
    return node_config(**{"dns": "none", **changes})


def kinds(made: Plan, subject: str = VOLUME) -> list[str]:
    """The kinds of the actions planned for a subject."""
    return [step.action.kind for step in made.steps if step.action.subject == subject]


def rules(made: Plan, subject: str = VOLUME) -> list[str]:
    """The rules by which a subject is refused."""
    return [one.rule for one in made.refusals if one.subject == subject]
