"""Asks programs of this machine for their health, over HTTP.

What answers on this machine's own address is not verified: some components show a certificate that they make at each
start. Only whether they are up is asked, and nothing is told to them.
"""

from __future__ import annotations

import http.client
import ssl
from urllib.parse import urlsplit

from protokube.core.controlplane.model import Health
from protokube.errors import NotListeningError, ProviderError

LIMIT = 5.0
"""Seconds for one question."""
_MOST = 1000
"""Bytes of an answer that are read: a few words tell."""


def ask(url: str, limit: float = LIMIT) -> Health:
    """The answer of an endpoint, whatever its status. Raises ProviderError when there is none, NotListeningError when
    nobody listens there."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connection = http.client.HTTPSConnection(host, parts.port, timeout=limit, context=context)
    else:
        connection = http.client.HTTPConnection(host, parts.port, timeout=limit)
    try:
        connection.request("GET", parts.path)
        answer = connection.getresponse()
        return Health(answer.status, answer.read(_MOST).decode(errors="replace"))
    except (OSError, http.client.HTTPException) as error:
        kind = NotListeningError if isinstance(error, ConnectionRefusedError) else ProviderError
        raise kind(f"GET {url}: {error or type(error).__name__}") from error
    finally:
        connection.close()
