"""Reads etcd clusters' own settings: `etcd: {quota: 8GiB, version: 3.6.8}`, and where they listen to clients."""

from __future__ import annotations

from collections.abc import Mapping

from protokube.core.etcd.model import DEFAULT_IMAGE, EtcdTemplate
from protokube.core.located import Section
from protokube.core.model import GIB, MIB, Fault
from protokube.core.sizes import parse_size
from protokube.core.static_pod import is_version

SMALLEST, LARGEST = 16 * MIB, 100 * GIB
"""etcd advises 8 GiB at most (its dev-guide/limit.md). What is beyond these bounds is a slip of the pen."""


def etcd_quota(section: Section | None, templates: Mapping[str, EtcdTemplate], faults: list[Fault]) -> int | None:
    """The quota of each member's database in bytes; None for etcd's own, 2 GiB."""
    item = section.get("etcd") if section else None
    etcd = item.value if item is not None and isinstance(item.value, dict) else {}
    quota = etcd.get("quota")
    if quota is None:
        return None
    size = parse_size(quota.value) if isinstance(quota.value, str) else None
    if size is None or not SMALLEST <= size <= LARGEST:
        faults.append(quota.expected("a size from 16MiB to 100GiB, such as 8GiB"))
        return None
    if not all(template.supports_quota for template in templates.values()):
        faults.append(quota.fault("the manifest.yaml of --template-dir has no part with $if: quota"))
    return size


def etcd_image(section: Section | None, named: str | None, faults: list[Fault]) -> str | None:
    """The image that the operator wants, by its name (`named`) or its version; None where neither is said."""
    item = section.get("etcd") if section else None
    etcd = item.value if item is not None and isinstance(item.value, dict) else {}
    version = etcd.get("version")
    if version is None:
        return named
    if not isinstance(version.value, str) or not is_version(version.value):
        faults.append(version.expected("a version such as 3.6.8"))
        return named
    if named is not None:
        faults.append(version.fault(f"--etcd-image names {named} (expected one of the two)"))
    return f"{DEFAULT_IMAGE.rpartition(':')[0]}:{version.value}-0"


def node_clients(where: str, tls: str, templates: Mapping[str, EtcdTemplate], faults: list[Fault]) -> bool:
    """Whether members listen to clients at their node's address, too: never without TLS."""
    if where != "node":
        return False
    option = "--etcd-clients-listen"
    if tls == "off":
        faults.append(Fault(option, "node, and --etcd-tls is off (expected: on or auto; others come by TLS alone)"))
    if not all(template.supports_node_clients for template in templates.values()):
        faults.append(
            Fault(option, "node, and the manifest.yaml of --template-dir has no part with $if: node-clients")
        )
    return True
