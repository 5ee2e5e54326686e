"""Kubelet's own API: who may ask, and what is answered."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from protokube.agent.core.stats import usage_of
from protokube.agent.http.access import Access, Caller, caller_of
from protokube.agent.http.kube import KubeClient
from protokube.agent.http.kubeconfig import KubeConfig
from protokube.agent.http.kubeletapi import KubeletApi, tls_context
from protokube.agent.http.webconfig import Serving
from protokube.agent.ports import LogOptions, NotFoundError
from protokube.agent.providers.memory import MemoryProvider
from protokube.core.pki.document import StoredAuthority
from protokube.core.pki.model import CertificateWanted
from protokube.pki.x509 import issue, make_authority
from tests.agent.pods import UIDS, wanted
from tests.lab.kube_fake import KubeFake, serving

Ask = Callable[..., Awaitable[tuple[int, str]]]


class Printing(MemoryProvider):
    """A provider whose one container has printed something."""

    async def container_logs(
        self, namespace: str, pod: str, container: str, options: LogOptions
    ) -> AsyncIterator[bytes]:
        if (namespace, pod, container) != ("default", "web", "c"):
            raise NotFoundError("there is no such container")
        lines = [b"one\n", b"two\n", b"three\n"]
        for line in lines[-(options.tail or 0) :]:
            yield line


class Pki:
    """Certificates below a folder."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.authority = StoredAuthority(make_authority("kubernetes", time.time()))
        (base / "ca.crt").write_text(self.authority.active.certificate)

    def make(self, name: str, *groups: str, client: bool = True) -> Path:
        names = () if client else ("localhost",)
        wants = CertificateWanted(name, "kubernetes", name, groups, names, server=not client, client=client)
        _, files = issue(wants, self.authority, time.time())
        folder = self.base / name
        folder.mkdir()
        for file, text in files.items():
            (folder / file).write_text(text)
        return folder


@asynccontextmanager
async def asking(base: Path, fake: KubeFake, *, client: bool = True) -> AsyncIterator[Ask]:
    pki = Pki(base)
    server = pki.make("server", client=False)
    mine = pki.make("apiserver", "system:masters")
    where = Serving("127.0.0.1", 0, None, f"{server}/tls.crt", f"{server}/tls.key", f"{base}/ca.crt")
    pods = [{**wanted("web", uid=UIDS[1]), "status": {"phase": "Running"}}]
    context = ssl.create_default_context(cafile=f"{base}/ca.crt")
    if client:
        context.load_cert_chain(mine / "tls.crt", mine / "tls.key")
    async with serving(fake) as url, aiohttp.ClientSession() as session:
        kube = KubeClient(KubeConfig(url, token="node:n1"))
        api = KubeletApi(Printing(), "n1", lambda: pods, Access(kube, "n1"), where)
        runner = web.AppRunner(api.application())
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls_context(where)).start()
        port = runner.addresses[0][1]

        async def ask(path: str, method: str = "GET") -> tuple[int, str]:
            url = f"https://localhost:{port}{path}"
            async with session.request(method, url, ssl=context) as answer:
                return answer.status, await answer.text()

        try:
            yield ask
        finally:
            await runner.cleanup()
            await kube.close()


def run(test: Callable[[Ask, KubeFake], Awaitable[None]], base: Path, **more: Any) -> None:
    async def inner() -> None:
        fake = KubeFake()
        async with asking(base, fake, **more) as ask:
            await test(ask, fake)

    asyncio.run(inner())


def test_what_is_there_is_answered_and_the_rest_is_501(tmp_path: Path) -> None:
    async def test(ask: Ask, fake: KubeFake) -> None:
        assert await ask("/containerLogs/default/web/c") == (200, "one\ntwo\nthree\n")
        assert await ask("/containerLogs/default/web/c?tailLines=1") == (200, "three\n")
        assert await ask("/containerLogs/default/web/c?limitBytes=5") == (200, "one\nt")
        assert (await ask("/containerLogs/default/web/other"))[0] == 404
        assert (await ask("/containerLogs/default/web/c?tailLines=x"))[0] == 400
        assert (await ask("/containerLogs/default/web/c?previous=true"))[0] == 501
        assert await ask("/healthz") == (200, "ok")
        status, said = await ask("/pods")
        assert status == 200 and '"PodList"' in said and UIDS[1] in said
        status, said = await ask("/metrics/resource")
        assert status == 200 and "node_cpu_usage_seconds_total " in said
        status, said = await ask("/stats/summary")
        assert status == 200 and '"nodeName": "n1"' in said
        for path in (
            "/exec/default/web/c",
            "/attach/default/web/c",
            "/portForward/default/web",
            "/run/default/web/c",
        ):
            assert (await ask(path, "POST"))[0] == 501
        assert (await ask("/secrets"))[0] == 404
        assert len([one for one in fake.requests if one[0] == "POST"]) == 4, "answers are kept: one per verb and part"

    run(test, tmp_path)


def test_who_may_not_is_refused(tmp_path: Path) -> None:
    async def test(ask: Ask, fake: KubeFake) -> None:
        fake.allowed = False
        status, said = await ask("/pods")
        assert status == 403 and "user=apiserver, verb=get, resource=nodes, subresource=proxy" in said

    run(test, tmp_path)


def test_nobody_without_a_certificate_gets_an_answer(tmp_path: Path) -> None:
    async def test(ask: Ask, fake: KubeFake) -> None:
        with pytest.raises((aiohttp.ClientOSError, aiohttp.ServerDisconnectedError)):  # not: its own certificate
            await ask("/pods")
        assert not fake.requests

    run(test, tmp_path, client=False)


def test_a_certificate_names_its_caller() -> None:
    subject = ((("organizationName", "system:masters"),), (("commonName", "me"),))
    assert caller_of({"subject": subject}) == Caller("me", ("system:masters", "system:authenticated"))
    assert caller_of({}) is None and caller_of(None) is None


def test_usage_is_what_proc_says() -> None:
    usage = usage_of(
        "cpu 100 0 100 800 50 0 0 0 9 0\ncpu0 1", "MemTotal: 10 kB\nMemFree: 1 kB\nMemAvailable: 4 kB\n", 100
    )
    assert (usage.cpu, usage.memory, usage.available) == (2.0, 6144, 4096)
