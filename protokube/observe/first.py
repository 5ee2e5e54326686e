"""What is read at the start of a reconcile, whatever was judged before: cloud, mounts, files, units, the machine."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from functools import partial

from msgspec.structs import replace

from protokube.core.action import Facet
from protokube.core.controlplane.paths import CONTROL_PLANE_DIRECTORIES
from protokube.core.disks.accepted import ACCEPTED_DIR
from protokube.core.disks.model import StorageFacts
from protokube.core.kubelet.model import KubeletBinary, KubeletFacts, Machine
from protokube.core.kubelet.paths import PATHS
from protokube.core.model import Unknown
from protokube.core.node.model import FileState
from protokube.core.observed import Observed
from protokube.core.volumes.model import CloudSnapshot
from protokube.errors import ProviderError
from protokube.observe.asking import Asker, Reads

Probed = tuple[KubeletBinary | None, Machine]
"""The installed kubelet, if there is one, and the machine that it is to serve."""


def read_first(asker: Asker, observed: Observed, facets: frozenset[Facet], *, probed: bool) -> Observed:
    """The snapshot with the given facets read. `probed`: the installed kubelet was asked before, and is asked with
    the files; its unit is read as well."""
    readers, master = asker.readers, asker.config.master
    reads: Reads = {
        Facet.CLOUD: lambda: readers.cloud.snapshot(volumes=master),
        Facet.FILES: partial(_files, asker),
        "probe": partial(_probe, asker),
    }
    if master:
        reads[Facet.MOUNTS] = lambda: (tuple(readers.disks.mounts()), readers.disks.barred())
    if probed:
        reads |= _unit(asker)
    wanted: set[str] = set(facets)
    if Facet.FILES in wanted and probed:
        wanted.add("probe")
    found = asker.read({key: read for key, read in reads.items() if key in wanted})
    if Facet.CLOUD in found:
        observed = replace(observed, cloud=_snapshot(found[Facet.CLOUD]))
    if Facet.MOUNTS in found:
        observed = replace(observed, storage=_with_mounts(observed.storage, found[Facet.MOUNTS]))
    if Facet.FILES in found:
        observed = replace(observed, node=replace(observed.node, files=found[Facet.FILES]))
    observed = with_units(observed, found)
    return with_probe(observed, found["probe"]) if "probe" in found else observed


def read_slowly(asker: Asker) -> dict[str, object]:
    """The installed kubelet, and the state of its unit: the first time, both load a library."""
    return asker.read({"probe": partial(_probe, asker), **_unit(asker)})


def with_units(observed: Observed, found: Mapping[str, object]) -> Observed:
    """The snapshot with the state of kubelet's unit, if it was read."""
    if Facet.UNIT not in found:
        return observed
    return replace(observed, node=replace(observed.node, unit=found[Facet.UNIT]))


def with_probe(observed: Observed, probed: object) -> Observed:
    """The snapshot with the facts of the installed kubelet and the machine."""
    if isinstance(probed, Unknown):
        return replace(observed, kubelet=KubeletFacts(probed))
    assert isinstance(probed, tuple)
    return replace(observed, kubelet=KubeletFacts(*probed))


def _unit(asker: Asker) -> Reads:
    services, unit = asker.readers.services, asker.config.kubelet.unit
    return {Facet.UNIT: lambda: services.state(unit)} if services is not None and unit is not None else {}


def _probe(asker: Asker) -> Probed:
    machine = asker.readers.probe.machine()
    return (asker.readers.probe.kubelet(_program(asker)) if asker.config.kubelet.is_kubelet else None), machine


def _program(asker: Asker) -> str | None:
    """The program that kubelet's unit names. A silent bus is reported with the unit's state, and hides no
    kubelet."""
    services, unit = asker.readers.services, asker.config.kubelet.unit
    if services is None or unit is None:
        return None
    with suppress(ProviderError):
        return services.program(unit)
    return None


def _files(asker: Asker) -> Mapping[str, FileState]:
    files = asker.readers.files
    accepted = files.listing(ACCEPTED_DIR) if asker.config.master else {}
    found = {**files.listing(asker.config.etcd.manifest_dir), **accepted, **files.read(PATHS)}
    joins = asker.config.kubelet.api is not None
    for directory in CONTROL_PLANE_DIRECTORIES if asker.config.control_plane or joins else ():
        found |= files.listing(directory)
    return found


def _snapshot(found: object) -> CloudSnapshot:
    if isinstance(found, CloudSnapshot):
        return found
    assert isinstance(found, Unknown)
    return CloudSnapshot(found, found, found)


def _with_mounts(storage: StorageFacts, found: object) -> StorageFacts:
    if isinstance(found, Unknown):
        return replace(storage, mounts=found, barred={})
    assert isinstance(found, tuple)
    mounts, barred = found
    return replace(storage, mounts=mounts, barred=barred)
