"""`protokube etcd rotate`: new keys and certificates for this node's member of an etcd cluster. It runs on.

etcd reads its certificate and key anew at each handshake (its security guide), so nothing restarts.
"""

from __future__ import annotations

from collections.abc import Callable

from protokube.config.choice import Chosen
from protokube.core.etcd.tls import peer_certificate, server_certificate
from protokube.core.pki.actions import IssueCertificate
from protokube.core.pki.expiry import why_clock_is_wrong
from protokube.core.pki.model import Certificate
from protokube.etcdcommand.look import Cluster, ImpossibleError
from protokube.pki.node import NodePki


def rotate_certificates(chosen: Chosen, cluster: Cluster, now: float, confirm: Callable[[], None] | None) -> None:
    """Issue the member's certificates again. `confirm` asks; None only shows the plan.

    Raises ImpossibleError where the member has none, or the clock can't be trusted.
    """
    pki = NodePki(chosen.settings.root, chosen.store.open)
    held = pki.certificates()
    wanted = []
    for name in (server_certificate(cluster.key), peer_certificate(cluster.key)):
        if not isinstance(found := held.get(name), Certificate):
            why = found.reason if found is not None else "there is none; etcd speaks without TLS here"
            raise ImpossibleError(f"{name}: {why}")
        wanted.append(found.wanted)
    names = " and ".join(one.name for one in wanted)
    print(f"Issue {names} again, with new keys. Etcd cluster {cluster.key} serves on.", flush=True)
    if confirm is None:
        return
    confirm()
    in_sync = chosen.config.pki.trust_clock or pki.clock_in_sync()
    if wrong := why_clock_is_wrong(now, in_sync=in_sync):
        raise ImpossibleError(f"pki/time: {wrong}")
    for one in wanted:
        pki.issue(IssueCertificate(cluster.cluster_id, one))
        print(f"issued {one.name}")
