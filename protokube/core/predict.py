"""The pure model of what each action does to the world.

Dry run walks plan → predict → plan … with it, and so prints the whole way to the settled node. Tests hold it against
the real adapters, so that it can't drift from the world.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import assert_never

from msgspec.structs import replace

from protokube.core.actions import Action
from protokube.core.disks.actions import CheckFilesystem, FormatVolume, GrowFilesystem, MountVolume
from protokube.core.disks.identity import IDENTITY_PATH, Identity
from protokube.core.disks.model import Blank, Disk, Ext4, Mount, Mounted, Tree
from protokube.core.dns.actions import ChangeRecords
from protokube.core.dns.model import ChangeKind, OwnedRecord, RecordChange, RecordSet
from protokube.core.etcd.template import image_version
from protokube.core.model import Unknown
from protokube.core.node.actions import MakeDirectory, MakeLink, RestartUnit, StartUnit, Unlink, WriteFile
from protokube.core.node.model import Absent, File, FileState, Link, UnitState
from protokube.core.observed import Observed
from protokube.core.settings import NodeConfig
from protokube.core.volumes import tags as tagging
from protokube.core.volumes.actions import KNOWN_AFTER_ATTACH, AnnounceAddresses, AttachVolume, TagVolume
from protokube.core.volumes.model import (
    BOOTSTRAPPED_TAG,
    FILESYSTEM_TAG,
    MOUNT_PREFIX,
    Attachment,
    AttachState,
    CloudVolume,
    EtcdMember,
    Peer,
)

BLANK_ASSUMED = "the disk proves blank"
KEPT_ASSUMED = "the disk holds the filesystem that its tag names"
_UNKNOWN_NUMBER = (0, 0)


def predict(config: NodeConfig, observed: Observed, action: Action) -> Observed:
    """The world after an action, as far as it can be known before."""
    match action:
        case AttachVolume():
            return _attached(config, observed, action)
        case AnnounceAddresses():
            return _announced(observed, action)
        case FormatVolume():
            tree = Tree(frozenset({"lost+found/"}), uuid=action.intent.uuid)
            made = Ext4(action.intent.uuid, action.label, action.size, used=False, checked=False, tree=tree)
            return _disk(observed, action.volume_id, made)
        case CheckFilesystem():
            return _disk_changed(observed, action.volume_id, checked=True)
        case GrowFilesystem():
            return _disk_changed(observed, action.volume_id, size=action.size)
        case MountVolume():
            return _mounted(observed, action)
        case TagVolume():
            return _volume(
                observed, action.volume_id, lambda one: replace(one, tags={**one.tags, action.key: action.value})
            )
        case MakeDirectory():
            return _tree_entry(observed, action.path, None) if action.volume else observed
        case WriteFile():
            if action.volume:
                return _tree_entry(observed, action.path, action.content)
            return _file(observed, action.path, File(action.content, action.mode, _now(observed)))
        case Unlink():
            return _file(observed, action.path, Absent())
        case MakeLink():
            return _file(observed, action.path, Link(action.target, _now(observed)))
        case ChangeRecords():
            return _records(observed, action)
        case StartUnit() | RestartUnit():
            running = UnitState("loaded", "active", "running", started_at=observed.now + 1)
            return replace(observed, unit=running)
    assert_never(action)


def _now(observed: Observed) -> int:
    return int(observed.now * 1e9)


def _file(observed: Observed, path: str, state: FileState) -> Observed:
    assert not isinstance(observed.files, Unknown)
    return replace(observed, files={**observed.files, path: state})


def _volume(observed: Observed, volume_id: str, change: Callable[[CloudVolume], CloudVolume]) -> Observed:
    assert not isinstance(observed.volumes, Unknown)
    return replace(observed, volumes=tuple(change(one) if one.id == volume_id else one for one in observed.volumes))


def _disk(observed: Observed, volume_id: str, content: Ext4 | Mounted) -> Observed:
    disk = observed.disks[volume_id]
    assert isinstance(disk, Disk)
    return replace(observed, disks={**observed.disks, volume_id: replace(disk, content=content)})


def _disk_changed(observed: Observed, volume_id: str, **changes: bool | int) -> Observed:
    disk = observed.disks[volume_id]
    assert isinstance(disk, Disk) and isinstance(disk.content, Ext4)
    return _disk(observed, volume_id, replace(disk.content, **changes))


def _attached(config: NodeConfig, observed: Observed, action: AttachVolume) -> Observed:
    assert not isinstance(observed.instance, Unknown) and not isinstance(observed.volumes, Unknown)
    instance = observed.instance
    volume = next(one for one in observed.volumes if one.id == action.volume_id)
    content, assumed = _likely_content(config, instance.cluster_id, volume)
    held = Attachment(instance.id, action.device, AttachState.ATTACHED)
    observed = _volume(observed, volume.id, lambda one: replace(one, attachments=(held,), status="in-use"))
    used = set(instance.used_devices)
    if action.device:
        used.add(action.device)
    disk = Disk(KNOWN_AFTER_ATTACH, _UNKNOWN_NUMBER, volume.size, content)
    return replace(
        observed,
        instance=replace(instance, used_devices=frozenset(used)),
        disks={**observed.disks, volume.id: disk},
        assumed={**observed.assumed, volume.id: assumed},
    )


def _announced(observed: Observed, action: AnnounceAddresses) -> Observed:
    assert not isinstance(observed.peers, Unknown)
    others = tuple(peer for peer in observed.peers if peer.instance != action.instance)
    return replace(observed, peers=(*others, Peer(action.instance, action.internal, action.external)))


def _likely_content(config: NodeConfig, cluster_id: str, volume: CloudVolume) -> tuple[Blank | Ext4, str]:
    """What most likely stands on a disk that nobody has seen yet: what the tags remember, else nothing."""
    uuid = volume.tags.get(FILESYSTEM_TAG)
    member = tagging.etcd_member(volume.tags)
    if uuid is None or not isinstance(member, EtcdMember):
        return Blank(), BLANK_ASSUMED
    started = BOOTSTRAPPED_TAG in volume.tags
    cluster = config.cluster_id or cluster_id
    version = image_version(config.etcd_image or config.default_image)
    ran = ".".join(map(str, version)) if started and version else None
    identity = Identity(cluster, member.cluster, member.me, volume.id, uuid, ran, started)
    data = config.templates[member.cluster].data_dir
    entries = {"lost+found/", IDENTITY_PATH} | ({f"{data}/", f"{data}/member/"} if started else set())
    tree = Tree(frozenset(entries), {IDENTITY_PATH: identity.render()}, {IDENTITY_PATH: 0}, uuid=uuid)
    return Ext4(uuid, "", volume.size, used=True, checked=False, tree=tree), KEPT_ASSUMED


def _mounted(observed: Observed, action: MountVolume) -> Observed:
    disk = observed.disks[action.volume_id]
    assert isinstance(disk, Disk) and isinstance(disk.content, Ext4) and not isinstance(observed.mounts, Unknown)
    seen = disk.content.tree if isinstance(disk.content.tree, Tree) else Tree()
    mounts = (*observed.mounts, Mount(action.target, disk.number, "ext4", read_only=False))
    trees = {**observed.trees, action.volume_id: replace(seen, uuid=action.uuid)}
    return replace(_disk(observed, action.volume_id, Mounted()), mounts=mounts, trees=trees)


def _tree_entry(observed: Observed, path: str, text: str | None) -> Observed:
    """A file (or, without a text, a directory) appears on a mounted volume, with the directories above it."""
    volume_id, _, relative = path.removeprefix(MOUNT_PREFIX).partition("/")
    tree = observed.trees[volume_id]
    assert isinstance(tree, Tree)
    parts = relative.split("/")
    above = {"/".join(parts[:depth]) + "/" for depth in range(1, len(parts))}
    entry = relative + "/" if text is None else relative
    tree = replace(tree, entries=tree.entries | above | {entry})
    if text is not None:
        mtimes = {**tree.mtimes, relative: _now(observed)}
        tree = replace(tree, texts={**tree.texts, relative: text}, mtimes=mtimes)
    return replace(observed, trees={**observed.trees, volume_id: tree})


def _records(observed: Observed, action: ChangeRecords) -> Observed:
    assert not isinstance(observed.records, Unknown)
    records = dict(observed.records)
    for change in action.records:
        records[change.name] = _changed(records.get(change.name, RecordSet(change.name)), change)
    return replace(observed, records=records)


def _changed(there: RecordSet, change: RecordChange) -> RecordSet:
    kept: tuple[OwnedRecord, ...] = tuple(
        one
        for one in there.owned
        if one.type != change.type or (change.shared and one.owner not in (change.owner, None))
    )
    if change.kind is ChangeKind.UPSERT:
        kept += (OwnedRecord(change.type, change.values, change.ttl, change.owner),)
    foreign = tuple(one for one in there.foreign if one not in change.adopts)
    return replace(there, owned=kept, foreign=foreign)
