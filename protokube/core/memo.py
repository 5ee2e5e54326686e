"""The last result of a pure function that is asked the same several times in a reconcile. It saves time alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Memo(Generic[T]):
    """Remembers one result, which nobody may change."""

    def __init__(self) -> None:
        self._last: tuple[object, object, T] | None = None

    def of(self, settings: object, facts: object, make: Callable[[], T]) -> T:
        """What `make` returns for these settings and facts.

        Facts are compared. Settings must be the very same object: equal ones may differ in kind (True == 1).
        """
        last = self._last
        if last is not None and last[0] is settings and last[1] == facts:
            return last[2]
        result = make()
        self._last = settings, facts, result
        return result
