"""What the hub's routes share: a request read, an answer spelled, a refusal with its reason, and who asks."""

from __future__ import annotations

from typing import TypeVar

import msgspec
from aiohttp import web

from protokube.hub.pki import Shown
from protokube.hub.pki import shown as shown_der

T = TypeVar("T")


def shown(request: web.Request) -> Shown | None:
    """What the certificate of a request's connection says, None without one."""
    tls = request.transport.get_extra_info("ssl_object") if request.transport is not None else None
    der = tls.getpeercert(binary_form=True) if tls is not None else None
    return shown_der(der) if der else None


def operator(request: web.Request) -> str:
    """The operator who asks, by the certificate."""
    peer = shown(request)
    assert peer is not None and peer.identity is not None
    return peer.identity.name


async def read(request: web.Request, kind: type[T]) -> T:
    """The body's value; what can't be read is refused."""
    try:
        return msgspec.json.decode(await request.read(), type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise refusal(400, f"the request: {error}") from error


def number(request: web.Request, name: str) -> int:
    """A number of the query, 0 without it."""
    text = request.query.get(name, "0")
    if not text.isascii() or not text.isdecimal() or len(text) > 15:
        raise refusal(400, f"{name}: a number was expected, got {text[:64]!r}")
    return int(text)


def answer(value: object, status: int = 200) -> web.Response:
    """A value as JSON."""
    return web.Response(body=msgspec.json.encode(value), status=status, content_type="application/json")


def refusal(status: int, reason: str) -> web.HTTPException:
    """A refusal. Who opens a link sees its headers alone, so the reason is there as well."""
    kinds: dict[int, type[web.HTTPException]] = {
        400: web.HTTPBadRequest,
        401: web.HTTPUnauthorized,
        403: web.HTTPForbidden,
        404: web.HTTPNotFound,
        409: web.HTTPConflict,
        415: web.HTTPUnsupportedMediaType,
        422: web.HTTPUnprocessableEntity,
    }
    line = " ".join(reason.split()).encode("ascii", "replace").decode()[:1000]
    return kinds[status](text=reason, headers={"Protokube-Reason": line})
