"""kubelet's files and its unit."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from protokube.core.history import History, Result
from protokube.core.kubelet.assess import assess
from protokube.core.kubelet.backoff import UnitTracking
from protokube.core.kubelet.gate import Gate
from protokube.core.kubelet.model import KubeletAssessment, KubeletNode
from protokube.core.kubelet.paths import ARGS_PATH, CONFIG_PATH
from protokube.core.model import Fault, Unknown, Unread
from protokube.core.node.actions import RestartUnit, StartUnit
from protokube.core.node.model import File, UnitState
from protokube.core.observed import Observed
from protokube.core.steps import Plan
from tests.core.kubelet_states import LINK, UNIT, ready, unit_steps, up, waits
from tests.core.states import INSTANCE, NOW, changed, config_of, planned

NEVER = UnitTracking()


@pytest.mark.parametrize("load", ["masked", "not-found", "error", "bad-setting"])
def test_a_unit_that_cannot_start_is_reported_and_never_fought(load: str) -> None:
    made = planned(ready(unit=UnitState(load, "inactive", "dead")))
    assert unit_steps(made) == []
    assert [(one.rule, load in one.evidence) for one in made.refusals] == [("kubelet/unit", True)]


@pytest.mark.parametrize("active", ["active", "activating", "reloading"])
def test_a_running_kubelet_is_left_alone(active: str) -> None:
    made = planned(ready(unit=up(active=active)))
    assert made.steps == [] and made.converged


def test_a_stopping_kubelet_is_waited_for() -> None:
    made = planned(ready(unit=up(active="deactivating")))
    assert unit_steps(made) == [] and "stopping" in waits(made)


@pytest.mark.parametrize("active", ["inactive", "failed"])
def test_a_stopped_kubelet_is_started(active: str) -> None:
    assert unit_steps(planned(ready(unit=up(active=active)))) == ["start-unit"]


def test_an_unknown_unit_is_not_started() -> None:
    made = planned(ready(unit=Unknown("no bus")))
    assert unit_steps(made) == [] and [one.subject for one in made.unknown] == [UNIT]


def test_a_kubelet_that_cannot_be_asked_is_started_with_the_files_that_stand() -> None:
    silent = ready(binary=Unknown("kubelet --version did not end within 10 s"))
    made = planned(silent)
    assert unit_steps(made) == ["start-unit"], (made.steps, made.waiting, made.unknown, made.refusals)
    (step,) = [one for one in made.steps if one.action.subject == UNIT]
    assert step.warning and "with the files that stand, since kubelet can't be asked for its version" in step.reason
    assert [(one.subject, one.reason) for one in made.unknown] == [
        ("kubelet", "kubelet --version did not end within 10 s")
    ]
    assert unit_steps(planned(changed(silent, files={}))) == [], "never without its files"
    assert unit_steps(planned(changed(silent, unit=up(started_at=NOW - 2000)))) == [], "nor restarted for them"
    assert unit_steps(planned(changed(silent, binary=Unread("it is asked")))) == [], "the answer is on its way"


@pytest.mark.parametrize("path", [ARGS_PATH, CONFIG_PATH])
@pytest.mark.parametrize(
    ("mtime", "steps"), [(NOW - 501, []), (NOW - 499, ["restart-unit"]), (NOW, ["restart-unit"]), (NOW + 60, [])]
)
def test_files_that_are_newer_than_the_process_restart_it(path: str, mtime: float, steps: list[str]) -> None:
    observed = ready(unit=up())
    assert not isinstance(observed.node.files, Unknown)
    there = observed.node.files[path]
    assert isinstance(there, File)
    files = {**observed.node.files, path: replace(there, mtime_ns=int(mtime * 1e9))}
    assert unit_steps(planned(changed(observed, files=files))) == steps


def restarted(*uptimes: float) -> History:
    """A history in which the unit was restarted at these uptimes."""
    return History(units=UnitTracking({UNIT: uptimes}, {UNIT: uptimes}))


def started(*uptimes: float) -> History:
    """What is remembered of starts and restarts at these uptimes."""
    return History(units=UnitTracking({UNIT: uptimes}))


def test_a_unit_that_was_started_in_vain_is_left_alone_for_a_while() -> None:
    observed = ready(unit=up(active="inactive"), uptime=100.0)
    made = planned(observed, started(95.0, 96.0, 97.0, 98.0))
    assert unit_steps(made) == [] and waits(made) == "it was started in vain; next try in 2 s"
    assert [one.external for one in made.waiting] == [False]
    assert unit_steps(planned(changed(observed, uptime=102.0), started(95.0, 96.0, 97.0, 98.0))) == ["start-unit"]


def test_the_restarts_of_systemd_itself_count_as_well() -> None:
    failed = up(active="failed", restarts=5)
    made = planned(ready(unit=failed, uptime=100.0), started(98.0))
    assert unit_steps(made) == [] and "next try in 14 s" in waits(made)
    assert unit_steps(planned(ready(unit=failed, uptime=100.0))) == ["start-unit"], "none of them is ours"


def test_a_closed_gate_is_said_before_a_pause() -> None:
    made = planned(ready(unit=up(active="inactive"), mounts=(), uptime=100.0), started(99.0, 99.5))
    assert "vol-1 is mounted" in waits(made)
    made = planned(ready(unit=up(active="inactive"), mounts=(), uptime=300.0), started(299.0, 299.5))
    assert unit_steps(made) == [] and "in vain" in waits(made)


def test_a_unit_that_was_restarted_often_enough_is_left_alone() -> None:
    observed = ready(unit=up(started_at=NOW - 2000), uptime=3000.0)
    made = planned(observed, restarted(100.0, 200.0), kubelet_restarts=2)
    assert unit_steps(made) == [] and "restarted often enough, next in 700 s" in waits(made)
    assert ARGS_PATH in waits(made) and CONFIG_PATH in waits(made)
    assert unit_steps(planned(observed, restarted(100.0, 200.0), kubelet_restarts=3)) == ["restart-unit"]
    assert unit_steps(planned(observed, started(2999.0))) == ["restart-unit"], "the pause of a start doesn't matter"


def test_only_what_succeeded_is_counted_and_kept_for_another_configuration() -> None:
    for action in (StartUnit(UNIT), RestartUnit(UNIT)):
        history = History().recorded(action, Result.DONE, 100.0)
        assert history.units.starts == {UNIT: (100.0,)}
        assert history.next_reconcile() == history.for_another_configuration() == history
        failed = History().recorded(action, Result.FAILED, 100.0)
        assert failed.units.starts == {} and failed.failed == {UNIT}


def test_files_are_written_before_anything_is_started() -> None:
    observed = ready()
    assert not isinstance(observed.node.files, Unknown)
    made = planned(changed(observed, files={LINK: observed.node.files[LINK]}))
    assert {step.action.subject for step in made.steps} >= {ARGS_PATH, CONFIG_PATH} and unit_steps(made) == []


@pytest.mark.parametrize("changes", [{"files": Unknown("I/O error")}, {"binary": Unknown("hangs")}])
@pytest.mark.parametrize("master", [True, False])
def test_unknown_changes_no_file_and_is_said(changes: dict[str, Any], master: bool) -> None:
    made = planned(ready(**changes), master=master)
    assert "write-file" not in [step.action.kind for step in made.steps]
    assert made.unknown and not made.converged


def test_a_wrong_configuration_is_refused_and_without_files_starts_nothing() -> None:
    made = planned(ready(instance=replace(INSTANCE, name="Not_A_Name"), files={}))
    assert {one.rule for one in made.refusals} == {"kubelet/configuration"} and unit_steps(made) == []
    assert not {step.action.subject for step in made.steps} & {ARGS_PATH, CONFIG_PATH}


def test_a_wrong_configuration_changes_no_file_and_starts_what_stands() -> None:
    made = planned(ready(instance=replace(INSTANCE, name="Not_A_Name")))
    assert {one.rule for one in made.refusals} == {"kubelet/configuration"}
    assert [(step.action.kind, step.warning) for step in made.steps] == [("start-unit", True)]


def test_without_a_unit_nothing_is_started() -> None:
    made = planned(ready(unit=None), kubelet_unit=None)
    assert made.steps == [] and made.converged


def test_another_unit_than_kubelet_is_started_behind_the_gate_and_without_kubelet_s_files() -> None:
    agent: dict[str, Any] = {"kubelet_unit": "virtual-kubelet.service", "is_kubelet": False}

    def actions(made: Plan) -> list[str]:
        return [step.action.kind for step in made.steps if step.action.kind in ("start-unit", "restart-unit")]

    node = ready(binary=Unknown("no answer"))
    assert not isinstance(node.node.files, Unknown)
    files = {path: one for path, one in node.node.files.items() if path not in (ARGS_PATH, CONFIG_PATH)}
    made = planned(changed(node, files=files), **agent)
    assert not {step.action.subject for step in made.steps} & {ARGS_PATH, CONFIG_PATH} and made.unknown == []
    assert actions(made) == ["start-unit"]
    made = planned(ready(mounts=()), **agent)
    assert actions(made) == [] and any("vol-1 is mounted" in one.reason for one in made.waiting)
    assert actions(planned(ready(unit=up(started_at=NOW - 2000)), **agent)) == [], "kubelet's files are newer"


def test_the_files_wait_for_the_installed_kubelet_to_be_known() -> None:
    made = planned(ready(files={}, binary=Unread("it is asked")))
    assert not {step.action.subject for step in made.steps} & {ARGS_PATH, CONFIG_PATH, UNIT} and made.unknown == []
    assert [one.reason for one in made.waiting if one.subject == "kubelet"] == ["it is asked"]


@pytest.mark.parametrize("unit", [UNIT, None])
def test_nothing_is_done_while_the_instance_is_unknown(unit: str | None) -> None:
    made = planned(ready(instance=Unknown("no answer")), kubelet_unit=unit)
    assert made.steps == [] and waits(made) == ("the instance is unknown" if unit else "")


# --- faulty settings: the files of the last good ones go on ---------------------------------------------


def judged(observed: Observed, tracking: UnitTracking = NEVER) -> KubeletAssessment:
    """The judgement by settings with a fault."""
    settings = replace(config_of().kubelet, faults=(Fault("kubelet.maxPods", "expected a number"),))
    cloud, node = observed.cloud, observed.node
    return assess(settings, KubeletNode(observed.at, cloud.instance, node, observed.kubelet), tracking, Gate())


def test_faulty_settings_are_refused_and_write_no_file() -> None:
    found = judged(ready(files={}))
    assert [(one.rule, one.evidence) for one in found.findings.refusals] == [
        ("kubelet/configuration", "kubelet.maxPods: expected a number")
    ]
    assert (found.files, found.unit) == ((), None), "there is nothing to start with"


def test_with_faulty_settings_kubelet_starts_with_the_files_that_stand() -> None:
    found = judged(ready())
    assert found.unit is not None and found.files == ()
    assert (found.unit.restart, found.unit.warning) == (False, True) and "faulty" in found.unit.reason
    half = ready()
    assert not isinstance(half.node.files, Unknown)
    assert judged(changed(half, files={ARGS_PATH: half.node.files[ARGS_PATH]})).unit is None


def test_with_faulty_settings_a_running_kubelet_is_left_alone() -> None:
    assert judged(ready(unit=up(started_at=NOW - 2000))).unit is None, "although its files are newer"
