"""A report for people, and the same report as JSON."""

from __future__ import annotations

from collections.abc import Iterator

from protokube.core.actions import Action
from protokube.core.dns.actions import ChangeRecords
from protokube.reconcile import Report, StepReport

_MARKS = {"planned": "·", "done": "✓", "failed": "✗", "lost": "–"}


def as_json(report: Report) -> str:
    """The object that scripts may rely on, version 1."""
    import json  # only here

    left = report.left
    return json.dumps(
        {
            "version": 1,
            "settled": report.settled,
            "steps": [_step(one) for one in (*report.earlier, *report.steps)],
            "waiting": [{"subject": one.subject, "reason": one.reason} for one in left.waiting],
            "refusals": [
                {"subject": one.subject, "rule": one.rule, "evidence": one.evidence} for one in left.refusals
            ],
            "unknown": [{"subject": one.subject, "reason": one.reason} for one in left.unknown],
            "held": [{"subject": one.subject, "holder": one.holder, "zone": one.zone} for one in left.held],
        },
        indent=1,
        ensure_ascii=False,
    )


def _step(one: StepReport) -> dict[str, object]:
    action = one.step.action
    out: dict[str, object] = {
        "pass": one.number,
        "action": action.kind,
        "subject": action.subject,
        "description": action.describe(),
        "reason": one.step.reason,
        "depends": one.step.depends,
        "status": "failed" if one.status == "lost" else one.status,
    }
    if one.error is not None:
        out["error"] = one.error
    return out


def as_text(report: Report, *, planned: bool) -> str:
    """Everything that a person needs at three in the morning, in the order in which it matters."""
    return "\n".join(_lines(report, planned))


def _lines(report: Report, planned: bool) -> Iterator[str]:
    steps, left = (*report.earlier, *report.steps), report.left
    if steps:
        verb = "would be taken" if planned else "taken"
        yield f"{len(steps)} step{'' if len(steps) == 1 else 's'} {verb}:"
        for one in steps:
            yield from _step_lines(one)
    for title, rows in (
        ("Waiting for", [f"{one.subject}: {one.reason}" for one in left.waiting]),
        ("Refused", [f"{one.subject}: {one.rule}: {one.evidence}" for one in left.refusals]),
        ("Not known", [f"{one.subject}: {one.reason}" for one in left.unknown]),
        ("Good to know", left.notes),
    ):
        if rows:
            yield f"{title}:"
            yield from (f"  {row}" for row in rows)
    if planned:
        nothing = "Nothing to do: this node is settled." if report.settled and not steps else "Nothing was changed."
        yield nothing
    elif report.settled:
        yield "Settled." if steps else "Settled: there was nothing left to do."
    else:
        yield "Not settled."


def _step_lines(one: StepReport) -> Iterator[str]:
    action: Action = one.step.action
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
    if one.error:
        yield f"       {one.error}"
