"""Route 53.

Shared names are multivalue answer records, one per instance, with the SetIdentifier `protokube:<instance id>`.
Exclusive names are simple records; beside each stands a TXT record `_protokube.<name>` that names the instance.
Route 53 applies a change batch as a whole or not at all.

The account's limit is 5 requests a second, so names are asked for one by one (a zone is never listed), zones are
pinned once found, and a request is tried once: the round's back-off does the rest. botocore is imported with the
first request (0.1 s), which no mount waits for.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from ipaddress import ip_address
from types import ModuleType
from typing import TYPE_CHECKING, cast

from msgspec.structs import replace

from protokube.core.dns.model import ChangeKind, ForeignRecord, OwnedRecord, RecordChange, RecordSet, RecordType
from protokube.core.dns.zones import NoZone, Zone, choose_zone, suffixes
from protokube.errors import ProviderError

if TYPE_CHECKING:
    from mypy_boto3_route53 import Route53Client
    from mypy_boto3_route53.type_defs import ChangeTypeDef, ResourceRecordSetOutputTypeDef, ResourceRecordSetTypeDef

    Item = ResourceRecordSetOutputTypeDef

OWNER_PREFIX = "protokube:"
SIGN_LABEL = "_protokube"
PAGE = 20
MAX_PAGES = 20
DEFAULT_REGION = "us-east-1"
ADDRESS_TYPES: tuple[RecordType, ...] = ("A", "AAAA")

_CREDENTIALS = "check the instance profile, or the credentials in the environment, and the clock"
_NO_ANSWER = "check the way to the endpoint: routes, NAT or VPC endpoint, proxy, security groups"
_PERMISSIONS = "the instance profile lacks this permission; docs/dns.md lists what is needed"
_THROTTLED = "Route 53 allows 5 requests a second for the whole account; the next round tries again, more slowly"
_ADVICE = {
    "Throttling": _THROTTLED,
    "ThrottlingException": _THROTTLED,
    "PriorRequestNotComplete": "an earlier change of this zone is still under way; the next round tries again",
    "InvalidChangeBatch": "the records have changed since they were read, or others stand in the way; they are read "
    "again in the next round. If this stays, compare the records of that name with docs/dns.md",
    "NoSuchHostedZone": "the zone was deleted, or --dns-zone-name names a wrong id; it is looked up again",
    "AccessDenied": _PERMISSIONS,
    "AccessDeniedException": _PERMISSIONS,
    "InvalidClientTokenId": _CREDENTIALS,
    "UnrecognizedClientException": _CREDENTIALS,
    "SignatureDoesNotMatch": _CREDENTIALS,
    "ExpiredToken": _CREDENTIALS,
}


class Route53:
    """The zones of one AWS account.

    `zone` is a zone's name, or its id when it has no dot; without it the longest zone that fits is taken.
    `internal_suffix` tells how internal names end, `vpc` the (id, region) of this machine's VPC, None outside of
    one; both are asked when a zone is looked for, since a fresh machine may not know them at its start. `imds_v1`
    lets credentials be fetched from the instance metadata service without a token where it gives none.
    """

    private = False

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
        self._looked_up: dict[str, list[Zone]] = {}
        self._made: Route53Client | None = None

    # --- the port ---

    def record_sets(self, names: frozenset[str]) -> Mapping[str, RecordSet]:
        """What stands under each name; a name without a zone has a `refusal`."""
        zones = self._zones(names)
        found: dict[str, RecordSet] = {}
        for name in sorted(names):
            zone = zones[name]
            if isinstance(zone, NoZone):
                found[name] = RecordSet(name, refusal=(zone.rule, zone.evidence))
            else:
                found[name] = _record_set(name, self._items(zone, name))
        return found

    def change(self, changes: Sequence[RecordChange]) -> None:
        """Apply one batch: one request for each zone that its names lie in."""
        zones = self._zones({change.name for change in changes})
        batches: dict[str, tuple[Zone, list[RecordChange]]] = {}
        for change in changes:
            zone = zones[change.name]
            if isinstance(zone, NoZone):
                raise ProviderError(f"Route 53: can't change {change.name}: {zone.evidence} ({zone.rule})")
            batches.setdefault(zone.id, (zone, []))[1].append(change)
        for zone, ours in batches.values():
            self._send(zone, ours)

    def recover(self) -> None:
        """Nothing: a server takes a batch whole or not at all."""

    # --- records ---

    def _items(self, zone: Zone, name: str) -> list[Item]:
        """The record sets of one name, and the one that signs it when there is something to sign."""
        found: list[Item] = []
        start: dict[str, str] = {"StartRecordName": name, "StartRecordType": "A"}
        for _ in range(MAX_PAGES):
            with self._explained(f"read {name} in zone {zone.id} ({zone.name})", "route53:ListResourceRecordSets"):
                answer = self._client.list_resource_record_sets(
                    HostedZoneId=zone.id,
                    MaxItems=str(PAGE),
                    **start,  # type: ignore[arg-type]
                )
            page = answer["ResourceRecordSets"]
            found += [item for item in page if _plain_name(item["Name"]) in (name, _sign_name(name))]
            if not answer["IsTruncated"] or _plain_name(answer["NextRecordName"]) != name:
                break
            start = {"StartRecordName": answer["NextRecordName"], "StartRecordType": answer["NextRecordType"]}
            if "NextRecordIdentifier" in answer:
                start["StartRecordIdentifier"] = answer["NextRecordIdentifier"]
        else:
            raise ProviderError(
                f"Route 53: {name} holds more than {PAGE * MAX_PAGES} records; remove what is not needed"
            )
        signed = any(_plain_name(item["Name"]) == _sign_name(name) for item in found)
        if not signed and answer["IsTruncated"] and any(_is_simple(item) for item in found):
            found += self._sign(zone, name)
        return found

    def _sign(self, zone: Zone, name: str) -> list[Item]:
        """The TXT record beside an exclusive name, when others' names stand between the two."""
        sign = _sign_name(name)
        with self._explained(f"read {sign} in zone {zone.id} ({zone.name})", "route53:ListResourceRecordSets"):
            answer = self._client.list_resource_record_sets(
                HostedZoneId=zone.id, MaxItems="1", StartRecordName=sign, StartRecordType="TXT"
            )
        return [item for item in answer["ResourceRecordSets"] if _plain_name(item["Name"]) == sign]

    def _send(self, zone: Zone, changes: Sequence[RecordChange]) -> None:
        batch: dict[tuple[str, str, str | None], ChangeTypeDef] = {}
        careful = {change.name for change in changes if change.adopts or change.kind is ChangeKind.DELETE}
        there = {name: self._items(zone, name) for name in sorted(careful)}
        for name, items in there.items():
            for item in _to_delete(items, [change for change in changes if change.name == name]):
                batch[_key(item)] = {"Action": "DELETE", "ResourceRecordSet": cast("ResourceRecordSetTypeDef", item)}
        for change in changes:
            for made in _to_upsert(change):
                batch[_key(made)] = {"Action": "UPSERT", "ResourceRecordSet": made}
        if not batch:
            return
        names = ", ".join(sorted({change.name for change in changes}))
        with self._explained(f"change {names} in zone {zone.id} ({zone.name})", "route53:ChangeResourceRecordSets"):
            self._client.change_resource_record_sets(
                HostedZoneId=zone.id, ChangeBatch={"Changes": list(batch.values())}
            )

    # --- zones ---

    def _zones(self, names: Iterable[str]) -> dict[str, Zone | NoZone]:
        found: dict[str, Zone | NoZone] = {name: self._pinned[name] for name in names if name in self._pinned}
        missing = sorted(set(names) - set(found))
        if not missing:
            return found
        candidates = self._candidates(missing)
        self._looked_up.clear()  # it only serves to go on where throttling stopped the last look
        suffix = self._internal_suffix().lower()
        for name in missing:
            zone = choose_zone(name, candidates, internal=name.endswith(suffix))
            found[name] = zone
            if isinstance(zone, Zone):
                self._pinned[name] = zone
        return found

    def _candidates(self, names: Sequence[str]) -> list[Zone]:
        """Every zone that could hold one of the names; private ones only when this VPC can see them."""
        option = self._zone_option
        if option is not None and "." not in option:
            with self._explained(f"look up zone {option}", "route53:GetHostedZone"):
                zone = self._client.get_hosted_zone(Id=option)["HostedZone"]
            return [Zone(_plain_id(option), _plain_name(zone["Name"]), zone["Config"].get("PrivateZone", False))]
        wanted = {suffix for name in names for suffix in suffixes(name)}
        if option is not None:
            wanted &= {_plain_name(option)}
        return self._private_zones(wanted) + [zone for name in sorted(wanted) for zone in self._public_zones(name)]

    def _private_zones(self, wanted: set[str]) -> list[Zone]:
        vpc = self._vpc()
        if vpc is None:
            return []
        found: list[Zone] = []
        token: dict[str, str] = {}
        for _ in range(MAX_PAGES):
            with self._explained(f"list the private zones of VPC {vpc[0]}", "route53:ListHostedZonesByVPC"):
                answer = self._client.list_hosted_zones_by_vpc(
                    VPCId=vpc[0],
                    VPCRegion=vpc[1],  # type: ignore[arg-type]
                    **token,
                )
            summaries = answer["HostedZoneSummaries"]
            found += [Zone(one["HostedZoneId"], _plain_name(one["Name"]), True) for one in summaries]
            if not answer.get("NextToken"):
                break
            token = {"NextToken": answer["NextToken"]}
        return [zone for zone in found if zone.name in wanted]

    def _public_zones(self, name: str) -> list[Zone]:
        if name not in self._looked_up:
            self._looked_up[name] = self._find_public_zones(name)
        return self._looked_up[name]

    def _find_public_zones(self, name: str) -> list[Zone]:
        with self._explained(f"look for a zone named {name}", "route53:ListHostedZonesByName"):
            answer = self._client.list_hosted_zones_by_name(DNSName=name, MaxItems=str(PAGE))
        return [
            Zone(_plain_id(zone["Id"]), name)
            for zone in answer["HostedZones"]
            if _plain_name(zone["Name"]) == name and not zone["Config"].get("PrivateZone", False)
        ]

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
            advice = _ADVICE.get(code, "the next round tries again") if code else _NO_ANSWER
            raise ProviderError(f"Route 53: can't {what} ({permission}): {error}; {advice}") from error


