"""The flags and fields of the control plane's components, as their own binaries and types tell them.

Taken from the flag sets and Go types of 1.20.2 and 1.36.2, apart from protokube's tables: the two check each other.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

VERSIONS = ("1.20.2", "1.36.2")
COMPONENTS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy")
_STRUCTS = ("Configuration", "Plugins", "PluginSet", "TLSConfig", "FormatOptions", "TextOptions", "JSONOptions")


class Fact(NamedTuple):
    """A flag (with its dashes) or a field, its Go type, and a letter for each version."""

    name: str
    kind: str
    letters: str


def facts(component: str) -> list[Fact]:
    """All facts of a component; the structs of its file are left out, since they are nothing by themselves."""
    text = (Path(__file__).parent / "components" / f"{component}.txt").read_text(encoding="utf-8")
    found = [Fact(*line.split()) for line in text.splitlines() if not line.startswith("#")]
    return [one for one in found if one.kind.startswith("VModule") or not one.kind.endswith(_STRUCTS)]
