"""Links in kubelet's manifest folder: made last, and removed when they lead nowhere.

kubelet watches the folder, not its links' targets (kubernetes, pkg/kubelet/config/file_linux.go). So it notices a
new link at once. A manifest that was rewritten behind an old link is noticed only at the next scan
(KubeletConfiguration's fileCheckFrequency, 20 s by default).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from protokube.core.etcd.model import EtcdFacts, EtcdSettings, MountedMember, StaleLink
from protokube.core.model import Unknown
from protokube.core.node.model import Absent, FileState, Link
from protokube.core.static_pod import manifest_env
from protokube.core.steps import Findings
from protokube.core.volumes.model import MOUNT_PREFIX


def why_link(
    settings: EtcdSettings, facts: EtcdFacts, member: MountedMember, suffix: str, findings: Findings
) -> str | None:
    """Why to link the volume's manifest now; None when it is linked, or may not be yet."""
    path, target = member.link, member.path(member.template.manifest)
    assert not isinstance(facts.node.files, Unknown)
    state = facts.node.files.get(path, Absent())
    written = member.contents.mtimes.get(member.template.manifest, 0)
    if isinstance(state, Link):
        # A clock that was ahead when the file was written proves nothing.
        fresh = state.mtime_ns >= written or written > facts.now * 1e9
        if state.target != target:
            return f"it led to {state.target}"
        return None if fresh else "kubelet notices a fresh link at once"
    if not isinstance(state, Absent):
        # It may be an operator's own manifest, and kubelet may run a pod from it.
        evidence = f"{path} is no link of ours ({type(state).__name__.lower()})"
        findings.refuse(path, "etcd/manifest-occupied", evidence)
        return None
    if missing := _missing_names(settings, facts, member, suffix):
        # Counted from the manifest's time, so that a restart of protokube doesn't begin again. A clock that was set
        # back makes the rest longer than the whole: then nothing is waited for.
        left = settings.names_patience - (facts.now - written / 1e9)
        if 0 < left <= settings.names_patience:
            reason = f"names of other members are missing: {', '.join(missing)}; waiting {left:.0f} s more"
            findings.wait(path, reason)
            return None
    return "the manifest is in place"


def awaits_names(settings: EtcdSettings, files: Mapping[str, FileState] | Unknown, member: MountedMember) -> bool:
    """Whether the first link waits for the names of all members.

    At its first start etcd compares peer URLs by the addresses of their names (etcd, URLStringsEqual in
    ValidateClusterAndAssignIDs). Without them it fails, and kubelet's back-off costs more time.
    """
    if len(member.volume.member.members) == 1 or not settings.names_kept or member.has_data:
        return False
    return isinstance(files, Unknown) or not isinstance(files.get(member.link), Link)


def member_names(member: MountedMember, suffix: str) -> list[str]:
    """The DNS names of all members of a member's etcd cluster, in the tag's order."""
    return [f"{member.template.member_name(one)}{suffix}".lower() for one in member.volume.member.members]


def _missing_names(settings: EtcdSettings, facts: EtcdFacts, member: MountedMember, suffix: str) -> list[str]:
    if not awaits_names(settings, facts.node.files, member):
        return []
    # The manifest's members, not the tags': a running cluster that we join may not have all of those yet.
    initial = manifest_env(member.manifest).get("ETCD_INITIAL_CLUSTER", "")
    names = [name for name in member_names(member, suffix) if f"//{name}:" in initial]
    return names if isinstance(facts.named, Unknown) else [name for name in names if name not in facts.named]


def stale_links(
    settings: EtcdSettings, facts: EtcdFacts, members: Collection[MountedMember], kept: Collection[str]
) -> Iterator[StaleLink]:
    """Yield the links to volumes that aren't mounted here, and the links that a mounted member must not have.

    A volume whose mount or contents are Unknown keeps its link: unknown is not empty.
    """
    if isinstance(facts.storage.mounts, Unknown) or isinstance(facts.node.files, Unknown):
        return
    mounted = {mount.target for mount in facts.storage.mounts}
    judged = {member.volume.target for member in members}
    for path, state in sorted(facts.node.files.items()):
        if path.rpartition("/")[0] != settings.manifest_dir or not isinstance(state, Link) or path in kept:
            continue
        if not state.target.startswith(MOUNT_PREFIX):
            continue
        # The first three parts are the mount point: "", "mnt", "master-<volume id>".
        target = "/".join(state.target.split("/")[:3])
        if target not in mounted:
            yield StaleLink(path, f"{target} is not mounted here")
        elif target in judged:
            yield StaleLink(path, f"no member may run from {target} under this name")
