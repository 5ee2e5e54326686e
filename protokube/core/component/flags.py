"""Values as Kubernetes spells them, and the writer of command line flags.

The rules are kops's: absent and empty are left out unless empty has a meaning; booleans and numbers are always
printed, `false` and `0` included, unless the flag declares a value that means "unset"; lists are joined by
commas or repeat the flag; maps are sorted by key.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from msgspec import Struct

_MAX_NANOSECONDS = (1 << 63) - 1
_UNITS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,  # U+00B5, what Go prints
    "μs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
# Patterns stay text until they are needed: compiling them costs more than reading all of this module.
_DURATION_PART = r"([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)"
_QUANTITY = r"([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+))(Ki|Mi|Gi|Ti|Pi|Ei|n|u|m|k|M|G|T|P|E|[eE][+-]?[0-9]{1,2})?"
_BINARY = {"Ki": 1, "Mi": 2, "Gi": 3, "Ti": 4, "Pi": 5, "Ei": 6}
_DECIMAL = {"n": -9, "u": -6, "m": -3, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}


class Duration(Struct, frozen=True):
    """A Go time.Duration. `str()` is Go's own spelling: `1m0s`, `100ms`, `3h0m0s`, `0s`."""

    nanoseconds: int

    @classmethod
    def parse(cls, text: str) -> Duration:
        """Read what Go's time.ParseDuration reads, such as `1m`, `1h30m` or `1.5s`; ValueError for all else."""
        sign, rest = (-1, text[1:]) if text[:1] == "-" else (1, text.removeprefix("+"))
        if rest == "0":
            return cls(0)
        parts = list(re.finditer(_DURATION_PART, rest))
        if not rest or "".join(part.group() for part in parts) != rest:
            raise ValueError(f"{text!r} is no duration; expected one like 1m30s")
        total = sum(_nanoseconds(*part.groups()) for part in parts)
        if total > _MAX_NANOSECONDS:
            raise ValueError(f"{text!r} is longer than Go's durations can be (292 years)")
        return cls(sign * total)

    def __str__(self) -> str:
        sign, rest = ("-" if self.nanoseconds < 0 else ""), abs(self.nanoseconds)
        if rest == 0:
            return "0s"
        for unit in ("ns", "µs", "ms"):
            if rest < 1000 * _UNITS[unit]:
                return f"{sign}{_decimal(rest, _UNITS[unit])}{unit}"
        minutes, rest = divmod(rest, _UNITS["m"])
        hours, minutes = divmod(minutes, 60)
        head = f"{hours}h{minutes}m" if hours else f"{minutes}m" if minutes else ""
        return f"{sign}{head}{_decimal(rest, _UNITS['s'])}s"


def _nanoseconds(number: str, unit: str) -> int:
    whole, _, fraction = number.partition(".")
    size = _UNITS[unit]
    part: int = int(fraction or "0") * size // 10 ** len(fraction)
    return int(whole or "0") * size + part


def _decimal(value: int, unit: int) -> str:
    whole, rest = divmod(value, unit)
    digits = str(unit + rest)[1:].rstrip("0") if unit > 1 else ""
    return f"{whole}.{digits}" if digits else str(whole)


class Quantity(Struct, frozen=True):
    """A Kubernetes resource.Quantity, kept as it was written (`1.5Gi`, `100m`, `3.14`)."""

    text: str

    def __post_init__(self) -> None:
        if re.fullmatch(_QUANTITY, self.text) is None:
            raise ValueError(f"{self.text!r} is no quantity; expected one like 100Mi, 500m or 3.14")

    def decimal(self) -> str:
        """The exact value without a suffix: `3140m` → `3.14`, `1Ki` → `1024`."""
        from decimal import Context, Decimal  # few nodes have a quantity that is a flag

        match = re.fullmatch(_QUANTITY, self.text)
        number, suffix = match.groups() if match else ("0", None)
        exact = Context(prec=200)
        value = Decimal(number)
        if suffix in _BINARY:
            value = exact.multiply(value, Decimal(1024 ** _BINARY[suffix]))
        elif suffix:
            power = _DECIMAL[suffix] if suffix in _DECIMAL else int(suffix[1:])
            value = value.scaleb(power, exact)
        text = f"{value:f}"
        text = text.rstrip("0").rstrip(".") if "." in text else text
        return "0" if text in ("-0", "") else text


def number_of(value: object) -> float:
    """A number, quantity, percentage or duration (in nanoseconds) as a number, to be compared with another.

    The size of a quantity is exact to a float's 53 bits, which is enough to tell whether it is in a range.
    """
    if isinstance(value, Duration):
        return value.nanoseconds
    if isinstance(value, int | float):
        return value
    text = (value.text if isinstance(value, Quantity) else str(value)).removesuffix("%")
    match = re.fullmatch(_QUANTITY, text)
    if match is None:
        raise ValueError(f"{value!r} is no number")
    number, suffix = match.groups()
    if suffix in _BINARY:
        return float(number) * float(1024 ** _BINARY[suffix])
    return float(number) * (10.0 ** (_DECIMAL[suffix] if suffix in _DECIMAL else int(suffix[1:])) if suffix else 1.0)


def flag_args(
    name: str,
    value: object,
    *,
    empty: bool = False,
    unset: str | None = None,
    repeat: bool = False,
    joint: str = "=",
) -> tuple[str, ...]:
    """The arguments that set the flag `name`, one element each; () when there is nothing to say.

    `empty`: an empty value has a meaning and is written. `unset`: the spelling of the value that means "not set".
    `repeat`: a list repeats the flag. `joint`: what stands between a map's key and its value.
    """
    if value is None:
        return ()
    if repeat and isinstance(value, Sequence) and not isinstance(value, str):
        return tuple(f"--{name}={spell_value(item)}" for item in value)
    text = spell_value(value, joint)
    if text == unset or (not text and not empty):
        return ()
    return (f"--{name}={text}",)


def spell_value(value: object, joint: str = "=") -> str:
    """A value as a flag spells it. TypeError for what no flag can hold: that would be a bug of the caller."""
    match value:
        case bool():
            return "true" if value else "false"
        case int() | str() | Duration():
            return str(value)
        case float():
            return repr(value).removesuffix(".0")
        case Quantity():
            return value.decimal()
        case Mapping():
            return ",".join(f"{key}{joint}{spell_value(value[key])}" for key in sorted(value))
        case Sequence():
            return ",".join(spell_value(item) for item in value)
    raise TypeError(f"{value!r} can't be a flag's value")
