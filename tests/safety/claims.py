"""What is claimed, and what cases answer."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Iterator, Set
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic


@dataclass(frozen=True)
class Claim:
    """Something that must never happen, or (`rate`) something that is caught as often as the figure says."""

    key: str
    text: str
    rate: bool = False


@dataclass(frozen=True)
class Result:
    """One case of a claim. `trouble` is empty when it held, or when the disk's content was detected.

    `drawn`: nothing but a drawn page told that the disk isn't blank.
    """

    claim: str
    case: str
    trouble: str = ""
    drawn: bool = False
    seconds: float = 0.0


@dataclass(frozen=True)
class Job:
    """Cases that share their preparation. `run` gets a folder of its own, and yields its results one by one.

    `more`: claims besides the first that its results answer.
    """

    claim: str
    name: str
    run: Callable[[Path], Iterable[Result]]
    more: tuple[str, ...] = ()

    def answers(self, claims: Set[str]) -> bool:
        """Whether it answers one of some claims; no claims stands for all."""
        return not claims or not claims.isdisjoint((self.claim, *self.more))


def results(job: Job, scratch: Path) -> Iterator[Result]:
    """Run a job. One that breaks down is a violation of its claim: nothing that wasn't tried counts as held."""
    began = monotonic()
    try:
        for result in job.run(scratch):
            assert job.answers({result.claim}), f"{job.name} says nothing of {result.claim} in its `more`"
            now = monotonic()
            yield replace(result, seconds=now - began)
            began = now
    except Exception:  # noqa: BLE001 - whatever it was, the table must show it
        text = traceback.format_exc().strip()
        yield Result(job.claim, job.name, f"the case itself failed: {text}", seconds=monotonic() - began)


CLAIMS = (
    Claim("whole", "A whole foreign format is formatted"),
    Claim("overwritten", "A foreign format over another one is formatted"),
    Claim("intent", "A foreign format behind a stale intent is formatted"),
    Claim("read-error", "A disk that can't be read everywhere is formatted"),
    Claim("changed", "A disk that changed between look and act is touched"),
    Claim("untouched", "A refused disk has changed by a byte"),
    Claim("blank", "A blank disk is refused"),
    Claim("resume", "Our own interrupted format is refused"),
    Claim("own", "A healthy volume of ours is locked out"),
    Claim("power", "After a power cut a member waits for a human, or lost a write"),
    Claim("moves", "A running etcd is changed, somebody is killed: it stands still, or lost a write"),
    Claim("adoption", "A volume that isn't this member's is adopted, or starts as new"),
    Claim("rounds", "In memory, any fault at any point: a state breaks a law"),
    Claim("model", "The model of these rounds and the real thing come to differ"),
    Claim("input", "Input that others write raises an undocumented error"),
    Claim("head-4k", "Foreign format, first 4 KiB wiped", rate=True),
    Claim("head-1m", "Foreign format, first 1 MiB wiped", rate=True),
    Claim("head-16m", "Foreign format, first 16 MiB wiped", rate=True),
    Claim("head-1m-sparse", "… first 1 MiB wiped, on a sparse file", rate=True),
    Claim("head-16m-sparse", "… first 16 MiB wiped, on a sparse file", rate=True),
    Claim("intent-wiped", "Foreign format behind a stale intent, first 4 KiB wiped", rate=True),
    Claim("tail", "Only the last quarter of a foreign format", rate=True),
    Claim("over-1m", "Foreign format over another, first 1 MiB wiped", rate=True),
    Claim("stray-byte", "One stray byte anywhere", rate=True),
    Claim("stray-4k", "4 KiB of data anywhere", rate=True),
    Claim("stray-64k", "64 KiB of data anywhere", rate=True),
    Claim("stray-1m", "1 MiB of data anywhere", rate=True),
    Claim("stray-16m", "16 MiB of data anywhere", rate=True),
    Claim("stray-1m-sparse", "… 1 MiB, on a sparse file", rate=True),
)
