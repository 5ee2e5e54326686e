"""EC2's answers as typed values, and the four calls that protokube makes.

Every call is one request (Describe calls one per page), tried once, with a limit of 3 s to connect and 10 s to
read. The client is made at the first call: importing botocore costs more than everything else at start.
"""

from __future__ import annotations

import ipaddress
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from msgspec import Struct

from protokube.cloudprovider.aws.errors import explain
from protokube.core.model import GIB
from protokube.core.volumes.model import Attachment, AttachState, CloudVolume, DiskIdentity, PeerState
from protokube.errors import OutcomeUnknownError, ProviderError

if TYPE_CHECKING:
    from botocore.client import BaseClient

ETCD_TAG_FILTER = "k8s.io/etcd/*"
"""Filters are ANDed, and only the values of one filter are ORed: two tag names can't be alternatives in one call. So
the filter asks for this one, and the core matches the rest."""

PAGE = 500
_PAGES = 100
_IDS = 200
"""Values that one filter takes."""

METHODS = {
    "DescribeVolumes": "describe_volumes",
    "DescribeInstances": "describe_instances",
    "AttachVolume": "attach_volume",
    "CreateTags": "create_tags",
}
"""Each call, and botocore's method for it."""

TagFilter = tuple[str, tuple[str, ...]]
"""A tag and the values of it that count."""

T = TypeVar("T")

_LOST = ("deleting", "deleted")
_VIRTIO_SERIAL = 20


class InstanceFacts(Struct, frozen=True):
    """One instance as EC2 describes it. Addresses are IPv4 before IPv6; `devices` maps the names in its block
    device mapping to volume ids (empty for a disk that is no volume)."""

    id: str
    state: PeerState
    dns_name: str
    internal: tuple[str, ...]
    external: tuple[str, ...]
    vpc: str | None
    tags: Mapping[str, str]
    devices: Mapping[str, str]


