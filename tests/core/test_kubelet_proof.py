"""What proves kubelet's files good or bad, and what follows from it."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from protokube.core.kubelet.known_good import GOOD as KEPT
from protokube.core.kubelet.known_good import REJECTED, Pair, Proof, last_good, prove
from protokube.core.kubelet.paths import ARGS_PATH, CONFIG_PATH
from protokube.core.kubelet.plan import plan_kubelet
from protokube.core.model import Unknown
from protokube.core.node.actions import RestartUnit, StartUnit, WriteFile
from protokube.core.node.model import Absent, File, FileState, UnitState
from protokube.core.observed import Observed
from protokube.core.steps import Plan
from tests.core.states import NOW, config_of, planned, state

PATIENCE = 60.0
WRITTEN = 100.0
"""Seconds ago."""


def rendered() -> Pair:
    """What this node's configuration makes of kubelet's files."""
    made = planned(state(files={}), master=False)
    texts = {step.action.path: step.action.content for step in made.steps if isinstance(step.action, WriteFile)}
    return Pair(texts[ARGS_PATH], texts[CONFIG_PATH])


NEW = rendered()
GOOD = Pair("good args", "good config")


def file(text: str | None, ago: float = WRITTEN) -> File:
    return File(text, 0o644, int((NOW - ago) * 1e9))


def on_disk(pair: Pair = NEW, *, ago: float = WRITTEN, good: Pair | None = GOOD, rejected: str = "") -> Observed:
    """A node whose program has run for an hour, with these files."""
    files: dict[str, FileState] = {ARGS_PATH: file(pair.args, ago), CONFIG_PATH: file(pair.config, ago)}
    if good is not None:
        files[KEPT] = file(good.render())
    if rejected:
        files[REJECTED] = file(f"{rejected}\n")
    return replace(state(), files=files, uptime=3600.0)


def unit(active: str, sub: str = "", ago: float | None = None, restarts: int = 0) -> UnitState:
    """kubelet's unit; its main process was started so many seconds ago."""
    started = None if ago is None else NOW - ago
    return UnitState("loaded", active, sub, started_at=started, restarts=restarts)


RUNNING = unit("active", "running", ago=WRITTEN - 1)

