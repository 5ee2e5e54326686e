"""AWS as a CloudProvider: identity from the metadata service and the instance's tags, volumes from EC2.

What is remembered between rounds, and why losing it does no harm (it costs calls, never a different end):

- the identity document: it can't change while the instance runs;
- VPC, private DNS name and tags of this instance, as own.py says: once they name cluster and instance group they are
  kept, until a reload;
- other holders' addresses and states: asked anew when the set of holders changes and every `PEERS_FOR` seconds;
- former holders that EC2 said are gone, so that their going is seen; without it they are merely absent;
- volumes whose attachment EC2 has accepted, until it is seen: without it the next attempt is made at once;
- that tagging is forbidden: after a restart it is tried, and said, once more;
- the device names in use: EC2 itself refuses a name that is taken.

A settled round is one DescribeVolumes, and two requests to the metadata service for the addresses that can
change while the instance runs.
"""

from __future__ import annotations

import ipaddress
import math
import threading
import time
from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from protokube.cloudprovider.aws.ec2 import Ec2, InstanceFacts
from protokube.cloudprovider.aws.imds import Imds
from protokube.cloudprovider.aws.own import OwnInstance
from protokube.cloudprovider.aws.shared import Shared
from protokube.core.volumes.model import AttachState, CloudVolume, Instance, Peer, PeerState
from protokube.core.volumes.tags import in_cluster, instance_group, roles
from protokube.errors import (
    DeviceConflictError,
    OutcomeUnknownError,
    ProviderError,
    TaggingForbiddenError,
    VolumeDeniedError,
)

DEVICE_NAMES = tuple(f"/dev/xvd{letter}" for letter in "uvwxyzfghijklmnopqrst")
"""The names offered for attaching, in order: the ones that kops uses, then the rest of what EC2 recommends."""

PEERS_FOR = 600.0
"""Seconds after which other holders' addresses and states are asked anew: a stop and start changes the public one."""


LAG = 5.0
"""Seconds for which EC2's answers may lag behind what it accepted. Later, an `available` volume has fallen back."""

FALLEN_FOR = 60.0
"""Seconds for which a volume that fell back to `available` is left alone. A reload forgets it."""


class _Peers(Struct, frozen=True):
    """An answer about other holders: what it was asked for, what it said, and when (monotonic)."""

    holders: frozenset[str]
    found: Mapping[str, Peer]
    at: float


