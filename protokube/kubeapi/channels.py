"""Addon channels on an API server: what they have applied, and what differs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from protokube.core.model import Unknown
from protokube.core.objects.assess import has_fields
from protokube.core.objects.channels import (
    hash_of,
    manager,
    owns_fields,
    read_record,
    record_key,
    same,
)
from protokube.core.objects.model import ChannelFacts, ChannelSource, Manifest, ObjectKey, key_of
from protokube.errors import ProviderError
from protokube.kubeapi.client import KubeApi
from protokube.kubeapi.http import KubeError
from protokube.kubeapi.lease import AddonLease
from protokube.kubeapi.sources import read_manifests


class Channels:
    """The channels of one configuration, on a node that sees `lease`."""

    def __init__(self, root: str, sources: tuple[ChannelSource, ...], lease: AddonLease) -> None:
        self._root, self.sources, self._lease = root, sources, lease

    def look(self, api: KubeApi) -> Mapping[str, Any]:
        """The facts of all channels, and of the lease. A channel that can't be read or compared is unknown."""
        if not self.sources:
            return {}
        try:
            lease = self._lease.read(api)
        except ProviderError as error:
            reason = Unknown(f"the lease can't be read: {error}")
            return {"channels": tuple(ChannelFacts(one.name, reason, prune=one.prune) for one in self.sources)}
        return {"channels": tuple(self._channel(api, one) for one in self.sources), "lease": lease}

    def _channel(self, api: KubeApi, source: ChannelSource) -> ChannelFacts:
        try:
            return self._compared(api, source)
        except ProviderError as error:
            return ChannelFacts(source.name, Unknown(str(error)), prune=source.prune)

    def _compared(self, api: KubeApi, source: ChannelSource) -> ChannelFacts:
        wanted = tuple(_placed(api, one) for one in read_manifests(source, self._root))
        record = read_record(_get(api, record_key(source.name)))
        facts = ChannelFacts(source.name, wanted, record, prune=source.prune)
        if isinstance(record, Unknown):
            return facts
        hashes = {one.key: one.hash for one in record}
        owner = manager(source.name)
        differing = frozenset(
            key_of(one) for one in wanted if _differs(api, one, owner, known=hashes.get(key_of(one)) == hash_of(one))
        )
        gone = (key for key in hashes if key not in {key_of(one) for one in wanted})
        owned = frozenset(key for key in gone if (found := _get(api, key)) is not None and owns_fields(found, owner))
        return replace(facts, differing=differing, owned=owned)

    def remove(self, api: KubeApi, key: ObjectKey, owner: str) -> None:
        """Remove an object of which `owner` owns fields, if it is there."""
        found = _get(api, key)
        if found is not None and owns_fields(found, owner):
            api.delete(api.path(key.api_version, key.kind, key.namespace, key.name), uid=found["metadata"]["uid"])


def _placed(api: KubeApi, manifest: Manifest) -> Manifest:
    """A manifest with the namespace that it lies in, where its kind has one."""
    try:
        namespaced = api.kind(manifest["apiVersion"], manifest["kind"]).namespaced
    except KubeError as error:
        if error.reason != "NoSuchKind":
            raise
        return manifest  # its definition may be in the same channel
    metadata = {key: value for key, value in manifest["metadata"].items() if key != "namespace"}
    if namespaced:
        metadata["namespace"] = manifest["metadata"].get("namespace") or "default"
    return {**manifest, "metadata": metadata}


def _get(api: KubeApi, key: ObjectKey) -> Manifest | None:
    try:
        path = api.path(key.api_version, key.kind, key.namespace, key.name)
    except KubeError as error:
        if error.reason != "NoSuchKind":
            raise
        return None
    return api.get(path)


def _differs(api: KubeApi, manifest: Manifest, owner: str, *, known: bool) -> bool:
    """Whether to apply a manifest would change anything. `known`: it is the one that was applied last.

    The API server writes some values in another form than they were given, so what seems to differ is asked of it.
    """
    found = _get(api, key_of(manifest))
    if found is None:
        return True
    if known and has_fields(found, manifest):
        return False
    return not same(found, api.apply(manifest, owner, dry_run=True))
