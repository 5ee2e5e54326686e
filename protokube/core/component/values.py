"""The kinds of value in kubelet's configuration: what may be written, and what it is read as.

`read(kind, value)` takes what stands in a YAML file and returns the value in one form: bool, int, float, str,
Duration, Quantity, a list, or a map with text as keys. Where kops's users write a list or a map as one string
(`memory.available<100Mi,nodefs.available<10%`), that is read as well.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from protokube.core.component.flags import Duration, Quantity
from protokube.core.component.labels import is_label_key, is_label_value

_SIGNALS = (
    "memory.available", "allocatableMemory.available", "nodefs.available", "nodefs.inodesFree", "imagefs.available",
    "imagefs.inodesFree", "containerfs.available", "containerfs.inodesFree", "pid.available",
)  # fmt: skip
_PERCENT = r"[0-9]+(\.[0-9]+)?%"
# What YAML or systemd's EnvironmentFile= can't hold as it is: controls, line separators, noncharacters.
_FORBIDDEN = r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufdd0-\ufdef\ufeff\ufffe\uffff]"
_RANGES = {
    "int32": (-(1 << 31), (1 << 31) - 1),
    "int64": (-(1 << 63), (1 << 63) - 1),
    "uint32": (0, (1 << 32) - 1),
    "uint64": (0, (1 << 64) - 1),
}
_TAINT = r"([^=:]+)(?:=([^:]*))?:([A-Za-z]+)"


class WrongValueError(ValueError):
    """A value that its kind doesn't allow; the text names the value and what was expected."""


def read(kind: str, value: object) -> object:
    """`value` in the one form of its kind; WrongValueError when it isn't of that kind. Not for objects and taints."""
    if kind in _RANGES:
        return _integer(value, *_RANGES[kind])
    if "|" in kind:
        return _word(value, kind.split("|"))
    return _READERS[kind](value)


def joint(kind: str) -> str:
    """What stands between key and value where a map of this kind is a flag."""
    return "<" if kind == "thresholds" else "="


def _wrong(value: object, expected: str) -> WrongValueError:
    return WrongValueError(f"{value!r} is wrong; expected {expected}")


# --- single values -----------------------------------------------------------------------------------