def awsclient() -> ModuleType:
    """The module that makes AWS clients, imported when first needed."""
    return importlib.import_module("protokube.awsclient")


# --- translation -----------------------------------------------------------------------------------


def _plain_name(name: str) -> str:
    return name.rstrip(".").lower()


def _plain_id(zone_id: str) -> str:
    return zone_id.rpartition("/")[2]


def _sign_name(name: str) -> str:
    return f"{SIGN_LABEL}.{name}"


def _key(item: ResourceRecordSetTypeDef | Item) -> tuple[str, str, str | None]:
    return _plain_name(item["Name"]), item["Type"], item.get("SetIdentifier")


def _values(item: Item) -> tuple[str, ...]:
    """The values, IPv6 addresses in their shortest form: Route 53 keeps the spelling that it was given."""
    values = tuple(record["Value"] for record in item.get("ResourceRecords", ()))
    return tuple(str(ip_address(value)) for value in values) if item["Type"] == "AAAA" else values


def _has_no_policy(item: Item) -> bool:
    return not any(key in item for key in ("AliasTarget", "SetIdentifier", "TrafficPolicyInstanceId"))


def _is_simple(item: Item) -> bool:
    return item["Type"] in ADDRESS_TYPES and _has_no_policy(item)


def _owner(item: Item) -> str | None:
    """The instance that a multivalue record belongs to, if protokube wrote it."""
    identifier = item.get("SetIdentifier", "")
    ours = item.get("MultiValueAnswer", False) and identifier.startswith(OWNER_PREFIX)
    return identifier.removeprefix(OWNER_PREFIX) if ours else None


