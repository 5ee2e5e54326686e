"""The names of Redis's keys, as the original has them; a prefix is optional."""

from __future__ import annotations


class Keys:
    """Names of keys. Where scripts need the keys of every worker, they make them from the prefix themselves."""

    def __init__(self, prefix: str = "") -> None:
        self.prefix = prefix
        self.queue = f"{prefix}sq"
        self.workers = f"{prefix}workers"
        self.schedulers = f"{prefix}schedulers"
        self.services = f"{prefix}svc"
        self.attempts = f"{prefix}at"
        self.dead = f"{prefix}dl"

    @property
    def of_service(self) -> list[str]:
        """The keys of the script that takes services in."""
        return [self.services, self.queue, self.workers, self.schedulers]

    def pending(self, worker: str) -> str:
        """What was placed on a worker."""
        return f"{self.prefix}pq:{worker}"

    def starting(self, worker: str) -> str:
        """What the worker has taken, and hasn't started yet."""
        return f"{self.prefix}rq:{worker}"

    def running(self, worker: str) -> str:
        """What belongs on the worker."""
        return f"{self.prefix}cs:{worker}"

    def placing(self, scheduler: str) -> str:
        """What a scheduler has taken, and hasn't placed yet."""
        return f"{self.prefix}srq:{scheduler}"

    def beat(self, worker: str) -> str:
        """A worker's heartbeat."""
        return f"{self.prefix}hb:{worker}"

    def scheduler_beat(self, scheduler: str) -> str:
        """A scheduler's heartbeat."""
        return f"{self.prefix}hb:s:{scheduler}"

    def load(self, worker: str) -> str:
        """A worker's load."""
        return f"{self.prefix}ld:{worker}"

    def epoch(self, worker: str) -> str:
        """A worker's fencing epoch."""
        return f"{self.prefix}ep:{worker}"

    def generation(self, worker: str) -> str:
        """How often the worker has written: it only grows, unless Redis goes back to an earlier state."""
        return f"{self.prefix}gen:{worker}"
