"""An operator's requests to the hub."""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import aiohttp
import msgspec
from aiohttp import ClientSession, ClientTimeout, TCPConnector

from protokube.core.model import Fault
from protokube.errors import ConfigError, ProviderError
from protokube.hub.core.access import JSON
from protokube.hub.core.tokens import spelled
from protokube.hub.hubclient import HubRefusedError, client_context, explained
from protokube.hub.pki import pin


class HubApi:
    """The hub's side for operators, an asynchronous context. `identity`: the directory with key and certificate.

    `hub`: the pin of its authority, as the identity has it, and not as the hub says.
    """

    def __init__(self, host: str, port: int, identity: Path) -> None:
        self._host, self._port = host, port
        try:
            bundle = (identity / "bundle.pem").read_text("utf-8")
            self._context, self.hub = client_context(bundle), spelled(pin(bundle))
            self._context.load_cert_chain(identity / "cert.pem", identity / "key.pem")
        except (OSError, ValueError) as error:
            remedy = "on the hub: protokube-hub operator NAME --out DIR"
            raise ConfigError([Fault("--identity", f"{identity}: {error}; {remedy}")]) from error
        self.hub_time = 0.0

    async def __aenter__(self) -> HubApi:
        connector = TCPConnector(ssl=self._context)
        self._session = ClientSession(connector=connector, timeout=ClientTimeout(total=60, sock_connect=10))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def get(self, path: str) -> Any:
        """What the hub says at a path. Raises ProviderError."""
        return _value(await self.ask("GET", path, None), path)

    async def post(self, path: str, value: object) -> Any:
        """Hand something over. Raises ProviderError, HubRefusedError with the hub's own words."""
        return _value(await self.ask("POST", path, msgspec.json.encode(value)), path)

    async def ask(self, method: str, path: str, body: bytes | None) -> bytes:
        """One request. The answer's date becomes `hub_time`: commands are timed by the hub's clock."""
        url = f"https://{self._host}:{self._port}{path}"
        headers = None if body is None else {"Content-Type": JSON}
        try:
            async with self._session.request(
                method, url, data=body, headers=headers, allow_redirects=False
            ) as answer:
                content = await answer.content.read(-1) if answer.status < 300 else await answer.content.read(4096)
                self.hub_time = parsedate_to_datetime(answer.headers["Date"]).timestamp()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise await explained(error, self._host, self._port) from error
        except (KeyError, ValueError) as error:
            raise ProviderError(f"{url}: its answer has no usable Date: {error}") from error
        if answer.status >= 300:
            raise HubRefusedError(answer.status, content.decode(errors="replace"))
        return content


def _value(content: bytes, path: str) -> Any:
    try:
        return msgspec.json.decode(content)
    except msgspec.DecodeError as error:
        raise ProviderError(f"{path}: the hub's answer can't be read: {error}") from error
