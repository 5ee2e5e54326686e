"""Route 53: zones, calls, and the answers that one process may use again.

Names of one zone are read as one range (route53_order), and changed by one batch (route53_records). Route 53 applies
a batch as a whole or not at all.

The account's limit is 5 requests a second. Zones are pinned once found, and a request is tried once: the reconcile's
back-off does the rest. A name's records are read each time, with one exception. For a few seconds after a reading,
its neighbours' records, and the result of a batch, answer the next question once.
botocore is imported with the first request (0.1 s), which no mount waits for.
"""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, cast

from msgspec import Struct, field
from msgspec.structs import replace

from protokube.core.dns.model import RecordChange, RecordSet
from protokube.core.dns.zones import NoZone, Zone, choose_zone, suffixes
from protokube.dnsprovider.route53_order import MAX_PAGES, Listing, Page, Place
from protokube.dnsprovider.route53_records import (
    after,
    make_batch,
    must_read,
    names_to_read,
    plain_name,
    record_set,
)
from protokube.errors import ProviderError

if TYPE_CHECKING:
    from mypy_boto3_route53 import Route53Client

    from protokube.dnsprovider.route53_records import Item

PAGE = 100
"""Records or zones in one answer: more than a cluster has names, and all that Route 53 gives for zones."""

FRESH = 10.0
"""Seconds for which a reading may serve later questions."""

DEFAULT_REGION = "us-east-1"

_CREDENTIALS = "check the instance profile, or the credentials in the environment, and the clock"
_NO_ANSWER = "check the way to the endpoint: routes, NAT or VPC endpoint, proxy, security groups"
_PERMISSIONS = "the instance profile lacks this permission; docs/dns.md lists what is needed"
_THROTTLED = "Route 53 allows 5 requests a second for the whole account; the next reconcile tries again, more slowly"
_ADVICE = {
    "Throttling": _THROTTLED,
    "ThrottlingException": _THROTTLED,
    "PriorRequestNotComplete": "an earlier change of this zone is still under way; the next reconcile tries again",
    "InvalidChangeBatch": "the records have changed since they were read, or others stand in the way; they are read "
    "again in the next reconcile. If this stays, compare the records of that name with docs/dns.md",
    "NoSuchHostedZone": "the zone was deleted, or --dns-zone-name names a wrong id; it is looked up again",
    "AccessDenied": _PERMISSIONS,
    "AccessDeniedException": _PERMISSIONS,
    "InvalidClientTokenId": _CREDENTIALS,
    "UnrecognizedClientException": _CREDENTIALS,
    "SignatureDoesNotMatch": _CREDENTIALS,
    "ExpiredToken": _CREDENTIALS,
}


class InvalidBatchError(ProviderError):
    """Records have changed since they were read, or others stand in the way."""


class _Read(Struct):
    """The records that were read of a zone, and until when they count. `served` are the names answered from them."""

    until: float
    listing: Listing[Item] = field(default_factory=Listing)
    served: set[str] = field(default_factory=set)

    def knows(self, zone: Zone, names: Iterable[str]) -> bool:
        """Whether all records that concern the names were read, and not too long ago."""
        return time.monotonic() < self.until and self.listing.covers(
            place for name in names for place in names_to_read(zone, name)
        )


