"""A node's requests to the hub: first contact by the token's pin, enrolment, renewal, and the TLS of its link."""

from __future__ import annotations

import asyncio
import ssl
import time
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import msgspec
from aiohttp import ClientSession, ClientTimeout, TCPConnector
from msgspec import Struct

from protokube.agent.clock import wall_time
from protokube.core.model import KIB
from protokube.errors import ProviderError
from protokube.hub.core.access import JSON
from protokube.hub.core.tokens import Token, spelled
from protokube.hub.gate import Enrol, Granted, Renew
from protokube.hub.keyring import Hub, Keyring, Own
from protokube.hub.pki import Pair, make_request, pinned

LIMIT = ClientTimeout(total=30, connect=10)
LARGEST_ANSWER = 16 * KIB
_NOT_YET_VALID, _EXPIRED = 9, 10
"""OpenSSL's X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED."""


class HubRefusedError(ProviderError):
    """The hub answered with a refusal. `reason` is its own word, `status` HTTP's."""

    def __init__(self, status: int, reason: str) -> None:
        self.status, self.reason = status, reason
        super().__init__(f"the hub refuses: {reason}")

    @property
    def rule(self) -> str:
        """The refusal's first word, such as `renew` or `banned`."""
        return self.reason.partition(":")[0]


class WrongHubError(ProviderError):
    """Whoever answers isn't the hub that the token names."""


class _Known(Struct):
    hub: str
    bundle: str


async def enrol(keyring: Keyring, host: str, port: int, node: str, token: Token) -> Own:
    """Enrol this node, and put its pair in use. A pair that works is left alone until then.

    The secret is sent only to a hub that has proven the pinned key. Raises ProviderError.
    """
    known = await _first_contact(host, port)
    authority = pinned(known.bundle, token.pin)
    if authority is None:
        raise WrongHubError(
            f"{host}:{port}: its authority isn't the one that the token names: it is another hub, or somebody is in "
            "between; nothing was sent to it"
        )
    key = await asyncio.to_thread(keyring.pending)
    asked = Enrol(token.id, token.secret, node, make_request(key, node))
    granted = await _post(host, port, client_context(authority), "enrol", asked)
    pair = Pair(key, granted.certificate)
    hub = Hub(host, port, granted.hub, node, spelled(token.pin))
    return await asyncio.to_thread(keyring.take, pair, granted.bundle, hub)


async def renew(keyring: Keyring, own: Own) -> Own:
    """Renew the certificate with a new key, and put the pair in use. Raises ProviderError."""
    key = await asyncio.to_thread(keyring.pending)
    asked = Renew(make_request(key, own.hub.node))
    granted = await _post(own.hub.host, own.hub.port, own_context(own), "renew", asked)
    return await asyncio.to_thread(keyring.take, Pair(key, granted.certificate), granted.bundle, own.hub)


def client_context(bundle: str) -> ssl.SSLContext:
    """TLS 1.3 to a hub of these authorities (PEM), and to no other."""
    context = ssl.create_default_context(cadata=bundle)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


def own_context(own: Own) -> ssl.SSLContext:
    """The same, showing this node's certificate. Raises ProviderError for files that can't be used."""
    try:
        context = client_context(own.bundle.read_text("utf-8"))
        context.load_cert_chain(own.certificate, own.key)
    except (OSError, ssl.SSLError) as error:
        raise ProviderError(f"{own.folder}: {error}; enrol this node anew: nokubelet enrol") from error
    return context


async def explained(error: aiohttp.ClientError | TimeoutError, host: str, port: int) -> ProviderError:
    """An error of a request, in words. A clock that is wrong is named together with the hub's time."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        cause = error.certificate_error
        if isinstance(cause, ssl.SSLCertVerificationError) and cause.verify_code in (_NOT_YET_VALID, _EXPIRED):
            return ProviderError(
                f"{host}:{port}: its certificate isn't valid at this machine's time ({_spelled(wall_time())}); the "
                f"hub says {await _hub_date(host, port)}; set the clock of the one that is wrong"
            )
        return WrongHubError(f"{host}:{port}: {cause}; it isn't the hub that this node was enrolled at")
    return ProviderError(f"{host}:{port}: {error or 'no answer in time'}; is the hub running and reachable?")


async def _first_contact(host: str, port: int) -> _Known:
    """What a hub says of itself. Nobody has proven anything yet: it is compared with the pin, and nothing else."""
    body, _date = await _unverified(host, port)
    try:
        return msgspec.json.decode(body, type=_Known)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise WrongHubError(f"{host}:{port}: it isn't a hub: {error}") from error


async def _unverified(host: str, port: int) -> tuple[bytes, str]:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        async with (
            ClientSession(connector=TCPConnector(ssl=context), timeout=LIMIT) as session,
            session.get(f"https://{host}:{port}/v1/ca", allow_redirects=False) as answer,
        ):
            body = await answer.content.read(LARGEST_ANSWER)
            if answer.status != 200:
                raise WrongHubError(f"{host}:{port}: HTTP {answer.status}; it isn't a hub")
            return body, answer.headers.get("Date", "")
    except (aiohttp.ClientError, TimeoutError) as error:
        raise ProviderError(f"{host}:{port}: {error or 'no answer in time'}; is the hub running?") from error


async def _hub_date(host: str, port: int) -> str:
    """The hub's time: a hint for people, which nothing is decided by."""
    try:
        _body, date = await _unverified(host, port)
        return _spelled(parsedate_to_datetime(date).timestamp())
    except (ProviderError, ValueError):
        return "nothing about its time"


def _spelled(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


async def _post(host: str, port: int, context: ssl.SSLContext, what: str, asked: Any) -> Granted:
    try:
        async with (
            ClientSession(connector=TCPConnector(ssl=context), timeout=LIMIT) as session,
            session.post(
                f"https://{host}:{port}/v1/{what}",
                data=msgspec.json.encode(asked),
                headers={"Content-Type": JSON},
                allow_redirects=False,
            ) as answer,
        ):
            body = await answer.content.read(2 * LARGEST_ANSWER)
            if answer.status != 200:
                raise HubRefusedError(answer.status, body[:1000].decode(errors="replace"))
            return msgspec.json.decode(body, type=Granted)
    except (aiohttp.ClientError, TimeoutError) as error:
        raise await explained(error, host, port) from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ProviderError(f"{host}:{port}: its answer can't be read: {error}") from error
