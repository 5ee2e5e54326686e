"""Kubernetes' quantities: `100m`, `1.5`, `64Mi`, `1e3`."""

from __future__ import annotations

import re
from fractions import Fraction

_FORM = re.compile(r"([+-]?\d+(?:\.\d*)?|[+-]?\.\d+)(?:([eE][+-]?\d{1,3})|(n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei))?")
_DECIMAL = {"n": -9, "u": -6, "m": -3, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}


def quantity(text: str | float) -> Fraction | None:
    """The value of a quantity, None for what is none."""
    match = _FORM.fullmatch(str(text))
    if match is None:
        return None
    value = Fraction(match[1])
    if match[3] in _BINARY:
        return value * (1 << _BINARY[match[3]])
    power = int(match[2][1:]) if match[2] else _DECIMAL.get(match[3] or "", 0)
    return value * Fraction(10**power) if power >= 0 else value / Fraction(10**-power)
