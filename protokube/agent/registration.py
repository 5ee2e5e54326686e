"""This node's object at the API server: made, found again, and remembered by its UID on the disk."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from urllib.parse import quote

from protokube.agent.core.model import Json
from protokube.agent.core.node import NodeIdentity, labels_of, node_object
from protokube.agent.files import write_atomically
from protokube.agent.http.kube import KubeClient
from protokube.errors import ProviderError, explain
from protokube.kubeapi.http import KubeError

log = logging.getLogger("protokube")

NODES = "/api/v1/nodes"


class Registration:
    """The node by its name.

    `kept`: the file of the UID under which the API server's pods were last believed; `forget` drops it first.
    `distrusted`: why its pods aren't believed now, None when they are.
    """

    def __init__(self, client: KubeClient, identity: NodeIdentity, kept: Path, *, forget: bool = False) -> None:
        self._client = client
        self.identity = identity
        self._kept = kept
        self.uid: str | None = None
        """The UID as it was last seen."""
        self.trusted = None if forget else _read(kept)
        self.distrusted: str | None = None
        self._restricted = False

    @property
    def name(self) -> str:
        """The node's name."""
        return self.identity.name

    @property
    def path(self) -> str:
        """The node's path."""
        return f"{NODES}/{quote(self.name, safe='')}"

    async def current(self) -> str | None:
        """The UID of the node's object now, None when there is none. Raises ProviderError."""
        node = await self._client.get(self.path)
        self.uid = None if node is None else str(node["metadata"]["uid"])
        return self.uid

    async def trust(self, uid: str) -> None:
        """Remember the UID: pods come from where the node has it. Raises ProviderError."""
        if uid != self.trusted:
            with explain(f"write {self._kept}"):
                await asyncio.to_thread(_write, self._kept, uid)
            self.trusted = uid

    async def patch_status(self, change: Json) -> None:
        """Change the node's status. Raises ProviderError; without a node, the next one to ask makes it."""
        try:
            node = await self._client.patch(f"{self.path}/status", change)
        except KubeError as error:
            if error.status == 404:
                self.uid = None
            raise
        self.uid = str(node["metadata"]["uid"])

    async def ensure(self) -> str:
        """Make the node, or adopt one that is there; return its UID. Raises ProviderError."""
        try:
            node = await self._client.create(NODES, node_object(self.identity, restricted=self._restricted))
            log.info("node %s: registered", self.name)
        except KubeError as error:
            if error.status == 403 and not self._restricted:
                self._restricted = True
                log.warning("node %s: %s; it goes without its role label", self.name, error)
                return await self.ensure()
            if error.reason != "AlreadyExists":
                raise
            node = await self._client.patch(
                self.path, {"metadata": {"labels": labels_of(self.identity, restricted=True)}}
            )
            log.info("node %s: it is there already, and adopted", self.name)
        self.uid = str(node["metadata"]["uid"])
        return self.uid


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip() or None
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ProviderError(f"{path}: it can't be read: {error}") from error


def _write(path: Path, uid: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, f"{uid}\n".encode())
