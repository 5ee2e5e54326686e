"""The fields of a component's configuration, and where each version wants them: in its file, or as flags.

`parse` makes a `Schema` of a component's table, a text with one field a line. A line has these columns:

1. The name: the path in the component's configuration file (`authentication.anonymous.enabled`,
   `reservedMemory[].numaNode` for a key of a list's items, which may go on in structs and lists), or the flag in
   camelCase for what is only a flag.
2. The kind of value (values.py, and kinds of the component's own); a kind with "|" lists the only words allowed.
3. The flag, without dashes, or "-".
4. Where the oldest and the newest known version have it, a letter for each: `b` both, the flag is deprecated; `l`
   both; `c` only the file; `f` only a flag; `d` only a flag, deprecated; `.` not at all.
5. Marks, in any number: `empty` (empty has a meaning and is written), `zero` (the component reads zero or empty in
   its file as its default, so the flag must say it; `old:zero`: only the oldest version does), `unset=V` (V means not
   set), `repeat` (a list repeats the flag), `own` (protokube's own business, not to be configured), `optional` (a key
   that a list's item may lack), `since=V` and `until=V` (the first minor version that has it, and the first that has
   it no more, where these are known), and rules for the value (rules.py).
6. After "#": where it went, or why it can't be configured.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from msgspec import Struct

from protokube.core.component.forms import FORMS, Form
from protokube.core.component.values import KINDS, Kind, word_kind
from protokube.core.model import Fault

Version = tuple[int, int, int]

OLDEST: Version = (1, 20, 2)
NEWEST: Version = (1, 36, 2)
"""The two releases of Kubernetes whose flags and fields the tables know."""

_VERSION = r"(?:Kubernetes )?v?([0-9]+)\.([0-9]+)\.([0-9]+)(?:[-+][0-9A-Za-z.+-]*)?"
_HELP_FLAG = r"(?m)^ {1,8}(?:-\w, )?--([A-Za-z0-9][\w.-]*)"
_WORDS = frozenset({"empty", "zero", "old:zero", "repeat", "own", "optional"})


class Field(NamedTuple):
    """One field of a component; the module's docstring explains the columns that it comes from."""

    name: str
    kind: str
    flag: str | None
    places: str
    marks: frozenset[str]
    rules: tuple[str, ...]
    hint: str

    @property
    def owned(self) -> bool:
        """Whether protokube sets it, so that it can't be configured."""
        return "own" in self.marks

    @property
    def empty_counts(self) -> bool:
        """Whether empty has a meaning of its own and is written."""
        return "empty" in self.marks

    @property
    def unset(self) -> str | None:
        """The value, as the flag spells it, that means "not set" and is left out."""
        return self._mark("unset=")

    @property
    def since(self) -> tuple[int, int] | None:
        """The first minor version that has it, where that is known."""
        return _minor(self._mark("since="))

    @property
    def until(self) -> tuple[int, int] | None:
        """The first minor version that has it no more, where that is known."""
        return _minor(self._mark("until="))

    def _mark(self, name: str) -> str | None:
        return next((mark.removeprefix(name) for mark in self.marks if mark.startswith(name)), None)


class Placement(NamedTuple):
    """Where a version wants a field: in the `file`, as a `flag` (or both are possible); neither: `problem`."""

    file: bool
    flag: bool
    note: str = ""
    problem: str = ""


class Schema(Struct, frozen=True):
    """All fields of one component.

    `versions`: the oldest and the newest that the table knows. `structs`: the paths that only hold other fields.
    `kinds`, `forms`: all kinds of value, and forms of text, by name. `names`: the lists of words that rules refer to,
    each word with a letter for both versions. `formerly`: names that people know from elsewhere, and the field that
    each leads to, or what became of it.
    """

    component: str
    versions: tuple[Version, Version]
    fields: Mapping[str, Field]
    structs: frozenset[str]
    kinds: Mapping[str, Kind]
    forms: Mapping[str, Form]
    names: Mapping[str, Mapping[str, str]]
    formerly: Mapping[str, str]

    def kind_of(self, field: Field) -> Kind:
        """How the field's values are read and spelled."""
        return word_kind(field.kind) if "|" in field.kind else self.kinds[field.kind]

    def keys_of(self, prefix: str) -> dict[str, Field | None]:
        """The keys directly below a prefix such as `authentication.` or `reservedMemory[].`; None for a struct."""
        below = [name.removeprefix(prefix) for name in self.fields if name.startswith(prefix)]
        keys = dict.fromkeys(name.split(".")[0].removesuffix("[]") for name in below)
        return {key: self.fields.get(prefix + key) for key in keys}

    def columns(self, version: Version | None) -> tuple[int, ...]:
        """Which of the table's two versions speak for this one: one of them, or both between them or if None."""
        oldest, newest = self.versions
        if version is None or oldest[:2] < version[:2] < newest[:2]:
            return 0, 1
        return (0,) if version[:2] <= oldest[:2] else (1,)


def parse(
    component: str,
    table: str,
    *,
    kinds: Mapping[str, Kind] | None = None,
    forms: Mapping[str, Form] | None = None,
    names: Mapping[str, str] | None = None,
    formerly: Mapping[str, str] | None = None,
    versions: tuple[Version, Version] = (OLDEST, NEWEST),
) -> Schema:
    """The schema of `component` from its table; see the module's text. `names`: texts of `word=letters`."""
    fields = {field.name: field for field in map(_field, table.strip().splitlines())}
    paths = [name.split(".") for name in fields]
    above = {".".join(path[:depth]) for path in paths for depth in range(1, len(path))}
    structs = frozenset(name for name in above if not name.endswith("[]"))
    lists = {
        name: {word: letters for word, _, letters in (each.partition("=") for each in text.split())}
        for name, text in (names or {}).items()
    }
    return Schema(
        component,
        versions,
        fields,
        structs,
        kinds={**KINDS, **(kinds or {})},
        forms={**FORMS, **(forms or {})},
        names=lists,
        formerly=formerly or {},
    )


