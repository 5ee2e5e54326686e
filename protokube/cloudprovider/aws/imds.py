"""The EC2 instance metadata service (IMDS): the instance's identity, and its current addresses.

Version 2 with a session token; version 1 only when the operator allows it. Plain HTTP to a link-local address,
never through a proxy. Environment, as for every AWS SDK: `AWS_EC2_METADATA_SERVICE_ENDPOINT` (a URL),
`AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE` (`IPv4` or `IPv6`), `AWS_EC2_METADATA_DISABLED`. Without them the service is
looked for at its IPv4 and then at its IPv6 address. Messages are short; docs/aws.md explains them.
"""

from __future__ import annotations

import http.client
import logging
import os
import re
import threading
import time
from typing import Annotated
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, Struct

from protokube.awsenv import METADATA_ENDPOINT, METADATA_MODE
from protokube.errors import ProviderError

log = logging.getLogger("protokube")

IPV4_ENDPOINT = "http://169.254.169.254"
IPV6_ENDPOINT = "http://[fd00:ec2::254]"

TOKEN_TTL = 21600
"""Seconds; the longest that the service grants."""

_TIMEOUT = 2.0
_MARGIN = 60.0
_LONGEST_ANSWER = 1 << 16
_TTL_HEADER = "X-aws-ec2-metadata-token-ttl-seconds"
_TOKEN_HEADER = "X-aws-ec2-metadata-token"
_TOKEN = re.compile(rb"[!-~]+")
_SHOWN = 60
_DOCUMENT = "/latest/dynamic/instance-identity/document"
_REMEDIES = {
    401: "version 2 is required and its tokens are refused: does something else answer there?",
    403: "it is switched off: `aws ec2 modify-instance-metadata-options --http-endpoint enabled`",
    404: "it knows version 1 only: allow that with imdsV1: true",
    405: "it knows version 1 only: allow that with imdsV1: true",
}

_Word = Annotated[str, Meta(pattern="^[A-Za-z0-9-]+$")]


class IdentityDocument(Struct, frozen=True, rename={"instance_id": "instanceId", "zone": "availabilityZone"}):
    """The facts that never change in an instance's life. `private_ip` is None in an IPv6-only subnet."""

    instance_id: _Word
    region: _Word
    zone: _Word
    private_ip: str | None = msgspec.field(name="privateIp", default=None)


class _Answer(Struct, frozen=True):
    status: int
    body: bytes
    ttl: str | None = None


