"""A strict Route 53: moto's server in a thread, with the rules of the real one that moto leaves out.

A change batch is atomic; record sets are keyed by name, type and SetIdentifier; CREATE of what exists and DELETE of
what is missing or differs fail; multivalue and simple records of one name and type exclude one another; records and
zones are listed by their labels from the right, in ASCII order with the trailing dot, page by page with
NextRecordIdentifier and NextHostedZoneId; values must be addresses; changes of one zone are applied one after the
other. Error codes and their HTTP status are the API's.

    with Route53Server() as server, server.environment(monkeypatch):
        zone = server.create_zone("c1.test")
        server.faults.append(Fault("Throttling", 400))      # the next answer
"""

from __future__ import annotations

import bisect
import copy
import io
import ipaddress
import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Self

import pytest
from moto.core.exceptions import ServiceException
from moto.core.responses import ActionResult
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from moto.route53 import models
from moto.route53.exceptions import DnsNameInvalidForZone
from moto.route53.responses import Route53 as Responses
from werkzeug.serving import BaseWSGIServer, make_server

ACCOUNT = "123456789012"
_RecordSet: Any = models.RecordSet
_lock = threading.Lock()


class InvalidChangeBatch(ServiceException):
    """The batch doesn't fit what stands there."""

    code = "InvalidChangeBatch"


@dataclass(frozen=True)
class Fault:
    """An answer in place of the right one. `delay`: seconds of silence before the request is worked on."""

    code: str = ""
    status: int = 400
    delay: float = 0.0


def _key(record: dict[str, Any]) -> tuple[str, str, str | None]:
    return record["Name"].rstrip(".").lower(), record["Type"], record.get("SetIdentifier")


def _values(record: dict[str, Any]) -> list[str]:
    values = record.get("ResourceRecords") or []
    return sorted(one["Value"] if isinstance(one, dict) else one for one in values)


def _exact(record: dict[str, Any]) -> tuple[list[str], str, str]:
    target = (record.get("AliasTarget") or {}).get("DNSName", "")
    return _values(record), str(record.get("TTL")), target.rstrip(".")


_FIELDS = {
    "SetIdentifier": "set_identifier",
    "MultiValueAnswer": "multi_value_answer",
    "AliasTarget": "alias_target",
    "Weight": "weight",
    "HealthCheckId": "health_check_id",
    "Region": "region",
    "Failover": "failover",
    "GeoLocation": "geo_location",
}


def _as_dict(record: Any) -> dict[str, Any]:
    found = {
        "Name": record.name,
        "Type": record.type,
        "TTL": record.ttl,
        "ResourceRecords": list(record.records or []),
    }
    for key, attribute in _FIELDS.items():
        if getattr(record, attribute):
            found[key] = getattr(record, attribute)
    return found


def _fail(message: str) -> None:
    raise InvalidChangeBatch(message)


def _check_values(kind: str, values: Iterable[str]) -> None:
    for value in values if kind in ("A", "AAAA") else ():
        try:
            right = ipaddress.ip_address(value).version == (4 if kind == "A" else 6)
        except ValueError:
            right = False
        if not right:
            _fail(f"Invalid Resource Record: '{value}' is not a valid address")


def _change(backend: Any, zone_id: str, change_list: list[dict[str, Any]]) -> None:
    with _lock:
        zone = backend.get_hosted_zone(zone_id)
        if len(change_list) > 1000:
            _fail("Number of records limit of 1000 exceeded.")
        have = {_key(record): record for record in map(_as_dict, zone.rrsets)}
        touched: set[tuple[str, tuple[str, str, str | None]]] = set()
        for change in change_list:
            _apply(zone.name, have, change["Action"], copy.deepcopy(change["ResourceRecordSet"]), touched)
        zone.rrsets = [_RecordSet(record) for record in have.values()]


