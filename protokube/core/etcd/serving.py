"""The members of this machine that are to be backed up: those that have started, and may run."""

from __future__ import annotations

from protokube.core.backup.model import BackedUp
from protokube.core.etcd.model import EtcdAssessment
from protokube.core.static_pod import manifest_env


def serving_members(judged: EtcdAssessment) -> tuple[BackedUp, ...]:
    """The members whose etcd has started and whose manifest may stand in kubelet's folder."""
    return tuple(
        BackedUp(
            one.member.volume.member.cluster,
            one.member.volume.member.me,
            one.member.template.client_port,
            manifest_env(one.member.manifest).get("ETCD_LISTEN_CLIENT_URLS", "").startswith("https:"),
        )
        for one in judged.verdicts
        if one.member.has_data and one.keep_link
    )
