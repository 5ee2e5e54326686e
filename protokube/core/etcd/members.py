"""Mounted volumes of ours, with everything that their members need: where things stand, and whose they are."""

from __future__ import annotations

from msgspec import Struct

from protokube.core.disks.identity import IDENTITY_PATH, MANIFESTS, Identity, kops_manifest, parse_identity
from protokube.core.disks.model import Tree
from protokube.core.disks.plan import attached, judge_filesystem, mount_of, mount_trouble
from protokube.core.etcd.model import EtcdTemplate
from protokube.core.etcd.template import image_version, manifest_image, spell_version
from protokube.core.model import Rejected, Unknown
from protokube.core.node.model import OnVolume
from protokube.core.observed import Observed
from protokube.core.settings import NodeConfig
from protokube.core.volumes.assess import Desired
from protokube.core.volumes.model import BOOTSTRAPPED_TAG, MemberVolume


class Place(Struct, frozen=True):
    """A mounted volume of ours with everything that its manifest needs."""

    mine: MemberVolume
    template: EtcdTemplate
    volume: OnVolume
    tree: Tree

    def path(self, relative: str) -> str:
        """A path on the volume, without the root prefix."""
        return f"{self.mine.target}/{relative}"

    @property
    def manifest(self) -> str:
        """The manifest's path relative to the volume."""
        return f"{MANIFESTS}/{self.template.manifest_file}"

    @property
    def data(self) -> str:
        """The data directory as a tree's entry."""
        return self.template.data_dir + "/"

    @property
    def has_data(self) -> bool:
        """Whether etcd ever started there: it makes `member` first of all."""
        return f"{self.template.data_dir}/member/" in self.tree.entries


def link_path(config: NodeConfig, template: EtcdTemplate) -> str:
    """Where kubelet finds an etcd cluster's manifest."""
    return f"{config.manifest_dir}/{template.manifest_file}"


def mounted_places(config: NodeConfig, observed: Observed, desired: Desired) -> list[Place]:
    """Our volumes that are mounted in their place, in good health, and whose content could be read."""
    places = []
    for mine in attached(desired):
        volume = mount_of(observed, mine)
        tree = observed.trees.get(mine.id)
        if volume is None or not isinstance(tree, Tree) or tree.uuid is None or _sick(observed, mine):
            continue
        places.append(Place(mine, config.templates[mine.member.cluster], volume, tree))
    return places


def identified(desired: Desired, config: NodeConfig, place: Place) -> Identity | Rejected | None:
    """The identity of a mounted volume as its file tells it; None when there is no file yet.

    The look before the mount may have missed the newest files, so everything is judged again here.
    """
    assert place.tree.uuid is not None, "mounted_places leaves out what could not be read"
    if refused := judge_filesystem(config, desired, place.mine, place.tree.uuid, place.tree):
        return refused
    text = place.tree.texts.get(IDENTITY_PATH)
    if text is None:
        return None
    identity = parse_identity(text)
    if isinstance(identity, Rejected):
        return identity
    if place.mine.marked_bootstrapped and not identity.started and not place.has_data:
        evidence = f"{IDENTITY_PATH} says started: false, the volume is tagged {BOOTSTRAPPED_TAG}"
        return Rejected("volume/identity", evidence)
    return identity


def first_identity(desired: Desired, place: Place) -> Identity:
    """The identity of a volume that has none yet, as it will be written."""
    mine = place.mine
    assert place.tree.uuid is not None
    kops = kops_manifest(place.tree, mine.member, place.template)
    image = manifest_image(kops) if isinstance(kops, str) else None
    version = spell_version(image_version(image)) if image else None
    return Identity(
        desired.cluster_id,
        mine.member.cluster,
        mine.member.me,
        mine.id,
        place.tree.uuid,
        version if place.has_data else None,
        place.has_data,
    )


def _sick(observed: Observed, mine: MemberVolume) -> bool:
    assert not isinstance(observed.mounts, Unknown)
    return any(mount.target == mine.target and mount_trouble(mount) for mount in observed.mounts)
