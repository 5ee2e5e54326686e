"""The lease for addons: which node writes them. No clock of another machine counts."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

from protokube.core.objects.channels import LEASE, LEASE_SECONDS, NAMESPACE
from protokube.core.objects.model import Lease
from protokube.errors import ProviderError
from protokube.kubeapi.client import KubeApi, Object
from protokube.kubeapi.http import KubeError

LEASES = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases"


class AddonLease:
    """What this node has seen of the lease. `now` is a clock that only goes forward, in seconds.

    The lease is over when it hasn't changed for its time by this node's own clock: a holder's clock may be wrong by a
    year. So a daemon that has just begun waits that long for a holder that is gone.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._seen: tuple[str, float] | None = None
        """The version that was last seen, and since when."""
        self._holder = ""
        self._kept: float | None = None
        """When this node has last taken or renewed it."""

    def read(self, api: KubeApi) -> Lease:
        """Who holds the lease."""
        return self._read(api.get(f"{LEASES}/{LEASE}"))

    def _read(self, found: Object | None) -> Lease:
        if found is None:
            self._holder = ""
            return Lease()
        version = found["metadata"]["resourceVersion"]
        if self._seen is None or self._seen[0] != version:
            self._seen = version, self._now()
        holder = self._holder = _holder(found)
        return Lease(holder, bool(holder) and self._now() - self._seen[1] < LEASE_SECONDS)

    def take(self, api: KubeApi, node: str) -> None:
        """Take the lease, or renew it, unless another node has it or is faster."""
        found = api.get(f"{LEASES}/{LEASE}")
        held = self._read(found)
        if held.alive and held.holder != node:
            return
        self._write(api, found, node)

    def keep(self, api: KubeApi) -> None:
        """Renew the lease that this node had in the last look, if a quarter of its time is over: a pass may be long.
        Raises ProviderError when it has gone to another node since."""
        if self._kept is not None and self._now() - self._kept < LEASE_SECONDS / 4:
            return
        found = api.get(f"{LEASES}/{LEASE}")
        if found is None or _holder(found) != self._holder:
            holder = "nobody" if found is None else _holder(found)
            raise ProviderError(f"the lease for addons has gone from {self._holder or 'nobody'} to {holder}")
        self._write(api, found, self._holder)

    def _write(self, api: KubeApi, found: Object | None, node: str) -> None:
        when = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec = {"holderIdentity": node, "leaseDurationSeconds": int(LEASE_SECONDS), "renewTime": when}
        try:
            if found is None:
                kind = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease"}
                api.create(LEASES, {**kind, "metadata": {"name": LEASE, "namespace": NAMESPACE}, "spec": spec})
            else:
                api.replace(f"{LEASES}/{LEASE}", {**found, "spec": spec})
        except KubeError as error:
            if error.status != 409:
                raise
            return
        self._holder, self._kept = node, self._now()


def _holder(found: Object) -> str:
    return str((found.get("spec") or {}).get("holderIdentity") or "")
