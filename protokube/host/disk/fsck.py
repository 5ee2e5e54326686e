"""Runs e2fsck on this member's own filesystem, and finishes what a growth that was cut off has left.

resize2fs writes the inode that holds room for more group descriptors before it writes what describes it. Cut off in
between, that inode isn't valid, and `e2fsck -p` stops at it and asks a human. It holds nothing but that room, and
nothing of any file. So where a full check finds that and nothing else, e2fsck makes it anew.
"""

from __future__ import annotations

from protokube.host.process import run_logged, tool

UNCORRECTED = 4
NO_VERDICT = 8 | 16 | 32 | 128
"""e2fsck(8): operational error, wrong usage, cancelled, shared library error."""

_CUT_OFF = "Resize inode not valid.  Recreate? no"


def check(node: str, log: str, locked: int, *, whole: bool) -> tuple[int, str]:
    """Run `e2fsck -p`; its exit code and the end of what it said. `whole`: even where the filesystem is marked clean.

    The tool inherits the descriptor `locked`, and writes to the file `log`.
    """
    found = _run(["-f", "-p"] if whole else ["-p"], node, log, locked)
    if found[0] < 0 or found[0] & NO_VERDICT or not found[0] & UNCORRECTED:
        return found
    if not growth_was_cut_off(_run(["-f", "-n"], node, log, locked)[1]):
        return found
    return _run(["-f", "-y"], node, log, locked)


def growth_was_cut_off(text: str) -> bool:
    """Whether a full check (`e2fsck -f -n`) has found what a growth leaves that was cut off, and nothing else."""
    lines = [line.strip() for line in text.splitlines()]
    return lines.count(_CUT_OFF) == 1 and all(_says_no_more(line) for line in lines if line != _CUT_OFF)


def _says_no_more(line: str) -> bool:
    """Whether a line of e2fsck's is no finding: its version, a pass that begins, the counts and the verdict at the
    end (its words from 1.42 to 1.47). Any other line counts as one."""
    if "?" in line:
        return False
    ends = " blocks", "WARNING: Filesystem still has errors **********"
    return not line or line.startswith(("e2fsck 1.", "Pass ")) or line.endswith(ends)


def _run(options: list[str], node: str, log: str, locked: int) -> tuple[int, str]:
    return run_logged([tool("e2fsck"), *options, node], log, locked)
