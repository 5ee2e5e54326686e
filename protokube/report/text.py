"""A report for people."""

from __future__ import annotations

from collections.abc import Iterator

from protokube.core.difference import difference
from protokube.core.dns.actions import ChangeRecords
from protokube.core.node.actions import WriteFile
from protokube.report.account import Account, Status, StepReport

_MARKS = {Status.PLANNED: "·", Status.DONE: "✓", Status.FAILED: "✗", Status.LOST: "–"}


def as_text(report: Account, *, planned: bool) -> str:
    """Everything that a person needs at three in the morning, in the order in which it matters."""
    return "\n".join(_lines(report, planned))


def _lines(report: Account, planned: bool) -> Iterator[str]:
    steps, left = (*report.earlier, *report.steps), report.left
    if steps:
        verb = "would be taken" if planned else "taken"
        yield f"{len(steps)} step{'' if len(steps) == 1 else 's'} {verb}:"
        for one in steps:
            yield from _step_lines(one)
    for title, rows in (
        ("Waiting for", [f"{one.subject}: {one.reason}" for one in left.waiting]),
        ("Refused", [f"{one.subject}: {one.rule}: {one.evidence}" for one in left.refusals]),
        ("Accepted, once", [f"{one.subject}: {one.rule}, for {one.filesystem}" for one in left.accepted]),
        ("Not known", [f"{one.subject}: {one.reason}" for one in left.unknown]),
        ("Good to know", left.hints),
    ):
        if rows:
            yield f"{title}:"
            yield from (f"  {row}" for row in rows)
    if planned:
        nothing = (
            "Nothing to do: this node is converged." if report.converged and not steps else "Nothing was changed."
        )
        yield nothing
    elif report.converged:
        yield "Converged." if steps else "Converged: there was nothing left to do."
    else:
        yield "Not converged."


def _step_lines(one: StepReport) -> Iterator[str]:
    action = one.step.action
    depends = f" [if {one.step.depends}]" if one.step.depends else ""
    mark = f"  {one.number:>2} {_MARKS[one.status]} "
    if isinstance(action, ChangeRecords):
        yield f"{mark}change records — {one.step.reason}{depends}"
        for change in action.records:
            if change.before:
                yield f"       - {change.name} {change.type} {', '.join(change.before)}"
            if change.values:
                yield f"       + {change.name} {change.type} {', '.join(change.values)}"
    else:
        yield f"{mark}{action.describe()} — {one.step.reason}{depends}"
        if isinstance(action, WriteFile) and action.before is not None:
            yield from (f"       {line}" for line in difference(action.before, action.content))
    if one.error:
        yield f"       {one.error}"
