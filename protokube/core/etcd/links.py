"""Links in kubelet's manifest folder: made last, and taken away when they lead nowhere.

kubelet notices a new link at once, and a manifest that was rewritten behind an old one only at its next scan.
"""

from __future__ import annotations

from collections.abc import Mapping

from protokube.core.dns.names import Naming
from protokube.core.etcd.members import Place, link_path, mounted_places
from protokube.core.etcd.template import manifest_env
from protokube.core.model import Unknown
from protokube.core.node.actions import MakeLink, Unlink
from protokube.core.node.model import Absent, FileState, Link
from protokube.core.observed import Observed
from protokube.core.settings import NodeConfig
from protokube.core.steps import Plan
from protokube.core.volumes.assess import Desired
from protokube.core.volumes.model import MOUNT_PREFIX

NAMES_PATIENCE = 60.0
"""Seconds that a new manifest waits for the names of all members before it is linked all the same."""


def plan_link(
    config: NodeConfig,
    observed: Observed,
    desired: Desired,
    place: Place,
    files: Mapping[str, FileState],
    plan: Plan,
) -> None:
    """Link a manifest that stands on its volume into kubelet's folder."""
    path, target = link_path(config, place.template), place.path(place.manifest)
    state = files.get(path, Absent())
    written = place.tree.mtimes.get(place.manifest, 0)
    if isinstance(state, Link):
        fresh = state.mtime_ns >= written or written > observed.now * 1e9  # a clock that was ahead proves nothing
        if state.target == target and fresh:
            return
        reason = "kubelet notices a fresh link at once" if state.target == target else f"it led to {state.target}"
        plan.step(observed, MakeLink(path, target), reason, volume=place.mine.id)
        return
    if not isinstance(state, Absent):
        plan.refuse(path, "etcd/manifest-occupied", f"{path} is no link of ours ({type(state).__name__.lower()})")
        return
    if missing := _missing_names(config, observed, desired, place):
        patience = NAMES_PATIENCE - (observed.now - written / 1e9)
        if 0 < patience <= NAMES_PATIENCE and not observed.assumed:
            plan.wait(
                path, f"names of other members are missing: {', '.join(missing)}; waiting {patience:.0f} s more"
            )
            return
    plan.step(observed, MakeLink(path, target), "the manifest is in place", volume=place.mine.id)


def waits_for_names(config: NodeConfig, observed: Observed, place: Place) -> bool:
    """Whether the names of all members matter: before the first link of a cluster with several members."""
    if len(place.mine.member.members) == 1 or config.dns == "none" or place.has_data:
        return False
    return isinstance(observed.files, Unknown) or not isinstance(
        observed.files.get(link_path(config, place.template)), Link
    )


def _missing_names(config: NodeConfig, observed: Observed, desired: Desired, place: Place) -> list[str]:
    if not waits_for_names(config, observed, place):
        return []
    naming = Naming(desired.cluster_id, config.suffix(desired.cluster_id))
    # The manifest's, not the tags': a running cluster that is joined need not have all of those yet.
    initial = manifest_env(place.tree.texts.get(place.manifest, "")).get("ETCD_INITIAL_CLUSTER", "")
    names = [name for name in naming.members(place.mine.member) if f"//{name}:" in initial]
    if isinstance(observed.records, Unknown):
        return names
    # What stands beside a name, where its owner is to be noted, is no address.
    known = {
        name
        for name, there in observed.records.items()
        if there.owned or any(not one.on_sign for one in there.foreign)
    }
    return [name for name in names if name not in known]


def remove_stale_links(
    config: NodeConfig,
    observed: Observed,
    desired: Desired,
    files: Mapping[str, FileState],
    wanted: set[str],
    plan: Plan,
) -> None:
    """Remove links to volumes that aren't mounted here, and links that a mounted volume of ours must not have.

    A volume whose mount or content can't be judged right now keeps its link: unknown is not empty.
    """
    if isinstance(observed.mounts, Unknown):
        return
    mounted = {mount.target for mount in observed.mounts}
    judged = {place.mine.target for place in mounted_places(config, observed, desired)}
    for path, state in sorted(files.items()):
        if path.rpartition("/")[0] != config.manifest_dir or not isinstance(state, Link) or path in wanted:
            continue
        if not state.target.startswith(MOUNT_PREFIX):
            continue
        target = "/".join(state.target.split("/")[:3])
        if target not in mounted:
            plan.step(observed, Unlink(path), f"{target} is not mounted here")
        elif target in judged:
            plan.step(observed, Unlink(path), f"no member may run from {target} under this name")
