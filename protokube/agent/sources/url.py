"""The pods of a URL, asked for every 20 seconds.

Only an answer of 200 counts; anything else, an empty body included, leaves the pods alone. kubelet takes an empty
body for an error as well, and an empty PodList clears.
"""

from __future__ import annotations

import asyncio
import http.client
import urllib.error
import urllib.request
from collections.abc import Mapping

from protokube.agent.core.static import LARGEST, pods_of_answer
from protokube.agent.ports import Say
from protokube.core.model import Unknown
from protokube.errors import ProviderError
from protokube.together import start

EVERY = 20.0
LIMIT = 10.0
"""Seconds, as in kubelet."""


class UrlSource:
    """Pods of one URL. `headers` go with every request."""

    name = "http"

    def __init__(self, url: str, node: str, headers: Mapping[str, str] = {}, *, every: float = EVERY) -> None:
        self._url = url
        self._node = node
        self._headers = dict(headers)
        self._every = every

    async def run(self, say: Say) -> None:
        """Say what the URL holds, with every answer that differs from the one before."""
        before: bytes | None = None
        while True:
            try:
                content = await asyncio.wrap_future(start("manifest URL", self._ask))
                if content != before:
                    heard = pods_of_answer(content, self._url, self._node)
                    if isinstance(heard, tuple):
                        say(Unknown("; ".join(map(str, heard))), faults=heard)
                    else:
                        say(heard.pods, heard.held, heard.faults)
                    before = content
            except ProviderError as error:
                say(Unknown(str(error)))
                before = None
            await asyncio.sleep(self._every)

    def _ask(self) -> bytes:
        request = urllib.request.Request(self._url, headers=self._headers)
        try:
            with urllib.request.urlopen(request, timeout=LIMIT) as answer:
                if answer.status != 200:
                    raise ProviderError(f"GET {self._url}: 200 was expected, got {answer.status}")
                content: bytes = answer.read(LARGEST + 1)
                return content
        except urllib.error.HTTPError as error:
            error.close()
            raise ProviderError(f"GET {self._url}: 200 was expected, got {error.code}") from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise ProviderError(f"GET {self._url}: {error}") from error
