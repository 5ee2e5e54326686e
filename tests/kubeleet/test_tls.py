"""Redis, Sentinel and the service API over TLS: who shows nothing, or believes another authority, gets nothing."""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kubeleet.programs import CHECKOUT, START, Lab, lab
from tests.lab.certificates import make_certificates
from tests.lab.redis_server import LIMIT, RedisServer, free_port, redis_server, until


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificates(tmp_path_factory.mktemp("tls"))


def by_tls(folder: Path) -> dict[str, Any]:
    """What Redis's configuration says: beside the tests' own port one where certificates are asked for."""
    return {
        "tls_port": free_port(),
        "tls_cert_file": folder / "server.crt",
        "tls_key_file": folder / "server.key",
        "tls_ca_cert_file": folder / "ca.crt",
        "tls_auth_clients": "yes",
        "tls_replication": "yes",
    }


def files(folder: Path, authority: str = "ca", name: str | None = "client") -> list[str]:
    own = [] if name is None else [f"--redis-cert-file={folder}/{name}.crt", f"--redis-key-file={folder}/{name}.key"]
    return [f"--redis-ca-file={folder}/{authority}.crt", *own]


@pytest.fixture
def redis(tmp_path: Path, certificates: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path / "redis", **by_tls(certificates)) as server:
        yield server


def ask(programs: Lab, folder: Path, name: str | None = "client", body: Any = None) -> Any:
    """Ask the service API, with the certificate of that name."""
    context = ssl.create_default_context(cafile=folder / "ca.crt")
    if name is not None:
        context.load_cert_chain(folder / f"{name}.crt", folder / f"{name}.key")
    data = None if body is None else json.dumps(body).encode()
    url = f"https://127.0.0.1:{programs.port}/service"
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=LIMIT, context=context) as answer:
        return json.loads(answer.read())


def test_a_service_runs_through_redis_and_its_api_by_certificates(
    tmp_path: Path, redis: RedisServer, certificates: Path
) -> None:
    with lab(tmp_path, f"rediss://127.0.0.1:{redis.config['tls-port']}", *files(certificates)) as programs:
        programs.workers("w1")
        programs.scheduler()
        own = [f"--tls-cert-file={certificates}/server.crt", f"--tls-key-file={certificates}/server.key"]
        programs.service(*own, f"--client-ca-file={certificates}/ca.crt")
        body = {"name": "web", "image": "img", "replica": 2, "uuid": "u1"}
        for stranger in (None, "other"):
            with pytest.raises(OSError):
                ask(programs, certificates, stranger, body)
        assert redis.do("EXISTS", "svc") == 0
        assert len(ask(programs, certificates, body=body)["pods"]) == 2
        until(lambda: sum(programs.running("w1").values()) == 2)
        assert [one["uuid"] for one in ask(programs, certificates)] == ["u1"]


def test_a_redis_of_another_authority_or_name_is_not_believed(redis: RedisServer, certificates: Path) -> None:
    def status(url: str, *options: str) -> tuple[int, str]:
        argv = [sys.executable, "-c", START, "status", "--redis", url, *options]
        done = subprocess.run(argv, cwd=CHECKOUT, capture_output=True, text=True, timeout=LIMIT, check=False)
        return done.returncode, done.stderr

    port = redis.config["tls-port"]
    here = f"rediss://127.0.0.1:{port}"
    assert status(here, *files(certificates)) == (0, "")
    for url, given, said in (
        (here, files(certificates, "stranger"), "certificate verify failed"),
        (here, [], "certificate verify failed"),
        (f"rediss://localhost:{port}", files(certificates), "certificate verify failed"),
        (here, files(certificates, name=None), "redis 127.0.0.1"),
        (here, files(certificates, name="other"), "redis 127.0.0.1"),
    ):
        code, text = status(url, *given)
        assert code == 1 and said in text, (url, given, text)
    code, text = status(f"redis://127.0.0.1:{redis.port}", *files(certificates))
    assert code == 78 and text.count("rediss") == 3
    code, text = status(here, "--redis-cert-file=/none")
    assert code == 78 and "no such file" in text and "--redis-key-file" in text


def test_a_master_is_found_through_a_sentinel_by_certificates(
    tmp_path: Path, redis: RedisServer, certificates: Path
) -> None:
    sentinel = RedisServer(tmp_path / "sentinel", sentinel=True, **by_tls(certificates))
    sentinel.lines = [f"sentinel monitor pods 127.0.0.1 {redis.config['tls-port']} 1"]
    try:
        sentinel.start()
        url = f"rediss+sentinel://127.0.0.1:{sentinel.config['tls-port']}/pods/0"
        with lab(tmp_path, url, *files(certificates)) as programs:
            programs.workers("w1")
            redis.do("LPUSH", "pq:w1", '{"name":"test","uuid":"u","image":"img","replica":1}')
            until(lambda: redis.do("SCARD", "cs:w1") == 1)
            assert "w1" in str(programs.status())
    finally:
        sentinel.kill()
