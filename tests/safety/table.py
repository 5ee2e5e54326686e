"""The table that `make safety` prints, and the figures that it writes into docs/safety.md."""

from __future__ import annotations

from pathlib import Path

from tests.safety.claims import CLAIMS
from tests.safety.engine import Tallies

BEGIN = "<!-- figures of `make safety`: begin -->"
END = "<!-- figures of `make safety`: end -->"
_MOST = 12
_LONG = 2000


def rows(tallies: Tallies) -> list[tuple[str, str, str, str, str]]:
    """Claim, cases, violations or how many were detected, how many by a drawn page alone, seconds of work."""
    found = []
    for claim in CLAIMS:
        tally = tallies[claim.key]
        if tally.cases == 0:
            continue
        bad = len(tally.troubles)
        said = f"{100 * (tally.cases - bad) / tally.cases:.1f} % detected" if claim.rate else f"{bad} (never)"
        found.append((claim.text, str(tally.cases), said, str(tally.drawn or ""), f"{tally.seconds:.0f}"))
    return found


HEAD = ("claim", "cases", "violations", "by a drawn page alone", "seconds")


def plain(tallies: Tallies) -> str:
    """The table for a terminal."""
    lines = [HEAD, *rows(tallies)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEAD))]
    return "\n".join(
        "  ".join(
            text.rjust(width) if column else text.ljust(width)
            for column, (text, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )


def markdown(tallies: Tallies, day: str) -> str:
    """The table for the documentation; `day` is when it was measured."""
    lines = [(*HEAD, "measured"), ("---", *["---:"] * len(HEAD)), *((*row, day) for row in rows(tallies))]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def missed(tallies: Tallies) -> str:
    """Which disks went undetected, by claim: the format's name, and how many of its cases."""
    lines = []
    for claim in CLAIMS:
        counts: dict[str, int] = {}
        for result in tallies[claim.key].troubles:
            if claim.rate:
                name = result.case.partition(",")[0].partition(" over ")[0]
                counts[name] = counts.get(name, 0) + 1
        if counts and not claim.key.startswith("stray"):
            lines.append(
                f"- {claim.text}: " + ", ".join(f"{name} ({count})" for name, count in sorted(counts.items()))
            )
    return "\n".join(lines)


def violations(tallies: Tallies) -> str:
    """The first violations of each claim that says never."""
    lines = []
    for claim in CLAIMS:
        troubles = tallies[claim.key].troubles
        if claim.rate or not troubles:
            continue
        lines.append(f"{claim.text}: {len(troubles)} of {tallies[claim.key].cases}")
        lines += [f"  {one.case}: {_short(one.trouble)}" for one in troubles[:_MOST]]
        if len(troubles) > _MOST:
            lines.append(f"  and {len(troubles) - _MOST} more")
    return "\n".join(lines)


def _short(trouble: str) -> str:
    """Its beginning and its end."""
    return trouble if len(trouble) <= _LONG else f"{trouble[: _LONG // 2]} … {trouble[-_LONG // 2 :]}"


def write(tallies: Tallies, page: Path, day: str) -> None:
    """Put the figures of a day between their marks. Rows of claims that weren't run stay as they are."""
    text = page.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    old, _, after = rest.partition(END)
    kept = {line.split(" | ")[0]: line for line in old.splitlines() if line.startswith("| ")}
    kept |= {line.split(" | ")[0]: line for line in markdown(tallies, day).splitlines()}
    lines = [
        kept[key] for key in map("| {}".format, ("claim", "---", *(claim.text for claim in CLAIMS))) if key in kept
    ]
    gone = {line.split(":")[0]: line for line in old.splitlines() if line.startswith("- ")}
    gone = {key: line for key, line in gone.items() if key[2:] not in _run(tallies)}
    gone |= {line.split(":")[0]: line for line in missed(tallies).splitlines()}
    told = [gone[key] for key in (f"- {claim.text}" for claim in CLAIMS) if key in gone]
    listed = ["", "Not detected (format, number of its cases):", "", *told] if told else []
    page.write_text("\n".join([before + BEGIN, "", *lines, *listed, "", END + after]), encoding="utf-8")


def _run(tallies: Tallies) -> set[str]:
    return {claim.text for claim in CLAIMS if tallies[claim.key].cases}
