"""What a report says of running etcd clusters."""

from __future__ import annotations

from msgspec.structs import replace

from protokube.core.etcd.health import ClusterView
from protokube.core.etcd.model import EtcdFacts, NotListening
from protokube.core.etcd.reported import report_health
from protokube.core.etcd.running import NOSPACE, Alarm
from protokube.core.model import Unknown
from protokube.core.steps import Findings
from tests.core.etcd_views import view
from tests.core.states import state


def findings(seen: ClusterView, volumes: dict[str, str] | None = None) -> Findings:
    observed = state()
    facts = EtcdFacts(0.0, observed.cloud, observed.storage, observed.node, health={"main": seen})
    found = Findings()
    report_health(facts, {"main": "vol-a"} if volumes is None else volumes, found)
    return found


def test_what_is_wrong_is_refused_and_no_trouble_of_the_node() -> None:
    found = findings(replace(view("abc"), alarms=(Alarm(2, NOSPACE),)))
    (refusal,) = found.refusals
    assert (refusal.subject, refusal.rule, refusal.serious) == ("vol-a", "etcd/nospace", False)
    assert found.converged
    assert findings(view("abc")).refusals == []


def test_a_member_that_does_not_run_is_a_hint() -> None:
    down = NotListening("refused")
    found = findings(ClusterView("etcd-a", down, down, down))
    assert found.refusals == [] and "etcd-a doesn't run" in found.hints[0]
    assert (
        findings(ClusterView("etcd-a", Unknown("no answer"), Unknown("no"), ())).refusals[0].rule == "etcd/no-quorum"
    )


def test_a_member_that_has_left_this_node_is_not_reported() -> None:
    assert findings(replace(view("abc"), alarms=(Alarm(2, NOSPACE),)), {}).refusals == []
