"""This machine as a node, for providers that don't say what their node is."""

from __future__ import annotations

import os
from collections.abc import Sequence

from protokube.agent.core.model import Json

PODS = "110"
"""kubelet's default of maxPods."""


class Machine:
    """The node that this machine is."""

    async def capacity(self) -> dict[str, str]:
        """Processors, memory and pods."""
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 1024
        return {"cpu": str(os.cpu_count() or 1), "memory": f"{memory}Ki", "pods": PODS}

    async def node_conditions(self) -> Sequence[Json]:
        """Ready: it answers."""
        return [{"type": "Ready", "status": "True", "reason": "AgentReady", "message": "the agent runs"}]

    def operating_system(self) -> str:
        """Linux."""
        return "linux"