class AwsCloud:
    """The CloudProvider for EC2. Making one makes no request. Thread-safe.

    `cluster_id`, when configured, overrules the instance's tags, and is the only way to do without them.
    `allow_imds_v1` lets the metadata service be asked without a token where it gives none.
    """

    remote = True

    def __init__(self, *, cluster_id: str | None = None, allow_imds_v1: bool = False) -> None:
        self._imds = Imds(allow_v1=allow_imds_v1)
        self._ec2 = Ec2(self.region, imds_v1=allow_imds_v1)
        self._own = OwnInstance(self._ask_own, cluster_id)
        self._instance = Shared(self._ask_instance)
        self._volumes = Shared(self._ask_volumes)
        self._devices: frozenset[str] = frozenset()
        self._told: frozenset[str] = frozenset()
        self._accepted: dict[str, float] = {}
        """Volumes on their way to us, and when (monotonic) that was last certain."""
        self._peers_lock = threading.Lock()
        self._peers = _Peers(frozenset(), {}, 0.0)
        self._untaggable: str | None = None

    # --- reading ---------------------------------------------------------------------------------

    def instance(self) -> Instance:
        """Who this machine is. ProviderError while its tags don't name the cluster: they may arrive late."""
        found = self._instance.get("instance")
        # Of the volumes that DescribeVolumes tells, it knows better than the mapping, which is seldom asked for.
        kept = {name for name, volume_id in self._own.facts().devices.items() if volume_id not in self._told}
        attached, ours = self._own.attached(), _kernel_names(self._devices)
        doubtful = _kernel_names(kept).intersection(DEVICE_NAMES) - ours if attached else frozenset[str]()
        used = (_kernel_names(kept) | ours) - doubtful
        return replace(found, used_devices=used, attached=attached, doubtful_devices=doubtful)

    def volumes(self) -> Sequence[CloudVolume]:
        """Every volume of the region with an etcd tag, of whatever cluster and zone."""
        return self._volumes.get("volumes")

    def peers(self) -> Sequence[Peer]:
        """The holders of this cluster's volumes, this machine first, and former ones that EC2 says are gone.

        This machine is listed only when the very answer shows it as a holder: an empty list, which a wrong account
        gives without an error, is then no evidence that the others have gone.
        """
        me = self._instance.get("peers")
        volumes = self._volumes.get("peers")
        holders = frozenset(
            attachment.instance
            for volume in volumes
            if in_cluster(volume.tags, me.cluster_id)
            for attachment in volume.attachments
        )
        own = (Peer(me.id, me.internal, me.external),) if me.id in holders else ()
        return (*own, *self._others(holders - {me.id}))

    def region(self) -> str:
        """The region that this instance runs in."""
        return self._imds.document().region

    def vpc(self) -> tuple[str, str] | None:
        """The VPC that this instance runs in and its region, which decide about private DNS zones."""
        vpc = self._own.facts().vpc
        return (vpc, self.region()) if vpc else None

    @property
    def can_tag(self) -> bool:
        """False once EC2 has refused a tag for want of permission."""
        return self._untaggable is None

    # --- writing ---------------------------------------------------------------------------------

    def attach(self, volume_id: str, device: str | None) -> None:
        """AttachVolume. Raises what errors.py tells apart, with what an operator must do.

        What EC2 has accepted and doesn't show is not asked for again until its answers can't lag any more.
        """
        if device is None:
            raise ProviderError(f"EC2 AttachVolume {volume_id}: EC2 needs a device name and none was chosen")
        waited = time.monotonic() - self._accepted.get(volume_id, -math.inf)
        if waited < LAG:
            raise OutcomeUnknownError(_UNSEEN.format(volume_id))
        if waited < FALLEN_FOR:
            raise VolumeDeniedError(_FELL_BACK.format(volume_id))
        try:
            self._ec2.attach(volume_id, self._imds.document().instance_id, device)
            self._accepted[volume_id] = time.monotonic()
            self._devices |= {device}
        except DeviceConflictError:
            self._own.look_again()  # who has it stands in the block device mapping
            raise
        finally:
            self._volumes.forget()

    def tag(self, volume_id: str, key: str, value: str) -> None:
        """CreateTags. A missing permission is remembered: TaggingForbiddenError is then raised without a call."""
        if self._untaggable is not None:
            raise TaggingForbiddenError(self._untaggable)
        try:
            self._ec2.tag(volume_id, key, value)
        except TaggingForbiddenError as error:
            self._untaggable = str(error)
            raise
        finally:
            self._volumes.forget()

    def close(self) -> None:
        """Let go of the connections to EC2; a later call makes new ones."""
        self._ec2.close()

    def announce(self) -> None:
        """Nothing: EC2 knows the addresses of its instances."""

    # --- asking ----------------------------------------------------------------------------------

    def _ask_instance(self) -> Instance:
        document = self._imds.document()
        facts = self._own.facts()
        ipv6 = _addresses("ipv6", self._imds.get("ipv6"))
        internal = (*_addresses("privateIp", document.private_ip), *ipv6)
        if not internal:
            raise ProviderError(f"instance metadata: {document.instance_id} has no private address at all")
        return Instance(
            id=document.instance_id,
            name=self._name(facts),
            zone=document.zone,
            cluster_id=self._own.cluster_id(facts),
            internal=internal,
            external=_addresses("public-ipv4", self._imds.get("public-ipv4")),
            instance_group=instance_group(facts.tags),
            roles=roles(facts.tags),
            provider_id=f"aws:///{document.zone}/{document.instance_id}",
            device_names=DEVICE_NAMES,
        )

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
        volumes = self._ec2.volumes()
        own = self._imds.document().instance_id
        mine = {volume.id: one for volume in volumes if (one := volume.attachment_to(own))}
        self._devices = frozenset(one.device for one in mine.values() if one.device)
        for volume in volumes:
            if volume.id in mine and mine[volume.id].state is AttachState.ATTACHING:
                self._accepted[volume.id] = time.monotonic()
            elif volume.attachments:
                self._accepted.pop(volume.id, None)
        self._told = frozenset(volume.id for volume in volumes)
        return volumes

    def _others(self, holders: frozenset[str]) -> Iterable[Peer]:
        with self._peers_lock:
            known = self._peers
            old = bool(known.found) and time.monotonic() - known.at > PEERS_FOR
            if holders != known.holders or old:
                known = self._peers = self._ask_peers(holders, known)
            return known.found.values()

    def _ask_peers(self, holders: frozenset[str], known: _Peers) -> _Peers:
        """Asks for the holders and for those that no longer are, since they may be gone for good.

        An answer that lacks a holder (EC2's answers converge within seconds) counts for the ones it has, so that
        the next round asks again.
        """
        found = {facts.id: facts for facts in self._ec2.instances(sorted(holders | known.found.keys()))}
        peers = {
            id_: Peer(id_, facts.internal, facts.external, facts.state)
            for id_, facts in found.items()
            if id_ in holders or facts.state is PeerState.TERMINATED
        }
        return _Peers(holders & found.keys(), peers, time.monotonic())


_UNSEEN = "EC2 AttachVolume {}: EC2 has accepted it, and its answers don't show the attachment; they may lag behind"

_FELL_BACK = (
    "EC2 AttachVolume {}: EC2 accepted it, but the volume fell back from attaching to available. Most often its KMS "
    "key is disabled, or this instance's role may not use it: enable the key, and grant the role kms:CreateGrant and "
    f"kms:Decrypt on it (docs/aws.md). It is tried again {FALLEN_FOR:.0f} s later, or at once after a reload"
)


def _addresses(what: str, value: str | None) -> tuple[str, ...]:
    """An address that the metadata gives, checked; none when there is none."""
    if not value:
        return ()
    try:
        return (str(ipaddress.ip_address(value)),)
    except ValueError as error:
        raise ProviderError(f"instance metadata: {what} is {value!r}, expected an IP address") from error


def _kernel_names(devices: Iterable[str]) -> frozenset[str]:
    """Device names with the kernel's spelling added: EC2 takes /dev/sdf and xvdf for what Xen calls /dev/xvdf."""
    names = set()
    for device in devices:
        bare = device.removeprefix("/dev/")
        names |= {device, f"/dev/{bare}"}
        if bare.startswith("sd"):
            names.add(f"/dev/xvd{bare.removeprefix('sd')}")
    return frozenset(names)
