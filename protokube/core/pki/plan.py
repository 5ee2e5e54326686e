"""Turns the judgement of a node's certificates into actions."""

from __future__ import annotations

from protokube.core.pki.actions import IssueCertificate, MakeAuthorities
from protokube.core.pki.model import PkiAssessment
from protokube.core.steps import Plan


def plan(judged: PkiAssessment, out: Plan) -> None:
    """Plan the authorities that are missing, else the certificates to issue."""
    out.add(judged.findings)
    if judged.missing:
        reason = "the first of this cluster" if judged.first else "the cluster's PKI lacks them"
        out.step(MakeAuthorities(judged.cluster, judged.missing, judged.first), reason)
    for wish in judged.issue:
        out.step(IssueCertificate(judged.cluster, wish.wanted), wish.reason)
