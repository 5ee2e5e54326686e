"""One answer for several askers: what keeps a round at one call of each kind."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from protokube.errors import ProviderError

T = TypeVar("T")

SHARED_FOR = 2.0
"""Seconds that an answer may be handed to another asker."""


class Shared(Generic[T]):
    """Asks once where several askers of one round need the same answer, in whatever order or at the same time.

    Each asker gets an answer at most once and at most `SHARED_FOR` seconds old; whoever asks again causes a new
    call. So nobody is ever served his own old answer, and a lost one costs a call. A failure is shared too: a
    throttled service isn't asked twice a round.
    """

    def __init__(self, ask: Callable[[], T]) -> None:
        self._ask = ask
        self._lock = threading.Lock()
        self._outcome: T | ProviderError = ProviderError("not asked yet")
        self._asked_at = -math.inf
        self._served: set[str] = set()

    def get(self, asker: str) -> T:
        """The answer for `asker`, a name for the question that he is answering with it."""
        with self._lock:
            if asker in self._served or time.monotonic() - self._asked_at > SHARED_FOR:
                self._renew()
            self._served.add(asker)
            outcome = self._outcome
        if isinstance(outcome, ProviderError):
            raise ProviderError(str(outcome)) from outcome
        return outcome

    def forget(self) -> None:
        """Something was changed: the next asker, whoever it is, gets a new answer."""
        with self._lock:
            self._asked_at = -math.inf

    def _renew(self) -> None:
        self._asked_at = time.monotonic()
        self._served = set()
        try:
            self._outcome = self._ask()
        except ProviderError as error:
            self._outcome = error
