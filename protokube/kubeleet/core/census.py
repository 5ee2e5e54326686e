"""Everything that stands in Redis at one moment, and what follows: what is missing, what is there twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct

from protokube.core.model import Fault
from protokube.kubeleet.core.foreign import read_foreign
from protokube.kubeleet.core.pod import Wanted, pods_of, read_pod

PENDING, STARTING, ON, QUEUED = "pending", "starting", "on", "queued"
_RANK = {ON: 0, STARTING: 1, PENDING: 2, QUEUED: 3}


class WorkerSeen(Struct, frozen=True):
    """One worker: its heartbeat in Redis's time, its load, and its pods. `known`: it counts as there."""

    beat: int | None
    load: bytes | None
    epoch: int | None
    pending: Sequence[bytes] = ()
    starting: Sequence[bytes] = ()
    running: Sequence[bytes] = ()


class SchedulerSeen(Struct, frozen=True):
    """One scheduler: its heartbeat, and what it is placing."""

    beat: int | None
    placing: Sequence[bytes] = ()


class Letter(Struct, frozen=True):
    """A dead letter: a pod that was given up, and why. `at`: seconds since the epoch."""

    pod: str
    worker: str
    error: str
    attempts: int
    at: int


class Census(Struct, frozen=True):
    """All of it. `dead` begins with the newest letter, as the list does; `time` is Redis's."""

    time: int
    queue: Sequence[bytes] = ()
    dead: Sequence[bytes] = ()
    services: Mapping[str, bytes] = {}
    workers: Mapping[str, WorkerSeen] = {}
    schedulers: Mapping[str, SchedulerSeen] = {}

    @property
    def quiet(self) -> bool:
        """Whether nothing waits to be placed."""
        return not self.queue and not any(one.placing for one in self.schedulers.values())


class Place(Struct, frozen=True, order=True):
    """Where a pod's bytes stand: the kind, the worker or scheduler, empty for the common queue."""

    rank: int
    kind: str
    owner: str = ""

    def __str__(self) -> str:
        return QUEUED if self.kind == QUEUED else f"{self.kind}@{self.owner}"


def places(census: Census) -> dict[bytes, list[Place]]:
    """Every pod's places. The best comes first: what runs, before what starts, waits, or isn't placed yet."""
    found: dict[bytes, list[Place]] = {}

    def put(pods: Sequence[bytes], kind: str, owner: str = "") -> None:
        for raw in dict.fromkeys(pods):
            found.setdefault(raw, []).append(Place(_RANK[kind], kind, owner))

    for name, worker in census.workers.items():
        put(worker.running, ON, name)
        put(worker.starting, STARTING, name)
        put(worker.pending, PENDING, name)
    for name, scheduler in census.schedulers.items():
        put(scheduler.placing, QUEUED, name)
    put(census.queue, QUEUED)
    for one in found.values():
        one.sort()
    return found


def read_letter(raw: bytes) -> Letter | None:
    """A dead letter, None for bytes that aren't one."""
    letter = read_foreign(raw, Letter, "letter")
    return None if isinstance(letter, Fault) else letter


def dead_pods(census: Census) -> dict[bytes, bytes]:
    """The bytes of the pods that were given up → their letters."""
    letters = {raw: read_letter(raw) for raw in census.dead}
    return {letter.pod.encode(): raw for raw, letter in letters.items() if letter is not None}


def service_pods(request: bytes) -> list[bytes]:
    """The pods of a service as it stands in Redis; none of one that can't be read."""
    service = read_pod(request)
    return [] if isinstance(service, Fault) else pods_of(service)


def missing(census: Census) -> dict[bytes, str]:
    """The pods that services want and that stand nowhere → their service's uuid."""
    found, dead = places(census), dead_pods(census)
    return {
        raw: uuid
        for uuid, request in census.services.items()
        for raw in service_pods(request)
        if raw not in found and raw not in dead
    }


def doubles(census: Census) -> list[tuple[bytes, Place, Place]]:
    """Pods that stand at two owners: the pod, the place that stays, and one that goes."""
    return [
        (raw, kept, other)
        for raw, (kept, *others) in places(census).items()
        for other in others
        if other.owner != kept.owner
    ]


def states(census: Census, service: Wanted) -> dict[bytes, str]:
    """Where each pod of a service is, in words."""
    found, dead = places(census), dead_pods(census)
    return {
        raw: str(found[raw][0]) if raw in found else "dead" if raw in dead else "missing" for raw in pods_of(service)
    }


def unserved(census: Census) -> dict[str, list[bytes]]:
    """Pods on workers whose service isn't in Redis, by its uuid: pushed by hand, or Redis lost it."""
    found: dict[str, list[bytes]] = {}
    for raw in places(census):
        pod = read_pod(raw)
        if not isinstance(pod, Fault) and pod.uuid not in census.services:
            found.setdefault(pod.uuid, []).append(raw)
    return found
