"""The configuration: from a file or a URL to checked settings; every fault at once, before any effect."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from msgspec import Struct

from nodeup.assets.errors import MirrorError
from nodeup.assets.limits import Limits
from protokube.config.load import check
from protokube.config.templates import shipped
from protokube.core.model import Fault
from protokube.core.node.asset_settings import url_problem
from protokube.core.node.assets import shown
from protokube.core.node.protokube_config import protokube_config
from protokube.core.node.settings import NodeupSettings, read_settings
from protokube.errors import ConfigError, ProviderError

MOST = 1 << 20
"""Bytes: more than any configuration has."""

_WEB = ("https://", "http://")


class Source(Struct, frozen=True):
    """What a run starts from: settings, protokube's own file, and the units that ship with the program."""

    settings: NodeupSettings
    protokube_config: str
    units: dict[str, str]


def load(place: str, limits: Limits | None = None) -> Source:
    """Read and check a configuration. Raises ConfigError with every fault, ProviderError when a URL can't be had."""
    settings, faults = read_settings(_text(place, limits or Limits()), shown(place))
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


def _text(place: str, limits: Limits) -> str:
    try:
        return _data(place, limits).decode("utf-8")
    except (OSError, ValueError) as error:  # not UTF-8, or a path with a byte that no path has
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError([Fault(shown(place), f"can't be read: {reason}; expected a YAML file")]) from error


def _data(place: str, limits: Limits) -> bytes:
    if place.startswith(_WEB):
        return _download(place, limits)
    path = unquote(urlsplit(place).path) if place.startswith("file://") else place
    with Path(path).open("rb") as file:
        data = file.read(MOST + 1)
    if len(data) > MOST:
        raise _too_much(place)
    return data


def _too_much(place: str) -> ConfigError:
    return ConfigError([Fault(shown(place), "more than 1 MiB where a configuration was expected")])


def _download(url: str, limits: Limits) -> bytes:
    # Takes 30 ms to import, and most configurations are files.
    from nodeup.assets.web import get, system_trust

    if (problem := url_problem(url)) is not None:
        raise ConfigError([Fault(shown(url), problem)])
    data = bytearray()
    try:
        with get(url, {}, limits, system_trust) as answer:
            if answer.status != 200:
                raise MirrorError(f"it answers {answer.reason}")
            for piece in answer.pieces():
                data += piece
                if len(data) > MOST:
                    raise _too_much(url)
    except MirrorError as error:
        raise ProviderError(
            f"{shown(url)}: the configuration can't be had now: {error}; is the server reachable?"
        ) from error
    return bytes(data)
