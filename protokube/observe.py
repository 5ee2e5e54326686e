"""Ports → View: each facet of the world is read once a reconcile, side by side, each with its own limit.

A read that fails or hangs becomes Unknown; a read that hangs is not started a second time while it does. An
assessment names the facts that are wanted beyond the first facets; they are read until nothing new is wanted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import suppress
from functools import partial

from msgspec import Struct
from msgspec.structs import replace

from protokube.core.action import Facet
from protokube.core.assess import Assessment, Wanted, assess
from protokube.core.backup.model import BackupAnswers, BackupWork
from protokube.core.controlplane.paths import CONTROL_PLANE_DIRECTORIES
from protokube.core.disks.accepted import ACCEPTED_DIR
from protokube.core.disks.model import Disk, NoDisk, StorageFacts, Working
from protokube.core.dns.model import RecordSet
from protokube.core.etcd.health import ClusterView, problems
from protokube.core.etcd.model import EtcdPeerMember, NotListening, PeerAnswers
from protokube.core.etcd.running import PeerAbout
from protokube.core.history import History
from protokube.core.kubelet.model import KubeletBinary, KubeletFacts, Machine
from protokube.core.kubelet.paths import PATHS
from protokube.core.model import Moment, Unknown, Unread
from protokube.core.node.model import FileState, NodeFacts
from protokube.core.objects.model import ObjectFacts
from protokube.core.observed import Observed
from protokube.core.pki.model import Unreadable
from protokube.core.settings import NodeConfig
from protokube.core.volumes.model import CloudSnapshot
from protokube.errors import NotListeningError, ProviderError, StoreError
from protokube.ports import Readers
from protokube.together import Limited, start

ALL = frozenset(Facet)
LIMIT = 30.0
"""Seconds within which a read ends; one that hangs longer is Unknown."""

OBJECTS_EVERY = 300.0
"""Seconds between two looks at the API server's objects on a node where they were all right."""

FOLLOW_EVERY = 3600.0
"""Seconds between two looks at the store's authorities on a node where nothing is to be issued."""

HEALTH_EVERY, HEALTH_AGAIN = 300.0, 60.0
"""Seconds between two looks at how our etcd clusters are, and while something is wrong."""

HEALTH_PATIENCE = 3.0
"""Seconds that a reconcile waits for the answer."""

Reads = dict[str, Callable[[], object]]

Probed = tuple[KubeletBinary | None, Machine]
"""The installed kubelet, if there is one, and the machine that it is to serve."""


class View(Struct, frozen=True):
    """One snapshot of the world, the history that belongs to it, and its judgement."""

    observed: Observed
    history: History
    judged: Assessment


