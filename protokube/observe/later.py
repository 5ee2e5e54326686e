"""What is asked when nothing else is left to do, and not in every reconcile: the store, etcd, the API server.

A reconcile waits for the store's answers about backups, and long for etcd's, only where nobody could be woken: else
the next one takes in an answer that comes late.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait
from functools import partial

from msgspec.structs import replace

from protokube.core.action import Facet
from protokube.core.backup.model import BackupAnswers
from protokube.core.etcd.health import ClusterView, problems
from protokube.core.model import Moment, Unknown
from protokube.core.observed import Observed
from protokube.observe.asking import Asker, Reads
from protokube.observe.view import View
from protokube.observe.wanted import read_authorities, with_objects
from protokube.together import start

OBJECTS_EVERY = 300.0
"""Seconds between two looks at the API server's objects on a node where they were all right."""

FOLLOW_EVERY = 3600.0
"""Seconds between two looks at the store's authorities on a node where nothing is to be issued."""

HEALTH_EVERY, HEALTH_AGAIN = 300.0, 60.0
"""Seconds between two looks at how our etcd clusters are, and while something is wrong."""

HEALTH_PATIENCE = 3.0
"""Seconds that a reconcile waits for the answer."""


class Later:
    """When each of these was asked last, and what is under way. Each method returns the snapshot with what was found,
    or None when nothing was to be asked or is known yet.

    `now` tells the moment. `wake` is called with a reason when answers about backups have come; without it they are
    waited for.
    """

    def __init__(self, asker: Asker, now: Callable[[], Moment], wake: Callable[[str], None] | None) -> None:
        self._asker = asker
        self._now = now
        self._wake = wake
        self._store_asked: float | None = None
        """The uptime at which the store was last asked about authorities; None when it is to be asked next."""
        self.health: Mapping[str, ClusterView] = {}
        """How our etcd clusters were when they were last asked."""
        self._health_asked: float | None = None
        """The uptime at which that was; None when they are to be asked next."""
        self._health_asking: Future[dict[str, object]] | None = None
        self._backups: dict[str, Future[dict[str, object]]] = {}
        """The questions about backups that are under way, by etcd cluster."""
        self._objects_right: float | None = None
        """The uptime at which the API server's objects were last right; None when they are to be asked for."""

    def next_due(self, view: View) -> Observed | None:
        """What is due first, in a fixed order."""
        follow = (self._authorities, self._backup_answers, self._objects, self._health_of_etcd)
        return next(filter(None, (read(view) for read in follow)), None)

    def ask_again(self) -> None:
        """Let the next reconcile ask the store about authorities, the API server, and how etcd is."""
        self._store_asked = None
        self._objects_right = None
        self._health_asked = None

    def _uptime(self) -> float:
        return self._now().uptime

    def _authorities(self, view: View) -> Observed | None:
        """The store's authorities, once an hour: an operator may have begun to replace one. A store
        that doesn't answer is no trouble then."""
        due = self._store_asked is None or self._uptime() - self._store_asked > FOLLOW_EVERY
        pki = view.judged.pki
        if not due or pki is None or not pki.ready:
            return None
        self._store_asked = self._uptime()
        wanted = replace(view.judged.wanted, authorities=pki.cluster)
        asking = replace(view, judged=replace(view.judged, wanted=wanted))
        return read_authorities(self._asker, asking, frozenset({Facet.AUTHORITIES}))

    def _health_of_etcd(self, view: View) -> Observed | None:
        """How our etcd clusters are, every five minutes, or every minute while something is wrong."""
        wanted = view.judged.wanted.health
        wrong = any(problems(cluster, one) for cluster, one in self.health.items())
        every = HEALTH_AGAIN if wrong else HEALTH_EVERY
        due = self._health_asked is None or self._uptime() - self._health_asked > every
        if not wanted or not (due or self._health_asking):
            return None
        if self._health_asking is None:
            self._health_asked = self._uptime()
            asks: Reads = {
                f"health of {one.at.cluster}": partial(self._asker.readers.server.health, one) for one in wanted
            }
            self._health_asking = start("health of etcd", partial(self._asker.read_apart, asks))
        # An etcd that hangs delays nothing: the next reconcile takes its answer in.
        wait([self._health_asking], None if self._wake is None else HEALTH_PATIENCE)
        if not self._health_asking.done():
            return None
        found, self._health_asking = self._health_asking.result(), None
        self.health = {
            one.at.cluster: told
            for one in wanted
            if isinstance(told := found.get(f"health of {one.at.cluster}"), ClusterView)
        }
        return replace(view.observed, health=self.health)

    def _backup_answers(self, view: View) -> Observed | None:
        """The answers about backups that are due.

        A store may be slow or gone: nothing waits for it, where there is somebody to wake.
        """
        cluster = view.judged.wanted.backups[0]
        for member in view.judged.wanted.backup_answers:
            if member.etcd not in self._backups:
                read = partial(self._asker.readers.backups.answers, cluster, member)
                key = f"backups of {member.etcd}"
                self._backups[member.etcd] = start(key, partial(self._asker.read_apart, {key: read}))
        if self._wake is None:
            wait(self._backups.values())
        ended = {etcd: future for etcd, future in self._backups.items() if future.done()}
        for etcd, future in self._backups.items():
            if etcd not in ended and self._wake is not None:
                future.add_done_callback(partial(_tell, self._wake))
        if not ended:
            return None
        answers: dict[str, BackupAnswers | Unknown] = dict(view.observed.backups.answers)
        for etcd, future in ended.items():
            del self._backups[etcd]
            (found,) = future.result().values()
            assert isinstance(found, BackupAnswers | Unknown)
            answers[etcd] = found
        facts = replace(view.observed.backups, answers=answers)
        return replace(view.observed, at=self._now(), backups=facts)

    def _objects(self, view: View) -> Observed | None:
        """The API server's objects: in each reconcile until all are right, then every few minutes."""
        judged, facts = view.judged.objects, view.observed.objects
        if judged is None:
            return None
        if facts.asked:
            wrong = judged.apply or judged.decide or judged.addons or judged.lease
            right = not wrong and judged.findings.converged
            self._objects_right = self._uptime() if right else None
            return None
        young = self._objects_right is not None and self._uptime() - self._objects_right < OBJECTS_EVERY
        if young and not self._asker.readers.objects.changed():
            return None
        return with_objects(self._asker, view)


def _tell(wake: Callable[[str], None], _: Future[dict[str, object]]) -> None:
    wake("the store has answered about backups")
