"""A node's record, cut off or written in part at any place: it can be read, and what was refused never runs."""

from __future__ import annotations

import asyncio
import errno
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from protokube.errors import ProviderError
from protokube.hub.auditfile import AuditFile
from protokube.hub.core import keeping, pace
from protokube.hub.core.checks import Me, Mode, Order
from protokube.hub.core.course import Outcome
from protokube.hub.core.messages import Event, Send
from protokube.hub.core.policy import Policy
from protokube.hub.handlers import End, Say
from protokube.hub.journal import Journal, Taken
from protokube.hub.outbox import Outbox
from protokube.hub.runner import Clocks, Runner
from tests.hub.core.commands import HUB, ID, OTHER, body, event


class Killed(BaseException):
    """The program is killed here."""


class Program:
    """One run of a node's program over its files; `ran` and `heard` outlive it."""

    def __init__(self, folder: Path, ran: list[str], heard: list[Event], mode: Mode = Mode.READ_ONLY) -> None:
        self.now = 1001.0
        self.journal = Journal(folder / "journal.jsonl", lambda: self.now)
        self.journal.load()
        self.ran, self.heard = ran, heard

        async def work(order: Order, _say: Say, _limit: float) -> End:
            self.ran.append(order.verb.name)
            return End(Outcome.OK)

        async def facts() -> Mapping[str, str]:
            return {}

        audit = AuditFile(folder / "audit.jsonl", lambda: 1001.0)
        handlers = {"sync": work, "status": work}
        clocks = Clocks(lambda: self.now, lambda: self.now)
        self.runner = Runner(Me("node-a", HUB), Policy(mode), self.journal, audit, handlers, facts, clocks)

    async def linked(self) -> None:
        """Link it, and let what it starts come to its end."""
        await self.runner.linked({}, self.heard.append)
        while self.runner.running():
            await asyncio.sleep(0)


def kill_at(monkeypatch: pytest.MonkeyPatch, name: str, number: int) -> None:
    """Kill the program at its so many-th call of one of os's functions."""
    real, calls = getattr(os, name), [0]

    def killed(*given: Any) -> Any:
        calls[0] += 1
        if calls[0] == number:
            raise Killed
        return real(*given)

    monkeypatch.setattr(os, name, killed)


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_a_refused_command_never_runs_wherever_the_program_was_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    async def test() -> None:
        ran: list[str] = []
        heard: list[Event] = []
        first = Program(tmp_path, ran, heard)
        await first.linked()
        with monkeypatch.context() as patched:
            kill_at(patched, "fsync", number)
            try:
                await first.runner.take(Send(body("sync"), "the hub"))
            except Killed:
                heard.clear()
        await Program(tmp_path, ran, heard).linked()
        assert ran == [] and all(one.kind == "refused" for one in heard)

    asyncio.run(test())


@pytest.mark.parametrize("verb", ["sync", "self-destruct"])
def test_a_record_without_a_verdict_ends_as_failed(tmp_path: Path, verb: str) -> None:
    async def test() -> None:
        taken = Taken(ID, "digest", verb, body(verb), "the hub", "", 1001.0)
        line = {"taken": {name: getattr(taken, name) for name in taken.__struct_fields__}}
        (tmp_path / "journal.jsonl").write_text(json.dumps(line) + "\n")
        ran: list[str] = []
        heard: list[Event] = []
        program = Program(tmp_path, ran, heard, Mode.HUB)
        await program.linked()
        assert ran == [] and program.journal.records[ID].ended()
        assert program.journal.records[ID].events[-1].data["outcome"] == "failed"

    asyncio.run(test())


def short_writes(monkeypatch: pytest.MonkeyPatch, room: int | None) -> None:
    """Every write takes at most 7 bytes; after `room` of them the disk is full."""
    left = [room]

    def limited(real: Callable[..., int]) -> Callable[..., int]:
        def write(opened: int, data: bytes, *place: int) -> int:
            if left[0] is not None:
                if left[0] <= 0:
                    raise OSError(errno.ENOSPC, "No space left on device")
                left[0] -= 7
            return real(opened, data[:7], *place)

        return write

    for name in ("write", "pwrite"):
        monkeypatch.setattr(os, name, limited(getattr(os, name)))


