"""look → judge: the facts of a machine, as far as the judgement wants them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from msgspec import Struct

from nodeup.sources import Source
from protokube.core.model import Unknown
from protokube.core.node import clock, kernel
from protokube.core.node.asset_actions import AssetFacts
from protokube.core.node.assets import Asset, AssetState
from protokube.core.node.machine import MachineFacts, TreeFacts
from protokube.core.node.model import UnitState
from protokube.core.node.needs import NodeupFacts
from protokube.core.node.unit_files import SSH
from protokube.core.node.wanted import wanted
from protokube.core.node.wants import Wanted
from protokube.errors import ProviderError
from protokube.ports import FileReader


class MachineReader(Protocol):
    """Reads a machine's facts."""

    def read(self, units: Sequence[str], sysctls: Sequence[str]) -> MachineFacts:
        """All of them; `units` that a package may have brought, `sysctls` whose values matter."""


class AssetReader(Protocol):
    """Reads how assets stand."""

    def states(self, assets: Sequence[Asset]) -> Mapping[str, AssetState]:
        """The state of each asset, by its subject."""


class UnitReader(Protocol):
    """Reads units."""

    def state(self, unit: str) -> UnitState:
        """The state of a unit."""

    def stale(self, units: Sequence[str]) -> frozenset[str]:
        """The units whose files have changed since systemd read them."""

    def queued(self, units: Sequence[str]) -> frozenset[str]:
        """The units that systemd has a job for."""


class Readers(Struct, frozen=True):
    """The reading half of everything. `units` is None for an image, which has no running systemd."""

    machine: MachineReader
    files: FileReader
    assets: AssetReader
    units: UnitReader | None


class View(Struct, frozen=True):
    """Facts and their judgement."""

    facts: NodeupFacts
    wanted: Wanted


More = Callable[[Wanted, MachineFacts], None]
"""Adds what a target wants to what every machine gets."""


class Observer:
    """Looks at one machine for one configuration. `more` is its target's part."""

    def __init__(self, source: Source, readers: Readers, more: More | None = None) -> None:
        self._source = source
        self._readers = readers
        self._more = more
        self._units = tuple({*source.units, *clock.WANTED_BY, SSH, *(unit.name for unit in source.settings.units)})
        self._sysctls = tuple(kernel.sysctls(source.settings.sysctls))

    def look(self) -> View:
        """Read everything."""
        machine = self._readers.machine.read(self._units, self._sysctls)
        judged = self.judge(machine)
        assets = AssetFacts(self._readers.assets.states(judged.assets))
        return View(NodeupFacts(machine, self._tree(judged), assets), judged)

    def judge(self, machine: MachineFacts) -> Wanted:
        """The judgement of a machine's facts."""
        source = self._source
        out = wanted(source.settings, machine, source.units, source.protokube_config)
        if self._more is not None:
            self._more(out, machine)
        return out

    def again(self, facts: NodeupFacts) -> View:
        """Judge predicted facts. What is wanted only now is read, and what is predicted stays."""
        judged = self.judge(facts.machine)
        read = self._tree(judged)
        known = facts.node
        if isinstance(read.files, Unknown) or isinstance(known.files, Unknown):
            files = read.files
        else:
            files = {**read.files, **known.files}
        node = TreeFacts(files, {**read.units, **known.units}, known.stale, known.queued)
        return View(NodeupFacts(facts.machine, node, facts.assets), judged)

    def _tree(self, judged: Wanted) -> TreeFacts:
        try:
            files = self._readers.files.read(judged.paths)
        except ProviderError as error:
            return TreeFacts(Unknown(str(error)))
        reader = self._readers.units
        if reader is None:
            return TreeFacts(files)
        units = {unit: _state(reader, unit) for unit in judged.units}
        known = [unit for unit, state in units.items() if not isinstance(state, Unknown)]
        try:
            return TreeFacts(files, units, reader.stale(known), reader.queued(known))
        except ProviderError as error:
            return TreeFacts(files, units, Unknown(str(error)))


def _state(reader: UnitReader, unit: str) -> UnitState | Unknown:
    try:
        return reader.state(unit)
    except ProviderError as error:
        return Unknown(str(error))
