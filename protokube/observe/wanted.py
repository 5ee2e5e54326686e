"""What a judgement wants beyond the first facets. Each function returns None when there is nothing new to read."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from msgspec.structs import replace

from protokube.core.action import Facet
from protokube.core.backup.model import BackupWork
from protokube.core.disks.model import Disk, NoDisk, Working
from protokube.core.model import Unknown
from protokube.core.objects.model import ObjectFacts
from protokube.core.observed import Observed
from protokube.observe.asking import Asker, Reads
from protokube.observe.view import View


def read_disks(asker: Asker, view: View, facets: frozenset[Facet]) -> Observed | None:
    """The disks; unasked, those at work: when a tool has ended, its volume goes on with the others."""
    storage, volumes = view.observed.storage, view.judged.wanted.disks
    kept: Mapping[str, Disk | NoDisk | Unknown] = {}
    if Facet.DISKS not in facets:
        kept = storage.disks
        volumes = tuple(volume for volume in volumes if is_working(kept.get(volume.id)))
    if not volumes and kept == storage.disks:
        return None
    found = asker.read({"disks": lambda: asker.readers.disks.inspect(volumes)})["disks"] if volumes else {}
    inspected = {volume.id: found for volume in volumes} if isinstance(found, Unknown) else found
    assert isinstance(inspected, Mapping)
    return replace(view.observed, storage=replace(storage, disks={**kept, **inspected}))


def read_contents(asker: Asker, view: View, facets: frozenset[Facet]) -> Observed | None:
    """What the mounted volumes hold, when asked to or when others are mounted."""
    storage, mounted = view.observed.storage, view.judged.wanted.contents
    if Facet.CONTENTS not in facets and mounted.keys() == storage.contents.keys():
        return None
    reads: Reads = {volume_id: partial(asker.readers.disks.contents, target) for volume_id, target in mounted.items()}
    return replace(view.observed, storage=replace(storage, contents=asker.read(reads)))


def read_certificates(asker: Asker, view: View, facets: frozenset[Facet]) -> Observed | None:
    """The node's certificates, where they concern it."""
    pki, wanted = view.observed.pki, view.judged.wanted.certificates
    if not wanted or (pki.certificates is not None and Facet.CERTIFICATES not in facets):
        return None
    found = asker.read({"certificates": asker.readers.pki.certificates})["certificates"]
    return replace(view.observed, pki=replace(pki, certificates=found))


def read_authorities(asker: Asker, view: View, facets: frozenset[Facet]) -> Observed | None:
    """The store's authorities and, unless it is trusted, the clock, where a certificate is to be issued."""
    pki, cluster, reader = view.observed.pki, view.judged.wanted.authorities, asker.readers.pki
    if cluster is None or (pki.authorities is not None and Facet.AUTHORITIES not in facets):
        return None
    reads: Reads = {"authorities": partial(reader.authorities, cluster)}
    if not asker.config.pki.trust_clock:
        reads["clock"] = reader.clock_in_sync
    found = asker.read(reads)
    pki = replace(pki, authorities=found["authorities"], clock_in_sync=found.get("clock", False))
    return replace(view.observed, pki=pki)


def read_backups(asker: Asker, view: View, facets: frozenset[Facet]) -> Observed | None:
    """The work on this machine's backups. Answers from before a change don't count any more."""
    facts, (_, members) = view.observed.backups, view.judged.wanted.backups
    if not members or (facts.work is not None and Facet.BACKUPS not in facets):
        return None
    etcds = [one.etcd for one in members]
    found = asker.read({"backups": lambda: asker.readers.backups.work(etcds)})["backups"]
    work: Mapping[str, BackupWork | Unknown]
    work = dict.fromkeys(etcds, found) if isinstance(found, Unknown) else found  # type: ignore[assignment]
    answers = {} if Facet.BACKUPS in facets else facts.answers
    return replace(view.observed, backups=replace(facts, work=work, answers=answers))


def read_served(asker: Asker, view: View, facets: frozenset[Facet]) -> Observed | None:
    """What our own members serve, where one is to restart."""
    wanted, known = view.judged.wanted.served, view.observed.served
    if Facet.MEMBERS in facets:
        known = {}
    unread = [one for one in wanted if one.cluster not in known]
    if not unread and known == view.observed.served:
        return None
    found = asker.read({one.cluster: partial(asker.readers.server.served, one) for one in unread})
    return replace(view.observed, served={**known, **found})


def read_kept(asker: Asker, view: View, _facets: frozenset[Facet]) -> Observed | None:
    """The backups of etcd clusters that are to be born, once a reconcile."""
    (cluster, etcds), known = view.judged.wanted.kept, view.observed.kept
    reads: Reads = {etcd: partial(asker.readers.backups.kept, cluster, etcd) for etcd in etcds if etcd not in known}
    return replace(view.observed, kept={**known, **asker.read(reads)}) if reads else None


def read_endpoints(asker: Asker, view: View, _facets: frozenset[Facet]) -> Observed | None:
    """The health of programs on this node, of those that matter now and weren't asked yet."""
    known = view.observed.endpoints
    wanted = sorted(view.judged.wanted.endpoints - known.keys())
    if not wanted:
        return None
    found = asker.read({f"health at {url}": partial(asker.readers.endpoints.ask, url) for url in wanted})
    answers = {url: found[f"health at {url}"] for url in wanted}
    return replace(view.observed, endpoints={**known, **answers})


def read_runtimes(asker: Asker, view: View, _facets: frozenset[Facet]) -> Observed | None:
    """The units of container runtimes, where it matters whether kubelet can have started a pod."""
    services, known = asker.readers.services, view.observed.runtimes
    unread = sorted(view.judged.wanted.runtimes - known.keys())
    if not unread or services is None:
        return None
    found = asker.read({unit: partial(services.state, unit) for unit in unread})
    return replace(view.observed, runtimes={**known, **found})


def read_objects(asker: Asker, view: View, facets: frozenset[Facet]) -> Observed | None:
    """The objects again, after some were applied."""
    asked = view.observed.objects.asked and view.judged.objects is not None
    return with_objects(asker, view) if asked and Facet.OBJECTS in facets else None


def with_objects(asker: Asker, view: View) -> Observed:
    """The snapshot with the API server's objects, asked for in any case."""
    found = asker.read({"objects": partial(asker.readers.objects.look, view.judged.wanted.objects)})["objects"]
    if isinstance(found, Unknown):
        found = ObjectFacts(asked=True, not_ready=found.reason)
    assert isinstance(found, ObjectFacts)
    return replace(view.observed, objects=found)


def is_working(disk: Disk | NoDisk | Unknown | None) -> bool:
    """Whether a tool works on the disk. Its end wakes the daemon."""
    return isinstance(disk, Disk) and isinstance(disk.content, Working)
