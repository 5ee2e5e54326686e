"""observe → desire → **plan** → apply: what can be done now, one planner per concern.

A plan holds only actions whose ground is already laid: nothing in it leans on another action of the same plan, so
its actions may run side by side, in any order, and each may be interrupted before or after its effect.
"""

from __future__ import annotations

from protokube.core.desired import Desired, desire
from protokube.core.model import Unknown
from protokube.core.observed import Observed
from protokube.core.plan_arrivals import plan_arrivals
from protokube.core.plan_disks import plan_disks
from protokube.core.plan_etcd import plan_etcd
from protokube.core.plan_kubelet import plan_kubelet
from protokube.core.plan_names import plan_names
from protokube.core.plan_notes import plan_notes
from protokube.core.plan_volumes import plan_volumes
from protokube.core.settings import NodeConfig
from protokube.core.steps import Plan


def plan(config: NodeConfig, observed: Observed) -> Plan:
    """Plan one pass."""
    out = Plan()
    if isinstance(observed.instance, Unknown):
        out.ignorance("instance", observed.instance.reason)
    if config.master and isinstance(observed.volumes, Unknown):
        out.ignorance("volumes", observed.volumes.reason)
    desired = desire(config, observed)
    if desired is not None and config.master:
        _plan_master(config, observed, desired, out)
    plan_kubelet(config, observed, desired, out)
    return out


def _plan_master(config: NodeConfig, observed: Observed, desired: Desired, out: Plan) -> None:
    plan_volumes(observed, desired, out)
    plan_arrivals(observed, desired, out)
    plan_notes(desired, out)
    plan_disks(config, observed, desired, out)
    plan_etcd(config, observed, desired, out)
    plan_names(config, observed, desired, out)
