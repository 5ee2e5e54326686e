"""observe → desire → **plan** → apply: what can be done now, one planner per concern.

A plan holds only actions whose ground is already laid: nothing in it leans on another action of the same plan, so
its actions may run side by side, in any order, and each may be interrupted before or after its effect.
"""

from __future__ import annotations

from protokube.core.disks.plan import plan_disks
from protokube.core.dns.plan import plan_names
from protokube.core.etcd.plan import plan_etcd
from protokube.core.kubelet.plan import plan_kubelet
from protokube.core.model import Unknown
from protokube.core.observed import Observed
from protokube.core.settings import NodeConfig
from protokube.core.steps import Plan
from protokube.core.volumes.assess import Desired, desire
from protokube.core.volumes.hints import plan_notes
from protokube.core.volumes.model import Instance
from protokube.core.volumes.plan import plan_volumes
from protokube.core.volumes.plan_arrivals import plan_arrivals
from protokube.core.volumes.tags import MASTER_ROLES


def plan(config: NodeConfig, observed: Observed) -> Plan:
    """Plan one pass."""
    out = Plan()
    if isinstance(observed.instance, Unknown):
        out.ignorance("instance", observed.instance.reason)
    else:
        _check_role(config, observed.instance, out)
    if config.master and isinstance(observed.volumes, Unknown):
        out.ignorance("volumes", observed.volumes.reason)
    desired = desire(config, observed)
    if desired is not None:
        _plan_master(config, observed, desired, out)
    plan_kubelet(config, observed, desired, out)
    return out


def _check_role(config: NodeConfig, instance: Instance, out: Plan) -> None:
    """The configuration decides whether this is a control-plane node. Tags that contradict it are told of."""
    tagged = ", ".join(sorted(instance.roles))
    master = not instance.roles.isdisjoint(MASTER_ROLES)
    if config.master and instance.roles and not master:
        evidence = f"--master is set, and the instance's tags name only the role {tagged}; it goes on as a master"
        out.refuse("instance", "instance/role", evidence)
    elif not config.master and master and "node" not in instance.roles:
        evidence = f"the instance's tags name the role {tagged}, and --master is not set; it goes on as a worker"
        out.refuse("instance", "instance/role", evidence)


def _plan_master(config: NodeConfig, observed: Observed, desired: Desired, out: Plan) -> None:
    plan_volumes(observed, desired, out)
    plan_arrivals(observed, desired, out)
    plan_notes(desired, out)
    plan_disks(config, observed, desired, out)
    plan_etcd(config, observed, desired, out)
    plan_names(config, observed, desired, out)
