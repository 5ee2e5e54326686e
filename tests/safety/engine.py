"""Runs jobs side by side, each in a folder of its own on a filesystem in memory, and counts what they say."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from time import monotonic

from tests.safety.claims import CLAIMS, Job, Result, results


@dataclass
class Tally:
    """What the cases of one claim have said."""

    cases: int = 0
    drawn: int = 0
    seconds: float = 0.0
    troubles: list[Result] = field(default_factory=list)


Tallies = dict[str, Tally]


@contextmanager
def memory(size: str = "6g") -> Iterator[Path]:
    """A filesystem in memory, in this mount namespace alone."""
    folder = Path(tempfile.mkdtemp(prefix="safety-"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "safety", folder], check=True, timeout=20)
    try:
        yield folder
    finally:
        # Lazily: what a broken case left mounted below goes with it.
        subprocess.run(["umount", "--lazy", folder], check=True, timeout=20)
        folder.rmdir()


def run_one(job: Job, within: Path) -> list[Result]:
    """Run a job in a folder that is made for it."""
    scratch = Path(tempfile.mkdtemp(dir=within))
    try:
        return list(results(job, scratch))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


_RATE = {claim.key: claim.rate for claim in CLAIMS}
_jobs: Sequence[Job] = ()
_within = Path("/nonexistent")


def _by_number(number: int) -> list[Result]:
    return run_one(_jobs[number], _within)


@dataclass
class Ran:
    """What came of a run. `began` of `jobs` were begun; `broken_off`: a signal ended it early."""

    tallies: Tallies
    jobs: int
    began: int = 0
    broken_off: bool = False


def run_all(jobs: Sequence[Job], within: Path, until: float | None = None, *, workers: int) -> Ran:
    """Run jobs, as many side by side as there are workers; progress and violations go to standard error.

    None is begun after `until`, on the clock of time.monotonic(), but for as many as there are claims. SIGINT and
    SIGTERM end it at once, with the tallies of the jobs that were done.
    """
    global _jobs, _within
    _jobs, _within = jobs, within  # the workers are forked, and find them there
    assert threading.active_count() == 1, "threads that idle here are missing in the workers: their calls would hang"
    least = len({job.claim for job in jobs})
    ran = Ran({claim.key: Tally() for claim in CLAIMS}, len(jobs))
    with ProcessPoolExecutor(workers, mp_context=get_context("fork")) as pool:
        running: set[Future[list[Result]]] = set()
        try:
            while True:
                # A worker more than can run, so that none waits for its next job.
                while len(running) <= workers and ran.began < len(jobs):
                    if until is not None and ran.began >= least and monotonic() >= until:
                        break
                    running.add(pool.submit(_by_number, ran.began))
                    ran.began += 1
                if not running:
                    break
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for result in (result for future in done for result in future.result()):
                    add(ran.tallies, result)
                    if result.trouble and not _RATE[result.claim]:
                        print(f"\n{result.claim}: {result.case}: {result.trouble}", file=sys.stderr, flush=True)
                if (ended := ran.began - len(running)) % 25 == 0:
                    print(f"\r{ended} of {len(jobs)} jobs", end="", file=sys.stderr, flush=True)
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            ran.broken_off = True
            return ran
    print(f"\r{ran.began} of {len(jobs)} jobs", file=sys.stderr)
    return ran


def add(tallies: Tallies, result: Result) -> None:
    """Count one result."""
    tally = tallies[result.claim]
    tally.cases += 1
    tally.drawn += result.drawn
    tally.seconds += result.seconds
    if result.trouble:
        tally.troubles.append(result)
