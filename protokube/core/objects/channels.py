"""Addon channels: manifests that are applied to the cluster, and pruned when the channel has them no more.

Every control-plane node looks; the one that holds the lease writes. What a channel has applied stands in a ConfigMap,
`kube-system/protokube-addons-<channel>`. An object is added there before it is first applied, and leaves the record
after it is gone from the cluster: whoever is interrupted leaves nothing that nobody knows of. Fields that a newer
manifest lacks go by the API server's own three-way merge, since each channel owns its fields under its own name.

An object is removed only if the channel made it, has it no more, and still owns fields of it, and no other channel
wants it. What was there before, and what holds other people's objects, stays; so does all when a channel is empty,
which is more often a fault than a wish.

Nodes may read different texts of one channel. The record tells which was begun last: a node whose own text was once
that one, and hasn't changed since, has been overtaken, and writes nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Set
from typing import Any

from msgspec import MsgspecError
from msgspec.json import decode, encode
from msgspec.structs import replace

from protokube.core.model import Unknown
from protokube.core.objects.model import (
    Applied,
    ChannelFacts,
    ChannelStep,
    Manifest,
    ObjectKey,
    ObjectWanted,
    Written,
    key_of,
)
from protokube.core.steps import Findings

NAMESPACE = "kube-system"
LEASE = "protokube-addons"
LEASE_SECONDS = 120.0
"""After so long without a change that it has seen, a node takes another's lease for given up."""
_FIRST = ("Namespace", "CustomResourceDefinition", "PriorityClass", "StorageClass")
"""Kinds that other objects need. They are applied in a pass of their own."""
_STAY = ("Namespace", "CustomResourceDefinition")
"""Kinds that take others' objects with them. They are never removed."""
_MANAGER = "protokube-addons-"
PRUNE_AFTER = 240.0
"""Seconds for which an object must be missing from its channel before it is removed: one look may be wrong."""


def manager(channel: str) -> str:
    """The owner of a channel's fields, as the API server keeps it in managedFields."""
    return _MANAGER + channel


def record_key(channel: str) -> ObjectKey:
    """The ConfigMap of what a channel has applied."""
    return ObjectKey("v1", "ConfigMap", f"protokube-addons-{channel}", NAMESPACE)


def hash_of(manifest: Manifest) -> str:
    """Tells one text of a manifest from another."""
    return hashlib.sha256(encode(manifest, order="deterministic")).hexdigest()[:32]


def text_of(manifests: Iterable[Manifest]) -> str:
    """Tells one text of a whole channel from another, in whichever order its manifests stand."""
    return hash_of({"manifests": sorted(map(hash_of, manifests))})


def next_step(facts: ChannelFacts, findings: Findings, node: str = "") -> ChannelStep | None:
    """A channel's next step, as if this node, `node`, held the lease; None when the cluster is as it says."""
    subject = f"addon channel {facts.name}"
    for part in (facts.wanted, facts.record):
        if isinstance(part, Unknown):
            findings.not_known(subject, part.reason)
            return None
    assert not isinstance(facts.wanted, Unknown) and not isinstance(facts.record, Unknown)
    wanted = {key_of(one): one for one in facts.wanted}
    record = {one.key: one for one in facts.record}
    other = facts.text != facts.written.text
    if other and facts.unchanged:
        evidence = f"{facts.written.node} has applied another text of it, and this node's is as old as before"
        findings.refuse(subject, "addons/sources-differ", evidence)
        return None
    if (unrecorded := wanted.keys() - record.keys()) or other:
        before = {one.key.object for one in facts.record if not one.made} | {key.object for key in facts.foreign}
        begun = {key: Applied(key, "", made=key.object not in before) for key in unrecorded}
        reason = f"{len(unrecorded)} objects are to be applied" if unrecorded else "the channel has another text"
        return _record(facts, {**record, **begun}, reason, node)
    late = [one for key, one in wanted.items() if key in facts.differing]
    first = [one for one in late if one["kind"] in _FIRST]
    forget, unwanted = _gone(facts, wanted.keys(), record, findings)
    remove = () if first else unwanted
    if late or remove:
        reason = f"it differs from the addon channel {facts.name}"
        return ChannelStep(facts.name, tuple(ObjectWanted(one, reason) for one in first or late), remove)
    done = {key: replace(record[key], hash=hash_of(one)) for key, one in wanted.items()}
    after = {**{key: one for key, one in record.items() if key not in forget}, **done}
    if after != record:
        return _record(facts, after, "the cluster is as the channel says", node)
    return None


