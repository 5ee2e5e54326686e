"""One component of the control plane: what it waits for, and what counts as a fault."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest

from protokube.core.controlplane.component import PATIENCE, Candidate, Situation, judge
from protokube.core.controlplane.model import ControlPlaneFacts, Health
from protokube.core.controlplane.names import API_SERVER
from protokube.core.kubelet.model import KubeletFacts
from protokube.core.model import Moment, Unknown
from protokube.core.node.model import NodeFacts
from protokube.core.steps import Findings
from tests.core.states import NOW

ETCD = "http://127.0.0.1:4101/health"
ONE = Candidate(API_SERVER, "the pod", (), "https://127.0.0.1:6443/livez", "/etc/kubernetes/manifests/x.manifest")


def gate(situation: Situation) -> Iterator[str]:
    if ill := situation.ill("etcd main", ETCD):
        yield ill


@pytest.mark.parametrize(
    ("health", "refused"),
    [
        ({}, False),
        ({ETCD: Unknown("no answer")}, True),
        ({ETCD: Health(503, "no leader")}, True),
    ],
)
def test_only_an_answer_is_a_fault(health: Mapping[str, Health | Unknown], refused: bool) -> None:
    facts = ControlPlaneFacts(Moment(NOW, PATIENCE + 5), NodeFacts({}), KubeletFacts(), health=health)
    situation = Situation(facts, Findings())
    verdict = judge(situation, ONE, gate(situation), iter(()))
    assert not verdict.files and [one.subject for one in situation.findings.waiting] == [API_SERVER]
    assert [one.rule for one in situation.findings.refusals] == ["control-plane/etcd-not-ready"] * refused
