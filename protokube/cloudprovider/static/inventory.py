"""The inventory: a YAML file that describes machines and volumes. Text in, values and faults out; no I/O.

Names become paths and file names, so they are held to a strict grammar here: a volume's id is
`[A-Za-z0-9][A-Za-z0-9._-]*` with at most 63 characters, a node's name an RFC 1123 name in lower case with at
most 63 characters.
"""

from __future__ import annotations

import ipaddress
import os.path
import re
from collections.abc import Mapping, Sequence

from msgspec import Struct, field

from protokube.core.located import Located, Section, parse
from protokube.core.model import MIB, Fault
from protokube.core.sizes import parse_size

SECTOR = 512
SMALLEST = 16 * MIB
DEFAULT_ZONE = "local"


class _Grammar(Struct, frozen=True):
    """The form of a name, and its description for messages."""

    pattern: re.Pattern[str]
    wanted: str


_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_MEMBER = _Grammar(re.compile(_LABEL), "a DNS label (lower case letters, digits and inner dashes, at most 63)")
_CLUSTER = _Grammar(
    re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*"), "a DNS name in lower case, such as dev.example.com,"
)
_NODE_NAME = _Grammar(
    re.compile(rf"(?=.{{1,63}}\Z){_LABEL}(?:\.{_LABEL})*"),
    "a host name (lower case letters, digits, dashes and dots, at most 63)",
)
_VOLUME_ID = _Grammar(
    re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}"),
    "an id of letters, digits, dots, dashes and underscores that starts with a letter or digit, at most 63,",
)


class InventoryNode(Struct, frozen=True):
    """A machine that shares the inventory. `members` maps an etcd cluster's key to the member that lives there.

    `internal` and `external` hold at most one address of each family, IPv4 first.
    """

    name: str
    internal: tuple[str, ...] = ()
    external: tuple[str, ...] = ()
    instance_group: str | None = None
    members: Mapping[str, str] = field(default_factory=dict)


class InventoryVolume(Struct, frozen=True):
    """A disk: `image` is the absolute path of its file, or `device` that of a block device; one of them is None.

    `state` is the absolute path of its state file. `record` is that of the file, beside the inventory, which shows
    that the image was in use; None for a device. `size` is in bytes.
    """

    id: str
    zone: str
    size: int
    tags: Mapping[str, str]
    state: str
    image: str | None = None
    device: str | None = None
    record: str | None = None


class Inventory(Struct, frozen=True):
    """The whole inventory. `nodes` is empty for a single, unnamed node."""

    path: str
    cluster: str
    zone: str
    nodes: tuple[InventoryNode, ...]
    volumes: tuple[InventoryVolume, ...]


def read_inventory(text: str, path: str) -> Inventory | tuple[Fault, ...]:
    """The inventory in `text`, or every fault in it.

    `path` is absolute: faults name it, and relative paths in the inventory start from its directory.
    """
    root, faults = parse(text, path)
    if root is None:
        return tuple(faults)
    section = Section.of(root, {"cluster", "zone", "nodes", "volumes"}, faults)
    zone = section.text("zone") or DEFAULT_ZONE
    cluster = _name(section, "cluster", _CLUSTER)
    nodes = [_node(item, faults) for item in section.sequence("nodes")]
    volumes = [_volume(item, zone, path, faults) for item in section.sequence("volumes")]
    _unique(section, "nodes", "name")
    _unique(section, "volumes", "id")
    _reachable(section, nodes)
    _own_files(section, volumes, path)
    if faults or cluster is None:
        return tuple(faults)
    return Inventory(path, cluster, zone, tuple(filter(None, nodes)), tuple(filter(None, volumes)))


def _node(item: Located, faults: list[Fault]) -> InventoryNode | None:
    known = {"name", "internalAddress", "externalAddress", "instanceGroup", "members"}
    section = Section.of(item, known, faults)
    name = _name(section, "name", _NODE_NAME)
    members = section.strings("members")
    faults += [
        member.fault(f"{label!r} where {_MEMBER.wanted} was expected")
        for key, member in members.items()
        for label in (key, str(member.value))
        if not _MEMBER.pattern.fullmatch(label)
    ]
    node = InventoryNode(
        name or "",
        _addresses(section, "internalAddress"),
        _addresses(section, "externalAddress"),
        section.text("instanceGroup"),
        {key: str(member.value) for key, member in members.items()},
    )
    return node if name else None


