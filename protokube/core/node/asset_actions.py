"""The actions on assets, and which of them an asset needs next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Protocol

from msgspec import Struct
from msgspec.structs import replace

from protokube.core.action import ActionValue, Facet
from protokube.core.node.assets import Asset, AssetState, shown


class AssetWriter(Protocol):
    """Executes actions on assets. Nothing is ever half installed."""

    def fetch(self, asset: Asset) -> None:
        """Bring an asset into the cache: from its first mirror that serves it right."""

    def install(self, asset: Asset) -> None:
        """Put a cached asset's files in their places, those that are right already excepted, and note them."""


class AssetFacts(Struct, frozen=True):
    """The assets by their subjects, as they stand."""

    states: Mapping[str, AssetState] = {}

    def state(self, asset: Asset) -> AssetState:
        """The state of an asset."""
        return self.states.get(asset.subject, AssetState())

    def with_asset(self, subject: str, state: AssetState) -> AssetFacts:
        """The facts with another state of an asset."""
        return AssetFacts({**self.states, subject: state})


class AssetAction(ActionValue, frozen=True):
    """The base of all actions on assets."""

    port: ClassVar[str] = "assets"
    facts: ClassVar[str] = "assets"
    changes: ClassVar[frozenset[Facet]] = frozenset({Facet.FILES})
    asset: Asset

    @property
    def subject(self) -> str:
        """The file's path, or the archive's URL."""
        return self.asset.subject


class FetchAsset(AssetAction, frozen=True, tag="fetch-asset"):
    """Fetch an asset into the cache."""

    @property
    def lock(self) -> str:
        """One file is fetched once, wherever it goes."""
        return f"asset {self.asset.sha256}"

    def describe(self) -> str:
        """One line for people."""
        more = len(self.asset.urls) - 1
        mirrors = f" or {more} mirror{'s' * (more > 1)}" if more else ""
        return f"fetch {self.asset.name} from {shown(self.asset.urls[0])}{mirrors} (sha256 {self.asset.sha256[:12]}…)"

    def predict(self, facts: AssetFacts, now: float) -> AssetFacts:
        """It lies in the cache."""
        return facts.with_asset(self.subject, replace(facts.state(self.asset), cached=True))

    def execute(self, port: AssetWriter) -> None:
        """Fetch it."""
        port.fetch(self.asset)


class InstallAsset(AssetAction, frozen=True, tag="install-asset"):
    """Install an asset from the cache; or note that it is installed, and set its mode."""

    noting: bool = False

    def describe(self) -> str:
        """One line for people."""
        if self.noting:
            return f"note the hash of {self.subject}, and set its mode"
        if self.asset.path:
            return f"install {self.asset.path} ({self.asset.name}, 0755)"
        return f"extract {self.asset.name}: " + ", ".join(f"{e.pattern} → {e.target}" for e in self.asset.extract)

    def predict(self, facts: AssetFacts, now: float) -> AssetFacts:
        """Its files stand in their places."""
        state = facts.state(self.asset)
        return facts.with_asset(self.subject, replace(state, installed=True, modes=True, noted=True))

    def execute(self, port: AssetWriter) -> None:
        """Install it."""
        port.install(self.asset)


def next_action(asset: Asset, state: AssetState) -> FetchAsset | InstallAsset | None:
    """What an asset needs next; None when it stands as it should."""
    if state.done:
        return None
    if state.installed or state.cached:
        return InstallAsset(asset, noting=state.installed)
    return FetchAsset(asset)
