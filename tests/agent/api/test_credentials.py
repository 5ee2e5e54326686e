"""Tokens and certificates that a program prints."""

from __future__ import annotations

import asyncio
import json
import ssl
from pathlib import Path

import pytest
from aiohttp import web

from protokube.agent.http.credentials import PluginCredentials, Shown
from protokube.agent.http.kube import KubeClient
from protokube.agent.http.kubeconfig import KubeConfig, Pem, Plugin
from protokube.errors import ProviderError
from tests.lab.certificates import make_certificates
from tests.lab.kube_fake import KubeFake, serving

NODES = "/api/v1/nodes"


class Login:
    """A program that prints the contents of the file `said`, and counts its starts."""

    def __init__(self, base: Path) -> None:
        self._program, self._count, self._said = base / "login", base / "count", base / "said"
        self._program.write_text(
            f'#!/bin/sh\necho x >>{self._count}\n[ -n "$KUBERNETES_EXEC_INFO" ] || exit 1\nsleep 0.1\n'
            f"cat {self._said}\n"
        )
        self._program.chmod(0o755)
        self.plugin = Plugin((str(self._program),), "client.authentication.k8s.io/v1", ())

    def says(self, token: str, until: str | None = None) -> None:
        expires = "" if until is None else f', "expirationTimestamp": "{until}"'
        self._said.write_text(f'{{"status": {{"token": "{token}"{expires}}}}}')

    def says_certificate(self, certificate: str, key: str, **more: str) -> None:
        status = {"clientCertificateData": certificate, "clientKeyData": key, **more}
        self._said.write_text(json.dumps({"status": status}))

    def says_nothing(self) -> None:
        self._said.write_text("")

    @property
    def starts(self) -> int:
        return self._count.read_text().count("x")


@pytest.fixture
def login(tmp_path: Path) -> Login:
    return Login(tmp_path)


def test_a_token_is_kept_until_it_expires(login: Login) -> None:
    async def test() -> None:
        tokens = PluginCredentials(login.plugin)
        login.says("me", "2000-01-01T00:00:00Z")
        assert await tokens.shown() == Shown("me")
        login.says("you", "2099-01-01T00:00:00Z")
        assert [await tokens.shown(), await tokens.shown()] == [Shown("you")] * 2
        assert login.starts == 2

    asyncio.run(test())


def test_many_who_ask_start_one_program(login: Login) -> None:
    async def test() -> None:
        tokens = PluginCredentials(login.plugin)
        login.says("me")
        assert await asyncio.gather(*(tokens.shown() for _ in range(5))) == [Shown("me")] * 5
        assert login.starts == 1

    asyncio.run(test())


def test_a_program_that_fails_is_left_alone_for_a_while(login: Login) -> None:
    async def test() -> None:
        now = 100.0
        tokens = PluginCredentials(login.plugin, lambda: now)
        login.says_nothing()
        for _ in range(3):
            with pytest.raises(ProviderError, match="ExecCredential"):
                await tokens.shown()
        assert login.starts == 1
        login.says("me")
        now += 1.0
        assert await tokens.shown() == Shown("me")

    asyncio.run(test())


@pytest.mark.parametrize("until", ["never", "2099-01-01T00:00:00", "0001-01-01T00:00:00"])
def test_a_time_that_is_none_or_has_no_zone_is_refused(login: Login, until: str) -> None:
    login.says("me", until)
    with pytest.raises(ProviderError, match="expected"):
        asyncio.run(PluginCredentials(login.plugin).shown())


def test_the_first_of_all_times_has_passed(login: Login) -> None:
    """Go's zero time: nothing can be subtracted from it."""

    async def test() -> None:
        tokens = PluginCredentials(login.plugin)
        login.says("me", "0001-01-01T00:00:00Z")
        assert [await tokens.shown(), await tokens.shown()] == [Shown("me")] * 2
        assert login.starts == 2

    asyncio.run(test())


def test_a_refused_token_is_asked_for_anew_once(login: Login) -> None:
    """One without an end lasts until the API server refuses it."""

    async def test() -> None:
        async with serving(KubeFake()) as url:
            client = KubeClient(KubeConfig(url, plugin=login.plugin))
            try:
                login.says("old")
                with pytest.raises(ProviderError, match="Unauthorized"):
                    await client.get(NODES)
                assert login.starts == 2
                login.says("admin")
                assert await client.get(NODES) is not None
                assert login.starts == 3
                assert await client.get(NODES) is not None
                assert login.starts == 3
            finally:
                await client.close()

    asyncio.run(test())


def test_a_token_that_a_watch_was_refused_with_isn_t_used_again(login: Login) -> None:
    async def test() -> None:
        async with serving(KubeFake()) as url:
            client = KubeClient(KubeConfig(url, plugin=login.plugin))
            try:
                login.says("old")
                with pytest.raises(ProviderError, match="Unauthorized"):
                    await anext(client.watch(NODES))
                login.says("admin")
                assert await client.get(NODES) is not None
                assert login.starts == 2
            finally:
                await client.close()

    asyncio.run(test())


@pytest.mark.parametrize("half", [{"clientKeyData": ""}, {"clientCertificateData": ""}, {"token": 1}])
def test_half_a_certificate_is_refused(login: Login, half: dict[str, str]) -> None:
    login.says_certificate("c", "k", **half)
    with pytest.raises(ProviderError, match="ExecCredential"):
        asyncio.run(PluginCredentials(login.plugin).shown())


def test_a_certificate_is_shown_and_exchanged(login: Login, tmp_path: Path) -> None:
    """The API server asks for certificates; the first one is of an authority that it doesn't believe."""
    folder = make_certificates(tmp_path)

    def says(name: str) -> None:
        certificate, key = ((folder / f"{name}.{kind}").read_text() for kind in ("crt", "key"))
        login.says_certificate(certificate, key, expirationTimestamp="2000-01-01T00:00:00Z")

    async def nodes(request: web.Request) -> web.Response:
        assert request.transport is not None
        return web.json_response({"who": str(request.transport.get_extra_info("peercert")["subject"])})

    async def test() -> None:
        app = web.Application()
        app.router.add_get(NODES, nodes)
        runner = web.AppRunner(app)
        await runner.setup()
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=folder / "ca.crt")
        context.load_cert_chain(folder / "server.crt", folder / "server.key")
        context.verify_mode = ssl.CERT_REQUIRED
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        config = KubeConfig(
            f"https://127.0.0.1:{runner.addresses[0][1]}", Pem(folder / "ca.crt"), plugin=login.plugin
        )
        client = KubeClient(config)
        try:
            says("other")
            with pytest.raises(ProviderError):
                await client.get(NODES)
            says("client")
            found = await client.get(NODES)
            assert found is not None and "client" in found["who"]
        finally:
            await client.close()
            await runner.cleanup()

    asyncio.run(test())