class Observer:
    """Reads the world for one configuration. Its memory between reconciles (hanging reads) may be lost.

    `wake` is called with a reason when slow facts have come that no reconcile waited for; without it each reconcile
    waits for them. `alive` is called before each group of reads, none of which takes longer than `LIMIT`. `reading`
    remembers the reads that hang, across configurations as well.
    """

    def __init__(
        self,
        config: NodeConfig,
        readers: Readers,
        *,
        started: float,
        reading: Limited[object] | None = None,
        wake: Callable[[str], None] | None = None,
        alive: Callable[[], object] = lambda: None,
    ) -> None:
        self.config = config
        self._readers = readers
        self.started = started
        self._wake = wake
        self._limited = reading or Limited[object](LIMIT, "reading")
        self._alive = alive
        self._probed = False
        """Whether the installed kubelet was asked. The first time takes long, so that it waits for a quiet moment."""
        self._slow: Future[dict[str, object]] | None = None
        self._store_asked: float | None = None
        """The uptime at which the store was last asked about authorities; None when it is to be asked next."""
        self._health: Mapping[str, ClusterView] = {}
        """How our etcd clusters were when they were last asked."""
        self._health_asked: float | None = None
        """The uptime at which that was; None when they are to be asked next."""
        self._health_asking: Future[dict[str, object]] | None = None
        self._backups: dict[str, Future[dict[str, object]]] = {}
        """The questions about backups that are under way, by etcd cluster."""
        self._objects_right: float | None = None
        """The uptime at which the API server's objects were last right; None when they are to be asked for."""
        self._outlived = False
        """Whether the slow reads were begun in an earlier reconcile."""

    def uptime(self) -> float:
        """Seconds since the program started."""
        return time.monotonic() - self.started

    def first(self, history: History, before: Observed | None = None, kept: frozenset[Facet] = frozenset()) -> View:
        """The view at the start of a reconcile. The facets in `kept` are taken over from `before`."""
        unread = Unknown("not read yet")
        self._outlived = self._slow is not None
        cloud = before.cloud if before and Facet.CLOUD in kept else CloudSnapshot(unread, unread, unread)
        observed = Observed(
            self._moment(),
            cloud,
            node=NodeFacts(unread, unread),
            records=before.records if before and Facet.RECORDS in kept else {},
            kubelet=KubeletFacts(Unread("it is asked for its version and flags")),
            health=self._health,
        )
        observed = replace(observed, storage=replace(observed.storage, mounts=unread))
        return self._read_on(observed, history, ALL - kept)

    def again(self, view: View, facets: frozenset[Facet]) -> View:
        """The view with the given facets read again, and with what newly depends on them."""
        return self._read_on(replace(view.observed, at=self._moment()), view.history, facets)

    def late(self, view: View) -> View | None:
        """The view with the slow facts, which are read when nothing else is left to do; None when they were read.

        Those are the disks of volumes that were attached in this reconcile, all of them together, and, in the first
        one, the installed kubelet and its unit. These are read beside the disks. While a tool is at work on a disk,
        the reconcile doesn't wait for kubelet: the end of either begins the next.
        """
        disks = view.observed.storage.disks
        unseen = {volume.id for volume in view.judged.wanted.disks} - disks.keys()
        if not self._probed and self._slow is None:
            self._slow = start("slow reads", self._read_slowly)
        if unseen:
            return self.again(view, frozenset({Facet.DISKS}))
        if self._slow is None:
            follow = (self._follow_authorities, self._follow_backups, self._follow_objects, self._follow_health)
            return next(filter(None, (read(view) for read in follow)), None)
        if self._wake is not None and not self._slow.done() and any(map(_is_working, disks.values())):
            self._slow.add_done_callback(partial(_tell, self._wake))
            return None
        found = self._slow.result()
        self._slow, self._probed = None, True
        observed = _with_probe(view.observed, found["probe"])
        # A binary stays what it is. Its unit may have been started or stopped since an earlier reconcile.
        if self._outlived:
            return self._read_on(observed, view.history, frozenset({Facet.UNIT}))
        return self._judge(_with_units(observed, found), view.history)

    def ask_again(self) -> None:
        """Let the next reconcile ask the store about authorities, and the API server: a person has given cause."""
        self._store_asked = None
        self._objects_right = None
        self._health_asked = None

    def _follow_authorities(self, view: View) -> View | None:
        """The view with the store's authorities, once an hour: an operator may have begun to replace one. A store
        that doesn't answer is no trouble then."""
        due = self._store_asked is None or self.uptime() - self._store_asked > FOLLOW_EVERY
        pki = view.judged.pki
        if not due or pki is None or not pki.ready:
            return None
        self._store_asked = self.uptime()
        wanted = replace(view.judged.wanted, authorities=pki.cluster)
        asking = replace(view, judged=replace(view.judged, wanted=wanted))
        found = self._read_authorities(asking, frozenset({Facet.AUTHORITIES}))
        return None if found is None else self._judge(found, view.history)

    def _follow_health(self, view: View) -> View | None:
        """The view with how our etcd clusters are, every five minutes, or every minute while something is wrong."""
        wanted = view.judged.wanted.health
        wrong = any(problems(cluster, one) for cluster, one in self._health.items())
        every = HEALTH_AGAIN if wrong else HEALTH_EVERY
        due = self._health_asked is None or self.uptime() - self._health_asked > every
        if not wanted or not (due or self._health_asking):
            return None
        if self._health_asking is None:
            self._health_asked = self.uptime()
            asks: Reads = {f"health of {one.at.cluster}": partial(self._readers.server.health, one) for one in wanted}
            self._health_asking = start("health of etcd", partial(self._limited_reads, asks))
        # An etcd that hangs delays nothing: the next reconcile takes its answer in.
        wait([self._health_asking], None if self._wake is None else HEALTH_PATIENCE)
        if not self._health_asking.done():
            return None
        found, self._health_asking = self._health_asking.result(), None
        self._health = {
            one.at.cluster: told
            for one in wanted
            if isinstance(told := found.get(f"health of {one.at.cluster}"), ClusterView)
        }
        return self._judge(replace(view.observed, health=self._health), view.history)

    def _follow_backups(self, view: View) -> View | None:
        """The view with the answers about backups that are due.

        A store may be slow or gone: nothing waits for it, where there is somebody to wake.
        """
        cluster = view.judged.wanted.backups[0]
        for member in view.judged.wanted.backup_answers:
            if member.etcd not in self._backups:
                read = partial(self._readers.backups.answers, cluster, member)
                key = f"backups of {member.etcd}"
                self._backups[member.etcd] = start(key, partial(self._limited_read, key, read))
        if self._wake is None:
            wait(self._backups.values())
        ended = {etcd: future for etcd, future in self._backups.items() if future.done()}
        for etcd, future in self._backups.items():
            if etcd not in ended and self._wake is not None:
                future.add_done_callback(partial(_tell_of_backups, self._wake))
        if not ended:
            return None
        answers: dict[str, BackupAnswers | Unknown] = dict(view.observed.backups.answers)
        for etcd, future in ended.items():
            del self._backups[etcd]
            (found,) = future.result().values()
            assert isinstance(found, BackupAnswers | Unknown)
            answers[etcd] = found
        facts = replace(view.observed.backups, answers=answers)
        return self._judge(replace(view.observed, at=self._moment(), backups=facts), view.history)

    def _limited_read(self, key: str, read: Callable[[], object]) -> dict[str, object]:
        return self._limited_reads({key: read})

    def _limited_reads(self, reads: Reads) -> dict[str, object]:
        return {found: _known(future) for found, future in self._limited.run(reads).items()}

    def _follow_objects(self, view: View) -> View | None:
        """The view with the API server's objects: in each reconcile until all are right, then every few minutes."""
        judged, facts = view.judged.objects, view.observed.objects
        if judged is None:
            return None
        if facts.asked:
            right = not judged.apply and not judged.decide and judged.findings.converged
            self._objects_right = self.uptime() if right else None
            return None
        young = self._objects_right is not None and self.uptime() - self._objects_right < OBJECTS_EVERY
        if young and not self._readers.objects.changed():
            return None
        return self._judge(self._with_objects(view), view.history)

    def _with_objects(self, view: View) -> Observed:
        found = self._read({"objects": partial(self._readers.objects.look, view.judged.wanted.objects)})["objects"]
        if isinstance(found, Unknown):
            found = ObjectFacts(asked=True, not_ready=found.reason)
        assert isinstance(found, ObjectFacts)
        return replace(view.observed, objects=found)

    def _read_objects(self, view: View, facets: frozenset[Facet]) -> Observed | None:
        """The objects again, after some were applied."""
        asked = view.observed.objects.asked and view.judged.objects is not None
        return self._with_objects(view) if asked and Facet.OBJECTS in facets else None

    def newly_wanted(self, observed: Observed, history: History) -> View:
        """The view of a predicted snapshot, with all read that only the prediction wants."""
        foretold = self.config.foretold()
        view = self._judge(observed, history, foretold)
        reads = (
            self._read_certificates,
            self._read_authorities,
            self._read_served,
            self._read_names,
            self._read_endpoints,
        )
        while (more := next(filter(None, (read(view, frozenset()) for read in reads)), None)) is not None:
            view = self._judge(more, view.history, foretold)
        return view

    def _moment(self) -> Moment:
        return Moment(time.time(), self.uptime())

    def _judge(self, observed: Observed, history: History, config: NodeConfig | None = None) -> View:
        history = history.seen(observed)
        return View(observed, history, assess(config or self.config, observed, history))

    def _judge_new(self, view: View, observed: Observed) -> View:
        """The view of a snapshot. A snapshot with nothing new is not judged again."""
        return view if observed == view.observed else self._judge(observed, view.history)

    def _read_on(self, observed: Observed, history: History, facets: frozenset[Facet]) -> View:
        """Read the facets, and go on as long as an assessment wants more than was read."""
        observed = self._read_independent(observed, facets)
        view = self._judge(observed, history)
        for read in (
            self._read_disks,
            self._read_contents,
            self._read_certificates,
            self._read_authorities,
            self._read_served,
            self._read_names,
            self._read_backups,
            self._read_objects,
            self._read_endpoints,
            self._read_endpoints,  # a component that isn't up may have a cause elsewhere, which is asked for then
        ):
            if (more := read(view, facets)) is not None:
                asked = more.answers is not view.observed.answers
                view = self._judge_new(view, more)
                if asked and (again := self._read_contents(view, frozenset({Facet.CONTENTS}))) is not None:
                    # A member may have started while its peers were asked, and they list it then: its own data is
                    # read last.
                    view = self._judge_new(view, again)
        # Only now it is known which records of other owners stand.
        history = view.history.cloud_answered(view.observed) if Facet.CLOUD in facets else view.history
        return view if history == view.history else self._judge(view.observed, history)

    def _read(self, reads: Mapping[str, Callable[[], object]]) -> dict[str, object]:
        """The result of each read by its key: its value, or Unknown. An error that isn't ours is raised here."""
        self._alive()
        return {key: _known(future) for key, future in self._limited.run(reads).items()}

    def _read_independent(self, observed: Observed, facets: frozenset[Facet]) -> Observed:
        readers, master = self._readers, self.config.master
        reads: Reads = {
            Facet.CLOUD: lambda: readers.cloud.snapshot(volumes=master),
            Facet.FILES: self._read_files,
            "probe": self._probe,
        }
        if master:
            reads[Facet.MOUNTS] = lambda: (tuple(readers.disks.mounts()), readers.disks.barred())
        if self._probed:
            reads |= self._unit()
        wanted: set[str] = set(facets)
        if Facet.FILES in wanted and self._probed:
            wanted.add("probe")
        found = self._read({key: read for key, read in reads.items() if key in wanted})
        if Facet.CLOUD in found:
            observed = replace(observed, cloud=_snapshot(found[Facet.CLOUD]))
        if Facet.MOUNTS in found:
            observed = replace(observed, storage=_with_mounts(observed.storage, found[Facet.MOUNTS]))
        if Facet.FILES in found:
            observed = replace(observed, node=replace(observed.node, files=found[Facet.FILES]))
        observed = _with_units(observed, found)
        return _with_probe(observed, found["probe"]) if "probe" in found else observed

    def _unit(self) -> Reads:
        services, unit = self._readers.services, self.config.kubelet.unit
        return {Facet.UNIT: lambda: services.state(unit)} if services is not None and unit is not None else {}

    def _probe(self) -> Probed:
        machine = self._readers.probe.machine()
        return (self._readers.probe.kubelet(self._program()) if self.config.kubelet.is_kubelet else None), machine

    def _program(self) -> str | None:
        """The program that kubelet's unit names. A silent bus is reported with the unit's state, and hides no
        kubelet."""
        services, unit = self._readers.services, self.config.kubelet.unit
        if services is None or unit is None:
            return None
        with suppress(ProviderError):
            return services.program(unit)
        return None

    def _read_slowly(self) -> dict[str, object]:
        """The installed kubelet, and the state of its unit: the first time, both load a library."""
        return self._read({"probe": self._probe, **self._unit()})

    def _read_files(self) -> Mapping[str, FileState]:
        files = self._readers.files
        accepted = files.listing(ACCEPTED_DIR) if self.config.master else {}
        found = {**files.listing(self.config.etcd.manifest_dir), **accepted, **files.read(PATHS)}
        for directory in CONTROL_PLANE_DIRECTORIES if self.config.control_plane else ():
            found |= files.listing(directory)
        return found

    def _read_disks(self, view: View, facets: frozenset[Facet]) -> Observed | None:
        """The disks; unasked, those at work: when a tool has ended, its volume goes on with the others."""
        storage, volumes = view.observed.storage, view.judged.wanted.disks
        kept: Mapping[str, Disk | NoDisk | Unknown] = {}
        if Facet.DISKS not in facets:
            kept = storage.disks
            volumes = tuple(volume for volume in volumes if _is_working(kept.get(volume.id)))
        if not volumes and kept == storage.disks:
            return None
        found = self._read({"disks": lambda: self._readers.disks.inspect(volumes)})["disks"] if volumes else {}
        inspected = {volume.id: found for volume in volumes} if isinstance(found, Unknown) else found
        assert isinstance(inspected, Mapping)
        return replace(view.observed, storage=replace(storage, disks={**kept, **inspected}))

    def _read_contents(self, view: View, facets: frozenset[Facet]) -> Observed | None:
        storage, mounted = view.observed.storage, view.judged.wanted.contents
        if Facet.CONTENTS not in facets and mounted.keys() == storage.contents.keys():
            return None
        reads: Reads = {
            volume_id: partial(self._readers.disks.contents, target) for volume_id, target in mounted.items()
        }
        return replace(view.observed, storage=replace(storage, contents=self._read(reads)))

    def _read_certificates(self, view: View, facets: frozenset[Facet]) -> Observed | None:
        """The node's certificates, where they concern it."""
        pki, wanted = view.observed.pki, view.judged.wanted.certificates
        if not wanted or (pki.certificates is not None and Facet.CERTIFICATES not in facets):
            return None
        found = self._read({"certificates": self._readers.pki.certificates})["certificates"]
        return replace(view.observed, pki=replace(pki, certificates=found))

    def _read_authorities(self, view: View, facets: frozenset[Facet]) -> Observed | None:
        """The store's authorities and, unless it is trusted, the clock, where a certificate is to be issued."""
        pki, cluster, reader = view.observed.pki, view.judged.wanted.authorities, self._readers.pki
        if cluster is None or (pki.authorities is not None and Facet.AUTHORITIES not in facets):
            return None
        reads: Reads = {"authorities": partial(reader.authorities, cluster)}
        if not self.config.pki.trust_clock:
            reads["clock"] = reader.clock_in_sync
        found = self._read(reads)
        pki = replace(pki, authorities=found["authorities"], clock_in_sync=found.get("clock", False))
        return replace(view.observed, pki=pki)

    def _read_backups(self, view: View, facets: frozenset[Facet]) -> Observed | None:
        """The work on this machine's backups. Answers from before a change don't count any more."""
        facts, (_, members) = view.observed.backups, view.judged.wanted.backups
        if not members or (facts.work is not None and Facet.BACKUPS not in facets):
            return None
        etcds = [one.etcd for one in members]
        found = self._read({"backups": lambda: self._readers.backups.work(etcds)})["backups"]
        work: Mapping[str, BackupWork | Unknown]
        work = dict.fromkeys(etcds, found) if isinstance(found, Unknown) else found  # type: ignore[assignment]
        answers = {} if Facet.BACKUPS in facets else facts.answers
        return replace(view.observed, backups=replace(facts, work=work, answers=answers))

    def _read_served(self, view: View, facets: frozenset[Facet]) -> Observed | None:
        """What our own members serve, where one is to restart."""
        wanted, known = view.judged.wanted.served, view.observed.served
        if Facet.MEMBERS in facets:
            known = {}
        unread = [one for one in wanted if one.cluster not in known]
        if not unread and known == view.observed.served:
            return None
        found = self._read({one.cluster: partial(self._readers.server.served, one) for one in unread})
        return replace(view.observed, served={**known, **found})

    def _read_endpoints(self, view: View, _facets: frozenset[Facet]) -> Observed | None:
        """The health of programs on this node, of those that matter now and weren't asked yet."""
        known = view.observed.endpoints
        wanted = sorted(view.judged.wanted.endpoints - known.keys())
        if not wanted:
            return None
        found = self._read({f"health at {url}": partial(self._readers.endpoints.ask, url) for url in wanted})
        answers = {url: found[f"health at {url}"] for url in wanted}
        return replace(view.observed, endpoints={**known, **answers})

    def _read_names(self, view: View, facets: frozenset[Facet]) -> Observed | None:
        """Members that must be asked, and records; again when there are new ones to ask for."""
        observed, wanted = view.observed, view.judged.wanted
        asked = bool(wanted.questions.keys() - observed.answers.keys()) or (
            bool(wanted.questions) and Facet.MEMBERS in facets
        )
        records: Mapping[str, RecordSet] | Unknown = {} if Facet.RECORDS in facets else observed.records
        unread = self._unread_names(wanted, records)
        if not asked and not unread and records == observed.records:
            return None
        reads = self._questions(wanted) if asked else {}
        dns = self._readers.dns
        if dns is not None and unread:
            reads["records"] = lambda: dns.record_sets(unread)
        found = self._read(reads)
        read: Mapping[str, RecordSet] | Unknown = found.pop("records", {})  # type: ignore[assignment]
        if not isinstance(records, Unknown):
            records = read if isinstance(read, Unknown) else {**records, **read}
        observed = replace(observed, records=records)
        return replace(observed, answers=_answers(wanted, found)) if asked else observed

    def _unread_names(self, wanted: Wanted, records: Mapping[str, RecordSet] | Unknown) -> frozenset[str]:
        """Names without records. Unknown records are not read in every pass: a silent server would delay all else."""
        if self._readers.dns is None or isinstance(records, Unknown):
            return frozenset()
        return wanted.names - records.keys()

    def _questions(self, wanted: Wanted) -> Reads:
        """Each peer is asked for its member list, and for its version where our own member may restart."""
        restarting = {one.cluster for one in wanted.served}
        reads: Reads = {}
        for cluster, urls in wanted.questions.items():
            for url in urls:
                reads[_question(cluster, url)] = partial(self._members, url, cluster)
                if cluster in restarting:
                    reads[_version_of(cluster, url)] = partial(self._readers.etcd.about, url, cluster)
        return reads

    def _members(self, url: str, cluster: str) -> tuple[EtcdPeerMember, ...]:
        return tuple(self._readers.etcd.members(url, cluster))