def _bool(value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise _wrong(value, "true or false")


def _integer(value: object, low: int, high: int) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
        return value
    raise _wrong(value, f"a whole number from {low} to {high}")


def _float(value: object) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < float("inf"):
        return float(value)
    raise _wrong(value, "a number")


def _string(value: object, expected: str = "text (in quotes, if it looks like something else)") -> str:
    if not isinstance(value, str):
        raise _wrong(value, expected)
    if re.search(_FORBIDDEN, value):
        raise _wrong(value, "text without line breaks and control characters")
    return value


def _word(value: object, words: Sequence[str]) -> str:
    if value in ("", *words):
        return str(value)
    raise _wrong(value, " or ".join(words))


def _label_key(value: object) -> str:
    if not isinstance(value, str) or not is_label_key(value):
        raise _wrong(value, "a key like rack or example.com/rack")
    return value


def _label_value(value: object) -> str:
    if not isinstance(value, str) or not is_label_value(value):
        raise _wrong(value, "at most 63 letters, digits, '-', '_' and '.', a letter or digit at both ends")
    return value


def _ip(value: object) -> str:
    from ipaddress import ip_address  # slow to import, and few nodes configure an address

    text = _string(value, "an IP address")
    if text:
        try:
            ip_address(text)
        except ValueError as error:
            raise _wrong(value, "an IP address") from error
    return text


def _duration(value: object) -> Duration:
    try:
        return Duration.parse(_string(value, "a duration with its unit, like 1m30s"))
    except WrongValueError:
        raise
    except ValueError as error:
        raise WrongValueError(str(error)) from error


def _quantity(value: object) -> Quantity:
    text = str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value
    try:
        return Quantity(_string(text, "a quantity like 100Mi"))
    except WrongValueError:
        raise
    except ValueError as error:
        raise WrongValueError(str(error)) from error


def _size(value: object) -> str:
    return "" if value == "" else _quantity(value).text


def _percent(value: object) -> str:
    if isinstance(value, str) and re.fullmatch(_PERCENT, value) and float(value[:-1]) <= 100:
        return value
    raise _wrong(value, "a percentage like 10%")


def _quantity_or_percent(value: object) -> str:
    return _percent(value) if isinstance(value, str) and value.endswith("%") else _quantity(value).text


def _period(value: object) -> str:
    return str(_duration(value))


# --- lists and maps ----------------------------------------------------------------------------------


def _list_of(item: Callable[[object], object]) -> Callable[[object], list[object]]:
    def read_list(value: object) -> list[object]:
        if isinstance(value, str):
            value = [part.strip() for part in value.split(",")] if value else []
        if not isinstance(value, Sequence):
            raise _wrong(value, "a list")
        return [item(each) for each in value]

    return read_list


def _map_of(
    item: Callable[[object], object], keys: Sequence[str] = (), separator: str = "="
) -> Callable[[object], dict[str, object]]:
    """A reader of maps; a null in one says nothing. `keys`: the only ones allowed, if any are named."""

    def read_map(value: object) -> dict[str, object]:
        pairs = _pairs(value, separator) if isinstance(value, str) else value
        if not isinstance(pairs, Mapping):
            raise _wrong(value, f"a map, or text like key{separator}value,key{separator}value")
        result: dict[str, object] = {}
        for key, each in pairs.items():
            name = _string(key, "text as a map's key")
            if not name or (keys and name not in keys):
                raise _wrong(key, " or ".join(keys) if keys else "a key that isn't empty")
            if each is not None:
                try:
                    result[name] = item(each)
                except WrongValueError as error:
                    raise WrongValueError(f"{name}: {error}") from error
        return result

    return read_map


def _pairs(text: str, separator: str) -> dict[str, str]:
    result = {}
    for part in text.split(",") if text else ():
        key, found, each = part.partition(separator)
        if not found or key.strip() in result:
            expected = f"key{separator}value, each key once"
            raise WrongValueError(f"{part!r} in {text!r} is wrong; expected {expected}")
        result[key.strip()] = each.strip()
    return result


def _gate(value: object) -> bool:
    return value == "true" if value in ("true", "false") else _bool(value)


def _header(value: object) -> list[object]:
    return _list_of(_string)([value] if isinstance(value, str) else value)


def taint_of(value: object) -> object:
    """A taint written as kops and kubectl do, `key=value:Effect` or `key:Effect`, as the API's object."""
    if not isinstance(value, str):
        return value
    match = re.fullmatch(_TAINT, value)
    if match is None:
        raise _wrong(value, "a taint like key=value:NoSchedule")
    key, text, effect = match.groups()
    return {"key": key, "value": text, "effect": effect}


_READERS: Mapping[str, Callable[[object], object]] = {
    "bool": _bool,
    "float": _float,
    "string": _string,
    "labelKey": _label_key,
    "labelValue": _label_value,
    "size": _size,
    "ip": _ip,
    "duration": _duration,
    "quantity": _quantity,
    "strings": _list_of(_string),
    "ips": _list_of(_ip),
    "int32s": _list_of(lambda value: _integer(value, *_RANGES["int32"])),
    "map": _map_of(_string),
    "labels": _map_of(_string),
    "quantities": _map_of(lambda value: _quantity(value).text),
    "percents": _map_of(_percent),
    "thresholds": _map_of(_quantity_or_percent, _SIGNALS, "<"),
    "periods": _map_of(_period, _SIGNALS),
    "reclaims": _map_of(_quantity_or_percent, _SIGNALS),
    "gates": _map_of(_gate),
    "headers": _map_of(_header, separator=":"),
}
