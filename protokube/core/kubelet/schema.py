"""kubelet's schema, for the engine in core/component: its table, kinds of value, forms of text, lists of names."""

from __future__ import annotations

from functools import cache

from protokube.core.component.schema import Schema, parse
from protokube.core.kubelet.kinds import KUBELET_FORMS, KUBELET_KINDS
from protokube.core.kubelet.names import FORMERLY, NAMES
from protokube.core.kubelet.table import TABLE


@cache
def kubelet_schema() -> Schema:
    """All that kubelet can be told; parsed on first use."""
    return parse("kubelet", TABLE, kinds=KUBELET_KINDS, forms=KUBELET_FORMS, names=NAMES, formerly=FORMERLY)
