"""An EC2 instance metadata service: version 2, with what goes wrong with the real one on demand.

    with ImdsServer(Metadata("i-0123456789abcdef0", "us-east-1", "us-east-1a", "10.0.0.1")) as imds:
        environment = imds.environment()

It binds to any address and port (169.254.169.254:80 in a namespace that has the address) and answers by the
caller's source address, so that one server serves several nodes. Everything may be changed while it runs.
"""

from __future__ import annotations

import json
import secrets
import socket
import sys
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

TOKEN_PATH = "/latest/api/token"
DOCUMENT_PATH = "/latest/dynamic/instance-identity/document"
META_DATA = "/latest/meta-data/"
ROLE = "protokube-test"


@dataclass
class Metadata:
    """What the service tells about one instance. None stands for an item that doesn't exist (404).

    `credentials` are the access key and secret of the instance profile's role; None while there is none.
    `untrusting`: the role's trust policy doesn't let EC2 assume it.
    """

    instance_id: str
    region: str
    zone: str
    private_ip: str | None
    public_ipv4: str | None = None
    ipv6: str | None = None
    local_hostname: str | None = None
    credentials: tuple[str, str] | None = ("AKIATEST", "secret")
    untrusting: bool = False

    def item(self, path: str) -> str | None:
        """The body for a path."""
        if path == DOCUMENT_PATH:
            return json.dumps(
                {
                    "instanceId": self.instance_id,
                    "region": self.region,
                    "availabilityZone": self.zone,
                    "privateIp": self.private_ip,
                    "accountId": "123456789012",
                }
            )
        items = {
            "instance-id": self.instance_id,
            "local-ipv4": self.private_ip,
            "public-ipv4": self.public_ipv4,
            "ipv6": self.ipv6,
            "local-hostname": self.local_hostname,
            "placement/availability-zone": self.zone,
        }
        if self.credentials:
            items["iam/security-credentials/"] = ROLE
            items[f"iam/security-credentials/{ROLE}"] = json.dumps(
                {
                    "Code": "Success",
                    "Type": "AWS-HMAC",
                    "AccessKeyId": self.credentials[0],
                    "SecretAccessKey": self.credentials[1],
                    "Token": "session",
                    "Expiration": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 6 * 3600)),
                }
            )
            if self.untrusting:
                refusal = {"Code": "AssumeRoleUnauthorizedAccess", "Message": f"EC2 cannot assume the role {ROLE}."}
                items[f"iam/security-credentials/{ROLE}"] = json.dumps(refusal)
        return items.get(path.removeprefix(META_DATA))


class ImdsServer:
    """The service, in a thread.

    `disabled`: the instance's endpoint is switched off (403). `hop_limit_reached`: the answer to a token request
    never arrives. `version_1_only`: it knows no tokens. `tokens_required`: version 1 is refused (401).
    `longest_ttl`: grants no longer-lived tokens (seconds). `not_a_token`: is given for a token, where something else
    answers; `told_ttl`: is said of its lifetime. `failing`: answers everything with this status.
    `lacking`: bytes that each answer to a GET breaks off before its end. `requests` records every (method, path).
    """

    def __init__(self, metadata: Metadata, address: str = "127.0.0.1", port: int = 0) -> None:
        self.metadata = metadata
        self.by_address: dict[str, Metadata] = {}
        self.disabled = False
        self.hop_limit_reached = False
        self.version_1_only = False
        self.tokens_required = True
        self.longest_ttl = 21600
        self.not_a_token: str | None = None
        self.told_ttl: str | None = None
        self.failing: int | None = None
        self.lacking = 0
        self.requests: list[tuple[str, str]] = []
        self._tokens: dict[str, float] = {}
        self._closing = threading.Event()
        self._server = _server(self, address, port)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        """Where it listens, for AWS_EC2_METADATA_SERVICE_ENDPOINT."""
        host, port = self._server.server_address[:2]
        name = host.decode() if isinstance(host, bytes) else str(host)
        return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"

    def environment(self) -> dict[str, str]:
        """The variables that lead an AWS SDK here."""
        return {"AWS_EC2_METADATA_SERVICE_ENDPOINT": self.url, "AWS_EC2_METADATA_DISABLED": "false"}

    def revoke_tokens(self) -> None:
        """Every token given so far is refused from now on."""
        self._tokens.clear()

    def paths(self, method: str = "GET") -> list[str]:
        """The paths of the requests so far."""
        return [path for verb, path in self.requests if verb == method]

    def answer(self, method: str, path: str, headers: dict[str, str], source: str) -> tuple[int, str, dict[str, str]]:
        """Status, body and headers for one request; blocks for good where an answer never arrives."""
        self.requests.append((method, path))
        if self.failing is not None:
            return self.failing, "", {}
        if self.disabled:
            return 403, "", {}
        if method == "PUT":
            return self._token(path, headers)
        token = headers.get("x-aws-ec2-metadata-token")
        known = token is not None and self._tokens.get(token, 0) > time.monotonic()
        if not self.version_1_only and (
            (token is None and self.tokens_required) or (token is not None and not known)
        ):
            return 401, "", {}
        body = self.by_address.get(source, self.metadata).item(path)
        return (200, body, {}) if body is not None else (404, "", {})

    def _token(self, path: str, headers: dict[str, str]) -> tuple[int, str, dict[str, str]]:
        if self.version_1_only or path != TOKEN_PATH:
            return 404, "", {}
        if self.hop_limit_reached:
            self._closing.wait()
        if self.not_a_token is not None:
            return 200, self.not_a_token, {}
        wanted = headers.get("x-aws-ec2-metadata-token-ttl-seconds", "")
        if not wanted.isdigit() or not 1 <= int(wanted) <= 21600 or "x-forwarded-for" in headers:
            return 400, "", {}
        ttl = min(int(wanted), self.longest_ttl)
        token = secrets.token_urlsafe(32)
        self._tokens[token] = time.monotonic() + ttl
        return 200, token, {"X-aws-ec2-metadata-token-ttl-seconds": self.told_ttl or str(ttl)}


def _server(imds: ImdsServer, address: str, port: int) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 10
        wbufsize = -1  # one write an answer: two small ones cost 40 ms (Nagle's algorithm and delayed ACKs)

        def _reply(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            status, body, more = imds.answer(self.command, self.path, headers, str(self.client_address[0]))
            try:
                self.send_response(status)
                for name, value in {**more, "Content-Length": str(len(body.encode()))}.items():
                    self.send_header(name, value)
                self.end_headers()
                lacking = imds.lacking if self.command == "GET" else 0
                self.wfile.write(body.encode()[: len(body.encode()) - lacking])
                self.wfile.flush()
                self.close_connection = self.close_connection or bool(lacking)
            except OSError:
                self.close_connection = True  # the caller gave up

        do_GET = do_PUT = _reply  # noqa: N815 - http.server's names

        def log_message(self, *_: object) -> None:
            """No log."""

    class Server(ThreadingHTTPServer):
        address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        daemon_threads = True
        block_on_close = True

        def handle_error(self, request: object, client_address: object) -> None:
            if not isinstance(sys.exception(), ConnectionError):  # the caller was killed
                super().handle_error(request, client_address)  # type: ignore[arg-type]

    return Server((address, port), Handler)