STATES: dict[str, tuple[UnitState, dict[str, Any], Proof]] = {
    "never started": (unit("inactive", "dead"), {}, Proof.OPEN),
    "started before the files were written": (unit("active", "running", ago=500), {}, Proof.OPEN),
    "crashing since before the files were written": (unit("activating", "auto-restart", 101, 40), {}, Proof.OPEN),
    "up for long enough": (unit("active", "running", ago=60), {}, Proof.PROVEN),
    "up for long enough after a crash": (unit("active", "running", 60, restarts=1), {}, Proof.PROVEN),
    "not up for long enough yet": (unit("active", "running", ago=59), {"written": 60.0}, Proof.OPEN),
    "crashing, between two starts": (unit("activating", "auto-restart", 1, 30), {}, Proof.FAILED),
    "crashed for the first time": (unit("activating", "auto-restart", 1, 0), {}, Proof.FAILED),
    "crashing, just started again": (unit("active", "running", 1, 30), {}, Proof.FAILED),
    "crashing, given up by systemd": (unit("failed", "failed", 1), {}, Proof.FAILED),
    "crashing, but not for long": (unit("activating", "auto-restart", 1, 5), {"written": 59.0}, Proof.OPEN),
    "crashing, exactly long enough": (unit("activating", "auto-restart", 1, 5), {"written": 60.0}, Proof.FAILED),
    "crashed, and up for half the time": (unit("active", "running", 30, 1), {}, Proof.OPEN),
    "crashed, and up for less than half": (unit("active", "running", 29, 1), {}, Proof.FAILED),
    "hanging while it starts": (unit("activating", "start", 60), {}, Proof.FAILED),
    "starting, not for long": (unit("activating", "start", 59), {}, Proof.OPEN),
    "restarted by hand just now": (unit("active", "running", 5), {}, Proof.OPEN),
    "being stopped": (unit("deactivating", "stop-sigterm", 5, 3), {}, Proof.OPEN),
    "stopped by hand": (unit("inactive", "dead", 5, 3), {}, Proof.OPEN),
    "reloading": (unit("reloading", "reload", 5, 3), {}, Proof.OPEN),
    "crashing, the program was just started": (
        unit("activating", "auto-restart", 1, 30), {"uptime": 59.0}, Proof.OPEN,
    ),
    "crashing, the program runs long enough": (
        unit("activating", "auto-restart", 1, 30), {"uptime": 60.0}, Proof.FAILED,
    ),
    "up, the program was just started": (unit("active", "running", 90), {"uptime": 5.0}, Proof.OPEN),
    "the clock jumped ahead right after boot": (
        unit("active", "running", 4e8), {"written": 5e8, "uptime": 5.0}, Proof.OPEN,
    ),
    "crashing as the clock jumped ahead": (
        unit("activating", "auto-restart", 4e8, 1), {"written": 5e8, "uptime": 5.0}, Proof.OPEN,
    ),
    "up, and the clock was set back": (unit("active", "running", -3600), {"written": -3500.0}, Proof.OPEN),
    "crashing, and the clock was set back": (
        unit("activating", "auto-restart", -3600, 9), {"written": -3500.0}, Proof.OPEN,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("there", "when", "proof"), STATES.values(), ids=STATES)
def test_what_the_unit_says_of_the_files(there: UnitState, when: dict[str, float], proof: Proof) -> None:
    observed = replace(on_disk(ago=when.get("written", WRITTEN)), uptime=when.get("uptime", 3600.0))
    assert prove(observed, there, PATIENCE) is proof


@pytest.mark.parametrize("path", [ARGS_PATH, CONFIG_PATH])
@pytest.mark.parametrize("there", [Absent(), file(None)])
def test_files_that_are_not_there_are_not_judged(path: str, there: FileState) -> None:
    observed = on_disk()
    assert not isinstance(observed.files, Unknown)
    crashing = unit("activating", "auto-restart", 1, 30)
    assert prove(replace(observed, files={**observed.files, path: there}), crashing, PATIENCE) is Proof.OPEN
    assert prove(replace(observed, files=Unknown("I/O error")), crashing, PATIENCE) is Proof.OPEN


@pytest.mark.parametrize("path", [ARGS_PATH, CONFIG_PATH])
def test_the_younger_file_counts(path: str) -> None:
    observed = on_disk()
    assert not isinstance(observed.files, Unknown)
    files = {**observed.files, path: replace(file("x"), mtime_ns=int((NOW - 50) * 1e9))}
    assert prove(replace(observed, files=files), unit("active", "running", 70), PATIENCE) is Proof.OPEN


# --- what follows ----------------------------------------------------------------------------------------


def made_of(observed: Observed, there: UnitState, **config: Any) -> Plan:
    made = Plan()
    plan_kubelet(config_of(master=False, **config), replace(observed, unit=there), None, made)
    return made


def writes(made: Plan) -> dict[str, str]:
    return {step.action.path: step.action.content for step in made.steps if isinstance(step.action, WriteFile)}


def rules(made: Plan) -> list[str]:
    return [one.rule for one in made.refusals]


CRASHING = unit("activating", "auto-restart", 1, 30)


def test_proven_files_are_kept_once() -> None:
    made = made_of(on_disk(), RUNNING)
    assert writes(made) == {KEPT: NEW.render()}
    kept = made_of(on_disk(good=NEW), RUNNING)
    assert kept.steps == [] and kept.settled


@pytest.mark.parametrize("text", ["", "{", "[]", '{"args": "a"}', '{"args": "a", "config": 1}', "[" * 100_000, None])
def test_a_damaged_copy_of_the_last_good_files_is_none(text: str | None) -> None:
    observed = on_disk()
    assert not isinstance(observed.files, Unknown)
    half = replace(observed, files={**observed.files, KEPT: file(text)})
    assert last_good(half) is None
    assert rules(made_of(half, CRASHING)) == ["kubelet/not-coming-up"]
    assert writes(made_of(half, RUNNING)) == {KEPT: NEW.render()}


@pytest.mark.parametrize("there", [CRASHING, unit("failed", "failed", 1)])
def test_files_that_failed_are_rejected_before_anything_else_is_done(there: UnitState) -> None:
    made = made_of(on_disk(), there)
    assert writes(made) == {REJECTED: NEW.digest + "\n"} and len(made.steps) == 1


def test_then_the_last_good_ones_come_back_loudly() -> None:
    made = made_of(on_disk(rejected=NEW.digest), CRASHING)
    assert writes(made) == {ARGS_PATH: GOOD.args, CONFIG_PATH: GOOD.config}
    assert rules(made) == ["kubelet/rolled-back"] and REJECTED in made.refusals[0].evidence
    assert not made.settled


def test_and_stay_as_long_as_the_configuration_stays() -> None:
    restarted = unit("active", "running", 99)
    made = made_of(on_disk(GOOD, rejected=NEW.digest), restarted)
    assert made.steps == [] and rules(made) == ["kubelet/rolled-back"]


def test_another_configuration_is_tried_although_one_was_rejected() -> None:
    other = Pair("rejected args", "rejected config")
    made = made_of(on_disk(GOOD, rejected=other.digest), unit("active", "running", 99))
    assert writes(made) == {ARGS_PATH: NEW.args, CONFIG_PATH: NEW.config} and not made.refusals


def test_whoever_removes_the_mark_has_it_tried_again() -> None:
    made = made_of(on_disk(GOOD), unit("active", "running", 99))
    assert writes(made) == {ARGS_PATH: NEW.args, CONFIG_PATH: NEW.config} and not made.refusals


def test_what_was_good_once_is_never_rejected_but_its_crashes_are_told() -> None:
    made = made_of(on_disk(good=NEW), CRASHING)
    assert made.steps == [] and rules(made) == ["kubelet/not-coming-up"]
    assert "once did with these files" in made.refusals[0].evidence


def test_without_last_good_files_the_new_ones_stay_and_it_is_told() -> None:
    made = made_of(on_disk(good=None), CRASHING)
    assert made.steps == [] and rules(made) == ["kubelet/not-coming-up"]
    again = made_of(on_disk(good=None, rejected=NEW.digest), unit("failed", "failed", 1))
    assert [type(step.action) for step in again.steps] == [StartUnit]
    assert rules(again) == ["kubelet/not-coming-up"]


def test_a_rolled_back_kubelet_restarts_with_the_last_good_files() -> None:
    observed = on_disk(GOOD, ago=1.0, rejected=NEW.digest)
    (step,) = made_of(observed, unit("active", "running", 30)).steps
    assert isinstance(step.action, RestartUnit) and step.reason.startswith("kubelet restarts because ")
    assert made_of(observed, unit("activating", "auto-restart", 3, 30)).steps == [], "systemd starts it itself"
    (step,) = made_of(observed, unit("failed", "failed", 3)).steps
    assert isinstance(step.action, StartUnit)


def test_the_patience_is_configured() -> None:
    assert writes(made_of(on_disk(), unit("active", "running", 3), kubelet_proof_time=3.0)).keys() == {KEPT}
