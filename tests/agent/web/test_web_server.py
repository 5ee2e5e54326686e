"""Our server before the Go client of June 2019: its own bytes, and what it needs to see in an answer."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import pytest

from protokube.agent.ports import RefusedError
from protokube.agent.providers.memory import MemoryProvider
from protokube.errors import ProviderError
from tests.agent.web.serving import Moody, answers, served
from tests.agent.web.vectors import BODY, read, write

OTHER = BODY.replace(b"11111111-", b"99999999-")


def test_the_go_clients_bytes_are_taken() -> None:
    """W1 to W6."""
    target = "?namespace=default&name=web"
    created, updated, pod, status, pods, logs, deleted, gone = answers(
        write("POST /createPod"),
        write("PUT /updatePod"),
        read("/getPod" + target),
        read("/getPodStatus" + target),
        read("/getPods"),
        read("/getContainerLogs?namespace=default&podName=web&containerName=c&tail=10"),
        write("DELETE /deletePod"),
        read("/getPod" + target),
    )
    assert created == ("200 OK", b"Pod created") and updated[0] == deleted[0] == "200 OK"
    assert json.loads(pod[1])["metadata"] == json.loads(BODY)["metadata"]
    assert json.loads(status[1])["phase"] == "Running"
    assert [one["metadata"]["name"] for one in json.loads(pods[1])] == ["web"]
    assert logs == ("200 OK", b"")
    assert gone == ("404 Not Found", b"Pod not found")  # the reason phrase is what the Go client compares


def test_a_query_is_decoded() -> None:  # W7
    body = BODY.replace(b'"name":"web","namespace":"default"', '"name":"a b&c/ü","namespace":"d e"'.encode())
    _, pod = answers(write("POST /createPod", body), read("/getPod?namespace=d+e&name=a+b%26c%2F%C3%BC"))
    assert pod[0] == "200 OK"


@pytest.mark.parametrize(
    ("requests", "status", "text"),
    [
        ([write("POST /createPod"), write("POST /createPod")], "200 OK", b"Pod created"),
        ([write("POST /createPod"), write("POST /createPod", OTHER)], "409 Conflict", b"exists with UID 11111111"),
        ([write("PUT /updatePod")], "404 Not Found", b"doesn't exist"),
        ([write("POST /createPod"), write("PUT /updatePod", OTHER)], "404 Not Found", b"doesn't exist"),
        ([write("DELETE /deletePod")], "404 Not Found", b"doesn't exist"),
        ([write("POST /createPod"), write("DELETE /deletePod", OTHER)], "404 Not Found", b"doesn't exist"),
        ([write("POST /createPod", b"{")], "400 Bad Request", b"expected a Pod as JSON"),
        ([write("POST /createPod", b"[]")], "400 Bad Request", b"metadata.name and metadata.uid"),
        ([write("POST /createPod", b'{"metadata":{"name":"a","uid":"1"}}')], "400 Bad Request", b"object spec"),
        ([write("POST /createPod", b" " * (4 << 20) + b"{}")], "413 Request Entity Too Large", b"4194304"),
        ([read("/getPod?namespace=default")], "400 Bad Request", b"the query lacks name"),
        ([read("/getContainerLogs?namespace=d&podName=w&containerName=c&tail=x")], "400 Bad Request", b"got 'x'"),
        (
            [read("/getContainerLogs?namespace=d&podName=w&containerName=c&tail=0")],
            "404 Not Found",
            b"no container c",
        ),
        ([read("/getPods")], "200 OK", b"[]"),
        ([read("/operatingSystem")], "200 OK", b"Linux"),
        ([read("/nodeDaemonEndpoints")], "200 OK", b'{"kubeletEndpoint":{"Port":0}}'),
        ([read("/")], "200 OK", b"Web provider"),
        ([read("/podEvents?after=-1")], "400 Bad Request", b"got '-1'"),
    ],
)
def test_an_answer_says_what_happened(requests: list[bytes], status: str, text: bytes) -> None:
    last = answers(*requests)[-1]
    assert last[0] == status and text in last[1]


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (RefusedError(["no image", "no name"]), "422 Unprocessable Entity", b"no image\nno name"),
        (ProviderError("podman: exit code 125"), "500 Internal Server Error", b"podman: exit code 125"),
    ],
)
def test_a_providers_error_is_told(error: Exception, status: str, text: bytes) -> None:
    provider = MemoryProvider()

    def obstacle(name: str) -> None:
        if name == "create_pod":
            raise error

    provider.obstacle = obstacle
    assert answers(write("POST /createPod"), provider=provider) == [(status, text)]


def test_questions_about_the_node_are_always_answered() -> None:
    """W17: the Go client's kubelet crashes on any other answer."""

    async def test() -> None:
        node = Moody()
        async with served(MemoryProvider(), node) as ask:

            async def told() -> list[Any]:
                found = [await ask(read(target)) for target in ("/capacity", "/nodeConditions", "/nodeAddresses")]
                assert {status for status, _ in found} == {"200 OK"}
                return [json.loads(body) for _, body in found]

            capacity, [ready], addresses = await told()
            assert (capacity, addresses) == ({"cpu": "0", "memory": "0", "pods": "0"}, [])
            assert (ready["type"], ready["status"]) == ("Ready", "False")
            node.down = False
            known = await told()
            assert known[0] == {"cpu": "4"} and known[2] == [{"type": "InternalIP", "address": "10.1.2.3"}]
            node.down = True
            assert await told() == known
            assert (await ask(read("/operatingSystem")))[1] == b"Windows"

    asyncio.run(test())


