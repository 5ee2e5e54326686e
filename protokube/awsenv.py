"""What the environment tells the AWS adapters, checked before anything is done.

botocore believes these variables: it stumbles over a bad value at some later call, over some with an error that
isn't its own, and never names the variable. Here each is named, with its value and what was expected.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from msgspec import Struct

from protokube.core.model import Fault

IMDS_ENDPOINT = "AWS_EC2_METADATA_SERVICE_ENDPOINT"
IMDS_MODE = "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE"
IMDS_MODES = ("ipv4", "ipv6")

_ENDPOINTS = (
    "AWS_ENDPOINT_URL",
    *(f"AWS_ENDPOINT_URL_{service}" for service in ("EC2", "ROUTE_53", "STS", "SSO", "SSO_OIDC", "SIGNIN")),
)
_COUNTS = ("AWS_METADATA_SERVICE_TIMEOUT", "AWS_METADATA_SERVICE_NUM_ATTEMPTS")
_HOST = re.compile(r"([A-Za-z0-9_-]{1,63}\.)*[A-Za-z0-9_-]{1,63}\.?")
_PORTS = {"http": 80, "https": 443}


class Endpoint(Struct, frozen=True):
    """A URL, whole (`text`) and in the parts that a connection needs. `path` doesn't end in a slash."""

    text: str
    host: str
    port: int
    path: str


def parse_endpoint(url: str, schemes: Sequence[str] = tuple(_PORTS)) -> Endpoint | None:
    """The parts of `scheme://HOST[:PORT][/PATH]`; None when `url` is nothing of the kind."""
    if not (url.isascii() and url.isprintable()) or " " in url:
        return None
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    host = (parts.hostname or "").replace("%25", "%")  # before the scope of an IPv6 address
    if parts.scheme not in schemes or port == 0 or not (_HOST.fullmatch(host) or _is_ipv6(host)):
        return None
    return Endpoint(url.rstrip("/"), host, port or _PORTS[parts.scheme], parts.path.rstrip("/"))


def environment_faults(environment: Mapping[str, str]) -> tuple[Fault, ...]:
    """Every variable for AWS whose value can't be meant. An empty endpoint counts as none, as for every AWS SDK."""
    faults = [
        _fault(name, url, "http://HOST[:PORT] or https://HOST[:PORT]")
        for name in _ENDPOINTS
        if (url := environment.get(name)) and parse_endpoint(url) is None
    ]
    if (url := environment.get(IMDS_ENDPOINT)) and parse_endpoint(url, ("http",)) is None:
        faults.append(_fault(IMDS_ENDPOINT, url, "http://HOST[:PORT]"))
    if (mode := environment.get(IMDS_MODE)) is not None and mode.lower() not in IMDS_MODES:
        faults.append(_fault(IMDS_MODE, mode, "IPv4 or IPv6"))
    faults += [
        _fault(name, text, "a whole number from 1")
        for name in _COUNTS
        if (text := environment.get(name)) is not None and not re.fullmatch(r"0*[1-9][0-9]*", text)
    ]
    return tuple(faults)


def _is_ipv6(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).version == 6
    except ValueError:
        return False


def _fault(name: str, value: str, expected: str) -> Fault:
    return Fault(f"environment variable {name}", f"{value!r} where {expected} was expected")
