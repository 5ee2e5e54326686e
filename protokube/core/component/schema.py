"""What kubelet can be told, and where each version wants to be told it.

`fields()` reads kubelet_table.py, once, when it is first needed. A line there has these columns:

1. The name: the path in KubeletConfiguration (`authentication.anonymous.enabled`, `reservedMemory[].numaNode`
   for a key of a list's items), or the flag in camelCase for what is only a flag (kops's name where it has one).
2. The kind of value (kubelet_values.py); a kind with "|" lists the only words allowed.
3. The flag, without dashes, or "-".
4. Where 1.20.2 and 1.36.2 have it, a letter for each: `b` both, the flag is deprecated; `l` both; `c` only the
   file; `f` only a flag; `d` only a flag, deprecated; `.` not at all. That is the "since" and "until".
5. Marks: `empty` (empty has a meaning and is written), `zero` (kubelet reads zero or empty in the file as its
   default, so it must be said with the flag; `zero<`: only 1.20.2's file), `unset=V` (V means not set),
   `own` (protokube's own business, not to be configured).
6. After "#": where it went, or why it can't be configured.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import NamedTuple

from protokube.core.kubelet.table import TABLE
from protokube.core.model import Fault

Version = tuple[int, int, int]

OLDEST: Version = (1, 20, 2)
NEWEST: Version = (1, 36, 2)

_VERSION = r"(?:Kubernetes )?v?([0-9]+)\.([0-9]+)\.([0-9]+)(?:[-+][0-9A-Za-z.+-]*)?"
_HELP_FLAG = r"(?m)^ {1,8}(?:-\w, )?--([A-Za-z0-9][\w.-]*)"


class Field(NamedTuple):
    """One thing that kubelet can be told; see the module's text for the columns it comes from."""

    name: str
    kind: str
    flag: str | None
    places: str
    marks: frozenset[str]
    hint: str

    @property
    def owned(self) -> bool:
        """protokube sets it; nobody else may."""
        return "own" in self.marks

    @property
    def empty_counts(self) -> bool:
        """Empty has a meaning of its own and is written."""
        return "empty" in self.marks

    @property
    def unset(self) -> str | None:
        """The value, as the flag spells it, that means "not set" and is left out."""
        return next((mark.removeprefix("unset=") for mark in self.marks if mark.startswith("unset=")), None)

    def zero_is_default(self, version: Version) -> bool:
        """Whether kubelet reads a zero or an empty string in its file as "take the default"."""
        return "zero" in self.marks or ("zero<" in self.marks and version[:2] == OLDEST[:2])


class Placement(NamedTuple):
    """Where a version wants a field: in the `file`, as a `flag` (or both are possible); neither: `problem`."""

    file: bool
    flag: bool
    note: str = ""
    problem: str = ""


@cache
def fields() -> Mapping[str, Field]:
    """Every field by its name."""
    return {field.name: field for field in map(_field, TABLE.strip().splitlines())}


def _field(line: str) -> Field:
    columns, _, hint = line.partition(" # ")
    name, kind, flag, places, *marks = columns.split()
    return Field(name, kind, None if flag == "-" else flag, places, frozenset(",".join(marks).split(",")), hint)


@cache
def structs() -> frozenset[str]:
    """The paths that only hold other fields, such as `authentication.x509`."""
    parts = [name.split(".") for name in fields() if "[]" not in name]
    return frozenset(".".join(path[:depth]) for path in parts for depth in range(1, len(path)))


def nearest(name: str) -> str:
    """A hint for an unknown name: the field that bears it as its flag, or the most similar name; may be empty."""
    plain = _plain(name)
    for field in fields().values():
        if plain in (_plain(field.flag or ""), _plain(field.name)):
            return f"; did you mean {field.name}?"
    import difflib  # only on the way out: it costs more than the whole table

    known = {_plain(each): each for each in (*fields(), *structs())}
    close = difflib.get_close_matches(plain, known, n=1, cutoff=0.6)
    return f"; the nearest known name is {known[close[0]]}" if close else ""


