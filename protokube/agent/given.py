"""What containers had from the API server last, kept so that they start again with it while it is away.

Also an agent that is started meanwhile finds it. Secrets are among it: it lies in /run, root alone reads it, and it
goes with the pod. No reboot leaves it there.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from protokube.agent.files import write_atomically
from protokube.agent.ports import Resolved
from protokube.errors import ProviderError, explain


class KeptGiven:
    """One file a container. `folder` has one directory a pod, which goes with the pod."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def save(self, uid: str, container: str, resolved: Resolved) -> None:
        """Keep what a container has now. Raises ProviderError."""
        path, content = self._path(uid, container), msgspec.json.encode(resolved)
        with explain(f"write {path}"):
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists() or path.read_bytes() != content:
                write_atomically(path, content, durable=False)

    def load(self, uid: str, container: str) -> Resolved | None:
        """What a container had, None where nothing is known. Raises ProviderError."""
        path = self._path(uid, container)
        with explain(f"read {path}"):
            try:
                content = path.read_bytes()
            except FileNotFoundError:
                return None
        try:
            return msgspec.json.decode(content, type=Resolved)
        except msgspec.MsgspecError as error:
            raise ProviderError(f"{path}: it can't be read: {error}; the API server's answer replaces it") from error

    def _path(self, uid: str, container: str) -> Path:
        return self._folder / uid / f".given-{container}"  # no volume's name begins with a dot
