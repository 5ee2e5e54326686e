"""The machine's role: the configuration decides, and tags that contradict it are reported."""

from __future__ import annotations

from protokube.core.model import Unknown
from protokube.core.steps import Findings
from protokube.core.volumes.model import CloudSnapshot, PeerState
from protokube.core.volumes.tags import MASTER_ROLES


def judge_role(cloud: CloudSnapshot, *, master: bool) -> Findings:
    """Report the unknown parts of the cloud's answer, tags that contradict `master`, and shared addresses."""
    findings = Findings()
    if isinstance(cloud.instance, Unknown):
        findings.not_known("instance", cloud.instance.reason)
    else:
        roles = cloud.instance.roles
        tagged = ", ".join(sorted(roles))
        tagged_master = not roles.isdisjoint(MASTER_ROLES)
        if master and roles and not tagged_master:
            evidence = (
                f"--master is set, and the instance's tags name only the role {tagged}; "
                "it goes on as a control-plane node"
            )
            findings.refuse("instance", "instance/role", evidence)
        elif not master and tagged_master and "node" not in roles:
            evidence = f"the instance's tags name the role {tagged}, and --master is not set; it goes on as a worker"
            findings.refuse("instance", "instance/role", evidence)
    if master and isinstance(cloud.volumes, Unknown):
        findings.not_known("volumes", cloud.volumes.reason)
    if master:
        _judge_addresses(cloud, findings)
    return findings


def _judge_addresses(cloud: CloudSnapshot, findings: Findings) -> None:
    """Refuse an address that another peer gives too: both peers' names would lead to one machine."""
    if isinstance(cloud.instance, Unknown) or isinstance(cloud.peers, Unknown):
        return
    for peer in cloud.peers:
        same = sorted(set(peer.internal) & set(cloud.instance.internal))
        if same and peer.instance != cloud.instance.id and peer.state is not PeerState.TERMINATED:
            evidence = (
                f"{cloud.instance.id} and {peer.instance} give the same address {', '.join(same)} (expected one "
                "each); say each node's internalAddress in the inventory"
            )
            findings.refuse("instance", "instance/address", evidence)
