"""A fixed sample of `make safety`, which has the full set: the parts that need no tool of others and little time."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.safety import adoption, blanks, claims, foreign, inputs, reads, swaps
from tests.safety.claims import Job
from tests.safety.corpus import Corpus, of_names
from tests.safety.engine import memory, run_one
from tests.safety.images import MIB

_PLANTED = """
import sys
from tests.safety import __main__, cases, claims
trouble = sys.argv.pop()
def planted(claim):
    return claims.Job(claim, "planted", lambda scratch: [claims.Result(claim, "planted", trouble)])
cases.everything = lambda *_: [planted("blank"), planted("own"), planted("blank")]
sys.exit(__main__.main())
"""
pytestmark = [pytest.mark.root, pytest.mark.xdist_group("safety")]

_NEVER = {claim.key for claim in claims.CLAIMS if not claim.rate}
_FORMATS = ("xfs", "btrfs", "gpt", "luks1", "md-1.2", "swap")
_NAMES = {
    *(f"{size} bytes" for size in (2 * MIB, 8 * MIB + 512 * 1024, 64 * MIB, 320 * MIB)),
    f"{8 * MIB} bytes, ends early",
    "format: an XFS",
    "format: another, blank disk under its name",
    "mount: another ext4",
    "control: kops's volume of this member",
    "kops: another member",
    "ours: another cluster",
    "intent",
    "identity",
    "manifest",
    "etcd-peers",
    "ec2-volumes",
    "route53-records",
    "dbus",
    "debugfs",
    "signatures",
    "dns-answers",
    "dbus-signals",
    "mountinfo",
    "agent-records",
}


@pytest.fixture(scope="module")
def within() -> Iterator[Path]:
    with memory("1g") as folder:
        yield folder


def _jobs() -> list[Job]:
    others = [*blanks.jobs(), *adoption.jobs(), *inputs.jobs(80), *reads.jobs(12), *swaps.jobs()]
    return [job for job in others if job.name in _NAMES and job.claim != "resume"]


@pytest.mark.parametrize("job", _jobs(), ids=lambda job: f"{job.claim}: {job.name}")
def test_it_holds(within: Path, job: Job) -> None:
    results = run_one(job, within)
    assert results
    assert [one for one in results if one.trouble] == []


@pytest.mark.parametrize("name", _FORMATS)
def test_disks_of_others(within: Path, name: str) -> None:
    folder = within / "corpus"
    folder.mkdir(exist_ok=True)
    jobs = foreign.jobs(Corpus(folder, within / "none"), tuple(of_names([name])))
    found = [job for job in jobs if job.name.endswith(" 320 MiB") and job.claim in ("whole", "intent")]
    results = [result for job in found for result in run_one(job, within)]
    assert {one.claim for one in results} >= {"whole", "intent"}
    assert [one for one in results if one.trouble and one.claim in _NEVER] == []


def test_what_once_failed_is_read(within: Path) -> None:
    results = list(inputs.replay(within))
    assert {one.case.partition(":")[0] for one in results} >= {"identity", "dbus", "route53-zones", "kubelet"}
    assert [one for one in results if one.trouble] == []


def test_a_case_that_breaks_down_counts_as_a_violation(within: Path) -> None:
    def broken(scratch: Path) -> list[claims.Result]:
        raise OSError(f"no such tool in {scratch}")

    (result,) = run_one(Job("whole", "broken", broken), within)
    assert "no such tool" in result.trouble


def planted(trouble: str, *options: str) -> subprocess.CompletedProcess[str]:
    """`make safety` with two cases of one claim and one of another."""
    words = [sys.executable, "-c", _PLANTED, *options, trouble]
    return subprocess.run(words, capture_output=True, text=True, cwd=Path(__file__).parents[2], check=False)


@pytest.mark.parametrize(("trouble", "code"), [("", 0), ("it passes for blank", 1)], ids=["none", "one"])
def test_a_violation_fails_the_run(trouble: str, code: int) -> None:
    done = planted(trouble)
    assert done.returncode == code, done.stderr
    assert f"planted: {trouble}" in done.stdout or not trouble


def test_a_result_that_its_job_does_not_promise_is_a_violation(within: Path) -> None:
    (result,) = run_one(Job("whole", "silent", lambda _: [claims.Result("blank", "more")]), within)
    assert result.claim == "whole" and "says nothing of blank" in result.trouble


def test_a_run_with_too_little_time_has_a_case_of_each_claim() -> None:
    done = planted("", "--within", "0")
    assert done.returncode == 0 and "0 minutes were enough for 2 of 3 jobs" in done.stdout, done.stdout + done.stderr
    assert [line.split()[-3:-1] for line in done.stdout.splitlines() if "(never)" in line] == [["0", "(never)"]] * 2
