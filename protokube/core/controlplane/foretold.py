"""What a change will be that waits: of a component whose turn hasn't come, or of this node."""

from __future__ import annotations

from collections.abc import Iterator

from protokube.core.controlplane.component import Candidate, Situation, former
from protokube.core.controlplane.model import ComponentVerdict
from protokube.core.controlplane.paths import condemned_path
from protokube.core.difference import difference


def tell_waiting(situation: Situation, one: Candidate, verdict: ComponentVerdict | None) -> None:
    """Add a hint with the lines that go and come in the pod and its files, where these aren't steps already."""
    present = situation.text(one.path)
    if present in (None, one.text) or situation.text(condemned_path(one.component)) == one.text:
        return
    if verdict is not None and verdict.files:
        return
    assert present is not None
    if lines := [*difference(present, one.text), *_of_files(situation, one)]:
        situation.findings.hints.append(f"{one.component} is to change: {'; '.join(lines)}")


def _of_files(situation: Situation, one: Candidate) -> Iterator[str]:
    for file in one.files:
        before = former(situation, one, file.path)
        if situation.text(file.path) is None and before is not None:
            yield from difference(before, file.text)
