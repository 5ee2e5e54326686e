"""The rules of a component for a single value, beyond its kind: ranges, words, patterns.

A rule is a mark of the table (schema.py). `old:` or `new:` before it: it applies to the oldest or to the newest known
version alone. `exact:`: it applies to these two, and is unknown for the versions between and beyond. The rules:

- `0..100`, `1..`, `>0..1`, `..5`: a range, both ends included unless ">" stands before the lower one; of a number, a
  duration (`1s..300s`), a quantity, or each value of a map or list. `0%..` speaks of percentages alone. `|` stands
  between alternatives: `0|1s..`.
- `only=V`: V is the only value, as a flag spells it.
- `keys=a|b`, `values=a|b`: the keys and the values that a map may have; for a list, `values` are its items. A word
  that ends with `*` stands for all that begin so, `*` alone for itself. `keys=@NAME`, `values=@NAME`: the schema's
  list of that name.
- `unique`: no item twice. `alone=V`: V only by itself. `most=N`: at most N items.
- `form=NAME`: a text, or each item of a list, as forms.py or the component describes it.
- `step=N`: a multiple of N. `previous`: the minor version before the component's own, such as 1.35.
- `gate=NAME/V`: any value but V needs the feature gate NAME, which is off where nothing switches it on.

In a list of words each has a letter for both versions: `y` it is known, `.` it isn't; for a gate `t` or `f` say that
it is locked to true or false.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from protokube.core.component.flags import Duration, number_of, spell_value
from protokube.core.component.schema import Field, Schema, Version, absent, spell

_RANGE = r"(>?)([-+0-9.a-zµ%]*?)\.\.([-+0-9.a-zµ%]*)"


def problems(schema: Schema, field: Field, value: object, version: Version | None) -> Iterator[tuple[str, str]]:
    """Yield the problems that `version` of the component has with a value of the field's kind, and where in it.

    If `version` is unknown or between the two known ones, a value that either of them allows is allowed. The place is
    a suffix such as `[0].key`, empty for the value as a whole.
    """
    if value in ("", [], {}):
        return  # left out, or what the field itself says
    if _is_absent(schema, field, version):
        return  # the whole field is refused where it is placed
    if isinstance(value, list) and schema.kind_of(field).read is None:
        for at, item in enumerate(value):
            for place, problem in _in_item(schema, f"{field.name}[].", item, version):
                yield f"[{at}]{place}", problem
    exact = version is not None and version[:2] in [known[:2] for known in schema.versions]
    columns = [column for column in schema.columns(version) if field.places[column] != "."]
    found = [_first(schema, field, value, column, version, exact=exact) for column in columns]
    if found and all(found):
        yield "", str(found[-1])


def _in_item(
    schema: Schema, prefix: str, item: Mapping[str, object], version: Version | None
) -> Iterator[tuple[str, str]]:
    """The problems of an item of a list, or of a struct in it."""
    for key, each in item.items():
        field = schema.fields.get(prefix + key)
        if field is None:
            assert isinstance(each, Mapping)
            inner = _in_item(schema, f"{prefix}{key}.", each, version)
        elif version is not None and _is_absent(schema, field, version):
            inner = iter([("", absent(schema, field, version))])
        else:
            inner = problems(schema, field, each, version)
        for place, problem in inner:
            yield f".{key}{place}", problem


def _is_absent(schema: Schema, field: Field, version: Version | None) -> bool:
    return version is not None and all(field.places[column] == "." for column in schema.columns(version))


def missing_gate(
    schema: Schema, field: Field, value: object, version: Version, gates: Mapping[str, object]
) -> str | None:
    """The problem of a value whose feature gate is off. None between the known versions, whose rules may differ."""
    columns = schema.columns(version)
    for _, rule in _rules(field, columns[0], exact=False) if len(columns) == 1 else ():
        gate, _, plain = rule.removeprefix("gate=").partition("/")
        on = gates.get(gate, gates.get("AllAlpha", False))
        if rule.startswith("gate=") and not on and spell_value(value) != plain:
            return (
                f"{spell_value(value)} needs the feature gate {gate}, which is off; expected {plain}, or the gate on"
            )
    return None


def _rules(field: Field, column: int, *, exact: bool) -> Iterator[tuple[bool, str]]:
    """The rules that hold for one known version, and whether they hold for it alone."""
    for rule in field.rules:
        when, colon, bare = rule.partition(":")
        if not colon or when not in ("old", "new", "exact"):
            yield False, rule
        elif when == "exact":
            if exact:
                yield False, bare
        elif when == ("old", "new")[column]:
            yield True, bare


def _first(
    schema: Schema, field: Field, value: object, column: int, version: Version | None, *, exact: bool
) -> str | None:
    """The first rule of one known version that the value breaks, as a sentence; None if there is none."""
    for alone, rule in _rules(field, column, exact=exact):
        problem = _breach(schema, rule, value, column, version)
        if problem:
            known = spell(version or schema.versions[column])
            return f"{problem} ({schema.component} {known})" if alone or "@" in rule else problem
    return None


def _breach(schema: Schema, rule: str, value: object, column: int, version: Version | None) -> str | None:
    name, equals, argument = rule.partition("=")
    match name if equals or name in ("unique", "previous") else "range":
        case "range":
            return _outside(rule, value)
        case "only":
            return None if spell_value(value) == argument else _wrong(value, argument)
        case "keys" | "values":
            words = _words(schema, argument, column)
            return _unknown(schema, words, value, name == "keys")
        case "unique" if isinstance(value, list):
            twice = next((each for at, each in enumerate(value) if each in value[:at]), None)
            return None if twice is None else f"{value!r} is wrong; expected {twice!r} once"
        case "most" if isinstance(value, list):
            return _wrong(value, f"{argument} at most") if len(value) > int(argument) else None
        case "alone" if isinstance(value, list):
            return _wrong(value, f"{argument} by itself") if argument in value and len(value) > 1 else None
        case "form":
            pattern, meaning = schema.forms[argument]
            odd = (each for each in _values(value) if re.fullmatch(pattern, str(each)) is None)
            return next((_wrong(each, meaning) for each in odd), None)
        case "step" if isinstance(value, int):
            return None if value % int(argument) == 0 else _wrong(value, f"a multiple of {argument}")
        case "previous":
            return _not_previous(str(value), version)
        case "gate":
            return None  # no matter of the value alone: see missing_gate
    raise AssertionError(f"the table has an unknown rule {rule!r}")


def _wrong(value: object, expected: str) -> str:
    shown = str(value) if isinstance(value, Duration) else repr(value)
    return f"{shown} is wrong; expected {expected}"


def _values(value: object) -> Iterable[object]:
    """The single values in a value."""
    if isinstance(value, Mapping):
        return value.values()
    return value if isinstance(value, Sequence) and not isinstance(value, str) else (value,)


# --- ranges ------------------------------------------------------------------------------------------


def _outside(rule: str, value: object) -> str | None:
    named = value.items() if isinstance(value, Mapping) else [("", each) for each in _values(value)]
    for name, each in named:
        text = str(each)
        ranges = [part for part in rule.split("|") if ("%" in part) == text.endswith("%")]
        if ranges and not any(_within(part, each) for part in ranges):
            said = _wrong(each, " or ".join(map(_in_words, ranges)))
            return f"{name}: {said}" if name else said
    return None


def _within(text: str, value: object) -> bool:
    match = re.fullmatch(_RANGE, text)
    if match is None:
        return number_of(value) == _bound(text, value)
    above, low, high = match.groups()
    number = number_of(value)
    if low and (number < _bound(low, value) or (above and number == _bound(low, value))):
        return False
    return not high or number <= _bound(high, value)


def _bound(text: str, value: object) -> float:
    return number_of(Duration.parse(text) if isinstance(value, Duration) else text)


def _in_words(text: str) -> str:
    match = re.fullmatch(_RANGE, text)
    if match is None:
        return text
    above, low, high = match.groups()
    if not high:
        return f"more than {low}" if above else f"{low} or more"
    if not low:
        return f"{high} or less"
    return f"more than {low}, at most {high}" if above else f"{low} to {high}"


# --- words -------------------------------------------------------------------------------------------


def _words(schema: Schema, argument: str, column: int) -> dict[str, str]:
    """The words that a version knows, each with its letter."""
    if not argument.startswith("@"):
        return dict.fromkeys(argument.split("|"), "y")
    known = schema.names[argument[1:]]
    return {word: letters[column] for word, letters in known.items() if letters[column] != "."}


def _unknown(schema: Schema, words: Mapping[str, str], value: object, keys: bool) -> str | None:
    for each in value if keys and isinstance(value, Mapping) else _values(value):
        text = str(each)
        begins = (word for word in words if len(word) > 1 and word[-1] == "*" and text.startswith(word[:-1]))
        word = text if text in words else next(begins, None)
        if word is None:
            return _wrong(each, _choice(text, words))
        locked = {"t": True, "f": False}.get(words[word])
        if locked is not None and isinstance(value, Mapping) and value[each] is not locked:
            return f"{text}: {value[each]!r} is wrong; {schema.component} has it locked to {spell_value(locked)}"
    return None


def _choice(text: str, words: Mapping[str, str]) -> str:
    if len(words) <= 12:
        return " or ".join(words)
    import difflib  # only on the way out: it is slow to import

    close = difflib.get_close_matches(text, words, n=1, cutoff=0.6)
    return f"a name that it knows, such as {close[0] if close else next(iter(words))}"


def _not_previous(text: str, version: Version | None) -> str | None:
    if version is None:
        return None if re.fullmatch(r"1\.[0-9]{1,3}", text) else _wrong(text, "a minor version like 1.35")
    wanted = f"{version[0]}.{version[1] - 1}"
    return None if text == wanted else _wrong(text, f"{wanted}, the minor version before {spell(version)}")
