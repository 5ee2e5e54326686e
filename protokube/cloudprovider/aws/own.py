"""EC2's facts about this very instance, asked as seldom as possible: its tags, VPC, DNS name and devices.

Tags are written by others, at launch or later, and may arrive one by one. Until they name the cluster every question
causes a call. From then on the answer is kept. While it names no instance group, it is asked for again after half
a minute, then after ever longer pauses, and no more once `TAGS_COME_WITHIN` has passed: not every instance
has a group. A reload asks again.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping

from protokube.cloudprovider.aws.ec2 import InstanceFacts
from protokube.core.volumes.tags import CLUSTER_TAG, CLUSTER_TAG_PREFIX, instance_group, is_dns_name
from protokube.errors import ProviderError

SOON = 30.0
"""Seconds after which tags that name the cluster, but no instance group, are first asked for again. Each pause is
twice the one before."""

YOUNG = 30.0
"""Seconds for which the mapping knows of volumes that an answer of DescribeVolumes may not show yet."""

TAGS_COME_WITHIN = 3600.0
"""Seconds after which no group is expected any more: tags come when an instance starts."""


class OwnInstance:
    """The answers. `ask` makes the call; thread-safe. `cluster_id`, when configured, overrules the tags."""

    def __init__(
        self,
        ask: Callable[[], InstanceFacts],
        cluster_id: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ask = ask
        self._configured = cluster_id
        self._clock = clock
        self._lock = threading.Lock()
        self._facts: InstanceFacts | None = None
        self._pause = SOON
        self._due = math.inf
        self._first_at = -math.inf
        self._asked_at = -math.inf

    def facts(self) -> InstanceFacts:
        """The facts. Raises ProviderError while the tags don't name the cluster, which is never guessed."""
        with self._lock:
            if self._facts is None:
                facts = self._ask()
                self.cluster_id(facts)
                self._facts, self._asked_at = facts, self._clock()
                self._first_at = self._asked_at
                self._plan_next(facts)
            elif self._clock() >= self._due:
                self._renew(self._facts)
            return self._facts

    def mapping(self) -> tuple[Mapping[str, str], bool]:
        """The block device mapping (device name → volume id), and whether it may know more than other answers.

        The first one may know of volumes that no answer shows yet, for `YOUNG` seconds: a daemon that was killed a
        moment ago may have requested one. Later mappings tell nothing new: this daemon knows its own requests.
        Makes no call; empty before the first answer.
        """
        with self._lock:
            if self._facts is None:
                return {}, False
            return self._facts.devices, self._clock() - self._asked_at <= YOUNG

    def look_again(self) -> None:
        """Make the next question cause a call, since a fact in the answer has changed."""
        with self._lock:
            self._due = -math.inf

    def cluster_id(self, facts: InstanceFacts) -> str:
        """The cluster that this instance belongs to."""
        return self._configured or tagged_cluster(facts)

    def _renew(self, known: InstanceFacts) -> None:
        """Ask again. A failure, or another cluster than this node has begun to serve, changes nothing."""
        try:
            facts = self._ask()
            same = self.cluster_id(facts) == self.cluster_id(known)
        except ProviderError:
            # The known facts still hold; lasting trouble is reported by the calls that a reconcile can't do without.
            self._due = self._clock() + SOON
            return
        if not same:
            facts = known
        self._facts, self._asked_at = facts, -math.inf
        self._plan_next(facts)

    def _plan_next(self, facts: InstanceFacts) -> None:
        now = self._clock()
        if instance_group(facts.tags) is not None or now - self._first_at >= TAGS_COME_WITHIN:
            self._due = math.inf
            return
        self._due = now + self._pause
        self._pause *= 2


def tagged_cluster(facts: InstanceFacts) -> str:
    """The cluster that the instance's tags name, in either spelling. Its name becomes a part of host names."""
    tags = facts.tags
    names = {tag.removeprefix(CLUSTER_TAG_PREFIX): tag for tag in tags if tag.startswith(CLUSTER_TAG_PREFIX)}
    names |= {tags.get(CLUSTER_TAG, ""): f"{CLUSTER_TAG}={tags.get(CLUSTER_TAG, '')}"}
    names.pop("", None)
    if not names:
        raise ProviderError(
            f"EC2 DescribeInstances {facts.id}: no tag {CLUSTER_TAG} or {CLUSTER_TAG_PREFIX}<id> yet; tags may "
            "arrive late on a new instance. If it stays so, tag the instance, or say --cluster-id"
        )
    if len(names) > 1:
        raise ProviderError(
            f"EC2 DescribeInstances {facts.id}: the tags name several clusters, {', '.join(sorted(names))}: leave "
            "one, or say which with --cluster-id"
        )
    ((name, tag),) = names.items()
    if not is_dns_name(name):
        raise ProviderError(
            f"EC2 DescribeInstances {facts.id}: the tag {tag!r} names the cluster {name!r} where a DNS name in lower "
            "case, without a dot at its end, was expected: correct the tag, or say --cluster-id"
        )
    return name
