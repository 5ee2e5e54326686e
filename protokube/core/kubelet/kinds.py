"""The kinds of value that only kubelet has: eviction thresholds, taints, memory reserved on NUMA nodes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from protokube.core.component.flags import spell_value
from protokube.core.component.values import KINDS, Kind, map_of, quantity_or_percent, read_duration, wrong

_TAINT = r"([^=:]+)(?:=([^:]*))?:([A-Za-z]+)"


def taint_of(value: object) -> object:
    """A taint written as kops and kubectl do, `key=value:Effect` or `key:Effect`, as the API's object."""
    if not isinstance(value, str):
        return value
    match = re.fullmatch(_TAINT, value)
    if match is None:
        raise wrong(value, "a taint like key=value:NoSchedule")
    key, text, effect = match.groups()
    return {"key": key, "value": text, "effect": effect}


def _spell_taints(taints: Sequence[Mapping[str, object]]) -> list[str]:
    return [f"{taint['key']}={taint.get('value', '')}:{taint['effect']}" for taint in taints]


def _spell_reserved_memory(nodes: Sequence[Mapping[str, object]]) -> str:
    return ";".join(f"{node['numaNode']}:{spell_value(node['limits'])}" for node in nodes)


KUBELET_KINDS: Mapping[str, Kind] = {
    "labels": KINDS["map"],
    "thresholds": Kind(map_of(quantity_or_percent, "<"), joint="<"),
    "periods": Kind(map_of(read_duration)),
    "reclaims": Kind(map_of(quantity_or_percent)),
    "taints": Kind(item=taint_of, spell=_spell_taints),
    "reservedMemory": Kind(spell=_spell_reserved_memory),
}
