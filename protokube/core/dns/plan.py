"""Turns the judgement of the names into batches of changes."""

from __future__ import annotations

from protokube.core.dns.actions import ChangeRecords
from protokube.core.dns.model import REMOVALS, DnsAssessment
from protokube.core.steps import Plan


def plan(judged: DnsAssessment, out: Plan) -> None:
    """Plan the changes to records; say how many are left for later reconciles."""
    out.add(judged.findings)
    for batch in judged.batches:
        out.step(ChangeRecords(batch.name, batch.changes), batch.reason)
    if judged.left_over and REMOVALS not in out.failed:
        out.wait("dns", f"{judged.left_over} more of the records that terminated owners left go in later reconciles")
