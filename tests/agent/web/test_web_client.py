"""Our client before servers as they are in the field: the vectors W1 to W27, one test or row each.

They were taken from the Go client of June 2019 and from servers in Rust, Node and .NET. Each says what our
client makes of an answer; a comment says what the Go client made of it, where that differs.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from protokube.agent.http.webconfig import read_config
from protokube.agent.ports import LogOptions, NotFoundError
from protokube.agent.providers.web import WebProvider
from protokube.errors import ConfigError, ProviderError
from tests.agent.web.raw import CUT, answer, asked
from tests.agent.web.vectors import BASIC, BODY, LINES, POD, TARGETS

Call = Callable[[WebProvider], Awaitable[Any]]


def get_pod(provider: WebProvider) -> Awaitable[Any]:
    return provider.get_pod("default", "web")


def get_pods(provider: WebProvider) -> Awaitable[Any]:
    return provider.get_pods()


async def lines(provider: WebProvider, **options: Any) -> bytes:
    pieces = provider.container_logs("default", "web", "c", LogOptions(**options))
    return b"".join([piece async for piece in pieces])


def outcome(call: Call, *answers: bytes) -> tuple[Any, int, list[float]]:
    """What a call returns or raises, how many requests the server saw, and the pauses."""

    async def test() -> tuple[Any, int, list[float]]:
        async with asked(*answers) as (provider, raw, pauses):
            try:
                result = await call(provider)
            except (ProviderError, NotFoundError) as error:
                result = error
            return result, len(raw.seen), pauses

    return asyncio.run(test())


def request_of(call: Call, reply: bytes = answer("200 OK", BODY), user: str | None = None) -> tuple[str, bytes]:
    async def test() -> tuple[str, bytes]:
        async with asked(reply, user=user) as (provider, raw, _):
            await call(provider)
            return raw.seen[0]

    return asyncio.run(test())


@pytest.mark.parametrize(
    ("call", "line"),
    [
        (lambda p: p.create_pod(POD), LINES["W1"]),  # W1
        (lambda p: p.update_pod(POD), LINES["W2"]),  # W2
        (lambda p: p.delete_pod(POD), LINES["W3"]),  # W3
    ],
)
def test_a_write_has_the_bytes_of_the_go_client(call: Call, line: str) -> None:
    head, body = request_of(call)
    assert head.startswith(f"{line} HTTP/1.1\r\n")
    assert body == BODY
    assert "Content-Type: application/json\r\n" in head and f"Content-Length: {len(BODY)}\r\n" in head


def test_creation_time_and_status_are_sent_even_if_a_source_has_none() -> None:
    _, body = request_of(lambda p: p.create_pod({"metadata": {"name": "web", "uid": "1"}, "spec": {}}))
    metadata = {"name": "web", "uid": "1", "creationTimestamp": None}
    assert json.loads(body) == {"metadata": metadata, "spec": {}, "status": {}}


@pytest.mark.parametrize(
    ("call", "target", "reply"),
    [
        (get_pod, TARGETS["W4"], BODY),  # W4
        (lambda p: lines(p, tail=10), TARGETS["W5"], b""),  # W5
        (get_pods, TARGETS["W6"], b"[]"),  # W6
        (lambda p: p.capacity(), "/capacity", b"{}"),
        (
            lambda p: p.get_pod("d e", "a b&c/ü"),
            TARGETS["W7"],
            BODY.replace(b'"web","namespace":"default"', '"a b&c/ü","namespace":"d e"'.encode()),
        ),  # W7
    ],
)
def test_a_question_has_the_target_of_the_go_client(call: Call, target: str, reply: bytes) -> None:
    head, body = request_of(call, answer("200 OK", reply))
    assert head.startswith(f"GET {target} HTTP/1.1\r\n")
    assert "Content-Type: application/json\r\n" in head
    assert "Accept-Encoding: gzip\r\n" in head
    assert body == b""


def test_user_and_password_of_the_url_are_shown() -> None:  # W8
    config = read_config({}, {"WEB_ENDPOINT_URL": "http://u:p@127.0.0.1:3000"}, "env")
    head, _ = request_of(get_pods, answer("200 OK", b"[]"), config.user)
    assert f"{BASIC}\r\n" in head


MEANINGS: list[tuple[str, Call, bytes, Any]] = [
    ("W9: a 404 is absent", get_pod, answer("404 Not Found"), None),
    ("W10: another reason phrase", get_pod, answer("404 NOT FOUND"), None),  # an error, and an empty pod
    ("W10: no reason phrase", get_pod, answer("404 "), None),
    ("W12: null is absent", get_pod, answer("200 OK", b"null"), None),  # an empty pod
    ("W14: 204 to a write", lambda p: p.create_pod(POD), answer("204 No Content"), None),
    ("W18: a bare number", lambda p: p.capacity(), answer("200 OK", b'{"cpu":20}'), {"cpu": "20"}),
    ("W20: quoted lines stay quoted", lines, answer("200 OK", b'"a\\nb"', "text/plain"), b'"a\\nb"'),
    ("W26: 204 to logs", lines, answer("204 No Content"), b""),
]


@pytest.mark.parametrize(
    ("call", "reply", "expected"), [one[1:] for one in MEANINGS], ids=[one[0] for one in MEANINGS]
)
def test_what_an_answer_means(call: Call, reply: bytes, expected: Any) -> None:
    assert outcome(call, reply) == (expected, 1, [])


def test_json_is_read_under_any_content_type() -> None:  # W25
    result, _, _ = outcome(get_pod, answer("200 OK", BODY, "text/plain; charset=utf-8"))
    assert result["metadata"]["name"] == "web"


ERRORS: list[tuple[str, Call, bytes, str]] = [
    ("W12: empty is an error", get_pod, answer("200 OK"), "expected JSON, got an empty body"),
    ("W13: null is no list", get_pods, answer("200 OK", b"null"), "expected an array of Pod objects, got null"),
    ("strings are no pods", get_pods, answer("200 OK", b'["a"]'), 'expected a Pod object, got "a"'),
    ("W16: 503", get_pods, answer("503 Busy", b"later", "text/plain"), "GET /getPods: 503 Busy: later"),
    ("W16: a long body is cut", get_pods, answer("503 Busy", b"x" * 9999), "GET /getPods: 503 Busy: xxx"),
    ("W26: 204 to a list", get_pods, answer("204 No Content"), "expected an array of Pod objects, got 204"),
    ("W27: 200 and nothing", get_pods, answer("200 OK"), "expected JSON, got an empty body"),
    ("another pod than asked for", lambda p: p.get_pod("x", "web"), answer("200 OK", BODY), "got default/web"),
    ("no name", get_pod, answer("200 OK", b'{"metadata":{}}'), "expected a Pod with metadata.name"),
    ("not JSON", get_pods, answer("200 OK", b"<html>"), "expected JSON, got <html>"),
    ("400 is final", get_pods, answer("400 Bad Request", b"no"), "400 Bad Request: no"),
]


@pytest.mark.parametrize(("call", "reply", "text"), [one[1:] for one in ERRORS], ids=[one[0] for one in ERRORS])
def test_an_answer_that_means_nothing_is_an_error(call: Call, reply: bytes, text: str) -> None:
    result, requests, pauses = outcome(call, reply)
    assert isinstance(result, ProviderError) and text in str(result)
    assert len(str(result)) < 1200
    assert (requests, pauses) == (1, [])


def test_a_pod_that_is_gone_already_is_told_from_an_error() -> None:  # W11
    result, _, _ = outcome(lambda p: p.delete_pod(POD), answer("404 Not Found"))
    assert isinstance(result, NotFoundError)
    assert isinstance(outcome(lambda p: p.update_pod(POD), answer("404 Not Found"))[0], ProviderError)


def test_a_redirect_is_an_error() -> None:  # W15: followed as a GET
    moved = b"HTTP/1.1 301 Moved Permanently\r\nLocation: http://elsewhere/\r\nContent-Length: 0\r\n\r\n"
    result, requests, _ = outcome(lambda p: p.create_pod(POD), moved)
    assert isinstance(result, ProviderError) and "http://elsewhere/" in str(result)
    assert requests == 1


def test_the_last_capacity_counts_while_the_provider_fails() -> None:  # W17: panics
    async def test() -> None:
        good, bad = answer("200 OK", b'{"cpu":"4"}'), answer("200 OK", b'{"cpu":"x"}')
        async with asked(good, answer("500 Oops"), bad, answer("500 Oops")) as (provider, _, _):
            assert [await provider.capacity() for _ in range(3)] == [{"cpu": "4"}] * 3
            [ready] = await provider.node_conditions()
            assert (ready["type"], ready["status"], ready["reason"]) == ("Ready", "False", "ProviderUnreachable")
            with pytest.raises(ProviderError, match="500 Oops"):
                await provider.ping()

    asyncio.run(test())


def test_an_answer_has_a_limit() -> None:  # W19: cut at 10⁶ bytes
    long = {**POD, "metadata": {**POD["metadata"], "note": "x" * 1_411_800}}
    result, _, _ = outcome(get_pods, answer("200 OK", json.dumps([long]).encode()))
    assert len(result) == 1
    result, _, _ = outcome(get_pods, answer("200 OK", b"[" + b" " * (16 << 20) + b"]"))
    assert isinstance(result, ProviderError) and "at most" in str(result)


def test_a_write_whose_connection_is_closed_is_sent_again_with_its_body() -> None:  # W21: hangs
    async def test() -> None:
        async with asked(CUT, CUT, answer("200 OK")) as (provider, raw, pauses):
            await provider.create_pod(POD)
            assert [body for _, body in raw.seen] == [BODY] * 3
            assert len(pauses) == 2

    asyncio.run(test())


def test_the_third_failure_is_the_last() -> None:
    result, requests, pauses = outcome(lambda p: p.create_pod(POD), CUT)
    assert isinstance(result, ProviderError) and requests == 3 and len(pauses) == 2


def test_a_refused_connection_is_tried_again() -> None:  # W22
    async def test() -> None:
        pauses: list[float] = []

        async def pause(seconds: float) -> None:
            pauses.append(seconds)

        async with asked(answer("200 OK", b"[]")) as (_, raw, _):
            port = raw.port
        away = WebProvider(read_config({"url": f"http://127.0.0.1:{port}"}, {}, "file"), pause)
        with pytest.raises(ProviderError):
            await away.get_pods()
        await away.close()
        assert len(pauses) == 2

    asyncio.run(test())


@pytest.mark.parametrize(
    ("given", "environ", "text"),
    [
        ({"url": "http://h/base"}, {}, "expected no path"),  # W23: the path is dropped
        ({"url": "http://u:p@h/base"}, {}, "http://h/base"),
        ({}, {}, "WEB_ENDPOINT_URL"),
        ({"url": "ftp://h"}, {}, "expected http:// or https://"),
        ({"url": "http://h", "certFile": "/nowhere"}, {}, "certFile and keyFile go together"),
        ({"url": "http://h", "caFile": "/nowhere"}, {}, "/nowhere: there is no such file"),
        ({"url": "http://h", "token": "s"}, {}, "token: unknown"),
        ({"url": 3}, {"WEB_ENDPOINT_URL": "http://h"}, "expected text, got 3"),
    ],
)
def test_a_configuration_that_cant_work_is_refused(given: Any, environ: dict[str, str], text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_config(given, environ, "provider.yaml")
    assert text in str(caught.value) and "u:p" not in str(caught.value)


def test_times_and_unknown_fields_are_kept_and_nulls_are_absent() -> None:  # W24, W26
    status = {"startTime": "2018-05-01T10:00:00.1234567+02:00", "reason": None, "hostIP": "1.2.3.4", "new": {"x": 1}}
    result, _, _ = outcome(get_pod, answer("200 OK", json.dumps({**POD, "status": status}).encode()))
    assert result["status"] == {"startTime": status["startTime"], "hostIP": "1.2.3.4", "new": {"x": 1}}


def test_changes_are_polled_where_the_provider_doesnt_tell() -> None:
    async def test() -> None:
        async with asked(answer("404 Not Found")) as (provider, raw, pauses):
            changes = provider.changes()
            assert [await anext(changes), await anext(changes)] == [None, None]
            assert len(raw.seen) == 1 and pauses == [5.0, 5.0]

    asyncio.run(test())


def test_changes_come_by_long_polls() -> None:
    async def test() -> None:
        first = answer("200 OK", json.dumps({"next": 4, "pods": [POD]}).encode())
        second = answer("200 OK", b'{"next":9,"pods":[]}')
        async with asked(first, second, answer("500 Oops")) as (provider, raw, pauses):
            changes = provider.changes()
            pod = await anext(changes)
            assert pod is not None and pod["metadata"]["name"] == "web"
            assert await anext(changes) is None and pauses == []  # look at all of them
            assert await anext(changes) is None and pauses == [5.0]  # it can't be asked
            assert [head.split(" ")[1] for head, _ in raw.seen] == [f"/podEvents?after={n}" for n in (0, 4, 9)]

    asyncio.run(test())
