"""Our server's side of the vectors W1 to W27: it takes what the Go client sends, and its answers can be read there.

Each test is named for its vectors; `test_web_client.py` has our client's side. What the Go client made of the answers
of other servers stands in the docstrings.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from protokube.agent.http.webconfig import WebConfig
from protokube.agent.ports import LogOptions
from protokube.agent.providers.memory import MemoryProvider
from protokube.agent.providers.web import WebProvider
from protokube.errors import ProviderError
from tests.agent.web.serving import Moody, answers, served
from tests.agent.web.vectors import BASIC, BODY, LINES, NAMES, POD, TARGETS, read, write

OK, ABSENT = "200 OK", "404 Not Found"


class Printing(MemoryProvider):
    """Its containers have printed two lines, the second without an end."""

    async def container_logs(
        self, namespace: str, pod: str, container: str, options: LogOptions
    ) -> AsyncIterator[bytes]:
        yield b'"a\\nb"\n'
        yield b"\xff end"


def test_w1_w2_w3_writes_are_taken() -> None:
    told = answers(*(write(LINES[name]) for name in ("W1", "W2", "W3")))
    assert told == [(OK, b"Pod created"), (OK, b"Pod updated"), (OK, b"Pod deleted")]


@pytest.mark.parametrize("name", ["W4", "W5", "W6", "W7"])
def test_w4_w5_w6_w7_questions_are_answered(name: str) -> None:
    body = (
        BODY if name != "W7" else BODY.replace(b'"web","namespace":"default"', '"a b&c/ü","namespace":"d e"'.encode())
    )
    assert answers(write(LINES["W1"], body), read(TARGETS[name]))[1][0] == OK


def test_w8_the_password_of_a_url_is_a_token() -> None:
    assert [status for status, _ in answers(read("/getPods", BASIC), read("/getPods"), token="p")] == [
        OK,
        "401 Unauthorized",
    ]


@pytest.mark.parametrize("target", [TARGETS["W4"], "/getPodStatus?namespace=default&name=web"])
def test_w9_w10_w12_what_is_absent_is_a_404_by_that_name(target: str) -> None:
    """Another phrase, or `null`, or an empty body: a pod that is empty, or an error."""
    assert answers(read(target)) == [(ABSENT, b"Pod not found")]


def test_w11_a_pod_that_is_gone_already_is_a_404() -> None:
    """An error, which the Go client's kubelet took for success by its words."""
    assert answers(write(LINES["W3"]))[0][0] == ABSENT


def test_w13_no_pods_are_an_empty_list() -> None:
    """`null` was read as one too."""
    assert answers(read("/getPods")) == [(OK, b"[]")]


def test_w14_a_write_is_a_200_with_words() -> None:
    """204 would do as well."""
    assert answers(write(LINES["W1"])) == [(OK, b"Pod created")]


@pytest.mark.parametrize("line", ["POST /createPod/", "POST //createPod", "POST /"])
def test_w15_nobody_is_led_elsewhere(line: str) -> None:
    """A POST that is led elsewhere becomes a GET there."""
    (status, _) = answers(write(line))[0]
    assert status[:3] in ("404", "405")


def test_w16_an_error_is_told_in_words() -> None:
    """The Go client shows the status line alone, and doesn't try again."""
    provider = MemoryProvider()

    def obstacle(_name: str) -> None:
        raise ProviderError("podman is gone")

    provider.obstacle = obstacle
    assert answers(read("/getPods"), provider=provider) == [("500 Internal Server Error", b"podman is gone")]


def test_w17_w18_the_capacity_is_always_a_map_of_texts() -> None:
    """Anything but 200 crashed the Go client's kubelet; a bare number was taken."""

    async def test() -> None:
        node = Moody()
        async with served(MemoryProvider(), node) as ask:
            found = [await ask(read("/capacity"))]
            node.down = False
            found.append(await ask(read("/capacity")))
        assert [status for status, _ in found] == [OK, OK]
        assert all(isinstance(value, str) for _, body in found for value in json.loads(body).values())

    asyncio.run(test())


