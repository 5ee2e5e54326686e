"""A report as the JSON object that scripts may rely on, version 1."""

from __future__ import annotations

from msgspec import UNSET, Struct, UnsetType
from msgspec.json import encode
from msgspec.json import format as indent

from protokube.core.difference import difference
from protokube.core.dns.actions import ChangeRecords
from protokube.core.node.actions import WriteFile
from protokube.core.steps import AcceptedRefusal, InUseElsewhere, UnknownPart
from protokube.report.account import Account, StepReport


class RecordJson(Struct):
    """One record that a step changes."""

    name: str
    type: str
    before: tuple[str, ...]
    after: tuple[str, ...]


class StepJson(Struct, rename={"number": "pass"}):
    """One step."""

    number: int
    action: str
    subject: str
    description: str
    reason: str
    depends: str | None
    status: str
    records: tuple[RecordJson, ...] | UnsetType = UNSET
    error: str | UnsetType = UNSET
    difference: tuple[str, ...] | UnsetType = UNSET


class WaitingJson(Struct):
    """One subject that is waited for."""

    subject: str
    reason: str


class RefusalJson(Struct):
    """One refusal."""

    subject: str
    rule: str
    evidence: str


class ReportJson(Struct, rename={"in_use": "held"}):
    """The whole report."""

    version: int
    settled: bool
    steps: list[StepJson]
    waiting: list[WaitingJson]
    refusals: list[RefusalJson]
    unknown: list[UnknownPart]
    in_use: list[InUseElsewhere]
    accepted: list[AcceptedRefusal]
    notes: list[str]


def as_json(report: Account) -> str:
    """The report as JSON, indented."""
    return indent(encode(report_json(report)), indent=1).decode()


def report_json(report: Account) -> ReportJson:
    """The report as the value that is encoded. `settled` and `held` keep their names: scripts read them."""
    left = report.left
    return ReportJson(
        version=1,
        settled=report.converged,
        steps=[_step(one) for one in (*report.earlier, *report.steps)],
        waiting=[WaitingJson(one.subject, one.reason) for one in left.waiting],
        refusals=[RefusalJson(one.subject, one.rule, one.evidence) for one in left.refusals],
        unknown=left.unknown,
        in_use=left.in_use_elsewhere,
        accepted=left.accepted,
        notes=left.hints,
    )


def _step(one: StepReport) -> StepJson:
    action = one.step.action
    records: tuple[RecordJson, ...] | UnsetType = UNSET
    if isinstance(action, ChangeRecords):
        records = tuple(RecordJson(each.name, each.type, each.before, each.values) for each in action.records)
    lines: tuple[str, ...] | UnsetType = UNSET
    if isinstance(action, WriteFile) and action.before is not None:
        lines = tuple(difference(action.before, action.content))
    return StepJson(
        one.number,
        action.kind,
        action.subject,
        action.describe(),
        one.step.reason,
        one.step.depends,
        one.status,
        records,
        UNSET if one.error is None else one.error,
        lines,
    )
