"""No step of an authority's replacement locks workers out unsaid."""

from __future__ import annotations

import pytest

from protokube.core.model import Unknown
from protokube.core.pki.rotation import RotationStep
from protokube.core.pki.workers import why_not_yet


def test_the_first_step_locks_nobody_out_and_without_workers_none_does() -> None:
    assert why_not_yet(RotationStep.BUNDLE, ["w1"]) is None
    assert why_not_yet(RotationStep.BUNDLE, Unknown("silent")) is None
    assert why_not_yet(RotationStep.REISSUE, []) is None and why_not_yet(RotationStep.DROP, []) is None


@pytest.mark.parametrize(
    ("step", "remedy"), [(RotationStep.REISSUE, "/etc/protokube/ca.crt"), (RotationStep.DROP, "token create --for")]
)
def test_the_others_name_the_workers_and_what_to_do_first(step: RotationStep, remedy: str) -> None:
    told = why_not_yet(step, [f"w{number}" for number in range(8)])
    assert told is not None and told.startswith("w0, w1, w2, w3, w4 and 3 more:")
    assert remedy in told and "--workers-moved" in told


def test_a_silent_api_server_is_not_taken_for_one_without_workers() -> None:
    told = why_not_yet(RotationStep.DROP, Unknown("connection refused"))
    assert told is not None and "connection refused" in told
