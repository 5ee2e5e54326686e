"""Workers while the authority `kubernetes` is replaced: they hold its certificates, and have no store to follow.

A worker trusts the /etc/protokube/ca.crt that was put there when it joined, and its kubelet's client certificate
lives for a year. A step that is taken before a worker has moved locks its kubelet out, and its pods with it. Nothing
tells from outside what a worker trusts, so a person has to say that they have all moved.
"""

from __future__ import annotations

from collections.abc import Sequence

from protokube.core.model import Unknown
from protokube.core.pki.rotation import RotationStep

_BEFORE = {
    RotationStep.REISSUE: "give each of them this node's /var/lib/protokube/pki/protokube/ca.crt as "
    "/etc/protokube/ca.crt; protokube restarts kubelet there",
    RotationStep.DROP: "let each of them get certificates of the new authority: a token of its own (`protokube token "
    "create --for NAME`) as /etc/protokube/token, then stop kubelet, remove /var/lib/kubelet/kubeconfig and "
    "the files in /var/lib/kubelet/pki, and start it",
}
_SHOWN = 5


def why_not_yet(step: RotationStep, workers: Sequence[str] | Unknown) -> str | None:
    """Why a step of the authority `kubernetes` would lock workers out, and what to do first; None when none would be.

    `workers` are the names of all nodes that aren't the control plane's.
    """
    if step not in _BEFORE:
        return None
    remedy = f"{_BEFORE[step]}. When that is done, say --workers-moved"
    if isinstance(workers, Unknown):
        return (
            f"workers: not known, since the API server gives no answer ({workers.reason}); if there are any, {remedy}"
        )
    if not workers:
        return None
    more = f" and {len(workers) - _SHOWN} more" if len(workers) > _SHOWN else ""
    return f"{', '.join(sorted(workers)[:_SHOWN])}{more}: this step locks these workers out; {remedy}"
