"""A hosts file as text: our block changes, everything else stays byte for byte; and what a torn file is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protokube.core.dns.model import RecordType
from protokube.dnsprovider import backup
from protokube.dnsprovider.hosts_text import BEGIN, END, Entries, UnmanagedEntry, parse, render

ENTRIES: Entries = {("b", "A"): frozenset({"10.0.0.2"}), ("a", "A"): frozenset({"10.0.0.2", "9.0.0.1"})}
BLOCK = f"{BEGIN}\n9.0.0.1\ta\n10.0.0.2\ta b\n{END}\n"


def rewritten(text: str, entries: Entries = ENTRIES) -> str:
    return parse(text).with_entries(entries)


def test_one_line_per_address_names_sorted_addresses_by_number() -> None:
    six: Entries = {**ENTRIES, ("a", "AAAA"): frozenset({"fd00::1"})}
    assert render(six) == f"{BEGIN}\n9.0.0.1\ta\n10.0.0.2\ta b\nfd00::1\ta\n{END}\n"
    assert render({}) == ""


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", BLOCK),
        ("127.0.0.1 localhost\n", f"127.0.0.1 localhost\n{BLOCK}"),
        ("127.0.0.1 localhost", f"127.0.0.1 localhost\n{BLOCK}"),
        (f"x\n{BEGIN}\n1.1.1.1 old\n{END}\ny", f"x\n{BLOCK}y"),
        (f"x\n  {BEGIN}\r\n{END} \r\ny\r\n", f"x\n{BLOCK}y\r\n"),
        (f"x\n{BEGIN}\n{END}", f"x\n{BLOCK}"),
        # repeated blocks collapse into one at the end
        (f"x\n{BLOCK}y\n{BLOCK}z\n", f"x\ny\nz\n{BLOCK}"),
        # a guard without its partner goes, its lines stay
        (f"x\n{BEGIN}\n1.1.1.1 stays\n", f"x\n1.1.1.1 stays\n{BLOCK}"),
        (f"x\n{END}\n1.1.1.1 stays\n", f"x\n1.1.1.1 stays\n{BLOCK}"),
        (f"{END}\nx\n{BEGIN}\n", f"x\n{BLOCK}"),
        (f"{BLOCK}x\n{END}\n", f"x\n{BLOCK}"),
        # badly nested
        (f"x\n{BEGIN}\n{BEGIN}\n{BEGIN}\n{END}\n{END}\ny\n", f"x\ny\n{BLOCK}"),
        (f"x\n{BEGIN}\n1.1.1.1 stays\n{BEGIN}\n2.2.2.2 goes\n{END}\ny\n", f"x\n1.1.1.1 stays\ny\n{BLOCK}"),
        (f"{BEGIN}\na\n{BEGIN}\nb\n{END}\nc\n{END}\n", BLOCK),
        (f"x\n{BEGIN}\n{BEGIN}\n{END}\n{END}\ny\n", f"x\ny\n{BLOCK}"),
        # a line that only resembles a guard is a comment
        (f"#{BEGIN}\n", f"#{BEGIN}\n{BLOCK}"),
    ],
)
def test_what_becomes_of_a_file(before: str, after: str) -> None:
    assert rewritten(before) == after
    assert rewritten(after) == after


def test_without_entries_there_is_no_block() -> None:
    assert rewritten(f"x\n{BLOCK}y\n", {}) == "x\ny\n"
    assert rewritten("x", {}) == "x"


def test_what_stands_inside_and_outside() -> None:
    text = parse(f"127.0.0.1 localhost # a comment\n1.1.1.1 A. b\n{BLOCK}::1 a\nnonsense a\n#2.2.2.2 a\n")
    assert text.entries == ENTRIES
    assert text.unmanaged == (
        UnmanagedEntry("localhost", "A", "127.0.0.1", 1, shadows=True),
        UnmanagedEntry("a", "A", "1.1.1.1", 2, shadows=True),
        UnmanagedEntry("b", "A", "1.1.1.1", 2, shadows=True),
        UnmanagedEntry("a", "AAAA", "::1", 7, shadows=False),
    )


LINES = st.sampled_from(
    [BEGIN, END, "1.1.1.1 a b", "::1 x", "# comment", "", " \t", "10.0.0.1\ta\r", "ü\udcff", "\x0c\x85"]
)
FILES = st.lists(LINES).map("\n".join)
ADDRESSES = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str)


@st.composite
def some_entries(draw: st.DrawFn) -> Entries:
    found: dict[tuple[str, RecordType], frozenset[str]] = {}
    for name in draw(st.sets(st.sampled_from(["a", "b", "etcd-a.internal.c"]))):
        for address in draw(st.sets(ADDRESSES, min_size=1, max_size=3)):
            kind: RecordType = "AAAA" if ":" in address else "A"
            found[name, kind] = found.get((name, kind), frozenset()) | {address}
    return found


@given(FILES, some_entries())
def test_what_is_written_is_read_again_and_writing_it_again_changes_nothing(text: str, entries: Entries) -> None:
    after = rewritten(text, entries)
    assert parse(after).entries == entries
    assert after.count(BEGIN) == after.count(END) == (1 if entries else 0)
    assert rewritten(after, entries) == after


@given(FILES, some_entries())
def test_lines_outside_of_guards_stay_in_order_byte_for_byte(text: str, entries: Entries) -> None:
    def outside(content: str) -> list[str]:
        """Lines that no BEGIN precedes or no END follows: outside whatever the pairing."""
        lines = [line for line in content.split("\n") if line]
        guards = [line.strip() for line in lines]
        return [
            line
            for number, line in enumerate(lines)
            if guards[number] not in (BEGIN, END) and (BEGIN not in guards[:number] or END not in guards[number:])
        ]

    kept = [line for line in rewritten(text, entries).split("\n") if line]
    ours = set(render(entries).split("\n"))
    remaining = iter(kept)
    assert all(any(line == other for other in remaining) for line in outside(text))
    assert [line for line in kept if line not in ours and line.strip() not in text] == []


@given(FILES)
def test_a_file_without_guards_stays_as_it_is(text: str) -> None:
    if BEGIN not in text and END not in text:
        assert parse(text).with_entries({}) == text


# --- the backup ------------------------------------------------------------------------------------


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_a_backup_gives_both_contents_back_and_no_part_of_it_does(old: bytes, new: bytes) -> None:
    packed = backup.pack(old, new)
    assert backup.unpack(packed) == (old, new)
    assert all(backup.unpack(packed[:size]) is None for size in range(len(packed)))
    assert backup.unpack(packed + b"x") is None


@given(st.binary(max_size=40), st.binary(max_size=40), st.integers(0, 40), st.booleans())
def test_every_tear_is_recognised(old: bytes, new: bytes, at: int, cut: bool) -> None:
    """A kill after `at` bytes, and after cutting or before it."""
    written = min(at, len(new))
    torn = new[:written] + (b"" if cut and written == len(new) else old[written:])
    assert torn in (old, new) or backup.is_torn(torn, old, new)


@given(st.binary(min_size=1, max_size=40), st.binary(min_size=1, max_size=40), st.data())
def test_what_a_power_cut_leaves_is_recognised(old: bytes, new: bytes, data: st.DataObject) -> None:
    """Blocks of old, of new and of zeros, in any mixture, with either length."""
    size = data.draw(st.sampled_from([len(old), len(new)]))
    left = bytes(
        data.draw(st.sampled_from([*old[at : at + 1], *new[at : at + 1], 0]), label=f"byte {at}")
        for at in range(size)
    )
    assert left in (old, new) or backup.is_torn(left, old, new)


@pytest.mark.parametrize(
    "found", [b"old\n", b"new and longer\n", b"", b"other\n", b"old\nadded\n", b"new and longer\nadded"]
)
def test_what_is_neither_content_is_not_taken_for_torn(found: bytes) -> None:
    assert not backup.is_torn(found, b"old\n", b"new and longer\n")