def _apply(
    zone: str,
    have: dict[tuple[str, str, str | None], dict[str, Any]],
    action: str,
    record: dict[str, Any],
    touched: set[tuple[str, tuple[str, str, str | None]]],
) -> None:
    name = record["Name"] = record["Name"].rstrip(".").replace("*", "\\052")  # as the API tells of it
    key = _key(record)
    if not f".{name}".endswith("." + zone.strip(".")):
        raise DnsNameInvalidForZone(name=record["Name"], zone_name=zone)
    record["Name"] = name + "."
    record["ResourceRecords"] = [one["Value"] for one in record.get("ResourceRecords") or []]
    label = f"[name='{name}.', type='{record['Type']}'" + (f", set-identifier='{key[2]}'" if key[2] else "") + "]"
    if (action, key) in touched:
        _fail(f"The request contains an invalid set of changes for a resource record set {label}")
    touched.add((action, key))
    _check_values(record["Type"], record["ResourceRecords"])
    if action == "DELETE":
        old = have.get(key)
        if old is None:
            _fail(f"Tried to delete resource record set {label} but it was not found")
        elif _exact(old) != _exact(record):
            _fail(
                f"Tried to delete resource record set {label} but the values provided do not match the current ones"
            )
        del have[key]
        return
    if action == "CREATE" and key in have:
        _fail(f"Tried to create resource record set {label} but it already exists")
    others = [other for one, other in have.items() if one[:2] == key[:2] and one != key]
    if any(bool(other.get("SetIdentifier")) != bool(key[2]) for other in others):
        _fail(f"RRSet {label} cannot be created as other RRSets exist with the same name and type.")
    at_name = {one[1] for one in have if one[0] == key[0] and one != key}
    if at_name and (record["Type"] == "CNAME" or "CNAME" in at_name):
        _fail(f"RRSet {label} is not permitted: a CNAME stands alone.")
    have[key] = record


def _order(name: str) -> str:
    """com.example.www. in ASCII order, as the API's reference has it: `-` sorts before the dot that ends a label."""
    return ".".join(reversed(name.rstrip(".").lower().split("."))) + "."


_orders: dict[str, tuple[list[Any], int, list[tuple[Any, ...]], list[Any]]] = {}


def _ordered(zone: Any) -> tuple[list[tuple[Any, ...]], list[Any]]:
    """The zone's keys and records in order, sorted again only when they changed: a large zone costs no more."""
    known = _orders.get(zone.id)
    if known is None or known[0] is not zone.rrsets or known[1] != len(zone.rrsets):
        pairs = [((_order(one.name), one.type, one.set_identifier or ""), one) for one in zone.rrsets]
        pairs.sort(key=lambda pair: pair[0])
        known = zone.rrsets, len(zone.rrsets), [key for key, _ in pairs], [one for _, one in pairs]
        _orders[zone.id] = known
    return known[2], known[3]


def _list(response: Any) -> ActionResult:
    get = response._get_param
    start = (_order(get("StartRecordName") or ""), get("StartRecordType") or "", get("StartRecordIdentifier") or "")
    count = response._get_int_param("MaxItems", 300)
    with _lock:
        keys, records = _ordered(response.backend.get_hosted_zone(get("HostedZoneId")))
    first = bisect.bisect_left(keys, start) if get("StartRecordName") else 0
    page, rest = records[first : first + count], records[first + count : first + count + 1]
    result = {"ResourceRecordSets": page, "IsTruncated": bool(rest), "MaxItems": count}
    if rest:
        result |= {"NextRecordName": rest[0].name, "NextRecordType": rest[0].type}
        if rest[0].set_identifier:
            result["NextRecordIdentifier"] = rest[0].set_identifier
    return ActionResult(result)


def _list_zones(response: Any) -> ActionResult:
    """An account's zones from a name on, a hundred at most."""
    get = response._get_param
    start = (_order(get("DNSName") or ""), get("HostedZoneId") or "")
    count = min(response._get_int_param("MaxItems", 100), 100)
    with _lock:
        zones = sorted(response.backend.zones.values(), key=lambda zone: (_order(zone.name), zone.id))
    rest = [zone for zone in zones if not get("DNSName") or (_order(zone.name), zone.id) >= start]
    result = {"HostedZones": rest[:count], "IsTruncated": len(rest) > count, "MaxItems": count}
    if rest[count:]:
        result |= {"NextDNSName": rest[count].name, "NextHostedZoneId": rest[count].id}
    return ActionResult(result)


