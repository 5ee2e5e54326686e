"""A run's account for people: what happens to the machine, by kind, with the difference in each changed file."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from pathlib import Path

from protokube.core.action import Action
from protokube.core.node.actions import WriteFile
from protokube.core.node.machine import MachineFacts
from protokube.core.node.settings import NodeupSettings
from protokube.core.steps import Refusal
from protokube.report.account import Account, Status, StepReport

SECTIONS = (
    ("Packages", ("install-package",)),
    ("Downloads", ("fetch-asset", "install-asset")),
    ("Files", ("write-file", "make-directory", "remove-file", "link", "unlink")),
    ("Units that each boot starts", ("enable-unit", "disable-unit")),
    ("Kernel", ("load-module", "set-sysctl", "turn-off-swap")),
    ("Name", ("set-hostname",)),
    ("Services", ("daemon-reload", "start-unit", "restart-unit")),
)
_MARKS = {Status.PLANNED: "·", Status.DONE: "✓", Status.FAILED: "✗", Status.LOST: "–"}


def promise(machine: MachineFacts, settings: NodeupSettings, root: Path) -> str:
    """What a dry run is about, in a sentence."""
    what = "This machine" if machine.running is not None else f"The tree in {root}"
    image = "" if machine.running is not None else "an image of "
    role = "a control-plane node" if settings.control_plane else "a worker"
    return f"{what} ({machine.os.name}, {machine.architecture}) would become {image}{role} of {settings.cluster}."


def as_text(account: Account, *, root: Path, whole: bool, intro: str | None = None) -> str:
    """The account on about one page. `intro` introduces a dry run. `whole`: new files are shown too."""
    return "\n".join(_lines(account, root, whole, intro))


def _lines(account: Account, root: Path, whole: bool, intro: str | None) -> Iterator[str]:
    steps, left, planned = account.steps, account.left, intro is not None
    if steps:
        count = f"{len(steps)} step{'' if len(steps) == 1 else 's'}"
        yield f"{intro} It takes {count}. Nothing was changed yet." if planned else f"{count} taken:"
    for title, kinds in SECTIONS:
        mine = [one for one in steps if one.step.action.kind in kinds]
        if mine:
            yield f"\n{title}:"
        for one in mine:
            yield from _step(one, root, planned, whole)
    for title, rows in (
        ("Waiting for", [f"{one.subject}: {one.reason}" for one in left.waiting]),
        ("Refused", [_refusal(one) for one in left.refusals if one.serious]),
        ("Not right, but no obstacle", [_refusal(one) for one in left.refusals if not one.serious]),
        ("Not known", [f"{one.subject}: {one.reason}" for one in left.unknown]),
        ("Good to know", left.hints),
    ):
        if rows:
            yield f"\n{title}:"
            yield from (f"  {row}" for row in rows)
    yield _verdict(account, planned)


def _refusal(one: Refusal) -> str:
    return f"{one.subject}: {one.rule}: {one.evidence}"


def _verdict(account: Account, planned: bool) -> str:
    nothing = not account.steps
    if planned:
        if nothing and account.converged:
            return "Nothing to do: this machine is prepared."
        return "\nNothing was changed." if nothing else "\nkubelet is never started by nodeup: protokube does that."
    if account.converged:
        return "Prepared: there was nothing left to do." if nothing else "\nPrepared."
    return "\nNot prepared."


def _step(one: StepReport, root: Path, planned: bool, whole: bool) -> Iterator[str]:
    action = one.step.action
    yield f"  {_MARKS[one.status]} {action.describe()} — {one.step.reason}"
    if one.error:
        yield f"      {one.error}"
    if planned:
        yield from (f"      {line}" for line in difference(action, root, whole))


def difference(action: Action, root: Path, whole: bool) -> Iterator[str]:
    """How a file changes, line by line. A new one is shown only as a whole; a secret one never."""
    if not isinstance(action, WriteFile):
        return
    path = root / action.path.lstrip("/")
    try:
        before = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    except OSError:
        before = ""
    if action.mode & 0o077 == 0:
        if before:
            yield "(others may not read it: its content is not shown)"
    elif before or whole:
        lines = difflib.unified_diff(before.splitlines(), action.content.splitlines(), lineterm="", n=1)
        yield from list(lines)[2:]
