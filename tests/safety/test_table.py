"""The table and the figures in the documentation."""

from __future__ import annotations

from pathlib import Path

from tests.safety import table
from tests.safety.claims import CLAIMS, Result
from tests.safety.engine import Tallies, Tally, add


def tallies(*results: Result) -> Tallies:
    found = {claim.key: Tally() for claim in CLAIMS}
    for result in results:
        add(found, result)
    return found


def page(folder: Path) -> Path:
    path = folder / "safety.md"
    path.write_text(f"before\n{table.BEGIN}\n{table.END}\nafter\n")
    return path


def test_a_rate_and_a_promise_are_told_apart() -> None:
    found = tallies(
        Result("head-1m", "xfs, 1 GiB", "it passes for blank"),
        Result("head-1m", "btrfs, 1 GiB"),
        Result("blank", "1"),
    )
    assert [row[1:3] for row in table.rows(found)] == [("1", "0 (never)"), ("2", "50.0 % detected")]
    assert table.violations(found) == ""
    assert table.missed(found).endswith("xfs (1)")


def test_what_only_a_drawn_page_told_is_counted() -> None:
    found = tallies(Result("tail", "a", drawn=True), Result("tail", "b", drawn=True), Result("tail", "c"))
    assert [row[1:4] for row in table.rows(found)] == [("3", "100.0 % detected", "2")]


def test_what_must_never_happen_is_named_with_its_reason() -> None:
    found = tallies(Result("blank", "2097152 bytes", "not-blank: it is mounted"))
    assert "2097152 bytes: not-blank: it is mounted" in table.violations(found)


def test_figures_of_claims_that_were_not_run_stay(tmp_path: Path) -> None:
    path = page(tmp_path)
    table.write(
        tallies(Result("head-1m", "xfs, 1 GiB", "it passes for blank"), Result("whole", "xfs")), path, "2026-01-01"
    )
    table.write(tallies(Result("blank", "1"), Result("whole", "xfs"), Result("whole", "btrfs")), path, "2026-01-02")
    text = path.read_text()
    rows = [line.split(" | ")[1] for line in text.splitlines() if line.startswith("| ")]
    assert rows == ["cases", "---:", "2", "1", "1"]
    days = [line.rpartition(" | ")[2].removesuffix(" |") for line in text.splitlines() if line.startswith("| ")]
    assert days == ["measured", "---:", "2026-01-02", "2026-01-02", "2026-01-01"]
    assert text.count("xfs (1)") == 1
    assert text.startswith("before\n") and text.endswith("after\n")


def test_a_claim_that_misses_nothing_any_more_loses_its_list(tmp_path: Path) -> None:
    path = page(tmp_path)
    table.write(tallies(Result("head-1m", "xfs, 1 GiB", "it passes for blank")), path, "2026-01-01")
    table.write(tallies(Result("head-1m", "xfs, 1 GiB")), path, "2026-01-02")
    assert "xfs" not in path.read_text()
    assert "100.0 % detected" in path.read_text()
