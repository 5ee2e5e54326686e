"""One protokube per root: a lock that ends with its process, and names the process that holds it.

The lock file is never written, so that a converged run changes nothing: /proc/locks names the holder.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from types import TracebackType

from protokube.errors import PermissionNeededError, ProtokubeError
from protokube.host.process import started_at
from protokube.kernel.locks import flock_holder

_LOOKS = 500
_PAUSE = 0.02
"""A process that was killed while it started a tool leaves its lock to that child, for the moment until the child has
begun the tool. On a machine under load that moment lasts: 10 s in all."""


class AlreadyRunningError(ProtokubeError):
    """Another protokube works on the same root."""


class Lock:
    """Held while the `with` block runs. Raises AlreadyRunningError, naming the holder's pid."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1

    def __enter__(self) -> Lock:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise PermissionNeededError(f"{self._path}: {error.strerror}; the lock can't be taken") from error
        for _ in range(_LOOKS):
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = flock_holder(os.fstat(self._descriptor))
                if holder is not None and started_at(holder) is not None:
                    break
                time.sleep(_PAUSE)
            else:
                return self
        os.close(self._descriptor)
        raise AlreadyRunningError(
            f"protokube already runs on this root: pid {holder or 'unknown'} holds {self._path}"
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)
