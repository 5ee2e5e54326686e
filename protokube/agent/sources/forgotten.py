"""A source that is configured no more and whose pods are to go: it wants none."""

from __future__ import annotations

import asyncio

from protokube.agent.ports import Say


class Forgotten:
    """Stands in for the source of that name."""

    def __init__(self, name: str) -> None:
        self.name = name

    async def run(self, say: Say) -> None:
        """Say that nothing is wanted."""
        say({})
        await asyncio.Event().wait()