def test_w19_a_list_near_a_million_bytes_leaves_out_what_it_can() -> None:
    """The Go client cut it at 10⁶ bytes, and failed."""
    provider = MemoryProvider()
    metadata = {**POD["metadata"], "managedFields": ["x" * 1_411_800]}
    provider.pods["1"] = {**POD, "metadata": metadata}
    ((status, body),) = answers(read("/getPods"), provider=provider)
    assert status == OK and json.loads(body) == [POD]


def test_w20_logs_are_the_bytes_that_were_printed() -> None:
    """A server in Rust put them into quotes, which the Go client passed on."""
    assert answers(write(LINES["W1"]), read(TARGETS["W5"]), provider=Printing())[1] == (OK, b'"a\\nb"\n\xff end')


def test_w21_an_answer_comes_before_the_end_of_the_connection() -> None:
    """A connection that ends before, on a write, hung the Go client."""

    async def test() -> None:
        async with served(MemoryProvider()) as ask:
            for body, status in ((b"{", "400"), (b" " * (4 << 20) + b"{}", "413"), (BODY, "200")):
                assert (await ask(write(LINES["W1"], body)))[0].startswith(status)

    asyncio.run(test())


def test_w22_a_server_that_comes_up_meanwhile_is_found() -> None:
    """Both ends: the Go client tried again too."""

    async def test() -> None:
        holder = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
        port = holder.sockets[0].getsockname()[1]
        holder.close()
        await holder.wait_closed()
        up: list[asyncio.Server] = []

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n[]")
            writer.close()

        async def pause(_seconds: float) -> None:
            if not up:
                up.append(await asyncio.start_server(answer, "127.0.0.1", port))

        provider = WebProvider(WebConfig(f"http://127.0.0.1:{port}"), pause)
        try:
            assert await provider.get_pods() == [] and up
        finally:
            await provider.close()
            for server in up:
                server.close()

    asyncio.run(test())


def test_w23_nothing_is_served_below_a_path() -> None:
    """The Go client dropped the path of its base URL, and asked at the root."""
    assert answers(read("/base/getPods"))[0][0] == ABSENT


def test_w24_times_and_unknown_fields_are_kept() -> None:
    pod = {**POD, "new": {"x": 1}, "spec": {**POD["spec"], "future": "2018-05-01T10:00:00.1234567+02:00"}}
    created, found = answers(write(LINES["W1"], json.dumps(pod).encode()), read(TARGETS["W4"]))
    assert created[0] == OK
    answer = json.loads(found[1])
    assert (answer["new"], answer["spec"]) == (pod["new"], pod["spec"])


@pytest.mark.parametrize("kind", ["text/plain", "application/octet-stream", "text/html; charset=latin1"])
def test_w25_json_is_read_under_any_content_type(kind: str) -> None:
    assert answers(write(LINES["W1"], kind=kind)) == [(OK, b"Pod created")]


def test_w26_null_fields_are_taken_and_lists_are_never_204() -> None:
    """.NET writes `null` for what isn't set."""
    pod = {**POD, "spec": {**POD["spec"], "volumes": None, "nodeName": None}, "status": None}
    created, pods, logs = answers(write(LINES["W1"], json.dumps(pod).encode()), read("/getPods"), read(TARGETS["W5"]))
    assert (created[0], pods[0], logs[0]) == (OK, OK, OK)
    assert [one["metadata"]["name"] for one in json.loads(pods[1])] == ["web"]


def test_w27_a_question_that_is_none_is_a_404() -> None:
    """A skeleton in Node answered 200 to everything, and the Go client failed on its empty body."""
    assert [status for status, _ in answers(read("/getNothing"), read("/getPodX"))] == [ABSENT, ABSENT]


def test_both_ends_have_every_vector() -> None:
    """Each vector stands in a test of either end."""
    here = Path(__file__)
    client = here.with_name("test_web_client.py").read_text()
    server = here.read_text()
    assert [name for name in NAMES if f"# {name}" not in client and f'"{name}:' not in client] == []
    assert [name for name in NAMES if f"_{name.lower()}_" not in server] == []
