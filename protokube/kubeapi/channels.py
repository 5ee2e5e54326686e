"""Addon channels on an API server: what they have applied, and what differs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from protokube.core.model import Unknown
from protokube.core.objects.assess import has_fields
from protokube.core.objects.channels import (
    PRUNE_AFTER,
    hash_of,
    is_foreign,
    manager,
    owns_fields,
    read_record,
    read_written,
    record_key,
    same,
    text_of,
)
from protokube.core.objects.model import ChannelFacts, ChannelSource, Manifest, ObjectKey, key_of
from protokube.errors import ProviderError
from protokube.kubeapi.client import KubeApi
from protokube.kubeapi.http import KubeError
from protokube.kubeapi.lease import AddonLease
from protokube.kubeapi.sources import read_manifests
from protokube.kubeapi.web import WebChannel


class _Read(Struct, frozen=True):
    """What a channel wants, with a hash of its text, and what is there of it."""

    text: str
    wanted: tuple[Manifest, ...]
    found: Mapping[ObjectKey, Manifest | None]

    @property
    def uids(self) -> Iterator[str]:
        """Those of the objects that are there: one object may show in several groups and versions."""
        return (one["metadata"]["uid"] for one in self.found.values() if one is not None)


class Channels:
    """The channels of one configuration, on a node that sees `lease`. `now`: a clock that only goes forward.
    `changed` is called when a channel from the web has become another one."""

    def __init__(
        self,
        root: str,
        sources: tuple[ChannelSource, ...],
        lease: AddonLease,
        now: Callable[[], float] = time.monotonic,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._root, self.sources, self._lease, self.now = root, sources, lease, now
        self._web = {one.name: WebChannel(one, changed) for one in sources if one.remote}
        self._missing: dict[str, dict[ObjectKey, float]] = {}
        """What each channel has no more, and since when this node has seen that."""
        self._agreed: dict[str, str] = {}
        """Each channel's text when it was last the one that its record tells."""

    def look(self, api: KubeApi) -> Mapping[str, Any]:
        """The facts of all channels, and of the lease. A channel that can't be read or compared is unknown."""
        if not self.sources:
            return {}
        try:
            lease = self._lease.read(api)
        except ProviderError as error:
            reason = Unknown(f"the lease can't be read: {error}")
            return {"channels": tuple(ChannelFacts(one.name, reason, prune=one.prune) for one in self.sources)}
        reads = {one.name: self._read(api, one) for one in self.sources}
        return {"channels": tuple(self._channel(api, one, reads) for one in self.sources), "lease": lease}

    def _read(self, api: KubeApi, source: ChannelSource) -> _Read | Unknown:
        try:
            texts = self._web[source.name].last() if source.remote else read_manifests(source, self._root)
            if isinstance(texts, Unknown):
                return texts
            wanted = tuple(_placed(api, one) for one in texts)
            found = {key: _get(api, key) for key in map(key_of, wanted)}
            if len(found) < len(wanted):
                raise ProviderError(f"{source.source}: an object stands in it twice, once without its namespace")
            return _Read(text_of(texts), wanted, found)
        except ProviderError as error:
            return Unknown(str(error))

    def _channel(self, api: KubeApi, source: ChannelSource, reads: Mapping[str, _Read | Unknown]) -> ChannelFacts:
        read = reads[source.name]
        if isinstance(read, Unknown):
            return ChannelFacts(source.name, read, prune=source.prune)
        try:
            return self._compared(api, source, read, reads)
        except ProviderError as error:
            return ChannelFacts(source.name, Unknown(str(error)), prune=source.prune)

    def _compared(
        self, api: KubeApi, source: ChannelSource, read: _Read, reads: Mapping[str, _Read | Unknown]
    ) -> ChannelFacts:
        config = _get(api, record_key(source.name))
        record, written = read_record(config), read_written(config)
        if written.text == read.text:
            self._agreed[source.name] = read.text
        facts = ChannelFacts(
            source.name,
            read.wanted,
            record,
            text=read.text,
            written=written,
            unchanged=self._agreed.get(source.name) == read.text,
            prune=source.prune,
        )
        if isinstance(record, Unknown):
            return facts
        hashes, owner = {one.key: one.hash for one in record}, manager(source.name)
        differing = frozenset(
            key
            for key, one in ((key_of(one), one) for one in read.wanted)
            if _differs(api, one, owner, read.found[key], known=hashes.get(key) == hash_of(one))
        )
        foreign = frozenset(key for key, found in read.found.items() if found is not None and is_foreign(found))
        wanted = {uid for one in reads.values() if isinstance(one, _Read) for uid in one.uids}
        owned = frozenset(
            key
            for key in hashes.keys() - read.found.keys()
            if (found := _get(api, key)) is not None
            and owns_fields(found, owner)
            and found["metadata"]["uid"] not in wanted
        )
        blind = [name for name, one in reads.items() if isinstance(one, Unknown)]
        held = self._held(source.name, owned, blind)
        return replace(facts, differing=differing, foreign=foreign, owned=owned, held=held)

    def _held(self, channel: str, owned: frozenset[ObjectKey], blind: Sequence[str]) -> Mapping[ObjectKey, str]:
        """What isn't to be removed yet, and why."""
        before, now = self._missing.get(channel, {}), self.now()
        since = self._missing[channel] = {key: before.get(key, now) for key in owned}
        if blind:
            return dict.fromkeys(owned, f"the channel {blind[0]}, which may want it, can't be read")
        reason = f"the channel must lack it for {PRUNE_AFTER:.0f} seconds"
        return {key: reason for key, first in since.items() if now - first < PRUNE_AFTER}

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


def _differs(api: KubeApi, manifest: Manifest, owner: str, found: Manifest | None, *, known: bool) -> bool:
    """Whether to apply a manifest would change anything. `known`: it is the one that was applied last.

    The API server writes some values in another form than they were given, so what seems to differ is asked of it.
    """
    if found is None:
        return True
    if known and has_fields(found, manifest):
        return False
    return not same(found, api.apply(manifest, owner, dry_run=True))
