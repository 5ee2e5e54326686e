"""The vectors W1 to W8: what the Go client of June 2019 sends, byte for byte (but for its host and port).

They were taken from that client, which was built and run against a raw server. W9 to W27 are answers: what our client
makes of each stands in test_web_client.py, what our server says instead in test_web_answers.py.
"""

from __future__ import annotations

import json
from typing import Any

BODY = (
    b'{"kind":"Pod","apiVersion":"v1","metadata":{"name":"web","namespace":"default",'
    b'"uid":"11111111-2222-3333-4444-555555555555","creationTimestamp":null,"labels":{"app":"w"}},'
    b'"spec":{"containers":[{"name":"c","image":"nginx:1","ports":[{"containerPort":80}],'
    b'"resources":{"requests":{"cpu":"100m"}}}],"restartPolicy":"Always"},"status":{}}'
)
"""The pod of W1 to W3, 334 bytes."""
POD: dict[str, Any] = json.loads(BODY)
LINES = {"W1": "POST /createPod", "W2": "PUT /updatePod", "W3": "DELETE /deletePod"}
TARGETS = {
    "W4": "/getPod?namespace=default&name=web",
    "W5": "/getContainerLogs?namespace=default&podName=web&containerName=c&tail=10",
    "W6": "/getPods",
    "W7": "/getPod?namespace=d+e&name=a+b%26c%2F%C3%BC",
}
BASIC = "Authorization: Basic dTpw"
"""W8: what a URL with u:p@ adds to a request."""
NAMES = [f"W{number}" for number in range(1, 28)]


def write(line: str, body: bytes = BODY, kind: str = "application/json") -> bytes:
    """A request with a body."""
    head = [f"{line} HTTP/1.1", "Host: 127.0.0.1:40633", "User-Agent: Go-http-client/1.1"]
    head += [f"Content-Length: {len(body)}", f"Content-Type: {kind}", "Accept-Encoding: gzip"]
    return "\r\n".join([*head, "", ""]).encode() + body


def read(target: str, *more: str) -> bytes:
    """A request without one."""
    head = [f"GET {target} HTTP/1.1", "Host: 127.0.0.1:40633", "User-Agent: Go-http-client/1.1", *more]
    return "\r\n".join([*head, "Content-Type: application/json", "Accept-Encoding: gzip", "", ""]).encode()
