"""Volume tags → what the volume is for. A strict grammar: names become paths and host names.

The tags are kops's: `KubernetesCluster`, `kubernetes.io/cluster/<id>`, `k8s.io/role/master` and
`k8s.io/etcd/<cluster>` = `<me>/<m1>,<m2>,…`. What kops accepts by accident (empty names, duplicates, several
slashes, names that are no DNS label) is rejected with its reason.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from protokube.core.model import Rejected
from protokube.core.volumes.model import EtcdMember

CLUSTER_TAG = "KubernetesCluster"
CLUSTER_TAG_PREFIX = "kubernetes.io/cluster/"
ROLE_TAG_PREFIX = "k8s.io/role/"
MASTER_ROLES = ("master", "control-plane")
ROLE_TAGS = tuple(ROLE_TAG_PREFIX + role for role in MASTER_ROLES)
ETCD_TAG_PREFIX = "k8s.io/etcd/"
GROUP_TAGS = ("k8s.io/instance-group", "kops.k8s.io/instancegroup", "kops.k8s.io/instance-group")
"""kops writes the second on AWS, the third on other clouds."""

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_LONGEST_LABEL = 63
_LONGEST_NAME = 253


def is_dns_label(name: str) -> bool:
    """Whether `name` is an RFC 1123 label: lower case letters, digits and inner dashes, 1 to 63 of them."""
    return _LABEL.fullmatch(name) is not None


def is_dns_name(name: str) -> bool:
    """Whether `name` is a DNS name as host names have it: labels in lower case, no dot at its end."""
    return len(name) <= _LONGEST_NAME and all(map(is_dns_label, name.split(".")))


def in_cluster(tags: Mapping[str, str], cluster_id: str) -> bool:
    """Whether a volume belongs to the cluster, by either spelling of the tag."""
    return tags.get(CLUSTER_TAG) == cluster_id or tags.get(CLUSTER_TAG_PREFIX + cluster_id) in ("owned", "shared")


def cluster_names(tags: Mapping[str, str]) -> list[str]:
    """The clusters that the tags name, in either spelling; for people only."""
    if CLUSTER_TAG in tags:
        return [tags[CLUSTER_TAG]]
    return sorted(tag.removeprefix(CLUSTER_TAG_PREFIX) for tag in tags if tag.startswith(CLUSTER_TAG_PREFIX))


def etcd_clusters(tags: Mapping[str, str]) -> list[str]:
    """The keys of the etcd clusters that a volume's tags name, well or not."""
    return sorted(tag.removeprefix(ETCD_TAG_PREFIX) for tag in tags if tag.startswith(ETCD_TAG_PREFIX))


def has_etcd_tag(tags: Mapping[str, str]) -> bool:
    """Whether a volume is for etcd, well tagged or not."""
    return any(tag.startswith(ETCD_TAG_PREFIX) for tag in tags)


def has_master_role(tags: Mapping[str, str]) -> bool:
    """Whether a volume is for control-plane nodes; the tag's value doesn't matter."""
    return any(tag in tags for tag in ROLE_TAGS)


def roles(tags: Mapping[str, str]) -> frozenset[str]:
    """The roles that an instance's tags name: `master`, `control-plane`, `node`, …; the tags' values don't matter."""
    return frozenset(tag.removeprefix(ROLE_TAG_PREFIX) for tag in tags if tag.startswith(ROLE_TAG_PREFIX))


def instance_group(tags: Mapping[str, str]) -> str | None:
    """The instance group that the volume was made for, if its tags name one."""
    return next((tags[tag] for tag in GROUP_TAGS if tags.get(tag)), None)


def etcd_member(tags: Mapping[str, str]) -> EtcdMember | Rejected | None:
    """The etcd member that a volume's tags name; None without an etcd tag."""
    found = etcd_clusters(tags)
    if not found:
        return None
    if len(found) > 1:
        names = " and ".join(ETCD_TAG_PREFIX + key for key in found)
        return Rejected("volume/several-clusters", f"tags {names}: a volume carries one etcd member, not several")
    return parse_spec(found[0], tags[ETCD_TAG_PREFIX + found[0]])


def parse_spec(cluster: str, spec: str) -> EtcdMember | Rejected:
    """Parse an etcd tag's value, `<me>/<m1>,<m2>,…`; surrounding white space is trimmed."""
    tag = f"tag {ETCD_TAG_PREFIX}{cluster}={spec!r}"

    def bad(problem: str) -> Rejected:
        return Rejected("volume/bad-etcd-tag", f"{tag}: {problem}; expected <me>/<member>,<member>,… such as a/a,b,c")

    if not is_dns_label(cluster):
        return bad(f"the etcd cluster's key {cluster!r} is no DNS label")
    me, slash, rest = spec.strip().partition("/")
    if not slash:
        return bad("there is no slash")
    if "/" in rest:
        return bad("there is more than one slash")
    members = tuple(rest.split(","))
    for name in (me, *members):
        if not name:
            return bad("a member's name is empty")
        if not is_dns_label(name):
            return bad(f"{name!r} is no DNS label (lower case letters, digits, inner dashes)")
        if len(dns_name := f"etcd-{cluster}-{name}") > _LONGEST_LABEL:
            return bad(
                f"{name!r} is too long: it becomes the host name {dns_name}, at most {_LONGEST_LABEL} characters"
            )
    if len(set(members)) != len(members):
        twice = next(name for name in members if members.count(name) > 1)
        return bad(f"member {twice!r} is listed twice")
    if me not in members:
        return bad(f"{me!r} is not among the members")
    return EtcdMember(cluster, me, members)
