"""Both ends by TLS: each shows a certificate of an authority that the other knows, or nothing is said."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from protokube.agent.http.webconfig import read_config
from protokube.agent.providers.web import WebProvider
from protokube.errors import ProviderError
from tests.agent.pods import wanted
from tests.lab.certificates import make_certificates


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two authorities, a server's certificate, and a client's of each."""
    return make_certificates(tmp_path_factory.mktemp("tls"))


def test_who_has_a_certificate_of_the_right_authority_is_served(folder: Path) -> None:
    def client(port: int, **files: str) -> WebProvider:
        paths = {name: str(folder / file) for name, file in files.items()}
        given: Mapping[str, Any] = {"url": f"https://127.0.0.1:{port}", **paths}
        return WebProvider(read_config(given, {}, "file"), lambda _seconds: asyncio.sleep(0))

    async def asked(provider: WebProvider) -> int | ProviderError:
        try:
            await provider.create_pod(wanted())
            return len(await provider.get_pods())
        except ProviderError as error:
            return error
        finally:
            await provider.close()

    async def test() -> None:
        own = ("--tls-cert-file", f"{folder}/server.crt", "--tls-key-file", f"{folder}/server.key")
        serve = (
            "serve-web",
            "--provider",
            "memory",
            "--listen",
            "127.0.0.1:0",
            "--client-ca-file",
            f"{folder}/ca.crt",
        )
        command = [sys.executable, "-m", "protokube.agent", *serve, *own]
        server = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE, env=dict(os.environ))
        assert server.stderr is not None
        try:
            port = int((await server.stderr.readline()).decode().rpartition(":")[2])
            shown = {"certFile": "client.crt", "keyFile": "client.key"}
            assert await asked(client(port, caFile="ca.crt", **shown)) == 1
            strange = {"certFile": "other.crt", "keyFile": "other.key"}
            for refused in (
                {"caFile": "ca.crt"},
                {"caFile": "ca.crt", **strange},
                {"caFile": "stranger.crt", **shown},
            ):
                assert isinstance(await asked(client(port, **refused)), ProviderError), refused
        finally:
            server.terminate()
            await server.communicate()
        assert server.returncode == 0

    asyncio.run(test())
