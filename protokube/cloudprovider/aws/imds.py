"""The EC2 instance metadata service (IMDS): who this instance is, and its addresses of the moment.

Version 2 with a session token; version 1 only when the operator allows it. Plain HTTP to a link-local address,
never through a proxy. Environment, as for every AWS SDK: `AWS_EC2_METADATA_SERVICE_ENDPOINT` (a URL),
`AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE` (`IPv4` or `IPv6`), `AWS_EC2_METADATA_DISABLED`.
"""

from __future__ import annotations

import http.client
import json
import logging
import os
import re
import reprlib
import threading
import time

from msgspec import Struct

from protokube.awsenv import IMDS_ENDPOINT, IMDS_MODE, Endpoint, parse_endpoint
from protokube.errors import ProviderError

log = logging.getLogger("protokube")

IPV4_ENDPOINT = Endpoint("http://169.254.169.254", "169.254.169.254", 80, "")
IPV6_ENDPOINT = Endpoint("http://[fd00:ec2::254]", "fd00:ec2::254", 80, "")

TOKEN_TTL = 21600
"""Seconds; the longest that the service grants."""

_TIMEOUT = 2.0
_MARGIN = 60.0
_LONGEST_ANSWER = 1 << 16
_TTL_HEADER = "X-aws-ec2-metadata-token-ttl-seconds"
_TOKEN_HEADER = "X-aws-ec2-metadata-token"
_TOKEN = re.compile(rb"[!-~]+")
_WORD = re.compile(r"[A-Za-z0-9-]+")
_SHOWN = 60


class IdentityDocument(Struct, frozen=True):
    """What never changes in an instance's life. `private_ip` is None in an IPv6-only subnet."""

    instance_id: str
    region: str
    zone: str
    private_ip: str | None


class _Answer(Struct, frozen=True):
    status: int
    body: bytes
    ttl: str | None = None


