"""A node's configuration: confirmed it stays; else the node takes it back itself, wherever it was cut off."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from protokube.agent.clock import wall_time
from protokube.hub.core.checks import Body, Order
from protokube.hub.core.course import Outcome
from protokube.hub.core.verbs import VERBS, Arguments, read_arguments
from protokube.hub.handlers import End
from protokube.hub.verbs.config import Config, masked
from protokube.hub.verbs.programs import Programs
from protokube.hub.verbs.revisions import Revisions
from tests.hub.core.commands import ID, OTHER
from tests.hub.lab import until

OLD, NEW = "a: 1\n", "a: 2\n"


class Quiet:
    def __init__(self) -> None:
        self.said: list[str] = []

    def progress(self, text: str) -> None:
        self.said.append(text)

    def output(self, text: str, stream: str = "log") -> None:
        self.said.append(text)


class Machine:
    """A node with a configuration, and programs that are scripts."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.file, self.active = folder, folder / "config.yaml", folder / "active"
        self.state = folder / "state"
        self.state.mkdir()
        self.file.write_text(OLD)
        self.file.chmod(0o640)
        self.active.write_text("active")
        self.calls = folder / "calls"
        self._script("systemctl", f'case "$1" in is-active) cat {self.active};; *) echo "$*" >>{self.calls};; esac')
        self._script("protokube", 'for one; do :; done; if grep -q bad "$one"; then echo "a: wrong" >&2; exit 78; fi')
        self.now, self.boot = 1000.0, "boot-1"
        self.say = Quiet()

    def config(self) -> Config:
        """A fresh program's: what it knows is on the disk."""
        programs = Programs(protokube=(f"{self.folder}/protokube",), systemctl=(f"{self.folder}/systemctl",))
        self.revisions = Revisions(self.state / "revisions", self.file, wall_time)
        return Config(programs, self.state, self.revisions, self.boot, lambda: self.now, look=0.02)

    def called(self) -> list[str]:
        return self.calls.read_text().splitlines() if self.calls.exists() else []

    def _script(self, name: str, text: str) -> None:
        path = self.folder / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)


def order(name: str, own: str = ID, /, **args: Any) -> Order:
    verb = VERBS[name]
    arguments = read_arguments(verb, args)
    assert isinstance(arguments, Arguments)
    return Order(Body(own, ("n0",), name, args, 0.0, 1000.0), verb, arguments, "anna")


