"""The pure model of the world: every action predicts its own effect on the facts that it names.

A dry run repeats judge → plan → predict, and so prints the whole way to the converged node. Tests compare the
predictions with the real adapters.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct
from msgspec.structs import replace

from protokube.core.action import Action
from protokube.core.disks.identity import Identity
from protokube.core.disks.model import Blank, Disk, Ext4, VolumeContents
from protokube.core.disks.paths import IDENTITY_PATH
from protokube.core.model import Unknown
from protokube.core.observed import Observed
from protokube.core.settings import NodeConfig
from protokube.core.static_pod import image_version, spell_version
from protokube.core.volumes.actions import KNOWN_AFTER_ATTACH, AttachVolume
from protokube.core.volumes.model import BOOTSTRAPPED_TAG, FILESYSTEM_TAG, CloudVolume, EtcdMember
from protokube.core.volumes.tags import etcd_member

BLANK_ASSUMED = "the disk proves blank"
KEPT_ASSUMED = "the disk holds the filesystem that its tag names"
_UNKNOWN_NUMBER = (0, 0)


class Predicted(Struct, frozen=True):
    """A predicted world. `assumed`: volume → the assumption that the world has yet to confirm."""

    observed: Observed
    assumed: Mapping[str, str] = {}


def predict(config: NodeConfig, world: Predicted, action: Action) -> Predicted:
    """Predict the world after an action, as far as it can be known before."""
    observed = world.observed
    facts = action.predict(getattr(observed, action.facts), observed.at.now)
    world = replace(world, observed=replace(observed, **{action.facts: facts}))
    return _disk_appears(config, world, action.volume_id) if isinstance(action, AttachVolume) else world


def _disk_appears(config: NodeConfig, world: Predicted, volume_id: str) -> Predicted:
    cloud, storage = world.observed.cloud, world.observed.storage
    assert not isinstance(cloud.instance, Unknown) and not isinstance(cloud.volumes, Unknown)
    volume = next(one for one in cloud.volumes if one.id == volume_id)
    content, assumed = _likely_content(config, cloud.instance.cluster_id, volume)
    disk = Disk(KNOWN_AFTER_ATTACH, _UNKNOWN_NUMBER, volume.size, content)
    storage = replace(storage, disks={**storage.disks, volume_id: disk})
    return Predicted(replace(world.observed, storage=storage), {**world.assumed, volume_id: assumed})


def _likely_content(config: NodeConfig, cluster_id: str, volume: CloudVolume) -> tuple[Blank | Ext4, str]:
    """The likeliest content of a disk that was never read: the filesystem that the tags name, else none."""
    uuid = volume.tags.get(FILESYSTEM_TAG)
    member = etcd_member(volume.tags)
    if uuid is None or not isinstance(member, EtcdMember):
        return Blank(), BLANK_ASSUMED
    started = BOOTSTRAPPED_TAG in volume.tags
    cluster = config.volumes.cluster_id or cluster_id
    version = image_version(config.etcd.image or config.etcd.default_image)
    ran = spell_version(version) if started else None
    identity = Identity(cluster, member.cluster, member.me, volume.id, uuid, ran, started)
    data = config.etcd.templates[member.cluster].data_dir
    entries = {"lost+found/", IDENTITY_PATH} | ({f"{data}/", f"{data}/member/"} if started else set())
    contents = VolumeContents(frozenset(entries), {IDENTITY_PATH: identity.render()}, {IDENTITY_PATH: 0}, uuid=uuid)
    return Ext4(uuid, "", volume.size, used=True, checked=False, contents=contents), KEPT_ASSUMED
