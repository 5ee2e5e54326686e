"""All the jobs, the long ones first."""

from __future__ import annotations

from collections.abc import Set
from pathlib import Path

from tests.safety import adoption, blanks, exhaustive, foreign, gap, inputs, own, power, reads, stray, swaps
from tests.safety.claims import Job
from tests.safety.corpus import Corpus


def everything(corpus: Corpus, folder: Path, claims: Set[str] = frozenset()) -> list[Job]:
    """The full set; with `claims` only the jobs that belong to those. `folder` is for what jobs share."""
    jobs = [
        *(power.jobs(folder) if not claims or "power" in claims else ()),
        *(exhaustive.jobs() if not claims or "rounds" in claims else ()),
        *blanks.jobs(),
        *own.jobs(),
        *adoption.jobs(),
        *foreign.jobs(corpus),
        *inputs.jobs(),
        *reads.jobs(),
        *stray.jobs(),
        *swaps.jobs(),
        *gap.jobs(),
    ]
    return [job for job in jobs if job.answers(claims)]