def _question(cluster: str, url: str) -> str:
    return f"members of {cluster} from {url}"


def _version_of(cluster: str, url: str) -> str:
    return f"version of {cluster} at {url}"


def _snapshot(found: object) -> CloudSnapshot:
    if isinstance(found, CloudSnapshot):
        return found
    assert isinstance(found, Unknown)
    return CloudSnapshot(found, found, found)


def _known(future: Future[object]) -> object:
    try:
        return future.result()
    except StoreError as error:
        return Unreadable(str(error), error.rule)
    except NotListeningError as error:
        return NotListening(str(error))
    except ProviderError as error:
        return Unknown(str(error))


def _answers(wanted: Wanted, found: Mapping[str, object]) -> dict[str, PeerAnswers | Unknown]:
    return {
        cluster: _heard(
            [(me, found[_question(cluster, url)]) for url, me in urls.items()],
            [(me, found.get(_version_of(cluster, url))) for url, me in urls.items()],
        )
        for cluster, urls in wanted.questions.items()
    }


def _heard(found: Sequence[tuple[str, object]], about: Sequence[tuple[str, object]]) -> PeerAnswers | Unknown:
    """Each member's answer, from any of its addresses."""
    lists = {me: answer for me, answer in found if isinstance(answer, tuple)}
    silence = "; ".join(answer.reason for me, answer in found if isinstance(answer, Unknown) and me not in lists)
    if lists:
        return PeerAnswers(lists, silence, {me: told.version for me, told in about if isinstance(told, PeerAbout)})
    return Unknown(silence or "no address of another member is known")