class Ec2:
    """The calls. `region` is called at the first call; thread-safe.

    `imds_v1` lets credentials be fetched from the metadata service without a token where it gives none.
    """

    def __init__(self, region: Callable[[], str], *, imds_v1: bool = False) -> None:
        self._region = region
        self._imds_v1 = imds_v1
        self._lock = threading.Lock()
        self._client: BaseClient | None = None

    def volumes(self, tagged: TagFilter | None = None) -> tuple[CloudVolume, ...]:
        """DescribeVolumes: every volume of the region with an etcd tag, except deleted ones.

        With `tagged` only those that have that tag as well.
        """
        filters = [{"Name": "tag-key", "Values": [ETCD_TAG_FILTER]}]
        if tagged is not None:
            filters.append({"Name": f"tag:{tagged[0]}", "Values": list(tagged[1])})
        found: dict[str, CloudVolume] = {}
        for page in self._pages("DescribeVolumes", filters):
            for item in _items("DescribeVolumes", page, "Volumes"):
                if item.get("State") not in _LOST:
                    found[item["VolumeId"]] = _parsed("DescribeVolumes", item, volume)
        return tuple(found.values())

    def instances(self, ids: Sequence[str]) -> tuple[InstanceFacts, ...]:
        """DescribeInstances: those of `ids` that EC2 knows.

        By filter, since one unknown id among `InstanceIds` fails the whole call.
        """
        chunks = (ids[start : start + _IDS] for start in range(0, len(ids), _IDS))
        return tuple(
            _parsed("DescribeInstances", item, instance)
            for chunk in chunks
            for page in self._pages("DescribeInstances", [{"Name": "instance-id", "Values": list(chunk)}])
            for reservation in _items("DescribeInstances", page, "Reservations")
            for item in reservation.get("Instances", ())
        )

    def attach(self, volume_id: str, instance_id: str, device: str) -> None:
        """AttachVolume; returns while the volume is `attaching`."""
        asked = {"VolumeId": volume_id, "InstanceId": instance_id, "Device": device}
        self._call("AttachVolume", f"{volume_id} to {instance_id} as {device}", asked, device)

    def tag(self, resource: str, key: str, value: str) -> None:
        """CreateTags: one tag on one resource."""
        asked = {"Resources": [resource], "Tags": [{"Key": key, "Value": value}]}
        self._call("CreateTags", f"{key}={value} on {resource}", asked)

    def close(self) -> None:
        """Close the connections that are kept open between calls; a later call makes new ones."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def _pages(self, operation: str, filters: list[dict[str, Any]]) -> Iterator[Mapping[str, Any]]:
        asked: dict[str, Any] = {"Filters": filters, "MaxResults": PAGE}
        subject = " ".join(f"{one['Name']}={','.join(one['Values'])}" for one in filters)
        for _ in range(_PAGES):
            page = self._call(operation, subject, asked)
            yield page
            if not (token := page.get("NextToken")):
                return
            asked = {**asked, "NextToken": token}
        raise ProviderError(f"EC2 {operation} {subject}: more than {_PAGES} pages, which no region of ours can have")

    def _call(
        self, operation: str, subject: str, asked: dict[str, Any], device: str | None = None
    ) -> Mapping[str, Any]:
        from protokube import awsclient

        try:
            answer: Mapping[str, Any] = getattr(self._connected(), METHODS[operation])(**asked)
        except awsclient.NotReadyError as error:
            self.close()
            raise ProviderError(f"EC2 {operation} {subject}: could not ask: {error}") from error
        except awsclient.ClientError as error:
            raise explain(operation, subject, error, device) from error
        except (*awsclient.CALL_ERRORS, ValueError) as error:  # botocore's parser passes a size that is no number
            unclear = OutcomeUnknownError if operation == "AttachVolume" else ProviderError
            raise unclear(
                f"EC2 {operation} {subject}: no usable answer ({type(error).__name__}: {error}); it may have been "
                "carried out, the next look decides. If it stays so, check the way to EC2's endpoint: "
                "routes, NAT or VPC endpoint, proxy, security groups"
            ) from error
        return answer

    def _connected(self) -> BaseClient:
        with self._lock:
            if self._client is None:
                from protokube import awsclient

                self._client = awsclient.client("ec2", self._region(), imds_v1=self._imds_v1)
            return self._client


def _items(operation: str, page: Mapping[str, Any], key: str) -> Sequence[Mapping[str, Any]]:
    """The list that every answer of EC2 has, if only an empty one. An answer without it comes from a proxy, say."""
    if key not in page:
        raise ProviderError(f"EC2 {operation}: the answer has no {key}: is something else than EC2 answering there?")
    found: Sequence[Mapping[str, Any]] = page[key]
    return found


def volume(item: Mapping[str, Any]) -> CloudVolume:
    """One volume of a DescribeVolumes answer. Sizes come in GiB.

    A disk's serial is the volume's id without its dash, cut to 20 characters by virtio. A Xen disk has no serial, and
    goes by the requested device name.
    """
    attachments = tuple(
        Attachment(one["InstanceId"], one.get("Device"), AttachState(one["State"]))
        for one in item.get("Attachments", ())
        if one["State"] != "detached" and one.get("InstanceId")
    )
    serial = item["VolumeId"].replace("-", "")
    return CloudVolume(
        id=item["VolumeId"],
        zone=item["AvailabilityZone"],
        size=item["Size"] * GIB,
        tags=_tags(item),
        status=item["State"],
        attachments=attachments,
        multi_attach=bool(item.get("MultiAttachEnabled")),
        identity=DiskIdentity(
            serials=frozenset({serial, serial[:_VIRTIO_SERIAL]}),
            requested=next((one.device for one in attachments), None),
        ),
    )


def instance(item: Mapping[str, Any]) -> InstanceFacts:
    """One instance of a DescribeInstances answer."""
    return InstanceFacts(
        id=item["InstanceId"],
        state=_STATES[item["State"]["Name"]],
        dns_name=item.get("PrivateDnsName", ""),
        internal=addresses(item.get("PrivateIpAddress"), item.get("Ipv6Address")),
        external=external(addresses(item.get("PublicIpAddress"), item.get("Ipv6Address"))),
        vpc=item.get("VpcId") or None,
        tags=_tags(item),
        devices={
            one["DeviceName"]: one.get("Ebs", {}).get("VolumeId", "") for one in item.get("BlockDeviceMappings", ())
        },
    )


def addresses(*given: str | None) -> tuple[str, ...]:
    """The given addresses, in the usual spelling. Raises ValueError for a text that is none."""
    return tuple(str(ipaddress.ip_address(one)) for one in given if one)


def external(given: tuple[str, ...]) -> tuple[str, ...]:
    """The addresses that other networks reach: all but unique local IPv6 ones, which a VPC can have as well.

    EC2 translates no IPv6 address, so it is internal and external at once.
    """
    return tuple(one for one in given if ipaddress.ip_address(one) not in _UNIQUE_LOCAL)


_UNIQUE_LOCAL = ipaddress.ip_network("fc00::/7")

_STATES = {
    "pending": PeerState.RUNNING,
    "running": PeerState.RUNNING,
    "stopping": PeerState.STOPPED,
    "stopped": PeerState.STOPPED,
    "shutting-down": PeerState.TERMINATED,
    "terminated": PeerState.TERMINATED,
}


def _tags(item: Mapping[str, Any]) -> dict[str, str]:
    return {tag["Key"]: tag.get("Value", "") for tag in item.get("Tags", ())}


def _parsed(operation: str, item: Mapping[str, Any], parse: Callable[[Mapping[str, Any]], T]) -> T:
    try:
        return parse(item)
    except (LookupError, ValueError, TypeError) as error:
        raise ProviderError(
            f"EC2 {operation}: an answer that can't be understood ({error!r}): {dict(item)!r}"
        ) from error
