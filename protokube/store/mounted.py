"""Whether a store's directory lies where a file system is to be mounted, and isn't: it looks like an empty store."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from protokube.kernel import mountinfo

FSTAB = Path("/etc/fstab")
UNITS = tuple(map(Path, ("/etc/systemd/system", "/run/systemd/system", "/run/systemd/generator")))
"""Where an operator's mount units stand, and those that come of fstab. A distribution's own may be out of use."""

_PLAIN = re.compile(rb"[A-Za-z0-9:_.]")


def unmounted(directory: Path) -> str | None:
    """Why a directory isn't what it is to be: fstab or a mount unit names it, or one above it, and nothing is mounted
    there. None when nothing speaks against it. Raises OSError when that can't be read."""
    named = dict(_fstab())
    mounted = {line.target for line in mountinfo.read()}
    real = Path(os.path.realpath(directory))
    for place in dict.fromkeys((directory, *directory.parents, real, *real.parents)):
        if place == Path("/"):
            continue  # all mounts stand on it
        by = _unit(place) or named.get(str(place))
        if by is not None and os.path.realpath(place) not in mounted:
            return f"{by} says that a file system is to be mounted at {place}, and none is; mount it"
    return None


def unit_name(place: Path) -> str:
    """The name of the mount unit of a path (systemd.unit(5), "String escaping for inclusion in unit names")."""
    text = os.fsencode(place).strip(b"/").replace(b"/", b"\0")
    if not text:
        return "-.mount"
    spelt = [_spell(byte, first=number == 0) for number, byte in enumerate(text)]
    return f"{''.join(spelt)}.mount"


def _spell(byte: int, *, first: bool) -> str:
    one = bytes([byte])
    if byte == 0:
        return "-"
    return one.decode() if _PLAIN.fullmatch(one) and not (first and one == b".") else f"\\x{byte:02x}"


def _unit(place: Path) -> str | None:
    """The mount unit of a path; None where there is none, or where it is masked."""
    for folder in UNITS:
        unit = folder / unit_name(place)
        if unit.is_file() and unit.stat().st_size:
            return str(unit)
    return None


def _fstab() -> Iterator[tuple[str, str]]:
    """The mount points in fstab(5), and who says so."""
    try:
        lines = FSTAB.read_bytes().split(b"\n")
    except FileNotFoundError:
        return
    for line in lines:
        fields = line.split()
        if len(fields) > 2 and not fields[0].startswith(b"#") and fields[1].startswith(b"/"):
            place = re.sub(rb"\\([0-7]{3})", lambda found: bytes([int(found[1], 8) & 0xFF]), fields[1])
            yield os.path.normpath(os.fsdecode(place)), str(FSTAB)