def _volume(item: Located, zone: str, inventory: str, faults: list[Fault]) -> InventoryVolume | None:
    section = Section.of(item, {"id", "file", "device", "size", "zone", "tags"}, faults)
    name = _name(section, "id", _VOLUME_ID)
    size = _size(section)
    image, device = _path(section, "file", inventory), _path(section, "device", inventory)
    if isinstance(item.value, dict) and (section.get("file") is None) == (section.get("device") is None):
        faults.append(item.fault("exactly one of 'file' and 'device' was expected"))
    tags = {key: str(tag.value) for key, tag in section.strings("tags").items()}
    own_zone = section.text("zone") or zone
    if name is None or size is None:
        return None
    beside = os.path.join(os.path.dirname(inventory), name)  # noqa: PTH118, PTH120 - strings
    record = f"{beside}.used" if image else None
    return InventoryVolume(name, own_zone, size, tags, f"{image or beside}.state", image, device, record)


def _name(section: Section, key: str, grammar: _Grammar) -> str | None:
    text = section.text(key, required=True)
    if text is None or grammar.pattern.fullmatch(text):
        return text
    section.faults.append(section.items[key].expected(grammar.wanted))
    return None


def _addresses(section: Section, key: str) -> tuple[str, ...]:
    """One address, or a list with one of each family; IPv4 first."""
    item = section.get(key)
    if item is None:
        return ()
    listed = item.value if isinstance(item.value, list) else [item]
    if not listed:
        section.faults.append(item.expected("an IP address, or a list of one IPv4 and one IPv6 address,"))
    found: dict[int, str] = {}
    for entry in listed:
        address = _address(section, entry)
        if address is None:
            continue
        if address.version in found:
            section.faults.append(entry.fault(f"{address} is the second IPv{address.version} address: expected one"))
        found.setdefault(address.version, str(address))
    return tuple(found[version] for version in sorted(found))


def _address(section: Section, item: Located) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    text = section.string(item)
    if text is None:
        return None
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        section.faults.append(item.expected("an IP address"))
        return None
    if address.is_unspecified or address.is_multicast or "%" in text:
        section.faults.append(item.expected("an address of one machine, without an interface,"))
        return None
    return address


def _path(section: Section, key: str, inventory: str) -> str | None:
    text = section.text(key)
    if text is None:
        return None
    if not text or "\0" in text or text.endswith("/"):
        section.faults.append(section.items[key].expected("the path of a file"))
        return None
    return os.path.normpath(os.path.join(os.path.dirname(inventory), text))  # noqa: PTH118, PTH120 - strings


def _size(section: Section) -> int | None:
    item = section.get("size", required=True)
    if item is None:
        return None
    size = parse_size(item.value) if isinstance(item.value, str) else None
    if size is None:
        section.faults.append(item.expected("a number of bytes with its unit, such as 1GiB, 100GB or 1073741824B,"))
    elif size < SMALLEST or size % SECTOR:
        wanted = f"{SMALLEST >> 20}MiB at least, in whole sectors of {SECTOR} bytes,"
        section.faults.append(item.expected(wanted))
    return size


def is_node_name(name: str) -> bool:
    """Whether a node may be called so: it becomes a host name and a label."""
    return _NODE_NAME.pattern.fullmatch(name) is not None


# --- faults that only the whole shows --------------------------------------------------------------


def _unique(section: Section, key: str, name: str) -> None:
    first: dict[object, int] = {}
    for entry in _entries(section, key):
        item = entry.value.get(name) if isinstance(entry.value, dict) else None
        if item is None or not isinstance(item.value, str):
            continue
        if item.value in first:
            message = (
                f"{item.value!r} is there already, in line {first[item.value]}: a {name} of its own was expected"
            )
            section.faults.append(item.fault(message))
        first.setdefault(item.value, item.line)


def _reachable(section: Section, nodes: Sequence[InventoryNode | None]) -> None:
    """Other nodes must find a node's members, and only the node itself knows its default address."""
    if len(nodes) < 2:
        return
    for entry, node in zip(_entries(section, "nodes"), nodes, strict=True):
        if node and node.members and not node.internal:
            section.faults.append(entry.fault("internalAddress is required: other nodes must find its members"))


def _own_files(section: Section, volumes: Sequence[InventoryVolume | None], inventory: str) -> None:
    """No two volumes share a file, and none is the inventory or another one's state."""
    taken = {inventory: "the inventory"}
    for entry, volume in zip(_entries(section, "volumes"), volumes, strict=True):
        if volume is None:
            continue
        for path, what in (
            (volume.image or volume.device, "disk"),
            (volume.state, "state"),
            (volume.record, "record"),
        ):
            if path is None:
                continue
            if path in taken:
                section.faults.append(entry.fault(f"its {what} {path} is {taken[path]} already"))
            taken.setdefault(path, f"the {what} of {volume.id!r}")


def _entries(section: Section, key: str) -> Sequence[Located]:
    item = section.items.get(key)
    return item.value if item and isinstance(item.value, list) else ()