def test_who_asks_shows_the_token() -> None:
    basic = base64.b64encode(b"anyone:s3cret").decode()
    wrong = base64.b64encode(b"s3cret:").decode()
    shown = answers(
        read("/getPods"),
        read("/getPods", "Authorization: Bearer nonsense"),
        read("/getPods", "Authorization: Bearer s3cret"),
        read("/getPods", f"Authorization: Basic {basic}"),  # W8
        read("/getPods", f"Authorization: Basic {wrong}"),
        read("/getPods", "Authorization: Basic %"),
        token="s3cret",
    )
    assert [status[:3] for status, _ in shown] == ["401", "401", "200", "200", "401", "401"]


def test_a_list_near_the_limit_leaves_out_what_only_an_api_server_needs(caplog: pytest.LogCaptureFixture) -> None:
    provider = MemoryProvider()
    note = {"kubectl.kubernetes.io/last-applied-configuration": "x" * 500_000, "mine": "1"}
    metadata = {"name": "a", "namespace": "d", "uid": "1", "annotations": note, "managedFields": ["x" * 500_000]}
    provider.pods["1"] = {"metadata": metadata, "spec": {}}
    [(_, body)] = answers(read("/getPods"), provider=provider)
    assert json.loads(body)[0]["metadata"]["annotations"] == {"mine": "1"} and len(body) < 1000
    assert not caplog.records
    provider.pods["1"] = {"metadata": {"name": "a", "namespace": "d", "uid": "1", "labels": {"x": "x" * 1_100_000}}}
    [(_, body)] = answers(read("/getPods"), provider=provider)
    assert len(body) > 1_000_000 and "a client of 2017" in caplog.text


def test_changes_are_told_by_long_polls() -> None:
    async def test() -> None:
        provider = MemoryProvider()
        async with served(provider) as ask:

            async def events(after: int) -> tuple[int, list[str]]:
                answer = json.loads((await ask(read(f"/podEvents?after={after}")))[1])
                return answer["next"], [pod["metadata"]["name"] for pod in answer["pods"]]

            assert await events(0) == (0, [])  # nothing came while it was held
            await ask(write("POST /createPod"))
            assert await events(0) == (1, ["web"])
            assert await events(1) == (1, [])
            provider.lose("11111111-2222-3333-4444-555555555555")
            assert await events(1) == (2, [])  # a new number without a pod: look at all of them
            assert await events(57) == (2, [])  # from before the server's start

    asyncio.run(test())