def _field(line: str) -> Field:
    columns, _, hint = line.partition(" # ")
    name, kind, flag, places, *marks = columns.split()
    words = frozenset(mark for mark in marks if mark in _WORDS or mark.startswith(("unset=", "since=", "until=")))
    rules = tuple(mark for mark in marks if mark not in words)
    return Field(name, kind, None if flag == "-" else flag, places, words, rules, hint)


def _minor(text: str | None) -> tuple[int, int] | None:
    major, _, minor = (text or "").partition(".")
    return (int(major), int(minor)) if text else None


def nearest(schema: Schema, name: str) -> str:
    """A hint for an unknown name: the field that it leads to, or the most similar name; may be empty."""
    plain = _plain(name)
    for old, field_name in schema.formerly.items():
        if plain == _plain(old):
            return f"; it is {field_name} today" if field_name in schema.fields else f"; {field_name}"
    for field in schema.fields.values():
        if plain in (_plain(field.flag or ""), _plain(field.name)):
            return f"; did you mean {field.name}?"
    import difflib  # only on the way out: it costs more than the whole table

    known = {_plain(each): each for each in (*schema.fields, *schema.structs) if "[]" not in each}
    close = difflib.get_close_matches(plain, known, n=1, cutoff=0.6)
    return f"; the nearest known name is {known[close[0]]}" if close else ""


def _plain(name: str) -> str:
    return name.replace("-", "").replace("_", "").lower()


def zero_is_default(schema: Schema, field: Field, version: Version) -> bool:
    """Whether the component reads a zero or an empty string in its file as "take the default"."""
    return "zero" in field.marks or ("old:zero" in field.marks and schema.columns(version) == (0,))


def place(schema: Schema, field: Field, version: Version, known_flags: frozenset[str] | None) -> Placement:
    """Where `version` wants `field`; `known_flags` is what the installed binary's --help lists, if known."""
    listed = field.flag is not None and (known_flags is None or field.flag in known_flags)
    columns = schema.columns(version)
    if len(columns) > 1:
        return _between(schema, field, version, known_flags, listed)
    letter = field.places[columns[0]]
    if letter == ".":
        return Placement(False, False, problem=absent(schema, field, version))
    if letter in "fd" and not listed:
        return Placement(False, False, problem=_unlisted(schema, field))
    note = f"--{field.flag} is deprecated in {schema.component} {spell(version)}" if letter == "d" else ""
    return Placement(letter in "bcl", letter in "bfld" and listed, note)


def _between(
    schema: Schema, field: Field, version: Version, known_flags: frozenset[str] | None, listed: bool
) -> Placement:
    """Where a version between the two known ones wants a field: as both of them do, as the table says since or until
    when it is there, or as its --help lists it."""
    if field.since is not None or field.until is not None:
        if not _has(field, version):
            return Placement(False, False, problem=absent(schema, field, version))
        letter = field.places[0 if field.places[1] == "." else 1]
        note = f"--{field.flag} is deprecated in {schema.component} {spell(version)}" if letter == "d" else ""
        return Placement(letter in "bcl", letter in "bfld" and listed, note)
    both_file = all(letter in "bcl" for letter in field.places)
    any_file = any(letter in "bcl" for letter in field.places)
    both_flag = all(letter in "bfld" for letter in field.places)
    any_flag = any(letter in "bfld" for letter in field.places)
    sure = listed and (both_flag or known_flags is not None)
    if both_file or sure:
        return Placement(both_file, any_flag and sure)
    known = spell(schema.versions[0 if field.places[1] == "." else 1])
    note = f"only {schema.component} {known} is known to have it; whether {spell(version)} does is not known"
    if any_file:
        return Placement(True, False, note)
    if listed:
        return Placement(False, True, note)
    return Placement(False, False, problem=_unlisted(schema, field))


def _unlisted(schema: Schema, field: Field) -> str:
    return f"the installed {schema.component}'s --help doesn't list --{field.flag}{_went(field)}"


def _has(field: Field, version: Version) -> bool:
    return (field.since is None or version[:2] >= field.since) and (field.until is None or version[:2] < field.until)


def absent(schema: Schema, field: Field, version: Version) -> str:
    """The problem of a field that a version doesn't have."""
    oldest, newest = map(spell, schema.versions)
    if field.places[0] == ".":
        return f"{schema.component} {spell(version)} doesn't know it yet; {newest} does"
    return f"{schema.component} {spell(version)} doesn't know it any more; {oldest} did{_went(field)}"


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
        return Fault("kubernetesVersion", f"{text!r} is older than {spell(OLDEST)}, the oldest version known")
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
            f"{configured!r} is configured, but the installed binary says {installed!r}; install the one that is "
            "configured, or leave kubernetesVersion out",
        )
    return installed


def flags_of_help(text: str) -> frozenset[str]:
    """The flags, without dashes, that a component's `--help` lists."""
    return frozenset(name.replace("_", "-") for name in re.findall(_HELP_FLAG, text))
