"""The configuration: from a file or a URL to checked settings; every fault at once, before any effect."""

from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path

from msgspec import Struct

from protokube.config.load import check, shipped
from protokube.core.model import Fault
from protokube.core.node.protokube_config import protokube_config
from protokube.core.node.settings import NodeupSettings, read_settings
from protokube.errors import ConfigError, ProviderError

LIMIT = 30
"""Seconds that a server may take to answer."""

MOST = 1 << 20
"""Bytes: more than any configuration has."""

_SCHEMES = ("https://", "http://", "file://")


class Source(Struct, frozen=True):
    """What a run starts from: settings, protokube's own file, and the units that ship with the program."""

    settings: NodeupSettings
    protokube_config: str
    units: dict[str, str]


def load(place: str) -> Source:
    """Read and check a configuration. Raises ConfigError with every fault, ProviderError when a URL can't be had."""
    settings, faults = read_settings(_text(place), place)
    text, contradictions = protokube_config(settings)
    if settings.protokube is not None:
        check(settings.protokube, faults)
    faults += contradictions
    if faults:
        raise ConfigError(faults)
    return Source(settings, text, shipped_units())


def shipped_units() -> dict[str, str]:
    """The units that come with the program, by name."""
    return {
        entry.name: entry.read_text(encoding="utf-8")
        for entry in shipped("systemd").iterdir()
        if entry.name.endswith(".service")
    }


def _text(place: str) -> str:
    try:
        data = _download(place) if place.startswith(_SCHEMES) else Path(place).read_bytes()
        return data.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError([Fault(place, f"can't be read: {reason}; expected a YAML file")]) from error


def _download(url: str) -> bytes:
    shown = url.partition("?")[0]
    try:
        with urllib.request.urlopen(url, timeout=LIMIT) as answer:
            data: bytes = answer.read(MOST + 1)
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", error)
        raise ProviderError(
            f"{shown}: the configuration can't be had now: {reason}; is the server reachable?"
        ) from error
    if len(data) > MOST:
        raise ConfigError([Fault(shown, "more than 1 MiB where a configuration was expected")])
    return data
