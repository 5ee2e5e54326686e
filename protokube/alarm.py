"""The alarm that wakes the run loop. Any thread may ring it, also before the loop runs."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Alarm:
    """Collects reasons, and calls one listener for them. Reasons that come together wake once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._reasons: dict[str, None] = {}
        self._listener: Callable[[], object] | None = None

    def ring(self, reason: str) -> None:
        """Wake the loop, now or when it next would sleep."""
        with self._lock:
            self._reasons[reason] = None
            listener = self._listener
        if listener is not None:
            listener()

    def listen(self, listener: Callable[[], object] | None) -> None:
        """Call `listener` with every ring from now on, and at once when it rang before; None ends that."""
        with self._lock:
            self._listener = listener
            rung = bool(self._reasons)
        if rung and listener is not None:
            listener()

    def take(self) -> list[str]:
        """Take the reasons since the last call, in their order."""
        with self._lock:
            reasons, self._reasons = self._reasons, {}
        return list(reasons)
