"""Ports → Observed: each facet of the world is read once a round, side by side, each with its own limit.

A read that fails or hangs becomes Unknown; a read that hangs is not started a second time while it does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING

from msgspec.structs import replace

from protokube.core.disks.identity import Identity
from protokube.core.disks.model import Disk, NoDisk, Working
from protokube.core.disks.plan import attached, mount_of
from protokube.core.dns.model import RecordSet
from protokube.core.dns.plan import names_to_read
from protokube.core.etcd.bootstrap import MemberFacts, needs_peers, peers_to_ask
from protokube.core.etcd.members import first_identity, identified, mounted_places
from protokube.core.etcd.model import EtcdPeerMember, PeerAnswers
from protokube.core.kubelet.model import KubeletBinary
from protokube.core.kubelet.plan import PATHS
from protokube.core.model import Facet, Unknown, Unread
from protokube.core.node.model import FileState
from protokube.core.observed import Observed
from protokube.core.settings import NodeConfig
from protokube.core.volumes.assess import Desired, desire
from protokube.errors import ProviderError
from protokube.ports import Readers
from protokube.together import Limited, start

if TYPE_CHECKING:
    from protokube.core.kubelet.model import Machine

ALL = frozenset(Facet)
CLOUD_FACETS = frozenset({Facet.VOLUMES, Facet.PEERS, Facet.MOUNTS})

Probed = tuple[KubeletBinary | None, "Machine"]
"""The installed kubelet, if there is one, and the machine that it is to serve."""


class Observer:
    """Reads the world for one configuration. What it keeps between rounds (hanging reads) may be lost.

    `wake` is called with a reason when something has become known that no round waited for; without it they all wait.
    """

    def __init__(
        self,
        config: NodeConfig,
        readers: Readers,
        *,
        started: float,
        limit: float = 30.0,
        wake: Callable[[str], None] | None = None,
    ) -> None:
        self._config = config
        self._readers = readers
        self._started = started
        self._wake = wake
        self._limited: Limited[object] = Limited(limit, "reading")
        self._probed = False
        """Whether the installed kubelet was asked. The first time takes long, so that it waits for a quiet moment."""
        self._slow: Future[dict[str, object]] | None = None

    def uptime(self) -> float:
        """Seconds since the program started."""
        return time.monotonic() - self._started

    def first(self, before: Observed | None = None, kept: frozenset[Facet] = frozenset()) -> Observed:
        """The snapshot at the start of a round. The facets in `kept` are taken over from `before`."""
        blank = Unknown("not read yet")
        empty = Observed(
            now=time.time(),
            uptime=0.0,
            instance=blank,
            volumes=blank,
            peers=blank,
            mounts=blank,
            kubelet=Unread("it is asked for its version and flags"),
            unit=blank,
        )
        taken_over = {facet.value: getattr(before, facet) for facet in kept}
        return self.again(replace(empty, **taken_over), ALL - kept)

    def late(self, observed: Observed) -> Observed | None:
        """The snapshot with what takes long, and is read when nothing else is left to do; None when that is done.

        Those are the disks of volumes that were attached in this round, all of them together, and, in the first
        round, the installed kubelet and its unit. These are looked at beside the disks. While a tool is at work on a
        disk, the round doesn't wait for kubelet: the end of either begins the next.
        """
        desired = desire(self._config, observed)
        unseen = desired is not None and bool({mine.id for mine in attached(desired)} - observed.disks.keys())
        if not self._probed and self._slow is None:
            self._slow = start("what is slow at first", self._look_slowly)
        if unseen:
            return self.again(observed, frozenset({Facet.DISKS}))
        if self._slow is None:
            return None
        if self._wake is not None and not self._slow.done() and any(map(_is_working, observed.disks.values())):
            self._slow.add_done_callback(partial(_tell, self._wake))
            return None
        found = self._slow.result()
        self._slow, self._probed = None, True
        observed = _with(observed, found.pop("probe"))
        return replace(observed, **found)

    def newly_asked(self, observed: Observed) -> Observed:
        """A predicted snapshot with the names and members read that only the prediction asks for."""
        desired = desire(self._config, observed)
        if desired is None:
            return observed
        return self._read_names(observed, desired, frozenset())

    def again(self, before: Observed, facets: frozenset[Facet]) -> Observed:
        """The snapshot with the given facets read again, and with what newly depends on them."""
        observed = replace(before, now=time.time(), uptime=self.uptime())
        observed = self._read_independent(observed, facets)
        desired = desire(self._config, observed)
        if desired is None:
            return observed
        observed = self._read_disks(observed, desired, facets)
        observed = self._read_trees(observed, desired, facets)
        asked = self._read_names(observed, desired, facets)
        if asked.members is observed.members:
            return asked
        # A member may have started while its peers were asked, and they list it then: its own data is read last.
        return self._read_trees(asked, desired, frozenset({Facet.TREES}))

    def _read(self, reads: Mapping[str, Callable[[], object]]) -> dict[str, object]:
        """The result of each read by its key: its value, or Unknown. An error that isn't ours is raised here."""
        return {key: _known(future) for key, future in self._limited.run(reads).items()}

    def _read_independent(self, observed: Observed, facets: frozenset[Facet]) -> Observed:
        readers, config = self._readers, self._config
        reads: dict[str, Callable[[], object]] = {
            Facet.INSTANCE: readers.cloud.instance,
            Facet.VOLUMES: lambda: tuple(readers.cloud.volumes()),
            Facet.PEERS: lambda: tuple(readers.cloud.peers()),
            Facet.MOUNTS: lambda: tuple(readers.disks.mounts()),
            Facet.FILES: self._read_files,
            "probe": self._probe,
        }
        if self._probed:
            reads |= self._unit()
        wanted: set[str] = set(facets if config.master else facets - CLOUD_FACETS)
        if Facet.FILES in wanted and self._probed:
            wanted.add("probe")
        found = self._read({key: read for key, read in reads.items() if key in wanted})
        probed = found.pop("probe", None)
        can_tag = readers.cloud.can_tag
        observed = replace(observed, can_tag=can_tag, **found)
        return observed if probed is None else _with(observed, probed)

    def _unit(self) -> dict[str, Callable[[], object]]:
        services, unit = self._readers.services, self._config.kubelet_unit
        return {Facet.UNIT: lambda: services.state(unit)} if services is not None and unit is not None else {}

    def _probe(self) -> Probed:
        import_module("protokube.core.kubelet.render")  # in this quiet moment, for the planner that needs it next
        return self._readers.probe.kubelet(), self._readers.probe.machine()

    def _look_slowly(self) -> dict[str, object]:
        """The installed kubelet, and the state of its unit: the first time, both load a library."""
        return self._read({"probe": self._probe, **self._unit()})

    def _read_files(self) -> Mapping[str, FileState]:
        listing = self._readers.files.listing(self._config.manifest_dir)
        return {**listing, **self._readers.files.read(PATHS)}

    def _read_disks(self, observed: Observed, desired: Desired, facets: frozenset[Facet]) -> Observed:
        """The disks; unasked, those at work: when a tool has ended, its volume goes on with the others."""
        volumes = [mine.volume for mine in attached(desired)]
        kept: Mapping[str, Disk | NoDisk | Unknown] = {}
        if Facet.DISKS not in facets:
            kept = observed.disks
            volumes = [volume for volume in volumes if _is_working(kept.get(volume.id))]
            if not volumes:
                return observed
        disks = self._readers.disks
        found = self._read({"disks": lambda: disks.inspect(volumes), "device names": disks.names})
        inspected, names = found["disks"], found["device names"]
        if isinstance(inspected, Unknown):
            inspected = {volume.id: inspected for volume in volumes}
        return replace(observed, disks={**kept, **inspected}, kernel_devices=names)  # type: ignore[dict-item]

    def _read_trees(self, observed: Observed, desired: Desired, facets: frozenset[Facet]) -> Observed:
        mounted = {mine.id: mine.target for mine in attached(desired) if mount_of(observed, mine)}
        if Facet.TREES not in facets and mounted.keys() == observed.trees.keys():
            return observed
        read = self._readers.disks.tree
        reads = {volume_id: partial(read, target) for volume_id, target in mounted.items()}
        return replace(observed, trees=self._read(reads))

    def _read_names(self, observed: Observed, desired: Desired, facets: frozenset[Facet]) -> Observed:
        """Members that must be asked, and records; again when there are new ones to ask for."""
        reads: dict[str, Callable[[], object]] = {}
        questions = self._questions(observed, desired)
        asked = bool(questions.keys() - observed.members.keys() or (questions and Facet.MEMBERS in facets))
        if asked:
            for cluster, urls in questions.items():
                reads |= {f"members of {cluster} from {url}": partial(self._members, url) for url in urls}
        records: Mapping[str, RecordSet] | Unknown = {} if Facet.RECORDS in facets else observed.records
        dns = self._readers.dns
        # What couldn't be read is not tried again in every pass: a silent server would hold up all that follows.
        if dns is not None and not isinstance(records, Unknown):
            unread = names_to_read(self._config, observed, desired) - records.keys()
            if unread:
                reads["records"] = lambda: dns.record_sets(unread)
        found = self._read(reads)
        read: Mapping[str, RecordSet] | Unknown = found.pop("records", {})  # type: ignore[assignment]
        if not isinstance(records, Unknown):
            records = read if isinstance(read, Unknown) else {**records, **read}
        if not asked:
            return replace(observed, records=records)
        members = {
            cluster: _answers([(me, found[f"members of {cluster} from {url}"]) for url, me in urls.items()])
            for cluster, urls in questions.items()
        }
        return replace(observed, records=records, members=members)

    def _questions(self, observed: Observed, desired: Desired) -> dict[str, Mapping[str, str]]:
        """The etcd clusters in which a member of ours never started, with the peer URLs to ask and whose they are."""
        questions: dict[str, Mapping[str, str]] = {}
        for place in mounted_places(self._config, observed, desired):
            identity = identified(desired, self._config, place) or first_identity(desired, place)
            if not isinstance(identity, Identity):
                continue
            if needs_peers(MemberFacts(place.mine, identity, place.has_data)):
                questions[place.mine.member.cluster] = peers_to_ask(observed, desired, place.template, place.mine)
        return questions

    def _members(self, url: str) -> tuple[EtcdPeerMember, ...]:
        return tuple(self._readers.etcd.members(url))


def _known(future: Future[object]) -> object:
    try:
        return future.result()
    except ProviderError as error:
        return Unknown(str(error))


def _answers(found: Sequence[tuple[str, object]]) -> PeerAnswers | Unknown:
    """What each member answered, at whichever of its addresses it was heard."""
    lists = {me: answer for me, answer in found if isinstance(answer, tuple)}
    silence = "; ".join(answer.reason for me, answer in found if isinstance(answer, Unknown) and me not in lists)
    if lists:
        return PeerAnswers(lists, silence)
    return Unknown(silence or "no address of another member is known")


def _is_working(disk: Disk | NoDisk | Unknown | None) -> bool:
    """Whether a tool works on the disk. Its end wakes the daemon."""
    return isinstance(disk, Disk) and isinstance(disk.content, Working)


def _tell(wake: Callable[[str], None], _: Future[dict[str, object]]) -> None:
    wake("the installed kubelet is known")


def _with(observed: Observed, probed: object) -> Observed:
    """The snapshot with what is known of the installed kubelet and the machine."""
    if isinstance(probed, Unknown):
        return replace(observed, kubelet=probed, machine=None)
    assert isinstance(probed, tuple)
    return replace(observed, kubelet=probed[0], machine=probed[1])
