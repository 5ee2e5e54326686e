"""From a mounted volume to a linked manifest: identity, data directory, manifest, and the link, in that order.

No etcd without its volume: the manifest lives on the volume and only a link to it stands in kubelet's folder.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from protokube.core.disks.identity import IDENTITY_PATH, Identity
from protokube.core.disks.model import Tree
from protokube.core.disks.plan import attached, mount_of
from protokube.core.etcd.bootstrap import MemberFacts, Start, Wait, initial_state, needs_peers
from protokube.core.etcd.links import plan_link, remove_stale_links
from protokube.core.etcd.members import Place, first_identity, identified, link_path, mounted_places
from protokube.core.etcd.template import image_version, manifest_env, manifest_image, render_manifest, spell_version
from protokube.core.model import Rejected, Unknown
from protokube.core.node.actions import MakeDirectory, WriteFile
from protokube.core.node.model import FileState
from protokube.core.observed import Observed
from protokube.core.settings import NodeConfig
from protokube.core.steps import Plan
from protokube.core.volumes.actions import TagVolume
from protokube.core.volumes.assess import Desired
from protokube.core.volumes.model import BOOTSTRAPPED_TAG, FILESYSTEM_TAG


def plan_etcd(config: NodeConfig, observed: Observed, desired: Desired, plan: Plan) -> None:
    """Plan the etcd members of our mounted volumes, and take away links that lead nowhere."""
    if isinstance(observed.files, Unknown):
        plan.ignorance("files", observed.files.reason)
        return
    for mine in attached(desired):
        tree = observed.trees.get(mine.id)
        if mount_of(observed, mine) and isinstance(tree, Unknown):
            plan.ignorance(mine.id, tree.reason)
        elif isinstance(tree, Tree) and tree.uuid is None:
            plan.ignorance(mine.id, f"the UUID of the filesystem mounted at {mine.target} can't be read")
    wanted: set[str] = set()
    for place in mounted_places(config, observed, desired):
        if _plan_member(config, observed, desired, place, observed.files, plan):
            wanted.add(link_path(config, place.template))
    remove_stale_links(config, observed, desired, observed.files, wanted, plan)


def _plan_member(
    config: NodeConfig,
    observed: Observed,
    desired: Desired,
    place: Place,
    files: Mapping[str, FileState],
    plan: Plan,
) -> bool:
    """Plan one member; the answer says whether a link to its manifest may stand."""
    mine = place.mine
    identity = identified(desired, config, place)
    if isinstance(identity, Rejected):
        plan.refuse(mine.id, identity.rule, identity.evidence)
        return place.has_data  # a member that runs is not stopped by a tag or a file; none is started by it either
    complete = identity is not None
    if identity is None:
        identity = first_identity(desired, place)
        _write_identity(observed, place, identity, "whose volume this is", plan)
        if place.tree.uuid != mine.uuid or place.has_data:
            return True  # an adopted volume gets its identity before anything on it is replaced
    _plan_tags(observed, place, plan)
    image = _image(config, place, identity)
    if isinstance(image, Rejected):
        plan.refuse(mine.id, image.rule, image.evidence)
        return True
    if place.has_data:
        _record_start(observed, place, identity, plan)
    suffix = config.suffix(desired.cluster_id)
    facts = MemberFacts(mine, identity, place.has_data)
    peers = observed.members.get(mine.member.cluster, Unknown("no peer was asked"))
    start = initial_state(
        desired,
        place.template,
        facts,
        peers,
        dns_suffix=suffix,
        vouched=config.etcd_bootstrap,
        can_tag=observed.can_tag,
        steady=observed.answers_for.get(mine.member.cluster, 0.0) >= config.peers_patience,
    )
    if isinstance(start, Rejected):
        plan.refuse(mine.id, start.rule, start.evidence)
        if needs_peers(facts) and not isinstance(peers, Unknown):
            # `etcdctl member add` costs a small cluster its quorum until this member has joined: look again soon.
            plan.wait(mine.id, "its peers are asked again whether they list it anew", theirs=True)
        return False
    if isinstance(start, Wait):
        plan.wait(mine.id, start.reason, theirs=start.theirs)
        return start.as_is
    if place.data not in place.tree.entries:
        path = place.path(place.template.data_dir)
        plan.step(observed, MakeDirectory(path, 0o700, place.volume), "etcd's data directory", volume=mine.id)
        complete = False
    manifest = _manifest(config, observed, place, start, image, suffix)
    if manifest != place.tree.texts.get(place.manifest):
        action = WriteFile(place.path(place.manifest), manifest, 0o644, place.volume)
        reason = f"member {mine.member.me} of etcd cluster {mine.member.cluster}, {start.state}"
        plan.step(observed, action, reason, volume=mine.id)
        complete = False
    if complete:
        plan_link(config, observed, desired, place, files, plan)
    return True


def _write_identity(observed: Observed, place: Place, identity: Identity, reason: str, plan: Plan) -> None:
    action = WriteFile(place.path(IDENTITY_PATH), identity.render(), 0o644, place.volume)
    plan.step(observed, action, reason, volume=place.mine.id)


def _record_start(observed: Observed, place: Place, identity: Identity, plan: Plan) -> None:
    """Remember that etcd started, for ever, and the version that last ran."""
    ran = _version_of(place) or identity.etcd_version
    if identity.started and identity.etcd_version == ran:
        return
    reason = f"etcd {ran or 'of an unknown version'} has started"
    _write_identity(observed, place, replace(identity, started=True, etcd_version=ran), reason, plan)


def _plan_tags(observed: Observed, place: Place, plan: Plan) -> None:
    """Let the cloud remember what it can: the filesystem that we use, and that etcd ran."""
    if not observed.can_tag:
        return
    mine, tags = place.mine, place.mine.volume.tags
    assert place.tree.uuid is not None
    if FILESYSTEM_TAG not in tags:
        action = TagVolume(mine.id, FILESYSTEM_TAG, place.tree.uuid)
        plan.step(observed, action, "a blank or another disk is known for wrong by it", volume=mine.id)
    if place.has_data and not mine.marked_bootstrapped:
        action = TagVolume(mine.id, BOOTSTRAPPED_TAG, "true")
        plan.step(observed, action, "etcd has started; other members must not start a second cluster", volume=mine.id)


def _version_of(place: Place) -> str | None:
    """The etcd version in the manifest that stands on the volume."""
    image = manifest_image(place.tree.texts.get(place.manifest, ""))
    return spell_version(image_version(image)) if image else None


def _image(config: NodeConfig, place: Place, identity: Identity) -> str | Rejected:
    """The image to run. etcd supports one minor step at a time, and never a step by accident."""
    ran = identity.etcd_version
    present = manifest_image(place.tree.texts.get(place.manifest, ""))
    if config.etcd_image is not None:
        wanted = image_version(config.etcd_image)
        if ran is None or wanted is None:
            return config.etcd_image
        before = _minor(ran)
        if wanted[:2] in (before, (before[0], before[1] + 1)):
            return config.etcd_image
        evidence = (
            f"etcd {ran} ran here, --etcd-image is {config.etcd_image}; one minor version up at a time, never down"
        )
        return Rejected("etcd/version", evidence)
    if not identity.started and not place.has_data:
        return config.default_image
    default = image_version(config.default_image)
    if ran is not None and default is not None and _minor(ran) == default[:2]:
        return config.default_image
    if present is not None:
        return present
    evidence = f"etcd {ran or 'of an unknown version'} ran here, and no manifest says which image; give --etcd-image"
    return Rejected("etcd/version", evidence)


def _minor(version: str) -> tuple[int, int]:
    major, minor = version.split(".")[:2]
    return int(major), int(minor)


def _manifest(config: NodeConfig, observed: Observed, place: Place, start: Start, image: str, suffix: str) -> str:
    """The manifest that should stand on the volume.

    What matters only while the data directory is empty (the initial state and cluster) is left as it is while
    kubelet runs: a changed manifest restarts a healthy member for nothing.
    """

    def render(start: Start) -> str:
        return render_manifest(
            place.template,
            place.mine.member,
            mount_point=place.mine.target,
            dns_suffix=suffix,
            image=image,
            state=start.state,
            hosts=config.private_dns,
            initial_cluster=start.initial_cluster,
        )

    present = place.tree.texts.get(place.manifest)
    wanted = render(start)
    if present is None or present == wanted or not place.has_data or not _kubelet_may_run(config, observed):
        return wanted
    env = manifest_env(present)
    as_started = Start(
        "new" if env.get("ETCD_INITIAL_CLUSTER_STATE") == "new" else "existing", env.get("ETCD_INITIAL_CLUSTER")
    )
    return present if render(as_started) == present else wanted


def _kubelet_may_run(config: NodeConfig, observed: Observed) -> bool:
    """Unless its unit is known to be down, kubelet (ours or one that we don't manage) may run the member."""
    if config.kubelet_unit is None or observed.unit is None or isinstance(observed.unit, Unknown):
        return True
    return observed.unit.active not in ("inactive", "failed")
