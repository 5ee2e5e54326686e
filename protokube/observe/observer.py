"""Ports → View: each facet of the world is read once a reconcile, side by side, and judged.

An assessment names the facts that are wanted beyond the first facets; they are read until nothing new is wanted.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial

from msgspec.structs import replace

from protokube.core.action import Facet
from protokube.core.assess import assess
from protokube.core.history import History
from protokube.core.kubelet.model import KubeletFacts
from protokube.core.model import Moment, Unknown, Unread
from protokube.core.node.model import NodeFacts
from protokube.core.observed import Observed
from protokube.core.settings import NodeConfig
from protokube.core.volumes.model import CloudSnapshot
from protokube.observe.asking import LIMIT, Asker
from protokube.observe.first import read_first, read_slowly, with_probe, with_units
from protokube.observe.later import Later
from protokube.observe.names import read_names
from protokube.observe.view import View
from protokube.observe.wanted import (
    is_working,
    read_authorities,
    read_backups,
    read_certificates,
    read_contents,
    read_disks,
    read_endpoints,
    read_kept,
    read_objects,
    read_runtimes,
    read_served,
)
from protokube.ports import Readers
from protokube.together import Limited, start

ALL = frozenset(Facet)


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
        self.started = started
        self._wake = wake
        self._asker = Asker(config, readers, reading or Limited[object](LIMIT, "reading"), alive)
        self._later = Later(self._asker, self._moment, wake)
        self._probed = False
        """Whether the installed kubelet was asked. The first time takes long, so that it waits for a quiet moment."""
        self._slow: Future[dict[str, object]] | None = None
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
            health=self._later.health,
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
            self._slow = start("slow reads", partial(read_slowly, self._asker))
        if unseen:
            return self.again(view, frozenset({Facet.DISKS}))
        if self._slow is None:
            more = self._later.next_due(view)
            return None if more is None else self._judge(more, view.history)
        if self._wake is not None and not self._slow.done() and any(map(is_working, disks.values())):
            self._slow.add_done_callback(partial(_tell, self._wake))
            return None
        found = self._slow.result()
        self._slow, self._probed = None, True
        observed = with_probe(view.observed, found["probe"])
        # A binary stays what it is. Its unit may have been started or stopped since an earlier reconcile.
        if self._outlived:
            return self._read_on(observed, view.history, frozenset({Facet.UNIT}))
        return self._judge(with_units(observed, found), view.history)

    def ask_again(self) -> None:
        """Let the next reconcile ask the store about authorities, and the API server: a person has given cause."""
        self._later.ask_again()

    def newly_wanted(self, observed: Observed, history: History) -> View:
        """The view of a predicted snapshot, with all read that only the prediction wants."""
        foretold = self.config.foretold()
        view = self._judge(observed, history, foretold)
        reads = (
            read_certificates,
            read_authorities,
            read_served,
            read_kept,
            read_names,
            read_runtimes,
            read_endpoints,
        )
        while (
            more := next(filter(None, (read(self._asker, view, frozenset()) for read in reads)), None)
        ) is not None:
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
        observed = read_first(self._asker, observed, facets, probed=self._probed)
        view = self._judge(observed, history)
        for read in (
            read_disks,
            read_contents,
            read_certificates,
            read_authorities,
            read_served,
            read_names,
            read_kept,  # a cluster may be born by what the peers have just answered
            read_backups,
            read_objects,
            read_runtimes,
            read_endpoints,
            read_endpoints,  # a component that isn't up may have a cause elsewhere, which is asked for then
        ):
            if (more := read(self._asker, view, facets)) is not None:
                asked = more.answers is not view.observed.answers
                view = self._judge_new(view, more)
                if asked and (again := read_contents(self._asker, view, frozenset({Facet.CONTENTS}))) is not None:
                    # A member may have started while its peers were asked, and they list it then: its own data is
                    # read last.
                    view = self._judge_new(view, again)
        # Only now it is known which records of other owners stand.
        history = view.history.cloud_answered(view.observed) if Facet.CLOUD in facets else view.history
        return view if history == view.history else self._judge(view.observed, history)


def _tell(wake: Callable[[str], None], _: Future[dict[str, object]]) -> None:
    wake("the installed kubelet is known")
