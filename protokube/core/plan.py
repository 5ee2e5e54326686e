"""look → judge → **plan** → act: the actions that are possible now, one planner per concern.

A plan has only actions whose preconditions are met already. None leans on another action of the same plan. So they
run side by side, in any order, and each may be interrupted before or after its effect.

As in assess.py, a concern that the configuration doesn't ask for isn't loaded.
"""

from __future__ import annotations

from collections.abc import Mapping

from protokube.core.assess import Assessment
from protokube.core.disks.plan import plan as plan_disks
from protokube.core.dns.plan import plan as plan_dns
from protokube.core.etcd.plan import plan as plan_etcd
from protokube.core.kubelet.plan import plan as plan_kubelet
from protokube.core.pki.plan import plan as plan_pki
from protokube.core.steps import Plan
from protokube.core.volumes.plan import plan as plan_volumes


def plan(judged: Assessment, failed: frozenset[str] = frozenset(), assumed: Mapping[str, str] | None = None) -> Plan:
    """Plan one pass. `failed` are subjects to leave alone; `assumed` are a prediction's assumptions, by volume."""
    out = Plan(failed=failed, assumed=assumed or {})
    out.add(judged.findings)
    if judged.volumes is not None:
        plan_volumes(judged.volumes, out)
    if judged.disks is not None:
        plan_disks(judged.disks, out)
    if judged.pki is not None:
        plan_pki(judged.pki, out)
    if judged.etcd is not None:
        plan_etcd(judged.etcd, out)
    if judged.backup is not None:
        from protokube.core.backup.plan import plan as plan_backups

        plan_backups(judged.backup, out)
    if judged.dns is not None:
        plan_dns(judged.dns, out)
    plan_kubelet(judged.kubelet, out)
    if judged.objects is not None:
        from protokube.core.objects.plan import plan as plan_objects

        plan_objects(judged.objects, out)
    if judged.control_plane is not None:
        from protokube.core.controlplane.plan import plan as plan_control_plane

        plan_control_plane(judged.control_plane, out)
    return out
