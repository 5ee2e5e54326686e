"""Calls side by side: what is waited for is said, and a call that hangs is left alone."""

from __future__ import annotations

import threading

import pytest

from protokube import together
from protokube.errors import OutcomeUnknownError
from protokube.together import Limited


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The lines about what is waited for, which are said earlier than in earnest."""
    lines: list[str] = []
    monkeypatch.setattr(together, "SAY_AT", (0.05, 0.1, 500.0))
    monkeypatch.setattr(together.log, "warning", lambda text, *words: lines.append(text % words))
    return lines


def test_what_is_waited_for_is_said_until_it_is_left_alone(said: list[str]) -> None:
    end = threading.Event()
    limited = Limited[object](0.3, "reading")
    try:
        found = limited.run({"main-a": end.wait, "files": lambda: 1})
        assert found["files"].result() == 1
        with pytest.raises(OutcomeUnknownError, match=r"reading main-a did not end within 0\.3 s"):
            found["main-a"].result()
        assert [line for line in said if "main-a" in line] == [
            "reading main-a: no answer for 0.05 s; it is left alone after 0.3 s",
            "reading main-a: no answer for 0.1 s; it is left alone after 0.3 s",
        ]
        assert limited.hanging() == ["reading main-a"]
        said.clear()
        with pytest.raises(OutcomeUnknownError, match="still hangs, since an earlier time"):
            limited.run({"main-a": end.wait})["main-a"].result()
        assert said == [], "nothing was waited for"
    finally:
        end.set()


def test_of_quick_calls_nothing_is_said(said: list[str]) -> None:
    limited = Limited[object](30.0, "reading")
    assert limited.run({"files": lambda: 1})["files"].result() == 1
    assert limited.hanging() == []
