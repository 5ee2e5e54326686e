"""All the jobs, the long ones first."""

from __future__ import annotations

from collections.abc import Set

from tests.safety import adoption, blanks, foreign, reads, stray, swaps
from tests.safety.claims import Job
from tests.safety.corpus import Corpus


def everything(corpus: Corpus, claims: Set[str] = frozenset()) -> list[Job]:
    """The full set; with `claims` only the jobs that belong to those."""
    jobs = [
        *blanks.jobs(),
        *adoption.jobs(),
        *foreign.jobs(corpus),
        *reads.jobs(),
        *stray.jobs(),
        *swaps.jobs(),
    ]
    return [job for job in jobs if not claims or job.claim in claims]
