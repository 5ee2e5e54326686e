"""Static pods of the hub's: files `hub-<name>.yaml` in the agent's directory, and no other file there."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from protokube.agent.core.static import LARGEST, read_pod
from protokube.agent.files import write_atomically
from protokube.core.untrusted_yaml import load
from protokube.errors import ProviderError, explain
from protokube.hub.core.checks import Order
from protokube.hub.core.course import Outcome
from protokube.hub.core.verbs import ManifestPut, ManifestRemove, Rollback
from protokube.hub.handlers import End, Say
from protokube.hub.verbs.revisions import Revisions

GONE = b""
"""The text of a revision that stands for no file."""


class Manifests:
    """The handlers. `directory` holds static pods, `state` their revisions; `clock`: seconds since the epoch."""

    def __init__(self, directory: Path, state: Path, clock: Callable[[], float]) -> None:
        self._directory = directory
        self._state = state / "manifests"
        self._clock = clock

    async def put(self, order: Order, _say: Say, _limit: float) -> End:
        """Put a static pod. What the agent would refuse, or what is another file's pod, changes nothing."""
        asked = order.arguments
        assert isinstance(asked, ManifestPut)
        text = asked.text.encode()
        return await asyncio.to_thread(self._put, asked.name, text, order.signer or "the hub", order.body.id)

    async def remove(self, order: Order, _say: Say, _limit: float) -> End:
        """Remove a static pod of the hub's."""
        asked = order.arguments
        assert isinstance(asked, ManifestRemove)
        return await asyncio.to_thread(self._put, asked.name, None, order.signer or "the hub", order.body.id)

    async def rollback(self, order: Order) -> End | None:
        """Bring back what was before a command; None for one that put no manifest."""
        asked = order.arguments
        assert isinstance(asked, Rollback)
        return await asyncio.to_thread(self._rollback, asked.command, order.signer or "the hub", order.body.id)

    def facts(self) -> str:
        """The hub's manifests and their revisions, such as `web=3`, for people. Raises ProviderError."""
        with explain(f"read {self._directory}"):
            names = sorted(path.name[4:-5] for path in self._directory.glob("hub-*.yaml"))
        return ", ".join(f"{name}={self._revisions(name).current()}" for name in names)

    def _rollback(self, command: str | None, author: str, own: str) -> End | None:
        with explain(f"read {self._state}"):
            names = sorted(path.name for path in self._state.iterdir()) if self._state.exists() else []
        for name in names:
            revisions = self._revisions(name)
            found = next((one for one in revisions.all() if command and one.command == command), None)
            if found is not None:
                return self._put(name, revisions.text(found.before) or None, author, own)
        return None

    def _put(self, name: str, text: bytes | None, author: str, command: str) -> End:
        path, revisions = self._directory / f"hub-{name}.yaml", self._revisions(name)
        self._refuse_links(path)
        if text is not None:
            pod = read_pod(text, path.name)
            if isinstance(pod, tuple):
                return End(Outcome.FAILED, "; ".join(map(str, pod)))
            if (other := self._other_with(_name(pod), path)) is not None:
                return End(Outcome.FAILED, f"{path.name}: its pod {_name(pod)} is that of {other}; name it otherwise")
        before = revisions.current()
        if revisions.file() == text:
            return End(Outcome.OK, f"{path.name} is like that already", {"file": str(path)})
        made = revisions.add(GONE if text is None else text, author, command, before)
        if text is None:
            revisions.put(None)
        else:
            with explain(f"write {path}"):
                # Beside it as a dot file: agent and kubelet skip these.
                write_atomically(path, text)
        return End(Outcome.OK, "removed" if text is None else "put", {"file": str(path), "revision": made.number})

    def _revisions(self, name: str) -> Revisions:
        return Revisions(self._state / name, self._directory / f"hub-{name}.yaml", self._clock)

    def _refuse_links(self, path: Path) -> None:
        """Raise ProviderError for a file that isn't one: etcd's manifests are links to its volumes."""
        with explain(f"read {self._directory}"):
            if not self._directory.is_dir():
                raise ProviderError(f"{self._directory}: there is no such directory; is virtual-kubelet set up here?")
            try:
                mode = path.lstat().st_mode
            except FileNotFoundError:
                return
        if not stat.S_ISREG(mode):
            raise ProviderError(f"{path}: it is no regular file, and so none of the hub's; look at it on the node")

    def _other_with(self, name: str, own: Path) -> str | None:
        """The other file whose pod has this name: of two the runner would end one."""
        with explain(f"read {self._directory}"):
            for path in sorted(self._directory.iterdir()):
                if path == own or path.name.startswith(".") or not path.is_file():
                    continue
                with path.open("rb") as file:
                    content = file.read(LARGEST)
                if _named(content) == name:
                    return path.name
        return None


def _named(content: bytes) -> str | None:
    """The name of a manifest's pod, however faulty the rest of it is; None where there is none."""
    try:
        value = load(content.decode())
    except (yaml.YAMLError, UnicodeDecodeError):
        return None
    return _name(value) if isinstance(value, dict) and isinstance(value.get("metadata"), dict) else None


def _name(pod: Any) -> str:
    metadata = pod["metadata"]
    return f"{metadata.get('namespace') or 'default'}/{metadata.get('name')}"
