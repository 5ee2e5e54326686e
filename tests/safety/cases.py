"""All the jobs, the long ones first; or drawn by lot, for a run that may not come to its end."""

from __future__ import annotations

import random
from collections.abc import Sequence, Set
from pathlib import Path

from tests.safety import (
    adoption,
    blanks,
    exhaustive,
    foreign,
    gap,
    inputs,
    models,
    moves,
    own,
    power,
    reads,
    stray,
    swaps,
)
from tests.safety.claims import Job
from tests.safety.corpus import Corpus


def everything(corpus: Corpus, folder: Path, claims: Set[str] = frozenset()) -> list[Job]:
    """The full set; with `claims` only the jobs that belong to those. `folder` is for what jobs share.

    Changes of a running etcd take most of an hour, and must be asked for.
    """
    jobs = [
        *(power.jobs(folder) if not claims or "power" in claims else ()),
        *(moves.jobs() if "moves" in claims else ()),
        *(exhaustive.jobs() if not claims or "rounds" in claims else ()),
        *blanks.jobs(),
        *own.jobs(),
        *adoption.jobs(),
        *foreign.jobs(corpus),
        *models.jobs(),
        *inputs.jobs(),
        *reads.jobs(),
        *stray.jobs(),
        *swaps.jobs(),
        *gap.jobs(),
    ]
    return [job for job in jobs if job.answers(claims)]


def drawn(jobs: Sequence[Job]) -> list[Job]:
    """The same jobs in an order drawn by lot, the same in every run; one of each claim comes first."""
    mixed = random.Random(10).sample(jobs, len(jobs))
    first = {job.claim: job for job in reversed(mixed)}
    return [*first.values(), *(job for job in mixed if first[job.claim] is not job)]