def _is_working(disk: Disk | NoDisk | Unknown | None) -> bool:
    """Whether a tool works on the disk. Its end wakes the daemon."""
    return isinstance(disk, Disk) and isinstance(disk.content, Working)


def _tell(wake: Callable[[str], None], _: Future[dict[str, object]]) -> None:
    wake("the installed kubelet is known")


def _tell_of_backups(wake: Callable[[str], None], _: Future[dict[str, object]]) -> None:
    wake("the store has answered about backups")


def _with_mounts(storage: StorageFacts, found: object) -> StorageFacts:
    if isinstance(found, Unknown):
        return replace(storage, mounts=found, barred={})
    assert isinstance(found, tuple)
    mounts, barred = found
    return replace(storage, mounts=mounts, barred=barred)


def _with_units(observed: Observed, found: Mapping[str, object]) -> Observed:
    if Facet.UNIT not in found:
        return observed
    return replace(observed, node=replace(observed.node, unit=found[Facet.UNIT]))


def _with_probe(observed: Observed, probed: object) -> Observed:
    """The snapshot with the facts of the installed kubelet and the machine."""
    if isinstance(probed, Unknown):
        return replace(observed, kubelet=KubeletFacts(probed))
    assert isinstance(probed, tuple)
    return replace(observed, kubelet=KubeletFacts(*probed))
