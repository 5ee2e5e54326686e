"""A memo gives a pure function's last result again, and only for the same question."""

from __future__ import annotations

from functools import partial

from protokube.core.memo import Memo


def test_the_same_question_is_answered_once() -> None:
    asked: list[int] = []

    def answer(question: int) -> int:
        asked.append(question)
        return 10 * question

    memo, settings = Memo[int](), {"a": 1}
    answers = [memo.of(settings, (question,), partial(answer, question)) for question in (1, 1, 2, 1)]
    assert answers == [10, 10, 20, 10]
    assert asked == [1, 2, 1]


def test_equal_settings_are_not_the_same_settings() -> None:
    """`maxPods: true` equals `maxPods: 1`, and is a fault where that isn't one."""
    memo = Memo[object]()
    number: dict[str, object] = {"maxPods": 1}
    flag: dict[str, object] = {"maxPods": True}
    assert number == flag
    assert memo.of(number, (), partial(number.get, "maxPods")) is not memo.of(flag, (), partial(flag.get, "maxPods"))
