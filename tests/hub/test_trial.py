"""A configuration on trial is watched to its end, whatever happens beside it: errors, deadlines, edits by hand."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from protokube.errors import ProviderError
from protokube.hub.core.course import Outcome
from protokube.hub.verbs import config as configs
from protokube.hub.verbs.revisions import Revisions
from tests.hub.core.commands import ID, OTHER
from tests.hub.lab import until
from tests.hub.test_config import NEW, OLD, Machine, on_trial, order, put, tell


def failing(monkeypatch: pytest.MonkeyPatch, machine: Machine, times: int) -> list[bytes | None]:
    """The file can't be written so many times; the texts of these tries."""
    real = machine.revisions.put
    tries: list[bytes | None] = []

    def fails(text: bytes | None) -> None:
        if len(tries) < times:
            tries.append(text)
            raise ProviderError("No space left on device")
        real(text)

    monkeypatch.setattr(machine.revisions, "put", fails)
    return tries


def test_a_file_that_can_t_be_written_is_as_before_and_no_note_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(machine: Machine) -> None:
        config = machine.config()
        failing(monkeypatch, machine, 1)
        with pytest.raises(ProviderError, match="No space left"):
            await put(machine, config)
        assert machine.file.read_text() == OLD and config.trial() is None

    tell(tmp_path, story)


def test_what_can_t_be_taken_back_at_once_is_taken_back_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(machine: Machine) -> None:
        config = machine.config()
        task = put(machine, config)
        await on_trial(machine, config)
        tries = failing(monkeypatch, machine, 3)
        machine.now += 60
        end = await task
        assert end.outcome is Outcome.FAILED and "not confirmed within 60 s" in end.why
        assert tries == [OLD.encode()] * 3 and machine.file.read_text() == OLD and config.trial() is None
        assert sum(one.undoes == ID for one in machine.revisions.all()) == 1

    tell(tmp_path, story)


def test_a_systemctl_that_hangs_ends_no_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(machine: Machine) -> None:
        monkeypatch.setattr(configs, "LIMIT", 0.2)
        machine._script("systemctl", f'case "$1" in is-active) cat {machine.active};; *) exec sleep 1000;; esac')
        config = machine.config()
        task = put(machine, config)
        await on_trial(machine, config)
        machine.now += 60
        assert (await task).outcome is Outcome.FAILED
        assert machine.file.read_text() == OLD and config.trial() is None

    tell(tmp_path, story)


def test_a_trial_goes_on_after_its_command_s_deadline_and_nothing_else_is_put_meanwhile(tmp_path: Path) -> None:
    async def story(machine: Machine) -> None:
        config = machine.config()
        task = put(machine, config)
        await on_trial(machine, config)
        task.cancel()  # as the runner does
        await asyncio.gather(task, return_exceptions=True)
        asked = order("config.put", OTHER, text="a: 9\n", base=2, confirm_within=60)
        other = await config.put(asked, machine.say, 1000.0)
        assert other.outcome is Outcome.FAILED and ID in other.why
        machine.now += 60
        await until(lambda: config.trial() is None)
        assert machine.file.read_text() == OLD

    tell(tmp_path, story)


def test_a_program_that_ends_for_good_takes_a_trial_back_first(tmp_path: Path) -> None:
    async def story(machine: Machine) -> None:
        config = machine.config()
        task = put(machine, config)
        await on_trial(machine, config)
        await config.recover("the hub won't have this node")
        assert machine.file.read_text() == OLD and config.trial() is None
        assert (await task).why == "taken back: the hub won't have this node"

    tell(tmp_path, story)


@pytest.mark.parametrize(
    ("seconds", "text", "why"),
    [(930.0, OLD, "no time is left for the trial"), (1.0, "a: 3\n", "revision 2 is current")],
)
def test_after_the_dry_run_it_is_looked_again(tmp_path: Path, seconds: float, text: str, why: str) -> None:
    """It takes its time, and somebody may change the file meanwhile: that is a revision, and stays."""

    async def story(machine: Machine) -> None:
        config = machine.config()
        real = config._faults

        async def slow(*given: Any) -> str | None:
            machine.now += seconds
            machine.file.write_text(text)
            return await real(*given)

        config._faults = slow  # type: ignore[method-assign, assignment]
        end = await put(machine, config)
        assert end.outcome is Outcome.FAILED and why in end.why
        assert machine.file.read_text() == text and config.trial() is None
        assert machine.revisions.all()[-1].author == "by hand"

    tell(tmp_path, story)


def test_a_confirmed_trial_s_note_is_gone_from_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(machine: Machine) -> None:
        config = machine.config()
        task = put(machine, config)
        await on_trial(machine, config)
        synced: list[list[str]] = []
        real = os.fsync

        def fsync(opened: int) -> None:
            real(opened)
            synced.append(os.listdir(machine.state))

        monkeypatch.setattr(os, "fsync", fsync)
        await config.confirm(order("config.confirm", OTHER, command=ID), machine.say, 100.0)
        assert synced and "trial.json" not in synced[-1]
        assert (await task).outcome is Outcome.OK

    tell(tmp_path, story)


def test_the_file_has_its_owner_group_and_mode_from_the_first_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(OLD)
    file.chmod(0o640)
    owners, modes = [], []
    real = Path.rename
    monkeypatch.setattr(os, "fchown", lambda _opened, *owner: owners.append(owner))

    def rename(path: Path, target: Path) -> Path:
        modes.append(path.stat().st_mode & 0o777)
        return real(path, target)

    monkeypatch.setattr(Path, "rename", rename)
    Revisions(tmp_path / "revisions", file, lambda: 0.0).put(NEW.encode())
    assert owners == [(file.stat().st_uid, file.stat().st_gid)] and modes == [0o640]
