"""What the loop knows: what each source wants, what the provider runs, and what is remembered of each pod."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from protokube.agent.core.model import Pod
from protokube.agent.core.plan import Memory, View, rivals_of
from protokube.agent.core.pods import key_of, owner_of, source_name, uid_of
from protokube.core.model import Unknown

Key = tuple[str, str]


class Wanted:
    """What one source wants. `unknown` is why it can't be told; it is so until the source has spoken."""

    def __init__(self) -> None:
        self.unknown: str | None = "it hasn't spoken yet"
        self.pods: dict[str, Pod] = {}
        self.held: frozenset[str] = frozenset()


class Facts:
    """The facts by UID, with an index by namespace and name.

    `running` counts while the provider is `readable`; else it is what ran at last.
    """

    def __init__(self, sources: Sequence[str]) -> None:
        self._order = {name: place for place, name in enumerate(sources)}
        self.sources = {name: Wanted() for name in sources}
        self.readable = False
        self.running: dict[str, Pod] = {}
        self.creating: dict[str, Pod] = {}
        """Those that the provider is being asked for: they may run already."""
        self.memories: dict[str, Memory] = {}
        self._wanted: dict[str, str] = {}  # UID → source
        self._names: dict[Key, set[str]] = {}

    def hear(self, source: str, pods: Mapping[str, Pod] | Unknown, held: Collection[str]) -> set[str]:
        """Take in what a source says; return the UIDs that it concerns."""
        wanted = self.sources[source]
        if isinstance(pods, Unknown):
            wanted.unknown = pods.reason
            return set()
        # A UID is wanted by one source, the first that names it.
        pods = {uid: pod for uid, pod in pods.items() if self._wanted.get(uid, source) == source}
        first = wanted.unknown is not None or wanted.held != frozenset(held)
        before, wanted.pods = wanted.pods, pods
        wanted.unknown, wanted.held = None, frozenset(held)
        changed = {uid for uid in before.keys() | pods.keys() if before.get(uid) != pods.get(uid)}
        for uid in changed:
            if uid in before:
                self._wanted.pop(uid, None)
                self._unindex(uid, before[uid])
            if uid in pods:
                self._wanted[uid] = source
                self._index(uid, pods[uid])
        if first:
            changed |= {uid for uid, pod in self.running.items() if _source_of(pod) == source} | pods.keys()
        return self.with_namesakes(changed, before)

    def take_all(self, pods: Sequence[Pod]) -> set[str]:
        """Take in everything that the provider runs; return the UIDs that changed."""
        before, now = self.running, {uid_of(pod): pod for pod in pods}
        changed = {uid for uid in before.keys() | now.keys() if before.get(uid) != now.get(uid)}
        if not self.readable:
            changed |= self._wanted.keys() | now.keys()
        self.readable, self.running = True, now
        for uid in changed:
            self._reindex(uid, before.get(uid))
        return self.with_namesakes(changed, before)

    def see(self, uid: str, pod: Pod | None) -> set[str]:
        """Take in one pod of the provider; return the UIDs that it concerns."""
        before = self.running.get(uid)
        if pod is None:
            self.running.pop(uid, None)
        else:
            self.running[uid] = pod
        self._reindex(uid, before)
        return self.with_namesakes({uid}, {uid: before} if before else {}) if before != pod else set()

    def wanted(self, uid: str) -> Pod | None:
        """The pod as its source wants it."""
        source = self._wanted.get(uid)
        return self.sources[source].pods.get(uid) if source is not None else None

    def uids(self) -> set[str]:
        """Every UID that is wanted or runs."""
        return self._wanted.keys() | self.running.keys()

    def view(self, uid: str) -> View:
        """The facts about one UID."""
        wanted, running = self.wanted(uid), self.running.get(uid)
        owner = owner_of(running) if running is not None else owner_of(wanted) if wanted is not None else None
        source = self.sources.get(source_name(owner)) if owner is not None else None
        if running is None and wanted is not None:
            source = self.sources[self._wanted[uid]]
        heard = source is not None and source.unknown is None and owner not in source.held
        return View(wanted, running, heard, source is not None, self._rivals(uid, wanted))

    def with_namesakes(self, uids: set[str], before: Mapping[str, Pod] = {}) -> set[str]:
        """These UIDs, and those whose pods have the name of one of them."""
        keys = {key_of(pod) for uid in uids for pod in self._pods(uid, before)}
        return uids | {uid for key in keys for uid in self._names.get(key, ())}

    def _pods(self, uid: str, before: Mapping[str, Pod]) -> list[Pod]:
        found = (self.wanted(uid), self.running.get(uid), before.get(uid))
        return [pod for pod in found if pod is not None]

    def _rivals(self, uid: str, wanted: Pod | None) -> tuple[str, ...]:
        if wanted is None:
            return ()
        names = self._names[key_of(wanted)]
        if len(names) == 1:
            return ()
        runs = self.running.keys() | self.creating.keys()
        namesakes = {other: (other in runs, other in self._wanted) for other in names}
        return rivals_of(
            uid, namesakes, {other: self._order[self._wanted[other]] for other in names & self._wanted.keys()}
        )

    def _index(self, uid: str, pod: Pod) -> None:
        self._names.setdefault(key_of(pod), set()).add(uid)

    def _reindex(self, uid: str, before: Pod | None) -> None:
        if before is not None:
            self._unindex(uid, before)
        now = self.running.get(uid)
        if now is not None:
            self._index(uid, now)

    def _unindex(self, uid: str, pod: Pod) -> None:
        """Drop a UID from the index, unless another pod of it still has that name."""
        key = key_of(pod)
        if any(key_of(other) == key for other in self._pods(uid, {})):
            return
        names = self._names.get(key, set())
        names.discard(uid)
        if not names:
            self._names.pop(key, None)


def _source_of(pod: Pod) -> str:
    return source_name(owner_of(pod) or "")
