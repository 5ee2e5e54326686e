"""Reads the `containerd` section of a node's configuration."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from protokube.core.located import Located, Section
from protokube.core.model import Fault
from protokube.core.node.containerd import DEFAULT_REGISTRY, ContainerdSettings

KEYS = ("pauseImage", "registryMirrors")

_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::\d{1,5})?")
_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]*")
_URL = re.compile(r"[A-Za-z0-9._~:/\[\]%-]+")


def read_containerd(at: Located | None, faults: list[Fault]) -> ContainerdSettings:
    """The settings at a place; a faulty value reads as its default and adds to `faults`."""
    if at is None or at.value is None:
        return ContainerdSettings()
    section = Section.of(at, KEYS, faults)
    image = section.text("pauseImage")
    if image is not None and not _IMAGE.fullmatch(image):
        faults.append(section.items["pauseImage"].expected("an image such as registry.k8s.io/pause:3.10.2"))
        image = None
    mirrors = _mirrors(section)
    return ContainerdSettings(mirrors=mirrors) if image is None else ContainerdSettings(image, mirrors)


def _mirrors(section: Section) -> dict[str, tuple[str, ...]]:
    item = section.get("registryMirrors")
    if item is None:
        return {}
    if not isinstance(item.value, dict):
        section.faults.append(item.expected("a mapping of registries to lists of URLs"))
        return {}
    found: dict[str, tuple[str, ...]] = {}
    for registry, urls in item.value.items():
        if registry != DEFAULT_REGISTRY and not _HOST.fullmatch(registry):
            section.faults.append(
                urls.fault(f"{registry!r} where a registry's host was expected, such as docker.io, or '*' for all")
            )
        elif not isinstance(urls.value, list) or not urls.value:
            section.faults.append(urls.expected("a list of URLs"))
        else:
            found[registry] = tuple(url for one in urls.value if (url := _url(section, one)))
    return found


def _url(section: Section, item: Located) -> str | None:
    text = section.string(item)
    if text is None:
        return None
    try:
        parts = urlsplit(text)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:  # a port that is no number, half a bracket
        good = False
    if good and _URL.fullmatch(text):
        return text.rstrip("/")
    section.faults.append(item.expected("a mirror's URL, such as https://mirror.example, without user or query"))
    return None
