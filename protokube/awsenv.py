"""The environment's variables for the AWS adapters, checked before any effect.

botocore doesn't check them: a bad value fails some later call, with an error that never names the variable.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from protokube.core.model import Fault

METADATA_ENDPOINT = "AWS_EC2_METADATA_SERVICE_ENDPOINT"
METADATA_MODE = "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE"

_SERVICES = ("", "_EC2", "_ROUTE_53", "_S3", "_STS", "_SSO", "_SSO_OIDC", "_SIGNIN")
_HOST = re.compile(r"([A-Za-z0-9_-]{1,63}\.)*[A-Za-z0-9_-]{1,63}\.?")
_COUNT = ("0*[1-9][0-9]*", "a whole number from 1")
_MEANT = {
    **{
        f"AWS_ENDPOINT_URL{one}": ("(https?://.*)?", "http://HOST[:PORT] or https://HOST[:PORT]") for one in _SERVICES
    },
    METADATA_ENDPOINT: ("(http://.*)?", "http://HOST[:PORT]"),
    METADATA_MODE: ("(?i:ipv[46])", "IPv4 or IPv6"),
    "AWS_METADATA_SERVICE_TIMEOUT": _COUNT,
    "AWS_METADATA_SERVICE_NUM_ATTEMPTS": _COUNT,
}


def environment_faults(environment: Mapping[str, str]) -> tuple[Fault, ...]:
    """Every variable for AWS with an impossible value. An empty endpoint counts as none, as for every AWS SDK."""
    return tuple(
        Fault(f"environment variable {name}", f"{environment[name]!r} where {expected} was expected")
        for name, (pattern, expected) in _MEANT.items()
        if name in environment and not (re.fullmatch(pattern, environment[name]) and _usable(environment[name]))
    )


def _usable(text: str) -> bool:
    """Whether a URL can be connected to; True for any other text."""
    if "://" not in text:
        return True
    try:
        parts = urlsplit(text)
        host = (parts.hostname or "").replace("%25", "%")  # before the scope of an IPv6 address
        named = ipaddress.ip_address(host) if ":" in host else _HOST.fullmatch(host)
        return bool(named) and parts.port != 0 and not re.search("[^!-~]", text)
    except ValueError:
        return False
