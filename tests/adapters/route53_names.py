"""Names and changes of one cluster, and its Route 53, for the tests of that provider."""

from __future__ import annotations

from protokube.core.dns.model import ChangeKind, RecordChange, UnmanagedRecord
from protokube.dnsprovider.route53 import Route53

VPC = ("vpc-1", "us-east-1")
SUFFIX = ".internal.c1.test"
API, ETCD, PUBLIC = f"api{SUFFIX}", f"etcd-a{SUFFIX}", "api.c1.test"


def provider(zone: str | None = None, *, inside: bool = True) -> Route53:
    return Route53(internal_suffix=lambda: SUFFIX, zone=zone, vpc=lambda: VPC if inside else None)


def put(name: str, value: str, owner: str = "i-1", *, adopts: tuple[UnmanagedRecord, ...] = ()) -> RecordChange:
    shared = name.startswith("api")
    return RecordChange(ChangeKind.UPSERT, name, "A", (value,), 60, owner, shared, adopts=adopts)
