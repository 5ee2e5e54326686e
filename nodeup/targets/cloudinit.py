"""User-data for a machine to come: printed, with nothing looked at but the configuration."""

from __future__ import annotations

from pathlib import Path

from nodeup.sources import Source
from protokube.core.model import Fault, Rejected
from protokube.core.node.userdata import user_data
from protokube.errors import ConfigError


def print_user_data(source: Source) -> None:
    """Print it. Raises ConfigError, with the rule, when the configuration is not for user-data."""
    fetcher = Path(__file__).with_name("fetch_program.py").read_text(encoding="utf-8")
    text = user_data(source.settings, source.units, fetcher)
    if isinstance(text, Rejected):
        raise ConfigError([Fault(text.rule, text.evidence)])
    print(text, end="")