class Imds:
    """A client of the metadata service. Each request has a limit of 2 s for connecting and for each read."""

    def __init__(self, *, allow_v1: bool = False) -> None:
        self._allow_v1 = allow_v1
        self._endpoint: str | None = None
        self._lock = threading.Lock()
        self._token: str | None = None
        self._expires = 0.0
        self._v1 = False
        self._document_lock = threading.Lock()
        self._document: IdentityDocument | None = None

    def document(self) -> IdentityDocument:
        """The instance identity document; read once, since it can't change while the instance runs."""
        with self._document_lock:
            if self._document is None:
                self._document = self._read_document()
            return self._document

    def get(self, key: str) -> str | None:
        """One item of `meta-data/`, such as `public-ipv4`; None when the instance has none."""
        answer = self._fetch(f"/latest/meta-data/{key}")
        return answer.body.decode("utf-8", "replace").strip() if answer else None

    def _read_document(self) -> IdentityDocument:
        answer = self._fetch(_DOCUMENT)
        try:
            return msgspec.json.decode(answer.body if answer else b"", type=IdentityDocument)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ProviderError(
                f"instance metadata: {self._endpoint}{_DOCUMENT} is no identity document ({error}); is this EC2?"
            ) from error

    def _fetch(self, path: str) -> _Answer | None:
        """GET with a valid token; None for 404. A token that is refused (401) is replaced once."""
        with self._lock:
            answer = self._request("GET", path, self._headers())
            if answer.status == 401:
                self._token, self._v1 = None, False
                answer = self._request("GET", path, self._headers())
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise self._refused("GET", path, answer.status)
        return answer

    def _headers(self) -> dict[str, str]:
        if self._v1:
            return {}
        if self._token is None or time.monotonic() >= self._expires:
            self._renew()
        return {_TOKEN_HEADER: self._token} if self._token else {}

    def _renew(self) -> None:
        self._token = None
        path = "/latest/api/token"
        try:
            answer = self._request("PUT", path, {_TTL_HEADER: str(TOKEN_TTL)})
        except _NoAnswerError as error:
            # Only the answer to PUT has the hop limit; a GET of version 1 would be answered.
            if self._allow_v1:
                self._v1 = True
                return
            raise ProviderError(
                f"{error}; a hop limit of 1 stops the token on its way into a container: run on the host's network, "
                "or raise --http-put-response-hop-limit to 2"
            ) from error
        if answer.status != 200:
            if self._allow_v1 and answer.status in (403, 404, 405):
                self._v1 = True
                return
            raise self._refused("PUT", path, answer.status)
        if not _TOKEN.fullmatch(answer.body):
            raise ProviderError(
                f"instance metadata: PUT {self._endpoint}{path}: the answer is no token ({answer.body[:_SHOWN]!r}); "
                "does something else answer there, a proxy or a login page?"
            )
        granted = answer.ttl if answer.ttl and answer.ttl.isascii() and answer.ttl.isdigit() else TOKEN_TTL
        ttl = min(float(granted), TOKEN_TTL)
        self._token = answer.body.decode("ascii")
        self._expires = time.monotonic() + ttl - min(_MARGIN, ttl / 10)

    def _refused(self, method: str, path: str, status: int) -> ProviderError:
        said = f"HTTP {status} {http.client.responses.get(status, '')}".rstrip()
        remedy = _REMEDIES.get(status, "it is asked again in the next reconcile")
        return ProviderError(f"instance metadata: {method} {self._endpoint}{path}: {said}; {remedy}")

    def _request(self, method: str, path: str, headers: dict[str, str]) -> _Answer:
        connection, url = self._connect()
        try:
            connection.request(method, urlsplit(url).path + path, headers=headers)
            response = connection.getresponse()
            length = response.length
            body = response.read(_LONGEST_ANSWER)
            if length is not None and len(body) < min(length, _LONGEST_ANSWER):
                raise http.client.IncompleteRead(body, length - len(body))  # a cut address may be a valid one
            log.debug("instance metadata: %s %s: HTTP %d", method, path, response.status)
            return _Answer(response.status, body, response.getheader(_TTL_HEADER))
        except TimeoutError as error:
            raise _NoAnswerError(
                f"instance metadata: {method} {url}{path}: no answer within {_TIMEOUT:g} s"
            ) from error
        except (OSError, http.client.HTTPException) as error:
            raise ProviderError(f"instance metadata: {method} {url}{path}: {error!r}") from error
        finally:
            connection.close()

    def _connect(self) -> tuple[http.client.HTTPConnection, str]:
        """A connection and its endpoint. When no endpoint answers, each is tried again next time."""
        known, self._endpoint = self._endpoint, None
        failed = []
        for url in (known,) if known else endpoints():
            parts = urlsplit(url)
            host = (parts.hostname or "").replace("%25", "%")  # before the scope of an IPv6 address
            connection = http.client.HTTPConnection(host, parts.port or http.client.HTTP_PORT, timeout=_TIMEOUT)
            try:
                connection.connect()
            except OSError as error:
                connection.close()
                failed.append(f"{url} ({error})")
            else:
                self._endpoint = url
                return connection, url
        raise ProviderError(
            f"instance metadata: cannot reach {' or '.join(failed)}; not an EC2 instance, another network namespace, "
            "or a firewall rule forbids it"
        )


class _NoAnswerError(ProviderError):
    """Connected, and no answer came."""


def endpoints() -> tuple[str, ...]:
    """The service's possible URLs: the environment's (it was checked), else the two well-known ones."""
    if os.environ.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true":
        raise ProviderError(
            "instance metadata: AWS_EC2_METADATA_DISABLED=true forbids asking who this instance is; unset it"
        )
    if url := os.environ.get(METADATA_ENDPOINT):
        return (url.rstrip("/"),)
    if mode := os.environ.get(METADATA_MODE):
        return (IPV6_ENDPOINT if mode.lower() == "ipv6" else IPV4_ENDPOINT,)
    return (IPV4_ENDPOINT, IPV6_ENDPOINT)
