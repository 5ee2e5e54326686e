"""Runs jobs side by side, each in a folder of its own on a filesystem in memory, and counts what they say."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

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


_jobs: Sequence[Job] = ()
_within = Path("/nonexistent")


def _by_number(number: int) -> list[Result]:
    return run_one(_jobs[number], _within)


def run_all(jobs: Sequence[Job], within: Path, workers: int = os.cpu_count() or 1) -> tuple[Tallies, bool]:
    """Run jobs on all cores, and say whether all came to their end; progress goes to standard error.

    SIGINT and SIGTERM end it early, with the tallies of the jobs that were done.
    """
    global _jobs, _within
    _jobs, _within = jobs, within  # the workers are forked, and find them there
    assert threading.active_count() == 1, "threads that idle here are missing in the workers: their calls would hang"
    tallies = {claim.key: Tally() for claim in CLAIMS}
    with ProcessPoolExecutor(workers, mp_context=get_context("fork")) as pool:
        futures = [pool.submit(_by_number, number) for number in range(len(jobs))]
        try:
            for done, future in enumerate(as_completed(futures), start=1):
                for result in future.result():
                    add(tallies, result)
                if done % 25 == 0 or done == len(jobs):
                    print(f"\r{done} of {len(jobs)} jobs", end="", file=sys.stderr, flush=True)
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            return tallies, False
    print(file=sys.stderr)
    return tallies, True


def add(tallies: Tallies, result: Result) -> None:
    """Count one result."""
    tally = tallies[result.claim]
    tally.cases += 1
    tally.drawn += result.drawn
    tally.seconds += result.seconds
    if result.trouble:
        tally.troubles.append(result)
