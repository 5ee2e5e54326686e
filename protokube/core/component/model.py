"""One layer of component configuration."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct


class Layer(Struct, frozen=True):
    """One layer as it stands in the configuration; `place` says where, for messages (`kubelet`)."""

    place: str
    values: Mapping[str, object]
