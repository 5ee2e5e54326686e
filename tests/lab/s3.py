"""S3 for tests: moto's server in a thread, which knows conditional writes, and answers that it doesn't give itself.

with S3Server() as server:
    server.environment(monkeypatch)
    server.create_bucket("store")
    server.faults.append(Fault("ConditionalRequestConflict", 409, method="PUT"))    # the next PUT's answer
"""

from __future__ import annotations

import io
import logging
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

import pytest
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from moto.s3.models import s3_backends
from werkzeug.serving import BaseWSGIServer, make_server

from tests.lab.aws import forget_credentials

ACCOUNT = "123456789012"
REGION = "us-east-1"


@dataclass(frozen=True)
class Fault:
    """An answer in place of the right one. `after`: the request is carried out first, and its answer is lost.
    `query`: only of a request whose query has this."""

    code: str
    status: int
    method: str = "GET"
    after: bool = False
    query: str = ""


class S3Server:
    """One server; its state is moto's. `calls` counts requests by method; `headers` are those of each PUT.

    `conflict_every`: so often a PUT is answered by 409, as S3 does while another write is under way. `plain`: answers
    don't tell that an object is encrypted.
    """

    def __init__(self) -> None:
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self.calls: Counter[str] = Counter()
        self.headers: list[dict[str, str]] = []
        self.faults: list[Fault] = []
        self.conflict_every = 0
        self.plain = False
        self._lock = threading.Lock()  # moto checks and writes in two steps; S3 doesn't
        self._inner = DomainDispatcherApplication(create_backend_app)
        self._server: BaseWSGIServer | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        s3_backends.reset()
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True)
        self._server.daemon_threads = True  # type: ignore[attr-defined]
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        )
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._server is not None and self._thread is not None
        self._server.shutdown()
        self._thread.join(timeout=10)
        self._server.server_close()

    @property
    def url(self) -> str:
        """Where it listens."""
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.server_port}"

    def variables(self) -> dict[str, str]:
        """The environment that leads botocore here, with credentials that it takes."""
        return {
            "AWS_ENDPOINT_URL_S3": self.url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": REGION,
        }

    def environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Point botocore at this server."""
        for name, value in self.variables().items():
            monkeypatch.setenv(name, value)

    def create_bucket(self, name: str) -> None:
        """Make a bucket, past the API."""
        s3_backends[ACCOUNT]["aws"].create_bucket(name, REGION)

    def fill(self, bucket: str, keys: Iterable[str]) -> None:
        """Put empty objects, past the API."""
        for key in keys:
            s3_backends[ACCOUNT]["aws"].put_object(bucket, key, b"")

    def content(self, bucket: str, key: str) -> bytes:
        """An object's bytes, past the API."""
        found: Any = s3_backends[ACCOUNT]["aws"].get_object(bucket, key)
        return bytes(found.value)

    def _answer(self, environment: dict[str, Any], start: Any) -> Iterator[bytes] | list[bytes]:
        size = int(environment.get("CONTENT_LENGTH") or 0)
        environment["wsgi.input"] = io.BytesIO(environment["wsgi.input"].read(size))
        method = environment["REQUEST_METHOD"]
        with self._lock:
            self.calls[method] += 1
            if method == "PUT":
                self.headers.append(
                    {key: str(value) for key, value in environment.items() if key.startswith("HTTP_")}
                )
            query = environment.get("QUERY_STRING", "")
            fault = next((one for one in self.faults if one.method == method and one.query in query), None)
            if fault is not None:
                self.faults.remove(fault)
            elif method == "PUT" and self.conflict_every and self.calls["PUT"] % self.conflict_every == 0:
                fault = Fault("ConditionalRequestConflict", 409, "PUT")
            if fault is None:
                return list(self._inner(environment, self._filtered(start)))
            if fault.after:
                list(self._inner(environment, lambda *_: None))
        start(f"{fault.status} Fault", [("Content-Type", "application/xml")])
        body = f"<Error><Code>{fault.code}</Code><Message>made by the test</Message><RequestId>x</RequestId></Error>"
        return [f"<?xml version='1.0'?>{body}".encode()]

    def _filtered(self, start: Any) -> Any:
        def begin(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
            kept = [one for one in headers if not (self.plain and one[0].lower() == "x-amz-server-side-encryption")]
            return start(status, kept, *more)

        return begin


@contextmanager
def serving(monkeypatch: pytest.MonkeyPatch, bucket: str) -> Iterator[S3Server]:
    """A server with one bucket, to which this process's AWS settings lead."""
    with S3Server() as server:
        server.environment(monkeypatch)
        server.create_bucket(bucket)
        forget_credentials()
        yield server
    forget_credentials()
