"""The kinds of value in a component's configuration: their spellings, and the one form that each is read as.

A kind's reader takes what stands in a YAML file and returns the value in one form: bool, int, float, str,
Duration, Quantity, a list, or a map with text as keys. Where kops's users write a list or a map as one string
(`cpu=100m,memory=1Gi`), that is read as well.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from msgspec import Struct

from protokube.core.component.flags import Duration, Quantity
from protokube.core.component.labels import is_label_key, is_label_value

_PERCENT = r"[0-9]+(\.[0-9]+)?%"
# What YAML or systemd's EnvironmentFile= can't hold as it is: controls, line separators, noncharacters.
_FORBIDDEN = r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufdd0-\ufdef\ufeff\ufffe\uffff]"
_RANGES = {
    "int32": (-(1 << 31), (1 << 31) - 1),
    "int64": (-(1 << 63), (1 << 63) - 1),
    "uint32": (0, (1 << 32) - 1),
    "uint64": (0, (1 << 64) - 1),
}


Reader = Callable[[object], object]


class WrongValueError(ValueError):
    """A value that its kind doesn't allow; the text names the value and what was expected."""


class Kind(Struct, frozen=True):
    """One kind of value.

    `read`: the value in its one form, or WrongValueError; None for a list of maps, whose keys are fields of their
    own. `joint`: what stands between key and value where a map is a flag. `item`: reads an item of a list of maps
    that is written in short; a list of such may be one string. `spell`: what a flag says for a list of maps.
    """

    read: Reader | None = None
    joint: str = "="
    item: Reader | None = None
    spell: Callable[[Sequence[Mapping[str, object]]], object] | None = None


def word_kind(text: str) -> Kind:
    """The kind that allows only the words in `text`, with "|" between them, and the empty text."""
    words = text.split("|")

    def read_word(value: object) -> str:
        if value in ("", *words):
            return str(value)
        raise wrong(value, " or ".join(words))

    return Kind(read_word)


def wrong(value: object, expected: str) -> WrongValueError:
    """The error for a value that is something else than expected."""
    return WrongValueError(f"{value!r} is wrong; expected {expected}")


# --- single values -----------------------------------------------------------------------------------


def _bool(value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise wrong(value, "true or false")


def _integer(value: object, low: int, high: int) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
        return value
    raise wrong(value, f"a whole number from {low} to {high}")


def _float(value: object) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < float("inf"):
        return float(value)
    raise wrong(value, "a number")


def _string(value: object, expected: str = "text (in quotes, if it looks like something else)") -> str:
    if not isinstance(value, str):
        raise wrong(value, expected)
    if re.search(_FORBIDDEN, value):
        raise wrong(value, "text without line breaks and control characters")
    return value


def _label_key(value: object) -> str:
    if not isinstance(value, str) or not is_label_key(value):
        raise wrong(value, "a key like rack or example.com/rack")
    return value


def _label_value(value: object) -> str:
    if not isinstance(value, str) or not is_label_value(value):
        raise wrong(value, "at most 63 letters, digits, '-', '_' and '.', a letter or digit at both ends")
    return value


def _ip(value: object) -> str:
    from ipaddress import ip_address  # slow to import, and few nodes configure an address

    text = _string(value, "an IP address")
    if text:
        try:
            ip_address(text)
        except ValueError as error:
            raise wrong(value, "an IP address") from error
    return text


def read_duration(value: object) -> Duration:
    """A duration from its text."""
    try:
        return Duration.parse(_string(value, "a duration with its unit, like 1m30s"))
    except WrongValueError:
        raise
    except ValueError as error:
        raise WrongValueError(str(error)) from error


def quantity(value: object) -> Quantity:
    """A quantity from its text, or from a number."""
    text = str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value
    try:
        return Quantity(_string(text, "a quantity like 100Mi"))
    except WrongValueError:
        raise
    except ValueError as error:
        raise WrongValueError(str(error)) from error


def _size(value: object) -> str:
    return "" if value == "" else quantity(value).text


def _percent(value: object) -> str:
    if isinstance(value, str) and re.fullmatch(_PERCENT, value) and float(value[:-1]) <= 100:
        return value
    raise wrong(value, "a percentage like 10%")


def quantity_or_percent(value: object) -> str:
    """A share, like 10%, or a quantity."""
    return _percent(value) if isinstance(value, str) and value.endswith("%") else quantity(value).text


# --- lists and maps ----------------------------------------------------------------------------------


def _list_of(item: Reader) -> Callable[[object], list[object]]:
    def read_list(value: object) -> list[object]:
        if isinstance(value, str):
            value = [part.strip() for part in value.split(",")] if value else []
        if not isinstance(value, Sequence):
            raise wrong(value, "a list")
        return [item(each) for each in value]

    return read_list


def map_of(item: Reader, separator: str = "=") -> Callable[[object], dict[str, object]]:
    """A reader of maps; a null in one says nothing. `separator`: between key and value of a map in one string."""

    def read_map(value: object) -> dict[str, object]:
        pairs = _pairs(value, separator) if isinstance(value, str) else value
        if not isinstance(pairs, Mapping):
            raise wrong(value, f"a map, or text like key{separator}value,key{separator}value")
        result: dict[str, object] = {}
        for key, each in pairs.items():
            name = _string(key, "text as a map's key")
            if not name:
                raise wrong(key, "a key that isn't empty")
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


def _tree(value: object) -> dict[str, object]:
    if not isinstance(value, Mapping):
        raise wrong(value, "a map")
    return {_string(key, "text as a map's key"): _branch(each) for key, each in value.items()}


def _branch(value: object) -> object:
    if isinstance(value, Mapping):
        return _tree(value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_branch(each) for each in value]
    return value if value is None or isinstance(value, bool | int | float) else _string(value)


def _header(value: object) -> list[object]:
    return _list_of(_string)([value] if isinstance(value, str) else value)


KINDS: Mapping[str, Kind] = {
    name: Kind(read)
    for name, read in {
        "bool": _bool,
        "float": _float,
        "string": _string,
        "labelKey": _label_key,
        "labelValue": _label_value,
        "size": _size,
        "ip": _ip,
        "duration": read_duration,
        "quantity": quantity,
        "strings": _list_of(_string),
        "ips": _list_of(_ip),
        "map": map_of(_string),
        "quantities": map_of(lambda value: quantity(value).text),
        "percents": map_of(_percent),
        "gates": map_of(_gate),
        "headers": map_of(_header, separator=":"),
        "tree": _tree,
        "objects": None,
        **{name: partial(_integer, low=low, high=high) for name, (low, high) in _RANGES.items()},
        "int32s": _list_of(partial(_integer, low=_RANGES["int32"][0], high=_RANGES["int32"][1])),
    }.items()
}
"""The kinds that every component has."""
