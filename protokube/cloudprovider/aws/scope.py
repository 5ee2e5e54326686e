"""The scope of DescribeVolumes: every etcd volume of the region, or those of our cluster alone.

A volume costs a reconcile about 0.2 ms of CPU, and a region may have a thousand etcd volumes of other clusters.
Filters are ANDed, so one call can ask for one spelling of the cluster's tag only, and only an answer without it tells
how our volumes are tagged. So the first question is wide, and so is one every `WIDE_EVERY` seconds. In between, the
filter is used where it hides nothing of ours.
"""

from __future__ import annotations

from protokube.cloudprovider.aws.ec2 import TagFilter
from protokube.core.volumes.model import CloudVolume
from protokube.core.volumes.tags import CLUSTER_TAG, CLUSTER_TAG_PREFIX, in_cluster

MANY = 50
"""Volumes of other clusters from which on a filter pays. With fewer, every change of tags is seen at once."""

WIDE_EVERY = 300.0
"""Seconds after which a question is wide again: a volume may have been tagged in the other spelling since."""


def cluster_filter(volumes: tuple[CloudVolume, ...], cluster_id: str, instance: str) -> TagFilter | None:
    """The filter that hides none of our volumes in a wide answer; None where there is none, or it doesn't pay.

    Ours are those of the cluster, and those attached to this machine: one of these may have lost the cluster's tag.
    """
    ours = [one for one in volumes if in_cluster(one.tags, cluster_id) or one.attachment_to(instance)]
    if not ours or len(volumes) - len(ours) < MANY:
        return None
    filters: tuple[TagFilter, ...] = (
        (CLUSTER_TAG, (cluster_id,)),
        (CLUSTER_TAG_PREFIX + cluster_id, ("owned", "shared")),
    )
    return next(
        ((tag, values) for tag, values in filters if all(one.tags.get(tag) in values for one in ours)),
        None,
    )
