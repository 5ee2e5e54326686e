"""AWS as a CloudProvider: identity from the metadata service and the instance's tags, volumes from EC2.

The memory between reconciles, and why losing it does no harm (it costs calls, never a different end):

- the identity document: it can't change while the instance runs;
- VPC, private DNS name and tags of this instance, as own.py says: once they name cluster and instance group they are
  kept, until a reload;
- other holders' addresses and states: asked again when the set of holders changes and every `PEERS_FOR` seconds;
- former holders that EC2 called terminated, as evidence that they are gone for good; without it they are absent;
- requests for volumes and device names, as attachments.py and slots.py say;
- the last snapshot, as last.py says;
- how our volumes are tagged, as scope.py says;
- that tagging is forbidden: after a restart it is tried, and reported, once more.

A converged snapshot is one DescribeVolumes, and two requests to the metadata service for the addresses that can
change while the instance runs.
"""

from __future__ import annotations

import ipaddress
import math
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from msgspec import Struct
from msgspec.structs import replace

from protokube.cloudprovider.aws import last, scope
from protokube.cloudprovider.aws.answer import Answer
from protokube.cloudprovider.aws.ec2 import Ec2, InstanceFacts, TagFilter, external
from protokube.cloudprovider.aws.imds import Imds
from protokube.cloudprovider.aws.last import LastSnapshot
from protokube.cloudprovider.aws.own import OwnInstance
from protokube.cloudprovider.aws.tracking import Tracking
from protokube.core.model import Unknown
from protokube.core.volumes.model import CloudSnapshot, CloudVolume, Instance, Peer, PeerState
from protokube.core.volumes.tags import in_cluster, instance_group, roles
from protokube.errors import DeviceConflictError, ProviderError, TaggingForbiddenError
from protokube.together import start

T = TypeVar("T")

PEERS_FOR = 600.0
"""Seconds after which other holders' addresses and states are asked again: a stop and start changes an address."""


class _Peers(Struct, frozen=True):
    """An answer about other holders: the holders asked for, those found, and the time (monotonic)."""

    holders: frozenset[str]
    found: Mapping[str, Peer]
    at: float


class _Scope(Struct, frozen=True):
    """How DescribeVolumes is asked: its filter, since when (monotonic), and the volumes that must not be missing."""

    tagged: TagFilter | None = None
    at: float = 0.0
    attached: frozenset[str] = frozenset()


