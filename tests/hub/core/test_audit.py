"""The audit: what was changed, removed, moved or added is named by its line."""

from __future__ import annotations

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protokube.core.model import Fault
from protokube.hub.core.audit import NOTHING, Head, append, contradicted, judge_head, verify


def chain(length: int) -> tuple[list[bytes], Head]:
    lines, head = [], Head()
    for n in range(length):
        line, head = append(head, 1000.0 + n, "operator anna", f"sent {n}", f"id-{n}")
        lines.append(line)
    return lines, head


def test_a_chain_is_what_its_page_says() -> None:
    (line,), head = chain(1)
    read = json.loads(line)
    assert list(read) == ["n", "at", "who", "what", "id", "prev", "hash"]
    without = line.rpartition(b',"hash"')[0] + b"}"
    assert read["hash"] == head.hash == hashlib.sha256(NOTHING.encode() + without).hexdigest()
    assert verify([line]) == head == Head(1, read["hash"])


def test_a_chain_goes_on_from_a_head() -> None:
    lines, head = chain(9)
    middle = verify(lines[:4])
    assert isinstance(middle, Head)
    assert verify(lines[4:], middle) == head
    assert isinstance(verify(lines[5:], middle), Fault)


@given(st.data())
def test_no_change_of_a_byte_goes_unseen(data: st.DataObject) -> None:
    lines, head = chain(5)
    place = data.draw(st.integers(0, 4))
    line = bytearray(lines[place])
    line[data.draw(st.integers(0, len(line) - 1))] ^= data.draw(st.integers(1, 255))
    changed = verify([*lines[:place], bytes(line), *lines[place + 1 :]])
    assert isinstance(changed, Fault) and changed.place in (f"line {place + 1}", f"line {place + 2}")
    assert head.n == 5


@pytest.mark.parametrize(
    ("name", "changed", "line"),
    [
        ("removed", lambda lines: lines[:2] + lines[3:], 3),
        ("twice", lambda lines: [*lines[:2], lines[1], *lines[2:]], 3),
        ("swapped", lambda lines: [lines[0], lines[2], lines[1], *lines[3:]], 2),
        ("added", lambda lines: [*lines[:2], b"{}", *lines[2:]], 3),
        ("garbage", lambda lines: [*lines[:2], b"[" * 100000, *lines[2:]], 3),
        ("respelled", lambda lines: [lines[0].replace(b'"at":', b'"at": '), *lines[1:]], 1),
        ("not UTF-8", lambda lines: [lines[0].replace(b"anna", b"\xff\xfe"), *lines[1:]], 1),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_what_was_done_to_a_chain_is_named_by_its_line(name: str, changed: object, line: int) -> None:
    assert callable(changed)
    fault = verify(changed(chain(5)[0]))
    assert isinstance(fault, Fault) and fault.place == f"line {line}", name


def test_a_hub_that_cuts_or_rewrites_its_audit_is_seen_by_who_heard_its_head() -> None:
    _, head = chain(5)
    assert judge_head(head, head) is None
    assert judge_head(Head(), head) is None
    assert judge_head(head, Head(9, "f" * 64)) is None  # longer; only the lines between can prove it
    assert "has 4 lines, and had 5" in (judge_head(head, chain(4)[1]) or "")
    assert "rewritten" in (judge_head(head, Head(5, "0" * 64)) or "")


def test_an_audit_that_was_rewritten_and_has_grown_is_told_by_who_heard_it_before() -> None:
    lines, _ = chain(9)
    heard = {"n0": Head(), "n1": chain(5)[1], "n2": chain(9)[1], "n3": Head(5, "f" * 64), "n4": Head(5, "e" * 64)}
    assert list(contradicted(lines, heard)) == ["n3", "n4"]
