"""Route 53's record sets: the records under a name, and the batch that changes them. It makes no call.

Shared names are multivalue answer records, one per instance, with the SetIdentifier `protokube:<instance id>`.
Exclusive names are simple records; beside each stands its owner record, TXT `_protokube.<name>`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import ip_address
from typing import TYPE_CHECKING, cast

from msgspec.structs import replace

from protokube.core.dns.model import ChangeKind, OwnedRecord, RecordChange, RecordSet, RecordType, UnmanagedRecord
from protokube.core.dns.zones import Zone, delegated

if TYPE_CHECKING:
    from mypy_boto3_route53.type_defs import ChangeTypeDef, ResourceRecordSetOutputTypeDef, ResourceRecordSetTypeDef

    Item = ResourceRecordSetOutputTypeDef
    Key = tuple[str, str, str | None]

OWNER_PREFIX = "protokube:"
OWNER_LABEL = "_protokube"
ADDRESS_TYPES: tuple[RecordType, ...] = ("A", "AAAA")


def plain_name(name: str) -> str:
    """A name in lower case, without the trailing dot."""
    return name.rstrip(".").lower()


def owner_name(name: str) -> str:
    """The name of an exclusive name's owner record."""
    return f"{OWNER_LABEL}.{name}"


def names_to_read(zone: Zone, name: str) -> list[str]:
    """The names to read for a name: its owner record's, and every possible cut of the zone, itself included."""
    return [owner_name(name), *zone.cuts(name)]


def record_set(zone: Zone, name: str, items: Iterable[Item]) -> RecordSet:
    """The records under a name, as the core judges them. `items` may include records of other names."""
    here, beside, cuts = [], [], set(zone.cuts(name))
    found: dict[str, list[str]] = {}
    for item in items:
        where = plain_name(item["Name"])
        if where == name:
            here.append(item)
        if where == owner_name(name):
            beside.append(item)
        if where in cuts and item["Type"] == "NS":
            found[where] = sorted(plain_name(value) for value in _values(item))
    if found:
        cut = min(found, key=len)
        refusal = delegated(name, zone.name, f"{cut} NS {', '.join(found[cut])}")
        return RecordSet(name, refusal=(refusal.rule, refusal.evidence))
    recorded = next((owner for item in beside if (owner := _recorded_owner(item))), None)
    owned: list[OwnedRecord] = []
    unmanaged: list[UnmanagedRecord] = []
    for item in here:
        kind = item["Type"]
        if kind not in (*ADDRESS_TYPES, "CNAME"):
            continue
        owner = recorded if _is_simple(item) else _owner(item)
        if kind != "CNAME" and (owner is not None or _is_simple(item)):
            owned.append(OwnedRecord(cast("RecordType", kind), _values(item), item.get("TTL", 0), owner))
        else:
            unmanaged.append(_unmanaged_record(item))
    unmanaged += [_at_owner_name(item) for item in beside if _bars_owner_record(item)]
    return RecordSet(name, tuple(owned), tuple(unmanaged))


def must_read(change: RecordChange) -> bool:
    """Whether a change removes records: Route 53 deletes only a record that is given exactly as it stands."""
    return bool(change.adopts) or change.kind is ChangeKind.DELETE


def make_batch(changes: Sequence[RecordChange], items: Sequence[Item]) -> list[ChangeTypeDef]:
    """The request's changes: deletions, exactly as the records were read in `items`, then upserts."""
    batch: dict[Key, ChangeTypeDef] = {}
    for name in sorted({change.name for change in changes}):
        ours = [change for change in changes if change.name == name]
        if any(must_read(change) for change in ours):
            for item in _to_delete(name, items, ours):
                seen = cast("ResourceRecordSetTypeDef", item)
                batch[_key(item)] = {"Action": "DELETE", "ResourceRecordSet": seen}
    for change in changes:
        for made in _to_upsert(change):
            batch[_key(made)] = {"Action": "UPSERT", "ResourceRecordSet": made}
    return list(batch.values())


def after(items: Iterable[Item], batch: Iterable[ChangeTypeDef]) -> list[Item]:
    """The items after a batch."""
    standing = {_key(item): item for item in items}
    for change in batch:
        record = change["ResourceRecordSet"]
        standing.pop(_key(record), None)
        if change["Action"] == "UPSERT":
            standing[_key(record)] = cast("Item", record)
    return list(standing.values())


def _key(item: ResourceRecordSetTypeDef | Item) -> Key:
    return plain_name(item["Name"]), item["Type"], item.get("SetIdentifier")


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


def _recorded_owner(item: Item) -> str | None:
    """The instance that an owner record names; None when protokube didn't write the item."""
    values = _values(item)
    if item["Type"] != "TXT" or not _has_no_policy(item) or len(values) != 1:
        return None
    words = values[0].replace('"', "").split()
    return words[1] if len(words) == 2 and words[0] == "protokube" else None


def _bars_owner_record(item: Item) -> bool:
    """Whether an unmanaged record stands in the place of an owner record."""
    return item["Type"] in ("TXT", "CNAME") and _recorded_owner(item) is None


def _at_owner_name(item: Item) -> UnmanagedRecord:
    found = _unmanaged_record(item)
    return replace(found, why=f"{found.why} at {plain_name(item['Name'])}", at_owner_name=True)


def _unmanaged_record(item: Item) -> UnmanagedRecord:
    kind = item["Type"]
    if "AliasTarget" in item:
        return UnmanagedRecord(kind, (plain_name(item["AliasTarget"]["DNSName"]),), "an alias")
    identifier = item.get("SetIdentifier")
    if item.get("MultiValueAnswer", False):
        return UnmanagedRecord(kind, _values(item), f"a multivalue record {identifier!r}", blocks=False)
    if identifier is not None:
        return UnmanagedRecord(kind, _values(item), f"a record with a routing policy, {identifier!r}")
    return UnmanagedRecord(kind, _values(item), "a record of another kind")


def _to_delete(name: str, items: Iterable[Item], changes: Sequence[RecordChange]) -> list[Item]:
    """The items that the changes of one name remove."""
    standing, beside = [], []
    for item in items:
        where = plain_name(item["Name"])
        if where == name:
            standing.append(item)
        if where == owner_name(name):
            beside.append(item)
    found = [
        item
        for change in changes
        if change.kind is ChangeKind.DELETE
        for item in standing
        if item["Type"] == change.type and sorted(_values(item)) == sorted(change.before)
        if (_owner(item) == change.owner if change.shared else _is_simple(item))
    ]
    adopted = {(one.type, one.values, one.at_owner_name) for change in changes for one in change.adopts}
    for item in standing:
        seen = _values(item) if _is_simple(item) else _unmanaged_record(item).values
        if (item["Type"], seen, False) in adopted and _owner(item) is None:
            found.append(item)
    found += [
        item
        for item in beside
        if _bars_owner_record(item) and (item["Type"], _unmanaged_record(item).values, True) in adopted
    ]
    emptied = all(item in found for item in standing if item["Type"] in ADDRESS_TYPES)
    if emptied and not any(change.kind is ChangeKind.UPSERT for change in changes):
        found += [item for item in beside if _recorded_owner(item) is not None]
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
    owner: ResourceRecordSetTypeDef = {
        "Name": owner_name(change.name),
        "Type": "TXT",
        "TTL": change.ttl,
        "ResourceRecords": [{"Value": f'"protokube" "{change.owner}"'}],
    }
    return [record, owner]
