"""protokube's own configuration file, from nodeup's: the keys that nodeup knows, and below `protokube` all others."""

from __future__ import annotations

import yaml

from protokube.core.model import Fault
from protokube.core.node.settings import NodeupSettings

_HEAD = "# Written by nodeup, which replaces it whenever it changes.\n"


def protokube_config(settings: NodeupSettings) -> tuple[str, list[Fault]]:
    """The file, and where `protokube` contradicts the rest."""
    document: dict[str, object] = {"master": settings.control_plane, "clusterId": settings.cluster}
    if settings.kubernetes_version is not None:
        document["kubernetesVersion"] = settings.kubernetes_version
    faults: list[Fault] = []
    given = settings.protokube
    if given is not None and isinstance(given.value, dict):
        for key, wanted in document.items():
            item = given.value.get(key)
            if item is not None and item.value != wanted:
                faults.append(
                    item.fault(f"{item.value!r} contradicts this file, which says {wanted!r}; leave it out")
                )
        document |= {key: item.plain() for key, item in given.value.items()}
    return _HEAD + yaml.safe_dump(document, sort_keys=False, allow_unicode=True), faults
