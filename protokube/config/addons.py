"""Reads the addon channels from the configuration file."""

from __future__ import annotations

import re

from protokube.config.keys import ADDONS
from protokube.core.component.labels import is_subdomain
from protokube.core.located import Section
from protokube.core.model import Fault
from protokube.core.objects.model import ChannelSource

_LONGEST = 63
_SOURCE = re.compile(r"(/|https://[^/\s]+/)[^\s]*")


def read_addons(section: Section | None, faults: list[Fault]) -> tuple[ChannelSource, ...]:
    """The channels, in the order in which they stand."""
    if section is None:
        return ()
    found: dict[str, ChannelSource] = {}
    for item in section.sequence(ADDONS):
        own = Section.of(item, ("name", "source", "prune"), faults)
        name, source, prune = own.text("name", required=True), own.text("source", required=True), own.get("prune")
        if name is None or source is None:
            continue
        if not is_subdomain(name) or len(name) > _LONGEST:
            faults.append(item.fault(f"name: {name!r} is wrong; expected one like core"))
        elif name in found:
            faults.append(item.fault(f"name: {name!r} stands here twice"))
        if not _SOURCE.fullmatch(source) or ".." in source.split("/"):
            expected = "expected a directory like /etc/protokube/addons, or an https URL"
            faults.append(item.fault(f"source: {source!r} is wrong; {expected}"))
        if prune is not None and not isinstance(prune.value, bool):
            faults.append(prune.expected("true or false"))
        found[name] = ChannelSource(name, source, prune is None or prune.value is not False)
    return tuple(found.values())
