"""Sizes as people write them."""

from __future__ import annotations

import re
from collections.abc import Mapping

_SIZE = re.compile(r"([0-9]{1,18})(?:\.([0-9]{1,9}))? ?([KMGT]i?)?B")
_FACTOR: Mapping[str | None, int] = {None: 1} | {
    f"{letter}{infix}": base**power
    for power, letter in enumerate("KMGT", start=1)
    for infix, base in (("", 1000), ("i", 1024))
}


def parse_size(text: str) -> int | None:
    """Bytes from a number with a unit (B, KB … TB by thousands, KiB … TiB by 1024); None when it isn't one."""
    match = _SIZE.fullmatch(text)
    if not match:
        return None
    whole, fraction, unit = match.groups()
    value = int(whole) * _FACTOR[unit]
    if fraction:
        part, rest = divmod(int(fraction) * _FACTOR[unit], 10 ** len(fraction))
        return None if rest else value + part
    return value
