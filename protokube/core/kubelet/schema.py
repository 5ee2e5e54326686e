"""kubelet's schema: its table, its kinds of value and its lists of names, for the engine in core/component."""

from __future__ import annotations

from functools import cache

from protokube.core.component.schema import Schema, parse
from protokube.core.kubelet.kinds import KUBELET_KINDS
from protokube.core.kubelet.names import FORMERLY, NAMES
from protokube.core.kubelet.table import TABLE


@cache
def kubelet_schema() -> Schema:
    """All that kubelet can be told; parsed on first use."""
    return parse("kubelet", TABLE, kinds=KUBELET_KINDS, names=NAMES, formerly=FORMERLY)