def tell(folder: Path, story: Callable[[Machine], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(story(Machine(folder)))


def put(machine: Machine, config: Config, text: str = NEW, base: int = 1, limit: float = 1000.0) -> asyncio.Task[End]:
    asked = order("config.put", text=text, base=base, confirm_within=60)
    return asyncio.create_task(_task(config.put(asked, machine.say, limit)))


async def _task(work: Awaitable[End]) -> End:
    return await work


async def on_trial(machine: Machine, config: Config) -> None:
    await until(lambda: machine.say.said)  # the last thing before it is watched
    assert config.trial() is not None and machine.file.read_text() == NEW


def test_what_is_confirmed_stays(tmp_path: Path) -> None:
    async def story(machine: Machine) -> None:
        config = machine.config()
        task = put(machine, config)
        await on_trial(machine, config)
        other = await config.confirm(order("config.confirm", OTHER, command=OTHER), machine.say, 100.0)
        assert other.outcome is Outcome.FAILED
        done = await config.confirm(order("config.confirm", OTHER, command=ID), machine.say, 100.0)
        assert done.outcome is Outcome.OK
        assert (await task).outcome is Outcome.OK
        assert machine.file.read_text() == NEW and config.trial() is None
        assert machine.file.stat().st_mode & 0o777 == 0o640
        assert machine.called() == ["kill --signal=SIGHUP --kill-whom=main protokube.service"]
        listed = await config.list(order("config.list"), machine.say, 10.0)
        assert listed.result["current"] == 2
        authors = [(one["author"], one["command"], one["before"]) for one in listed.result["revisions"]]
        assert authors == [("by hand", "", 0), ("anna", ID, 1)]
        await machine.config().recover()
        assert machine.file.read_text() == NEW

    tell(tmp_path, story)


@pytest.mark.parametrize("why", ["not confirmed within 60 s", "didn't stay active", "cancelled by an operator"])
def test_scenario_11_else_the_node_takes_it_back_as_a_new_revision(tmp_path: Path, why: str) -> None:
    async def story(machine: Machine) -> None:
        config = machine.config()
        task = put(machine, config)
        await on_trial(machine, config)
        if "active" in why:
            machine.active.write_text("failed")
            machine.now += 11
        elif "cancelled" in why:
            config.abandon(ID)
        else:
            machine.now += 60
        end = await task
        assert end.outcome is (Outcome.CANCELLED if "cancelled" in why else Outcome.FAILED) and why in end.why
        assert machine.file.read_text() == OLD and config.trial() is None
        last = machine.revisions.last()
        assert last is not None and last.number == 3 and last.undoes == ID
        assert machine.revisions.text(2) == NEW.encode()  # nothing is deleted
        assert machine.called()[-1].startswith("restart" if "active" in why else "kill --signal=SIGHUP")
        late = await config.confirm(order("config.confirm", OTHER, command=ID), machine.say, 100.0)
        assert late.outcome is Outcome.FAILED

    tell(tmp_path, story)


@pytest.mark.parametrize(
    ("text", "base", "limit", "why"),
    [
        ("bad: 1\n", 1, 1000.0, "protokube refuses it: a: wrong"),
        (NEW, 7, 1000.0, "revision 1 is current, and this was made from 7"),
        (NEW, 1, 100.0, "its deadline must lie 120 s ahead"),
    ],
)
def test_what_can_t_be_put_changes_nothing(tmp_path: Path, text: str, base: int, limit: float, why: str) -> None:
    async def story(machine: Machine) -> None:
        end = await put(machine, machine.config(), text, base, limit)
        assert end.outcome is Outcome.FAILED and why in end.why
        assert machine.file.read_text() == OLD and machine.called() == []
        assert not (machine.state / "candidate.yaml").exists()

    tell(tmp_path, story)


class Killed(BaseException):
    """The program is killed here."""


EFFECTS = [
    (False, "revisions", "add"),
    (False, "config", "_write"),
    (False, "revisions", "put"),
    (False, "config", "_read_again"),
    (True, "revisions", "add"),
    (True, "revisions", "put"),
    (True, "config", "_read_again"),
    (True, "config", "_forget"),
]
"""Each effect of a trial, on the way there and on the way back."""


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(("back", "part", "effect"), EFFECTS)
@pytest.mark.parametrize("boot", ["boot-1", "boot-2"])
def test_scenario_12_cut_off_at_any_effect_it_is_the_old_one_after_the_next_start(
    tmp_path: Path, part: str, effect: str, after: bool, back: bool, boot: str
) -> None:
    async def story(machine: Machine) -> None:
        config = machine.config()
        target: Any = machine.revisions if part == "revisions" else config
        if back:
            task = put(machine, config)
            await on_trial(machine, config)
        kill(target, effect, after)
        if back:
            machine.now += 60
        else:
            task = put(machine, config)
        with pytest.raises(Killed):
            await task
        assert machine.file.read_text() in (OLD, NEW)
        machine.boot = boot
        for _ in range(2):
            again = machine.config()
            await again.recover()
            assert machine.file.read_text() == OLD and again.trial() is None
        hashes = [one.number for one in machine.revisions.all() if one.undoes == ID]
        assert len(hashes) <= 1
        assert await asyncio.to_thread(machine.revisions.current) in (1, 3)

    def kill(target: Any, effect: str, after: bool) -> None:
        real = getattr(target, effect)

        def sync(*given: Any) -> Any:
            if after:
                real(*given)
            raise Killed

        async def later(*given: Any) -> Any:
            if after:
                await real(*given)
            raise Killed

        # The first revision is the one by hand; it isn't this command's effect.
        if effect == "add" and not hasattr(target, "killed"):
            target.current()
        setattr(target, effect, later if effect == "_read_again" else sync)

    tell(tmp_path, story)


def test_what_was_changed_by_hand_meanwhile_is_left_alone(tmp_path: Path) -> None:
    async def story(machine: Machine) -> None:
        config = machine.config()
        task = put(machine, config)
        await on_trial(machine, config)
        machine.file.write_text("a: 3\n")
        machine.now += 60
        assert (await task).outcome is Outcome.FAILED
        assert machine.file.read_text() == "a: 3\n" and config.trial() is None
        assert machine.revisions.current() == 3

    tell(tmp_path, story)


def test_without_a_file_there_is_revision_0_and_it_is_what_comes_back(tmp_path: Path) -> None:
    async def story(machine: Machine) -> None:
        machine.file.unlink()
        config = machine.config()
        task = put(machine, config, base=0)
        await on_trial(machine, config)
        machine.now += 60
        await task
        assert not machine.file.exists()

    tell(tmp_path, story)


def test_a_rollback_brings_an_earlier_revision_on_trial(tmp_path: Path) -> None:
    async def story(machine: Machine) -> None:
        config = machine.config()
        task = put(machine, config)
        await on_trial(machine, config)
        await config.confirm(order("config.confirm", OTHER, command=ID), machine.say, 100.0)
        await task
        asked = order("rollback", OTHER, command=ID, confirm_within=60)
        back = asyncio.create_task(_task(config.rollback(asked, machine.say, 1000.0)))
        await until(lambda: machine.file.read_text() == OLD and config.trial() is not None)
        await config.confirm(order("config.confirm", ID, command=OTHER), machine.say, 100.0)
        assert (await back).outcome is Outcome.OK and machine.file.read_text() == OLD
        nowhere = await config.rollback(order("rollback", OTHER, command=OTHER[:-1] + "9"), machine.say, 1000.0)
        assert nowhere.outcome is Outcome.FAILED

    tell(tmp_path, story)


def test_secrets_are_masked_by_their_keys() -> None:
    text = "# hunter1\na: 1\ntsigKey: hunter2\nnested:\n  - {apiToken: hunter3, b: x}\n"
    text += "password: |\n  hunter4\n  hunter5\n"
    shown = masked(text.encode())
    assert "hunter" not in shown and "a: 1" in shown and "b: x" in shown
    assert "hunter" not in masked(b"token: [hunter\n") and "hunter" not in masked(b"\xffhunter")
