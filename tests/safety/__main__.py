"""`make safety`: every claim about disks, held against its full set of cases, as one table.

Exit code 1: something happened that must never happen, or the run was ended early. Exit code 2: the surroundings are
wrong.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from pathlib import Path

from tests.lab import guard
from tests.safety import cases, table
from tests.safety.claims import CLAIMS
from tests.safety.corpus import Corpus
from tests.safety.engine import Tally, memory, run_all

CHECKOUT = Path(__file__).parents[2]
UNPACKED = CHECKOUT / "build/safety"


def main() -> int:
    """Run what was asked for."""
    began, options = time.monotonic(), _options()
    if (problem := guard.private_namespaces()) is not None:
        print(problem, file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    guard.bring_loopback_up()
    guard.separate_mounts()
    guard.install(confined=True)
    with memory() as folder:
        (folder / "corpus").mkdir()
        (folder / "power").mkdir()
        corpus = Corpus(folder / "corpus", options.unpacked)
        jobs = cases.everything(corpus, folder / "power", set(options.claim))
        limit = None if options.within is None else began + 60 * options.within
        ran = run_all(jobs if limit is None else cases.drawn(jobs), folder, limit, workers=options.workers)
    tallies = ran.tallies
    # Of the other claims not all cases were run; but a violation is one.
    shown = {key: tally if key in (options.claim or tallies) else Tally() for key, tally in tallies.items()}
    print(table.plain(shown))
    if options.missed and (gone := table.missed(shown)):
        print(f"\nNot detected:\n{gone}")
    if ran.broken_off:
        print("\nThe run was ended early: the table tells only of the jobs that were done.")
    elif ran.began < ran.jobs:
        print(f"\n{options.within:g} minutes were enough for {ran.began} of {ran.jobs} jobs, drawn by lot.")
    if options.write and ran.began == ran.jobs and not ran.broken_off:
        table.write(shown, CHECKOUT / "docs/safety.md", time.strftime("%Y-%m-%d"))
    if bad := table.violations(tallies):
        print(f"\nViolations:\n{bad}")
    return 1 if bad or ran.broken_off else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.safety", description=__doc__)
    parser.add_argument("--write", action="store_true", help="put the figures into docs/safety.md")
    parser.add_argument("--missed", action="store_true", help="name the formats that went undetected")
    parser.add_argument(
        "--within",
        type=float,
        metavar="MINUTES",
        help="begin no case after so many minutes, and draw them by lot",
    )
    parser.add_argument(
        "--workers",
        type=int,
        metavar="NUMBER",
        default=os.cpu_count() or 1,
        help="cases side by side (default: a core each)",
    )
    parser.add_argument("--unpacked", type=Path, default=UNPACKED, help="where .ci/unpack-packages put the tools")
    keys = [claim.key for claim in CLAIMS]
    parser.add_argument("claim", nargs="*", metavar="CLAIM", help=f"run what answers these alone: {', '.join(keys)}")
    options = parser.parse_args()
    if unknown := set(options.claim) - set(keys):
        parser.error(f"unknown claims: {', '.join(sorted(unknown))}; there are {', '.join(keys)}")
    return options


if __name__ == "__main__":
    sys.exit(main())