def _signer(item: Item) -> str | None:
    """The instance that a record beside an exclusive name notes as its owner, if protokube wrote it."""
    values = _values(item)
    if item["Type"] != "TXT" or not _has_no_policy(item) or len(values) != 1:
        return None
    words = values[0].replace('"', "").split()
    return words[1] if len(words) == 2 and words[0] == "protokube" else None


def _record_set(name: str, items: Sequence[Item]) -> RecordSet:
    signs = [item for item in items if _plain_name(item["Name"]) != name]
    signer = next((owner for item in signs if (owner := _signer(item))), None)
    owned: list[OwnedRecord] = []
    foreign: list[ForeignRecord] = []
    for item in items:
        kind = item["Type"]
        if _plain_name(item["Name"]) != name or kind not in (*ADDRESS_TYPES, "CNAME"):
            continue
        owner = signer if _is_simple(item) else _owner(item)
        if kind != "CNAME" and (owner is not None or _is_simple(item)):
            owned.append(OwnedRecord(cast("RecordType", kind), _values(item), item.get("TTL", 0), owner))
        else:
            foreign.append(_foreign(item))
    foreign += [_foreign_sign(item) for item in signs if _bars_sign(item)]
    return RecordSet(name, tuple(owned), tuple(foreign))


def _bars_sign(item: Item) -> bool:
    """Whether a record beside an exclusive name, not ours, stands where its owner is to be noted."""
    return item["Type"] in ("TXT", "CNAME") and _signer(item) is None