class AwsCloud:
    """The CloudProvider for EC2. Making one makes no request. Thread-safe.

    `cluster_id`, when configured, overrules the instance's tags, and is the only way to do without them.
    `allow_imds_v1` lets the metadata service be asked without a token where it gives none. `kernel_names`
    reads the names of the kernel's disks, from /sys/block unless a test says otherwise.
    """

    remote = True

    def __init__(
        self,
        *,
        cluster_id: str | None = None,
        allow_imds_v1: bool = False,
        kernel_names: Callable[[], frozenset[str]] | None = None,
    ) -> None:
        self._imds = Imds(allow_v1=allow_imds_v1)
        self._ec2 = Ec2(self.region, imds_v1=allow_imds_v1)
        self._own = OwnInstance(self._ask_own, cluster_id)
        self._kernel_names = kernel_names or _kernel_names
        self._tracking = Tracking(time.monotonic)
        self._asking = threading.Lock()
        """Held while a snapshot is taken: its memory belongs together."""
        self._scope = _Scope()
        self._peers = _Peers(frozenset(), {}, 0.0)
        self._last = LastSnapshot()
        self._requested = False
        """Whether a volume was requested since the last snapshot."""
        self._addresses: tuple[str | None, str | None] = (None, None)
        self._addresses_at = -math.inf
        self._untaggable: str | None = None

    # --- reading ---------------------------------------------------------------------------------

    def snapshot(self, *, volumes: bool) -> CloudSnapshot:
        """This machine, its cluster's volumes and their holders.

        Without `volumes` only this machine, for a node that takes none and need not have the permission.
        Each call is made at most once; only a DescribeVolumes whose filter hides a volume of this machine is made
        again without it. After a successful `tag` the last snapshot is given once more, with that tag.
        Raises ProviderError when nothing is known.
        """
        with self._asking:
            told, writes = self._last.begin()
            if told is None or not volumes:
                told = self._whole() if volumes else CloudSnapshot(self._ask_instance())
                if volumes:
                    self._last.keep(told, writes)
            return replace(told, can_tag=self._untaggable is None)

    def region(self) -> str:
        """The region that this instance runs in."""
        return self._imds.document().region

    def vpc(self) -> tuple[str, str] | None:
        """The VPC that this instance runs in and its region, which decide about private DNS zones."""
        vpc = self._own.facts().vpc
        return (vpc, self.region()) if vpc else None

    def cluster_id(self) -> str:
        """The cluster that this instance belongs to. Raises ProviderError while its tags don't name it."""
        return self._own.cluster_id(self._own.facts())

    # --- writing ---------------------------------------------------------------------------------

    def attach(self, volume_id: str) -> None:
        """Call AttachVolume with a device name that attach tracking chooses. errors.py tells the errors apart."""
        self._last.forget()
        self._requested = True
        own = self._imds.document().instance_id
        try:
            with self._tracking.request(volume_id) as device:
                self._ec2.attach(volume_id, own, device)
        except DeviceConflictError:
            self._own.look_again()  # the block device mapping names the disk that has it
            raise

    def tag(self, volume_id: str, key: str, value: str) -> None:
        """Call CreateTags. A missing permission is remembered: TaggingForbiddenError is then raised without a
        call."""
        if self._untaggable is not None:
            raise TaggingForbiddenError(self._untaggable)
        try:
            self._ec2.tag(volume_id, key, value)
        except ProviderError as error:
            self._last.forget()
            if isinstance(error, TaggingForbiddenError):
                self._untaggable = str(error)
            raise
        self._last.tagged(volume_id, key, value)

    def announce(self) -> None:
        """Do nothing: EC2 knows the addresses of its instances."""

    def close(self) -> None:
        """Close the connections to EC2; a later call makes new ones."""
        self._ec2.close()

    # --- asking ----------------------------------------------------------------------------------

    def _whole(self) -> CloudSnapshot:
        own = self._imds.document().instance_id  # without it nothing can be asked
        asking = start("who this machine is", lambda: _or_unknown(self._ask_instance))
        raw = _or_unknown(self._ask_volumes)
        instance = asking.result()
        if isinstance(raw, Unknown):
            if isinstance(instance, Unknown):
                raise ProviderError("; ".join(dict.fromkeys((instance.reason, raw.reason))))
            return CloudSnapshot(instance, raw, raw)
        volumes = self._tracking.shown(self._answer(own, raw))
        if isinstance(instance, Unknown):
            return CloudSnapshot(instance, volumes, instance)
        if self._scope.tagged is None:
            tagged = scope.cluster_filter(raw, instance.cluster_id, own)
            self._scope = _Scope(tagged, time.monotonic())
        attached = frozenset(one.id for one in raw if one.attachment_to(own))
        self._scope = replace(self._scope, attached=attached)
        return CloudSnapshot(instance, volumes, _or_unknown(lambda: self._ask_peers(instance, raw)))

    def _ask_instance(self) -> Instance:
        """This machine. Raises ProviderError while its tags don't name the cluster: they may arrive late."""
        document = self._imds.document()
        facts = self._own.facts()
        given6, given4 = self._watched_addresses()
        ipv6 = _addresses("ipv6", given6)
        internal = (*_addresses("privateIp", document.private_ip), *ipv6)
        if not internal:
            raise ProviderError(f"instance metadata: {document.instance_id} has no private address at all")
        return Instance(
            id=document.instance_id,
            name=self._name(facts),
            zone=document.zone,
            cluster_id=self._own.cluster_id(facts),
            internal=internal,
            external=external((*_addresses("public-ipv4", given4), *ipv6)),
            instance_group=instance_group(facts.tags),
            roles=roles(facts.tags),
            provider_id=f"aws:///{document.zone}/{document.instance_id}",
        )

    def _watched_addresses(self) -> tuple[str | None, str | None]:
        """IPv6 and public IPv4: they can change while the instance runs, but not by a request for a volume."""
        requested, self._requested = self._requested, False
        if not requested or time.monotonic() - self._addresses_at > last.KNOWN_FOR:
            self._addresses = self._imds.get("ipv6"), self._imds.get("public-ipv4")
            self._addresses_at = time.monotonic()
        return self._addresses

    def _ask_own(self) -> InstanceFacts:
        own = self._imds.document().instance_id
        for facts in self._ec2.instances([own]):
            return facts
        raise ProviderError(
            f"EC2 DescribeInstances {own}: not visible yet; a new instance may take seconds. If it stays so, the "
            "credentials belong to another account"
        )

    def _name(self, facts: InstanceFacts) -> str:
        """The private DNS name, which kubelet and the cloud controller use as the node's name; lower case."""
        name = facts.dns_name or (self._imds.get("local-hostname") or "").split(" ", 1)[0]
        if not name:
            raise ProviderError(
                f"EC2 DescribeInstances {facts.id}: no private DNS name yet; if it stays so, switch on DNS hostnames "
                f"and DNS resolution for {facts.vpc}"
            )
        return name.rstrip(".").lower()

    def _ask_volumes(self) -> tuple[CloudVolume, ...]:
        """Every etcd volume that may concern this machine, as EC2 describes it."""
        known = self._scope
        if known.tagged is not None and time.monotonic() - known.at < scope.WIDE_EVERY:
            volumes = self._ec2.volumes(known.tagged)
            if known.attached <= {one.id for one in volumes}:
                return volumes
            # One of ours is missing: deleted, or its cluster's tag was. Only a wide answer tells.
        self._scope = _Scope()
        return self._ec2.volumes()

    def _answer(self, own: str, volumes: tuple[CloudVolume, ...]) -> Answer:
        try:
            kernel: frozenset[str] | Unknown = self._kernel_names()
        except OSError as error:
            kernel = Unknown(f"/sys/block: {error.strerror}")
        devices, young = self._own.mapping()
        return Answer(time.monotonic(), own, volumes, devices, young, kernel)

    def _ask_peers(self, me: Instance, volumes: Iterable[CloudVolume]) -> tuple[Peer, ...]:
        """The holders of this cluster's volumes, this machine first, and former ones that EC2 calls terminated.

        This machine is listed only when the very answer shows it as a holder: an empty list, which a wrong account
        gives without an error, is then no evidence that the others have gone.
        """
        holders = frozenset(
            attachment.instance
            for volume in volumes
            if in_cluster(volume.tags, me.cluster_id)
            for attachment in volume.attachments
        )
        others = holders - {me.id}
        known = self._peers
        old = bool(known.found) and time.monotonic() - known.at > PEERS_FOR
        if others != known.holders or old:
            known = self._peers = self._ask_others(others, known)
        own = (Peer(me.id, me.internal, me.external),) if me.id in holders else ()
        return (*own, *known.found.values())

    def _ask_others(self, holders: frozenset[str], known: _Peers) -> _Peers:
        """Ask for the holders and for those that no longer are, since they may be gone for good.

        An answer that lacks a holder (EC2's answers converge within seconds) counts for the ones it has, so that
        the next snapshot asks again.
        """
        found = {facts.id: facts for facts in self._ec2.instances(sorted(holders | known.found.keys()))}
        peers = {
            id_: Peer(id_, facts.internal, facts.external, facts.state, name=facts.dns_name.rstrip(".").lower())
            for id_, facts in found.items()
            if id_ in holders or facts.state is PeerState.TERMINATED
        }
        return _Peers(holders & found.keys(), peers, time.monotonic())


def _kernel_names() -> frozenset[str]:
    with os.scandir("/sys/block") as entries:
        return frozenset(entry.name for entry in entries)


def _or_unknown(ask: Callable[[], T]) -> T | Unknown:
    try:
        return ask()
    except ProviderError as error:
        return Unknown(str(error))


def _addresses(what: str, value: str | None) -> tuple[str, ...]:
    """An address that the metadata gives, checked; none when there is none."""
    if not value:
        return ()
    try:
        return (str(ipaddress.ip_address(value)),)
    except ValueError as error:
        raise ProviderError(f"instance metadata: {what} is {value!r}, expected an IP address") from error