@pytest.mark.parametrize("room", [None, 0, 21])
def test_a_full_disk_leaves_the_records_readable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int | None
) -> None:
    path = tmp_path / "journal.jsonl"
    journal, audit = Journal(path, lambda: 1001.0), AuditFile(tmp_path / "audit.jsonl", lambda: 1001.0)
    journal.load()

    def keep(own: str) -> None:
        journal.take(
            Taken(own, "digest", "plan", body("plan", id=own), "anna", "", 1001.0), Event(own, 1, "accepted", 1001.0)
        )
        audit.write("anna", "plan", own)

    keep(ID)
    with monkeypatch.context() as patched:
        short_writes(patched, room)
        for write in (lambda: journal.add(event(2, "started")), lambda: audit.write("anna", "started", ID)):
            if room is None:
                write()
            else:
                with pytest.raises(ProviderError):
                    write()
    keep(OTHER)
    again = Journal(path, lambda: 1001.0)
    again.load()
    assert list(again.records) == [ID, OTHER]
    assert len(again.records[ID].events) == (2 if room is None else 1)
    assert AuditFile(tmp_path / "audit.jsonl", lambda: 1001.0).head().n == (3 if room is None else 2)


def test_a_hub_that_sends_without_end_fills_neither_disk_nor_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        monkeypatch.setattr(pace, "COMMANDS", 3)
        heard: list[Event] = []
        program = Program(tmp_path, [], heard)
        await program.linked()
        for number in range(9):
            own = f"{number}{ID[1:]}"
            await program.runner.take(Send(body("sync", id=own, nodes=["node-a", "x" * 9999]), "the hub"))
        assert [one.data["check"] for one in heard] == ["policy"] * 3 + ["pace"] * 6
        assert all(one.seq == 0 for one in heard[3:])  # no part of a command's record
        assert len(program.journal.records) == 3 and program.journal.last(1) == ["sync: refused"]
        assert (tmp_path / "journal.jsonl").stat().st_size < 5000  # a refused body isn't kept

    asyncio.run(test())


def test_the_record_of_a_node_that_never_restarts_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        monkeypatch.setattr(keeping, "MOST_COMMANDS", 8)
        heard: list[Event] = []
        program = Program(tmp_path, [], heard)
        await program.linked()

        async def take(number: int, at: float) -> Event:
            program.now, own, before = at, f"{number:08}{ID[8:]}", len(heard)
            times = {"issued": at - 1, "deadline": at + 600}
            await program.runner.take(Send(body("status", id=own, **times), "the hub"))
            while program.runner.running():
                await asyncio.sleep(0)
            return heard[before]

        for number in range(8):
            assert (await take(number, 1001.0)).kind == "accepted"
        full = await take(8, 1700.0)  # each could still be sent again
        assert (full.kind, full.data["check"]) == ("refused", "pace") and "full" in full.data["faults"][0]
        assert (await take(9, 1902.0)).kind == "accepted"
        assert [name[:8] for name in program.journal.records] == [f"{number:08}" for number in (2, 3, 4, 5, 6, 7, 9)]
        path = tmp_path / "journal.jsonl"
        assert path.stat().st_size == program.journal.size and b'"body":"{' not in path.read_bytes().splitlines()[0]
        again = Journal(path, lambda: 1902.0)
        again.load()
        assert list(again.records) == list(program.journal.records) and again.size <= program.journal.size
        assert all(record.ended() for record in again.records.values())
        assert len(program.ran) == 9

    asyncio.run(test())


def test_the_pace_is_by_number_by_size_and_by_what_waits() -> None:
    one = pace.paced(pace.Pace(), 1000.0, 5, 0)
    assert one == pace.Pace(1000.0, 1, 5)
    full = pace.Pace(1000.0, pace.COMMANDS, 5)
    assert isinstance(pace.paced(full, 1599.0, 1, 0), str)
    assert pace.paced(full, 1600.0, 1, 0) == pace.Pace(1600.0, 1, 1)
    assert isinstance(pace.paced(pace.Pace(1000.0, 1, pace.BYTES), 1001.0, 1, 0), str)
    assert isinstance(pace.paced(pace.Pace(), 1000.0, 1, pace.UNHEARD), str)


def test_a_full_outbox_sends_what_it_has_and_ends_the_link() -> None:
    async def test() -> None:
        outbox = Outbox(2)
        for number in range(4):
            outbox.put(event(number, "log"))
        first, second = await outbox.get(), await outbox.get()
        outbox.put(event(5, "log"))
        assert (first, second, await outbox.get()) == (event(0, "log"), event(1, "log"), None)

    asyncio.run(test())