def _foreign_sign(item: Item) -> ForeignRecord:
    found = _foreign(item)
    return replace(found, why=f"{found.why} at {_plain_name(item['Name'])}", on_sign=True)


def _foreign(item: Item) -> ForeignRecord:
    kind = item["Type"]
    if "AliasTarget" in item:
        return ForeignRecord(kind, (_plain_name(item["AliasTarget"]["DNSName"]),), "an alias")
    identifier = item.get("SetIdentifier")
    if item.get("MultiValueAnswer", False):
        return ForeignRecord(kind, _values(item), f"a multivalue record {identifier!r}", blocks=False)
    if identifier is not None:
        return ForeignRecord(kind, _values(item), f"a record with a routing policy, {identifier!r}")
    return ForeignRecord(kind, _values(item), "a record of another kind")


def _to_delete(items: Sequence[Item], changes: Sequence[RecordChange]) -> list[Item]:
    """What the changes of one name take away, of what stands there exactly as it was seen."""
    name = changes[0].name
    standing = [item for item in items if _plain_name(item["Name"]) == name]
    found = [
        item
        for change in changes
        if change.kind is ChangeKind.DELETE
        for item in standing
        if item["Type"] == change.type and sorted(_values(item)) == sorted(change.before)
        if (_owner(item) == change.owner if change.shared else _is_simple(item))
    ]
    adopted = {(one.type, one.values, one.on_sign) for change in changes for one in change.adopts}
    for item in standing:
        seen = _values(item) if _is_simple(item) else _foreign(item).values
        if (item["Type"], seen, False) in adopted and _owner(item) is None:
            found.append(item)
    signs = [item for item in items if _plain_name(item["Name"]) == _sign_name(name)]
    found += [item for item in signs if _bars_sign(item) and (item["Type"], _foreign(item).values, True) in adopted]
    emptied = all(item in found for item in standing if item["Type"] in ADDRESS_TYPES)
    if emptied and not any(change.kind is ChangeKind.UPSERT for change in changes):
        found += [item for item in signs if _signer(item) is not None]
    return found


def _to_upsert(change: RecordChange) -> list[ResourceRecordSetTypeDef]:
    if change.kind is not ChangeKind.UPSERT:
        return []
    record: ResourceRecordSetTypeDef = {
        "Name": change.name,
        "Type": change.type,
        "TTL": change.ttl,
        "ResourceRecords": [{"Value": value} for value in change.values],
    }
    if change.shared:
        return [{**record, "SetIdentifier": OWNER_PREFIX + change.owner, "MultiValueAnswer": True}]
    sign: ResourceRecordSetTypeDef = {
        "Name": _sign_name(change.name),
        "Type": "TXT",
        "TTL": change.ttl,
        "ResourceRecords": [{"Value": f'"protokube" "{change.owner}"'}],
    }
    return [record, sign]
