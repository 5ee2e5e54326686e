"""A node on a real systemd whose pods virtual-kubelet runs, with protokube beside it or alone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.lab import inside
from tests.lab.systemd_node import SystemdNode
from tests.lab.trial import CHECKOUT, until

UNIT = "virtual-kubelet.service"
MANIFESTS = "/etc/kubernetes/manifests"
FILES = {
    f"/etc/systemd/system/{UNIT}": (CHECKOUT / "systemd" / UNIT).read_text(),
    "/usr/bin/virtual-kubelet": f'#!/bin/sh\ncd {inside.CHECKOUT} && exec {inside.PYTHON} -m protokube.agent "$@"\n',
    f"/etc/systemd/system/{UNIT}.d/quick.conf": "[Service]\nRestartSec=100ms\n",
}


def pod(name: str, *command: str, **spec: Any) -> dict[str, Any]:
    """A pod of one program of the machine."""
    container = {"name": "c", "image": "host", "command": list(command)}
    whole = {"hostNetwork": True, "terminationGracePeriodSeconds": 2, "containers": [container], **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": whole}


class AgentNode(SystemdNode):
    """The node, whose name is `node`."""

    def __init__(
        self, base: Path, *, files: Mapping[str, str] | None = None, binds: Sequence[str | Path] = (), **more: Any
    ) -> None:
        super().__init__(base, files=FILES | dict(files or {}), binds=binds, all_capabilities=True, **more)

    def place(self, name: str, content: Mapping[str, Any] | str) -> None:
        """Put a manifest into the folder, in one step."""
        folder = self.path(MANIFESTS)
        folder.mkdir(parents=True, exist_ok=True)
        new = folder / f".{name}.new"
        new.write_text(content if isinstance(content, str) else json.dumps(content))
        new.rename(folder / name)

    def take(self, name: str) -> None:
        """Remove a manifest."""
        self.path(f"{MANIFESTS}/{name}").unlink()

    def pods(self) -> dict[str, dict[str, Any]]:
        """The pods as reported, by name."""
        said = self.run("virtual-kubelet", "pods", "-o", "json").stdout
        return {one["metadata"]["name"]: one for one in json.loads(said)}

    def phase(self, name: str) -> str:
        """The phase of one pod; empty when it isn't reported."""
        found: str = self.pods().get(f"{name}-node", {}).get("status", {}).get("phase", "")
        return found

    def units(self) -> list[str]:
        """The containers that are up."""
        said = self.run("systemctl", "list-units", "--no-legend", "--plain", "--state=running", "protokube-*.service")
        return [line.split()[0] for line in said.stdout.splitlines()]

    def until(self, what: str, holds: Any) -> Any:
        """The first true answer; when there is none, the agent's log tells why."""
        try:
            return until(what, holds)
        except AssertionError as still:
            raise AssertionError(f"{still}\n{self.journal(UNIT)}") from None

    def start_agent(self) -> None:
        """Start the agent as its unit."""
        done = self.run("systemctl", "start", UNIT, check=False)
        assert done.returncode == 0, self.journal(UNIT)