class Route53:
    """The zones of one AWS account.

    `zone` is a zone's name, or its id when it has no dot; without it the longest zone that fits is taken.
    `internal_suffix` tells how internal names end, `vpc` the (id, region) of this machine's VPC, None outside of
    one; both are asked when a zone is looked for, since a fresh machine may not know them at its start. `imds_v1`
    lets credentials be fetched from the instance metadata service without a token where it gives none.
    """

    private = False
    local = False
    watch: tuple[Path, ...] = ()

    def __init__(
        self,
        *,
        internal_suffix: Callable[[], str],
        zone: str | None = None,
        vpc: Callable[[], tuple[str, str] | None] = lambda: None,
        imds_v1: bool = False,
    ) -> None:
        self._internal_suffix = internal_suffix
        self._imds_v1 = imds_v1
        self._zone_option = zone
        self._vpc = vpc
        self._pinned: dict[str, Zone] = {}
        self._account: Listing[Zone] = Listing()
        self._in_vpc: dict[str, Zone] | None = None
        self._read: dict[str, _Read] = {}
        self._made: Route53Client | None = None

    # --- the port ---

    def record_sets(self, names: frozenset[str]) -> Mapping[str, RecordSet]:
        """Read the records under each name; a name that no zone can take has a `refusal`."""
        found: dict[str, RecordSet] = {}
        for zone, ours in self._by_zone(names).items():
            if isinstance(zone, NoZone):
                found |= {name: RecordSet(name, refusal=(zone.rule, zone.evidence)) for name in ours}
            else:
                items = self._items(zone, ours)
                with self._explained(f"read {', '.join(ours)}", "route53:ListResourceRecordSets"):
                    found |= {name: record_set(zone, name, items) for name in ours}
        return found

    def change(self, changes: Sequence[RecordChange]) -> None:
        """Apply one batch: one request for each zone that its names lie in."""
        zones = self._by_zone({change.name for change in changes})
        for zone, names in zones.items():
            if isinstance(zone, NoZone):
                raise ProviderError(f"Route 53: can't change {', '.join(names)}: {zone.evidence} ({zone.rule})")
        for zone, names in zones.items():
            assert isinstance(zone, Zone)
            self._change(zone, [change for change in changes if change.name in names])

    def recover(self) -> None:
        """Nothing: a server takes a batch whole or not at all."""

    # --- records ---

    def _items(self, zone: Zone, names: Sequence[str]) -> list[Item]:
        """The records that concern the names: from the last reading if it may answer once more, else read now."""
        read = self._read.get(zone.id)
        if read is None or not read.knows(zone, names) or read.served & set(names):
            read = self._read_zone(zone, names)
        read.served |= set(names)
        return read.listing.items

    def _read_zone(self, zone: Zone, names: Sequence[str]) -> _Read:
        read = _Read(time.monotonic() + FRESH)
        what = f"read {', '.join(names)} in zone {zone.id} ({zone.name})"
        self._read.pop(zone.id, None)
        read.listing.read(
            (place for name in names for place in names_to_read(zone, name)),
            lambda place: self._page(zone, what, place),
        )
        self._read[zone.id] = read
        return read

    def _page(self, zone: Zone, what: str, place: Place) -> Page[Item]:
        with self._explained(what, "route53:ListResourceRecordSets"):
            answer = self._client.list_resource_record_sets(
                HostedZoneId=zone.id,
                MaxItems=str(PAGE),
                StartRecordName=place.name,
                **place.within,  # type: ignore[arg-type]
            )
            following = None
            if answer["IsTruncated"]:
                within = {"StartRecordType": str(answer["NextRecordType"])}
                if "NextRecordIdentifier" in answer:
                    within["StartRecordIdentifier"] = answer["NextRecordIdentifier"]
                following = Place(plain_name(answer["NextRecordName"]), within)
            return Page(tuple(answer["ResourceRecordSets"]), following)

    def _change(self, zone: Zone, changes: Sequence[RecordChange]) -> None:
        """Send one batch, made from the last reading. If that is out of date, read again and try once more."""
        names = sorted({change.name for change in changes if must_read(change)})
        read = self._read.get(zone.id)
        if read is None or not read.knows(zone, names):
            self._send(zone, changes, self._read_zone(zone, names))
            return
        try:
            self._send(zone, changes, read)
        except InvalidBatchError:
            now = self._read_zone(zone, names)
            if make_batch(changes, now.listing.items) == make_batch(changes, read.listing.items):
                raise
            self._send(zone, changes, now)

    def _send(self, zone: Zone, changes: Sequence[RecordChange], read: _Read) -> None:
        batch = make_batch(changes, read.listing.items)
        if not batch:
            return
        names = ", ".join(sorted({change.name for change in changes}))
        self._read.pop(zone.id, None)  # whatever comes of it
        with self._explained(f"change {names} in zone {zone.id} ({zone.name})", "route53:ChangeResourceRecordSets"):
            self._client.change_resource_record_sets(HostedZoneId=zone.id, ChangeBatch={"Changes": batch})
        listing = Listing(after(read.listing.items, batch), read.listing.stretches)
        self._read[zone.id] = _Read(read.until, listing)

    # --- zones ---

    def _by_zone(self, names: Iterable[str]) -> dict[Zone | NoZone, list[str]]:
        """The names in order, by their zone, or by the reason that none takes them."""
        zones = self._zones(names)
        found: dict[Zone | NoZone, list[str]] = {}
        for name in sorted(zones):
            found.setdefault(zones[name], []).append(name)
        return found

    def _zones(self, names: Iterable[str]) -> dict[str, Zone | NoZone]:
        found: dict[str, Zone | NoZone] = {name: self._pinned[name] for name in names if name in self._pinned}
        missing = sorted(set(names) - set(found))
        if not missing:
            return found
        candidates = self._candidates(missing)
        suffix = self._internal_suffix().lower()
        for name in missing:
            zone = choose_zone(name, candidates, internal=name.endswith(suffix))
            found[name] = zone
            if isinstance(zone, Zone):
                self._pinned[name] = zone
            else:
                self._forget_zones()  # the next reading finds a zone that an operator makes meanwhile
        return found

    def _candidates(self, names: Sequence[str]) -> list[Zone]:
        """Every zone that could contain one of the names, and why some of them don't count."""
        option = self._zone_option
        if option is not None and "." not in option:
            with self._explained(f"look up zone {option}", "route53:GetHostedZone"):
                zone = self._client.get_hosted_zone(Id=option)["HostedZone"]
                return [Zone(_plain_id(option), plain_name(zone["Name"]), zone["Config"].get("PrivateZone", False))]
        wanted = {suffix for name in names for suffix in suffixes(name)}
        self._account.read(wanted, self._page_of_zones)
        account = [zone for zone in self._account.items if zone.name in wanted]
        vpc = self._vpc()
        if vpc is not None and self._in_vpc is None:
            self._in_vpc = {zone.id: zone for zone in self._associated(vpc)}
        associated = {id_: zone for id_, zone in (self._in_vpc or {}).items() if zone.name in wanted}
        found = {zone.id: zone for zone in account} | associated
        return [_excluded(zone, vpc, zone.id in associated, option) for zone in found.values()]

    def _forget_zones(self) -> None:
        self._account, self._in_vpc = Listing(), None

    def _page_of_zones(self, place: Place) -> Page[Zone]:
        what = f"look for a zone named {place.name}, or below it"
        with self._explained(what, "route53:ListHostedZonesByName"):
            answer = self._client.list_hosted_zones_by_name(
                DNSName=place.name,
                MaxItems=str(PAGE),
                **place.within,
            )
            following = None
            if "NextDNSName" in answer:  # only a cut-off answer names where to go on
                following = Place(plain_name(answer["NextDNSName"]), {"HostedZoneId": answer["NextHostedZoneId"]})
            zones = (
                Zone(_plain_id(zone["Id"]), plain_name(zone["Name"]), zone["Config"].get("PrivateZone", False))
                for zone in answer["HostedZones"]
            )
            return Page(tuple(zones), following)

    def _associated(self, vpc: tuple[str, str]) -> Iterator[Zone]:
        token: dict[str, str] = {}
        for _ in range(MAX_PAGES):
            with self._explained(f"list the private zones of VPC {vpc[0]}", "route53:ListHostedZonesByVPC"):
                answer = self._client.list_hosted_zones_by_vpc(
                    VPCId=vpc[0],
                    VPCRegion=vpc[1],  # type: ignore[arg-type]
                    **token,
                )
                found = [
                    Zone(one["HostedZoneId"], plain_name(one["Name"]), True) for one in answer["HostedZoneSummaries"]
                ]
            yield from found
            if not answer.get("NextToken"):
                return
            token = {"NextToken": answer["NextToken"]}

    # --- calls ---

    @property
    def _client(self) -> Route53Client:
        """Route 53 is one service for all regions of a partition; the region only says which partition."""
        if self._made is None:
            vpc = self._vpc()
            region = vpc[1] if vpc is not None else os.environ.get("AWS_DEFAULT_REGION", DEFAULT_REGION)
            self._made = cast("Route53Client", awsclient().client("route53", region, imds_v1=self._imds_v1))
        return self._made

    @contextmanager
    def _explained(self, what: str, permission: str) -> Iterator[None]:
        aws = awsclient()
        try:
            yield
        except aws.NotReadyError as error:
            self._made = None
            raise ProviderError(f"Route 53: can't {what}: {error}") from error
        except aws.CALL_ERRORS as error:
            code = error.response["Error"].get("Code", "") if isinstance(error, aws.ClientError) else ""
            if code == "NoSuchHostedZone":
                self._pinned.clear()
                self._forget_zones()
            kind = InvalidBatchError if code == "InvalidChangeBatch" else ProviderError
            advice = _ADVICE.get(code, "the next reconcile tries again") if code else _NO_ANSWER
            raise kind(f"Route 53: can't {what} ({permission}): {error}; {advice}") from error
        except (LookupError, ValueError, TypeError) as error:  # botocore passes answers that lack what is required
            raise ProviderError(
                f"Route 53: can't {what} ({permission}): the answer can't be understood ({error!r}); "
                "does something else than Route 53 answer there, a proxy or a login page?"
            ) from error


def awsclient() -> ModuleType:
    """The module that makes AWS clients, imported when first needed."""
    return importlib.import_module("protokube.awsclient")


def _plain_id(zone_id: str) -> str:
    return zone_id.rpartition("/")[2]


def _excluded(zone: Zone, vpc: tuple[str, str] | None, associated: bool, option: str | None) -> Zone:
    """The zone, with the reason why it doesn't count, if there is one."""
    if option is not None and zone.name != plain_name(option):
        return replace(zone, excluded=f"--dns-zone-name says {plain_name(option)}")
    if zone.private and not associated:
        place = "this machine is in no VPC" if vpc is None else f"not associated with this machine's VPC {vpc[0]}"
        return replace(zone, excluded=f"private, and {place}")
    return zone
