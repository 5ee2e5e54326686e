"""The lines that differ between two texts, for people."""

from __future__ import annotations

from collections.abc import Iterator


def difference(before: str, after: str) -> Iterator[str]:
    """The lines that go (`- …`) and come (`+ …`), in order, without their indentation and their neighbourhood."""
    import difflib  # few reports have a difference to show

    for line in difflib.unified_diff(before.splitlines(), after.splitlines(), n=0, lineterm=""):
        if not line.startswith(("---", "+++", "@@")):
            yield f"{line[0]} {line[1:].strip()}"
