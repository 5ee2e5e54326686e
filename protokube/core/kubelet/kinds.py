"""The kinds of value and the forms of text that only kubelet has: eviction thresholds, taints, CPU lists, …"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from protokube.core.component.flags import spell_value
from protokube.core.component.forms import Form
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

_SYSCTL = r"[a-z0-9](?:[-_a-z0-9]*[a-z0-9])?"
_V4 = r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}"
_V6 = r"[0-9a-fA-F.:]*:[0-9a-fA-F.:]*"

KUBELET_FORMS: Mapping[str, Form] = {
    "cpus": (r"[0-9]{1,6}(-[0-9]{1,6})?(,[0-9]{1,6}(-[0-9]{1,6})?)*", "a list like 0-3,6"),
    "addresses": (rf"{_V4}|{_V6}|{_V4},{_V6}|{_V6},{_V4}", "an IP address, or one of each family"),
    "images": (r"[^\s*/][^\s*]*(?<!/)(/\*)?", "an image, or several of a path: registry.example.com/team/*"),
    "sysctl": (
        rf"(?=kernel[./](shm|msg)|kernel[./]sem$|fs[./]mqueue[./]|net[./])({_SYSCTL}[./])*({_SYSCTL}|({_SYSCTL})?\*)",
        "a sysctl of a namespace, or several: below kernel.shm, kernel.msg, fs.mqueue or net, or kernel.sem",
    ),
}
