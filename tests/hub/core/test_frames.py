"""Frames: both ways, their limits, and garbage."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protokube.core.model import Fault
from protokube.hub.core.audit import Head
from protokube.hub.core.backlog import Backlog
from protokube.hub.core.messages import (
    CHUNK,
    LARGEST,
    Ack,
    Cancel,
    Event,
    HubHello,
    NodeHello,
    Send,
    chunks,
    encode,
    from_hub,
    from_node,
)
from tests.hub.core.commands import ID, event

FROM_HUB: list[Any] = [
    HubHello("s1", 1000.0, Head(3, "a" * 64), {ID: 4}, "pem"),
    HubHello("s1", 0.0, Head()),
    Send("{}", "anna", "anna", "c2ln"),
    Send("{}", "anna"),
    Cancel(ID),
    Ack(ID, 3),
]
FROM_NODE: list[Any] = [
    NodeHello("node-a", "boot", "0.1.0", "signed", ("plan",), {"os": "Debian"}, (ID,), (ID,), held=True),
    NodeHello("node-a", "boot", "0.1.0", "read-only"),
    event(1, "log", text="a\nb"),
    event(2, "done", outcome="ok"),
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda one: st.lists(one, max_size=4) | st.dictionaries(st.text(max_size=8), one, max_size=4),
    max_leaves=12,
)
FIELDS = [
    "type",
    "id",
    "seq",
    "kind",
    "at",
    "data",
    "node",
    "boot_id",
    "version",
    "policy",
    "body",
    "sent_by",
    "seen",
]


@pytest.mark.parametrize("message", FROM_HUB)
def test_the_hub_s_frames_are_read_as_they_were_written(message: Any) -> None:
    assert from_hub(encode(message)) == message


@pytest.mark.parametrize("message", FROM_NODE)
def test_a_node_s_frames_are_read_as_they_were_written(message: Any) -> None:
    assert from_node(encode(message)) == message


def test_a_frame_names_its_type_and_new_fields_do_no_harm() -> None:
    frame = json.loads(encode(Ack(ID, 3)))
    assert frame == {"type": "ack", "id": ID, "seq": 3}
    assert from_hub(json.dumps(frame | {"since": 5})) == Ack(ID, 3)


def test_neither_end_takes_the_other_s_frames() -> None:
    assert isinstance(from_hub(encode(FROM_NODE[2])), Fault)
    assert isinstance(from_node(encode(FROM_HUB[2])), Fault)


@pytest.mark.parametrize(
    "frame",
    [
        "",
        "null",
        "{}",
        '{"type":"event"}',
        '{"type":"exec"}',
        '{"type":"ack","id":"../x","seq":1}',
        f'{{"type":"ack","id":"{ID}","seq":-1}}',
        f'{{"type":"ack","id":"{ID}","seq":1e400}}',
        "[" * 100_000,
        '{"a":' * 50_000,
        " " * (LARGEST + 1),
        "é" * (LARGEST // 2 + 1),
        "\ud800",
        b"\xff\xfe{}",
        b"\x00",
        '{"type":"event","id":"x","seq":1,"kind":"log","at":1,"data":{"text":"\\ud800"}}',
    ],
)
def test_garbage_is_a_fault(frame: str | bytes) -> None:
    for read in (from_hub(frame), from_node(frame)):
        assert isinstance(read, Fault) and len(str(read)) < 500


@settings(max_examples=300)
@given(st.binary(max_size=300) | st.text(max_size=300))
def test_no_bytes_break_the_readers(frame: bytes | str) -> None:
    for read in (from_hub(frame), from_node(frame)):
        assert isinstance(read, Fault)


@settings(max_examples=300)
@given(st.dictionaries(st.sampled_from(FIELDS), JSON), st.sampled_from(["hello", "cmd", "cancel", "ack", "event"]))
def test_no_json_breaks_the_readers_and_what_is_read_can_be_written(value: dict[str, Any], kind: str) -> None:
    frame = json.dumps(value | {"type": kind})
    for read, reader in ((from_hub(frame), from_hub), (from_node(frame), from_node)):
        if not isinstance(read, Fault):
            assert reader(encode(read)) == read


@settings(max_examples=200)
@given(st.sampled_from([*FROM_HUB, *FROM_NODE]), st.data())
def test_a_frame_with_changed_bytes_is_read_or_refused(message: Any, data: st.DataObject) -> None:
    frame = bytearray(encode(message).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
    from_hub(bytes(frame))
    from_node(bytes(frame))


def test_what_is_too_large_is_never_sent() -> None:
    with pytest.raises(ValueError, match="at most 262144"):
        encode(event(1, "log", text="x" * LARGEST))


@given(st.text(max_size=2000), st.integers(0, 60))
def test_a_text_in_pieces_is_the_text(text: str, times: int) -> None:
    text *= times
    pieces = chunks(text)
    assert "".join(pieces) == text
    assert all(0 < len(piece.encode()) <= CHUNK for piece in pieces)


@pytest.mark.parametrize("character", ["\x00", "\x1b", '"', "\\", "é", "😀", "\x7f", "\u2028"])
def test_the_worst_piece_fits_into_a_frame(character: str) -> None:
    for piece in chunks(character * CHUNK):
        made = event(1, "log", text=piece)
        assert from_node(encode(made)) == made


# --- the backlog ---


def test_events_are_kept_until_they_are_acknowledged() -> None:
    backlog = Backlog([event(1, "accepted"), event(2, "started"), event(3, "done")])
    assert [one.seq for one in backlog.after(1)] == [2, 3]
    backlog.acknowledge(2)
    assert [one.seq for one in backlog.after(0)] == [3]


@settings(max_examples=60)
@given(st.lists(st.sampled_from(["log", "progress"]), max_size=60), st.integers(500, 3000))
def test_output_makes_room_and_a_verdict_never_goes(kinds: list[Any], largest: int) -> None:
    kinds = ["accepted", "started", *kinds, "done"]
    events = [event(n + 1, kind, text="x" * 100) for n, kind in enumerate(kinds)]
    backlog = Backlog(events, largest)
    kept = backlog.after(0)
    assert [one.kind for one in kept if one.kind not in ("log", "progress")] == ["accepted", "started", "done"]
    numbers = [one.seq for one in kept]
    assert numbers == sorted(set(numbers))
    dropped = sum(one.data.get("dropped", 0) for one in kept)
    assert dropped + sum("dropped" not in one.data for one in kept) == len(events)
    verdicts = [one for one in kept if one.kind not in ("log", "progress") or "dropped" in one.data]
    assert sum(len(encode(one)) for one in kept) <= max(largest, sum(len(encode(one)) for one in verdicts))


def test_the_last_output_is_what_stays() -> None:
    events = [event(n + 1, "log", text="x" * 1000) for n in range(100)]
    kept = Backlog(events, 5000).after(0)
    assert kept[0].kind == "progress" and kept[0].data["dropped"] > 90
    assert isinstance(kept[-1], Event) and kept[-1].seq == 100