class Route53Server:
    """One server; its state is moto's, so one at a time in a process. `calls` counts requests by operation."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self._host = host
        patched: tuple[tuple[Any, str, Any], ...] = (
            (models.Route53Backend, "change_resource_record_sets", _change),
            (Responses, "list_resource_record_sets", _list),
            (Responses, "list_hosted_zones_by_name", _list_zones),
        )
        for target, method, strict in patched:
            setattr(target, method, strict)
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self.calls: Counter[str] = Counter()
        self.faults: deque[Fault] = deque()
        self.admit: Callable[[], bool] = lambda: True
        self._inner = DomainDispatcherApplication(create_backend_app)
        self._server: BaseWSGIServer | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        models.route53_backends.reset()
        self._server = make_server(self._host, 0, self._answer, threaded=True)
        self._server.daemon_threads = True  # type: ignore[attr-defined]
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        )
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._server is not None and self._thread is not None
        self._server.shutdown()
        self._thread.join(timeout=10)
        self._server.server_close()

    @property
    def url(self) -> str:
        """Where it listens."""
        assert self._server is not None
        return f"http://{self._host}:{self._server.server_port}"

    def environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Point boto3 at this server, with credentials that it takes."""
        monkeypatch.setenv("AWS_ENDPOINT_URL", self.url)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")

    # --- as another program, past the API and so past counting ---

    @property
    def backend(self) -> Any:
        """moto's Route 53 of the one account."""
        return models.route53_backends[ACCOUNT]["aws"]

    def create_zone(self, name: str, *, vpc: str | None = None) -> str:
        """Make a zone, private to `vpc` if given; its id."""
        zone = self.backend.create_hosted_zone(
            name=name + ".", private_zone=vpc is not None, vpcid=vpc, vpcregion=vpc and "us-east-1"
        )
        return str(zone.id).rpartition("/")[2]

    def put(self, zone: str, name: str, kind: str, *values: str, action: str = "UPSERT", **more: Any) -> None:
        """Write a record set; `more` are its other fields (SetIdentifier, AliasTarget, …)."""
        record: dict[str, Any] = {"Name": name, "Type": kind, **more}
        if "AliasTarget" not in more:
            record |= {"TTL": more.get("TTL", 300), "ResourceRecords": [{"Value": value} for value in values]}
        _change(self.backend, zone, [{"Action": action, "ResourceRecordSet": record}])

    def remove(self, zone: str, name: str, kind: str) -> None:
        """Remove every record set of a name and type."""
        with _lock:
            kept = self.backend.get_hosted_zone(zone)
            kept.rrsets = [one for one in kept.rrsets if (one.name.rstrip("."), one.type) != (name, kind)]

    def records(self, zone: str) -> list[dict[str, Any]]:
        """Every record set of the zone."""
        with _lock:
            return [_as_dict(one) for one in self.backend.get_hosted_zone(zone).rrsets]

    def fill(self, zone: str, count: int) -> None:
        """Put many other record sets into the zone at once."""
        with _lock:
            self.backend.get_hosted_zone(zone).rrsets += [
                _RecordSet({"Name": f"host-{i}.{z}", "Type": "A", "TTL": 60, "ResourceRecords": ["10.9.0.1"]})
                for z in [self.backend.get_hosted_zone(zone).name]
                for i in range(count)
            ]

    # --- serving ---

    def _answer(self, environment: dict[str, Any], start: Any) -> Iterator[bytes] | list[bytes]:
        size = int(environment.get("CONTENT_LENGTH") or 0)
        environment["wsgi.input"] = io.BytesIO(environment["wsgi.input"].read(size))
        self.calls[_operation(environment)] += 1
        fault = self.faults.popleft() if self.faults else None
        if not self.admit():
            fault = Fault("Throttling", 400)
        if fault is not None and fault.delay:
            time.sleep(fault.delay)
        if fault is not None and fault.code:
            start(f"{fault.status} Fault", [("Content-Type", "text/xml")])
            body = f"<Error><Type>Sender</Type><Code>{fault.code}</Code><Message>made by the test</Message></Error>"
            return [f"<?xml version='1.0'?><ErrorResponse>{body}<RequestId>x</RequestId></ErrorResponse>".encode()]
        return self._inner(environment, start)  # type: ignore[no-any-return]


def _operation(environment: dict[str, Any]) -> str:
    path = environment["PATH_INFO"].removeprefix("/2013-04-01/")
    if path.endswith("/rrset") or path.endswith("/rrset/"):
        return "ChangeResourceRecordSets" if environment["REQUEST_METHOD"] == "POST" else "ListResourceRecordSets"
    return {"hostedzonesbyname": "ListHostedZonesByName", "hostedzonesbyvpc": "ListHostedZonesByVPC"}.get(
        path.strip("/"), "GetHostedZone" if path.startswith("hostedzone/") else path
    )
