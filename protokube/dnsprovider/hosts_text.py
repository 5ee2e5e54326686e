"""A hosts file as text: protokube's block between its guards, and the rest. No I/O.

A guard is a line with exactly `BEGIN` or `END`, besides blanks. Guards pair up like brackets. The lines between a
pair are ours. A guard without a partner is dropped, and the lines beside it are not ours.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping

from msgspec import Struct

from protokube.core.dns.model import RecordType

BEGIN = "# Begin host entries managed by protokube - do not edit"
END = "# End host entries managed by protokube"

Entries = Mapping[tuple[str, RecordType], frozenset[str]]
"""Addresses by name and type."""


class UnmanagedEntry(Struct, frozen=True):
    """An entry outside of our block. `line` counts from 1; `shadows`: it comes before the block, so it wins."""

    name: str
    type: RecordType
    address: str
    line: int
    shadows: bool


class HostsText(Struct, frozen=True):
    """A hosts file taken apart: `before` and `after` are kept as they are, `entries` are ours.

    After more than one pair of guards, or a stray one, `after` is empty: the one block that remains goes to the end.
    """

    before: str
    after: str
    entries: Entries
    unmanaged: tuple[UnmanagedEntry, ...]

    def with_entries(self, entries: Entries) -> str:
        """The whole text with other entries between the guards; without entries there are no guards either."""
        block = render(entries)
        needs_newline = block and self.before and not self.before.endswith("\n")
        return self.before + ("\n" if needs_newline else "") + block + self.after


def parse(text: str) -> HostsText:
    """Take a hosts file apart. Lines end with a newline, the last one perhaps without."""
    lines = [f"{line}\n" for line in text.split("\n")]
    lines[-1] = lines[-1][:-1]  # the text after the last newline has none
    blocks, strays = _pair(lines)
    ours = {number for first, last in blocks for number in range(first, last + 1)}
    sound = len(blocks) <= 1 and not strays
    split = blocks[0][0] if blocks and sound else len(lines)
    kept = [number for number in range(len(lines)) if number not in ours and number not in strays]
    return HostsText(
        "".join(lines[number] for number in kept if number < split),
        "".join(lines[number] for number in kept if number >= split),
        _entries([lines[number] for number in sorted(ours)]),
        tuple(
            UnmanagedEntry(name, kind, address, number + 1, number < split)
            for number in kept
            for name, kind, address in _entry(lines[number])
        ),
    )


def render(entries: Entries) -> str:
    """Our block: one line per address, in the addresses' order, names sorted; empty without entries."""
    names: dict[str, set[str]] = {}
    for (name, _), addresses in entries.items():
        for address in addresses:
            names.setdefault(address, set()).add(name)
    if not names:
        return ""
    lines = [f"{address}\t{' '.join(sorted(names[address]))}" for address in sorted(names, key=_order)]
    return "\n".join([BEGIN, *lines, END]) + "\n"


def _order(address: str) -> tuple[int, int]:
    """IPv4 before IPv6, each by number."""
    parsed = ipaddress.ip_address(address)
    return parsed.version, int(parsed)


def normal_address(text: str) -> str:
    """An IP address as it is usually written; ValueError when it is none."""
    return str(ipaddress.ip_address(text))


def record_type(address: str) -> RecordType:
    """The record type of an address."""
    return "A" if ipaddress.ip_address(address).version == 4 else "AAAA"


def _pair(lines: list[str]) -> tuple[list[tuple[int, int]], set[int]]:
    """The pairs of guards, as (first, last) line, nested ones too, and the guards that have no partner."""
    open_guards: list[int] = []
    strays: set[int] = set()
    pairs: list[tuple[int, int]] = []
    for number, line in enumerate(lines):
        guard = line.strip()
        if guard == BEGIN:
            open_guards.append(number)
        elif guard == END and open_guards:
            pairs.append((open_guards.pop(), number))
        elif guard == END:
            strays.add(number)
    return pairs, strays | set(open_guards)


def _entries(lines: list[str]) -> Entries:
    found: dict[tuple[str, RecordType], frozenset[str]] = {}
    for line in lines:
        for name, kind, address in _entry(line):
            found[name, kind] = found.get((name, kind), frozenset()) | {address}
    return found


def _entry(line: str) -> list[tuple[str, RecordType, str]]:
    """Name, type and address of each name in a line; none for comments and unreadable addresses."""
    words = line.partition("#")[0].split()
    if not words:
        return []
    try:
        address = normal_address(words[0])
    except ValueError:
        return []
    return [(name.lower().rstrip("."), record_type(address), address) for name in words[1:]]