class Imds:
    """A client of the metadata service. Each request has a limit of 2 s for connecting and for each read."""

    def __init__(self, *, allow_v1: bool = False) -> None:
        self._allow_v1 = allow_v1
        self._endpoint: Endpoint | None = None
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
        """One item of `meta-data/`, such as `public-ipv4`; None when the instance has no such thing."""
        answer = self._fetch(f"/latest/meta-data/{key}")
        return answer.body.decode("utf-8", "replace").strip() if answer else None

    def _read_document(self) -> IdentityDocument:
        path = "/latest/dynamic/instance-identity/document"
        answer = self._fetch(path)
        try:
            data = json.loads(answer.body) if answer else {}
            instance_id, region, zone = (data[key] for key in ("instanceId", "region", "availabilityZone"))
            private_ip = data.get("privateIp")
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            raise ProviderError(
                f"instance metadata: {self._url}{path} is no identity document ({error!r}); is this EC2?"
            ) from error
        if not all(isinstance(word, str) and _WORD.fullmatch(word) for word in (instance_id, region, zone)):
            raise ProviderError(
                f"instance metadata: {self._url}{path} is no identity document: instanceId, region and "
                f"availabilityZone are {reprlib.repr((instance_id, region, zone))}; is this EC2?"
            )
        if not isinstance(private_ip, str | None):
            raise ProviderError(
                f"instance metadata: {self._url}{path} is no identity document: privateIp is "
                f"{reprlib.repr(private_ip)}, expected a text; is this EC2?"
            )
        return IdentityDocument(instance_id, region, zone, private_ip)

    @property
    def _url(self) -> str:
        """For messages: where was asked."""
        return self._endpoint.text if self._endpoint else ""

    def _fetch(self, path: str) -> _Answer | None:
        """GET with a valid token; None for 404. A token that is refused (401) is replaced once."""
        with self._lock:
            answer = self._request("GET", path, self._headers())
            if answer.status == 401:
                self._token, self._v1 = None, False
                answer = self._request("GET", path, self._headers())
        if answer.status == 200:
            return answer
        if answer.status == 404:
            return None
        raise ProviderError(f"instance metadata: GET {self._url}{path}: {_status(answer)}{_hint(answer.status)}")

    def _headers(self) -> dict[str, str]:
        if self._v1:
            return {}
        if self._token is None or time.monotonic() >= self._expires:
            self._renew()
        return {_TOKEN_HEADER: self._token} if self._token else {}

    def _renew(self) -> None:
        self._token = None
        try:
            answer = self._request("PUT", "/latest/api/token", {_TTL_HEADER: str(TOKEN_TTL)})
        except _NoAnswerError as error:
            # The answer to PUT alone is sent with the hop limit; version 1 would pass.
            if self._allow_v1:
                self._v1 = True
                return
            raise ProviderError(
                f"{error}. The connection stands but no token comes: a hop limit of 1 stops it on its way into a "
                "container; run on the host's network, or `aws ec2 modify-instance-metadata-options "
                "--http-put-response-hop-limit 2 --instance-id …`"
            ) from error
        if answer.status == 200:
            if not _TOKEN.fullmatch(answer.body):
                raise ProviderError(
                    f"instance metadata: PUT {self._url}/latest/api/token: the answer is no token "
                    f"({answer.body[:_SHOWN]!r}); is something else answering there, a proxy or a login page?"
                )
            granted = answer.ttl if answer.ttl and answer.ttl.isascii() and answer.ttl.isdigit() else TOKEN_TTL
            ttl = min(float(granted), TOKEN_TTL)
            self._token = answer.body.decode("ascii")
            self._expires = time.monotonic() + ttl - min(_MARGIN, ttl / 10)
        elif self._allow_v1 and answer.status in (403, 404, 405):
            self._v1 = True
        else:
            raise ProviderError(
                f"instance metadata: PUT {self._url}/latest/api/token: {_status(answer)}{_hint(answer.status, True)}"
            )

    def _request(self, method: str, path: str, headers: dict[str, str]) -> _Answer:
        if self._endpoint is None:
            self._endpoint = endpoint()
        where, url = self._endpoint, self._endpoint.text
        connection = http.client.HTTPConnection(where.host, where.port, timeout=_TIMEOUT)
        try:
            try:
                connection.connect()
            except OSError as error:
                raise ProviderError(
                    f"instance metadata: cannot reach {url} ({error}); not an EC2 instance, the service is "
                    "unreachable from this network namespace, or a firewall rule forbids it"
                ) from error
            try:
                connection.request(method, where.path + path, headers=headers)
                response = connection.getresponse()
                length = response.length
                body = response.read(_LONGEST_ANSWER)
                if length is not None and len(body) < min(length, _LONGEST_ANSWER):
                    raise http.client.IncompleteRead(body, length - len(body))  # an address may be cut to another one
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


class _NoAnswerError(ProviderError):
    """Connected, but nothing came back."""


def endpoint() -> Endpoint:
    """Where the service is, from the environment or at the well-known address."""
    if os.environ.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true":
        raise ProviderError(
            "instance metadata: AWS_EC2_METADATA_DISABLED=true forbids asking who this instance is; unset it"
        )
    if url := os.environ.get(IMDS_ENDPOINT):
        if (found := parse_endpoint(url, ("http",))) is None:
            raise ProviderError(f"instance metadata: {IMDS_ENDPOINT}={url!r}, expected http://HOST[:PORT]")
        return found
    mode = os.environ.get(IMDS_MODE, "IPv4")
    try:
        return {"ipv4": IPV4_ENDPOINT, "ipv6": IPV6_ENDPOINT}[mode.lower()]
    except KeyError as error:
        raise ProviderError(f"instance metadata: {IMDS_MODE}={mode!r}, expected IPv4 or IPv6") from error


def _status(answer: _Answer) -> str:
    return f"HTTP {answer.status} {http.client.responses.get(answer.status, '')}".rstrip()


def _hint(status: int, for_token: bool = False) -> str:
    if status == 401:
        return "; version 2 is required and its tokens are refused, twice: is something else answering there?"
    if status == 403:
        return (
            "; the metadata service is switched off for this instance: "
            "`aws ec2 modify-instance-metadata-options --http-endpoint enabled --instance-id …`"
        )
    if status in (404, 405) and for_token:
        return "; this service knows version 1 only, which the configuration has to allow (imdsV1: true)"
    if status == 429 or status >= 500:
        return "; it is asked again in the next round"
    return ""