def _plain(name: str) -> str:
    return name.replace("-", "").replace("_", "").lower()


def place(field: Field, version: Version, known_flags: frozenset[str] | None) -> Placement:
    """Where `version` wants `field`; `known_flags` is what the installed kubelet's --help lists, if known."""
    listed = field.flag is not None and (known_flags is None or field.flag in known_flags)
    if OLDEST[:2] < version[:2] < NEWEST[:2]:
        return _between(field, version, known_flags, listed)
    letter = field.places[0 if version[:2] == OLDEST[:2] else 1]
    if letter == ".":
        return Placement(False, False, problem=_absent(field, version))
    if letter in "fd" and not listed:
        return Placement(False, False, problem=_unlisted(field))
    note = f"--{field.flag} is deprecated in kubelet {spell(version)}" if letter == "d" else ""
    return Placement(letter in "bcl", letter in "bfld" and listed, note)


def _between(field: Field, version: Version, known_flags: frozenset[str] | None, listed: bool) -> Placement:
    """A version between the two that are known: what both have it has too; else its --help decides."""
    both_file = all(letter in "bcl" for letter in field.places)
    any_file = any(letter in "bcl" for letter in field.places)
    both_flag = all(letter in "bfld" for letter in field.places)
    any_flag = any(letter in "bfld" for letter in field.places)
    sure = listed and (both_flag or known_flags is not None)
    if both_file or sure:
        return Placement(both_file, any_flag and sure)
    known = spell(OLDEST if field.places[1] == "." else NEWEST)
    note = f"only kubelet {known} is known to have it; whether {spell(version)} does is not known"
    if any_file:
        return Placement(True, False, note)
    if listed:
        return Placement(False, True, note)
    return Placement(
        False, False, problem=f"the installed kubelet's --help doesn't list --{field.flag}{_went(field)}"
    )


def _unlisted(field: Field) -> str:
    return f"the installed kubelet's --help doesn't list --{field.flag}{_went(field)}"


def _absent(field: Field, version: Version) -> str:
    if field.places[0] == ".":
        return f"kubelet {spell(version)} doesn't know it yet; {spell(NEWEST)} does"
    return f"kubelet {spell(version)} doesn't know it any more; {spell(OLDEST)} did{_went(field)}"


def _went(field: Field) -> str:
    return f" ({field.hint})" if field.hint else ""


# --- versions and --help -----------------------------------------------------------------------------


def spell(version: Version) -> str:
    """(1, 36, 2) → "1.36.2"."""
    return ".".join(map(str, version))


def parse_version(text: str) -> Version | Fault:
    """The version in "1.36.2", "v1.36.2-eks-1234" or in what `kubelet --version` prints."""
    match = re.fullmatch(_VERSION, text.strip())
    if match is None:
        return Fault("kubernetesVersion", f"{text!r} is no version; expected one like {spell(NEWEST)}")
    major, minor, patch = map(int, match.groups())
    if (major, minor) < OLDEST[:2]:
        return Fault("kubernetesVersion", f"{text!r} is older than {spell(OLDEST)}, the oldest kubelet known")
    return major, minor, patch


def choose_version(configured: str | None, installed: str | None) -> str | Fault | None:
    """The version to render for. The installed binary's and the configured one must agree when both speak."""
    if configured is None or installed is None:
        return installed if configured is None else configured
    one, other = parse_version(configured), parse_version(installed)
    for version in (one, other):
        if isinstance(version, Fault):
            return version
    if one != other:
        return Fault(
            "kubernetesVersion",
            f"{configured!r} is configured, but the installed kubelet says {installed!r}; install the one that is "
            "configured, or leave kubernetesVersion out",
        )
    return installed


def flags_of_help(text: str) -> frozenset[str]:
    """The flags, without dashes, that `kubelet --help` lists."""
    return frozenset(name.replace("_", "-") for name in re.findall(_HELP_FLAG, text))