def _gone(
    facts: ChannelFacts, wanted: Set[ObjectKey], record: Mapping[ObjectKey, Applied], findings: Findings
) -> tuple[frozenset[ObjectKey], tuple[ObjectKey, ...]]:
    """What is to leave the record alone, and what is to leave the cluster first."""
    objects = {key.object for key in wanted}
    renamed = frozenset(key for key in record.keys() - wanted if key.object in objects)  # wanted in another version
    if not facts.prune:
        return renamed, ()
    dropped = [key for key in record if key.object not in objects]
    forget = renamed.union(key for key in dropped if key not in facts.owned)
    mine = [key for key in dropped if key in facts.owned and record[key].made and key.kind not in _STAY]
    subject = f"addon channel {facts.name}"
    if mine and not wanted:
        evidence = f"it has no object at all, and {len(mine)} that it has applied are in the cluster"
        findings.refuse(subject, "addons/empty", evidence)
        return forget, ()
    for key in mine:
        if key in facts.held:
            findings.wait(subject, f"{key} isn't removed yet: {facts.held[key]}", external=True)
    return forget, tuple(key for key in mine if key not in facts.held)


def _record(facts: ChannelFacts, record: Mapping[ObjectKey, Applied], reason: str, node: str) -> ChannelStep:
    applied = sorted(record.values(), key=lambda one: (str(one.key), one.key.api_version))
    metadata = {"name": record_key(facts.name).name, "namespace": NAMESPACE}
    data = {"applied": encode(applied).decode(), "text": facts.text, "node": node}
    manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}
    return ChannelStep(facts.name, record=ObjectWanted(manifest, reason))


def read_record(config: Manifest | None) -> tuple[Applied, ...] | Unknown:
    """What a channel has applied, from its ConfigMap; nothing where there is none."""
    if config is None:
        return ()
    try:
        return decode((config.get("data") or {})["applied"], type=tuple[Applied, ...])
    except (KeyError, MsgspecError) as error:
        return Unknown(f"ConfigMap {NAMESPACE}/{config['metadata']['name']} can't be understood: {error}")


def read_written(config: Manifest | None) -> Written:
    """Which text of a channel was begun last, and by whom, from its ConfigMap."""
    data = (config or {}).get("data") or {}
    return Written(str(data.get("text") or ""), str(data.get("node") or ""))


def owns_fields(found: Manifest, owner: str) -> bool:
    """Whether an owner has fields of an object."""
    return any(one.get("manager") == owner for one in found["metadata"].get("managedFields") or ())


def is_foreign(found: Manifest) -> bool:
    """Whether no channel has applied an object that is there."""
    return not any(
        str(one.get("manager")).startswith(_MANAGER) for one in found["metadata"].get("managedFields") or ()
    )


def same(found: Any, after: Any) -> bool:
    """Whether an object is the same, but for what the API server counts and keeps about owners."""
    return bool(_without_count(found) == _without_count(after))


def _without_count(one: Manifest) -> Manifest:
    counted = ("resourceVersion", "generation", "managedFields")
    metadata = {key: value for key, value in one["metadata"].items() if key not in counted}
    return {**one, "metadata": metadata}


def applied(facts: Iterable[ChannelFacts], key: ObjectKey, manifest: Manifest) -> tuple[ChannelFacts, ...]:
    """The facts after an object was applied, by a channel or as its record."""
    return tuple(
        replace(one, record=read_record(manifest), written=read_written(manifest))
        if key == record_key(one.name)
        else replace(one, differing=one.differing - {key})
        for one in facts
    )


def removed(facts: Iterable[ChannelFacts], key: ObjectKey) -> tuple[ChannelFacts, ...]:
    """The facts after an object was removed."""
    return tuple(replace(one, owned=one.owned - {key}) for one in facts)
