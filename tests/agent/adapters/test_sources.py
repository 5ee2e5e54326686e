"""Directories and URLs, real ones: what they say, and when."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from protokube.agent.core.model import Pod
from protokube.agent.ports import Source
from protokube.agent.sources.files import FileSource
from protokube.agent.sources.url import UrlSource
from protokube.core.model import Fault, Unknown
from tests.agent.harness import until
from tests.agent.pods import manifest


class Ear:
    """Keeps what a source says."""

    def __init__(self) -> None:
        self.said: list[Mapping[str, Pod] | Unknown] = []
        self.held: Collection[str] = ()
        self.faults: Sequence[Fault] = ()

    def __call__(
        self, pods: Mapping[str, Pod] | Unknown, held: Collection[str] = (), faults: Sequence[Fault] = ()
    ) -> None:
        self.said.append(pods)
        self.held, self.faults = held, faults

    def names(self) -> list[str] | str:
        last = self.said[-1] if self.said else Unknown("nothing yet")
        if isinstance(last, Unknown):
            return last.reason
        return sorted(pod["metadata"]["name"] for pod in last.values())


@asynccontextmanager
async def heard(source: Source) -> Any:
    ear = Ear()
    task = asyncio.create_task(source.run(ear))
    try:
        yield ear
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def put(folder: Path, name: str, content: object) -> None:
    new = folder / f".{name}.new"
    new.write_text(content if isinstance(content, str) else json.dumps(content))
    new.rename(folder / name)


def test_files_are_seen_as_they_come_change_and_go(tmp_path: Path) -> None:
    async def test() -> None:
        folder = tmp_path / "manifests"
        async with heard(FileSource(folder, "n", every=3600)) as ear:
            await until("an absent directory holds none", lambda: ear.said == [{}])
            folder.mkdir()
            put(folder, "a.yaml", manifest("a"))
            await until("a came", lambda: ear.names() == ["a-n"])
            put(folder, "a.yaml", "a: [")
            await until("it is held", lambda: set(ear.held) == {"file:a.yaml"} and ear.faults)
            put(folder, "a.yaml", manifest("a2"))
            await until("it is back", lambda: ear.names() == ["a2-n"])
            (folder / "a.yaml").unlink()
            await until("it went", lambda: ear.names() == [] and not ear.held)

    asyncio.run(test())


def test_what_is_no_manifest_is_passed_over(tmp_path: Path) -> None:
    """Dot files, directories, pipes and dangling links; a link to a file is one."""

    async def test() -> None:
        folder, elsewhere = tmp_path / "m", tmp_path / "elsewhere"
        folder.mkdir()
        elsewhere.mkdir()
        put(elsewhere, "etcd.manifest", manifest("etcd"))
        put(folder, ".hidden", manifest("hidden"))
        (folder / "directory").mkdir()
        os.mkfifo(folder / "pipe")
        (folder / "dangling").symlink_to("nowhere")
        (folder / "etcd.manifest").symlink_to("../elsewhere/etcd.manifest")
        async with heard(FileSource(folder, "n", every=0.01)) as ear:
            await until("the linked one", lambda: ear.names() == ["etcd-n"])
            assert not ear.held and not ear.faults
            (elsewhere / "etcd.manifest").unlink()
            await until("a dangling link is an absent file", lambda: ear.names() == [])

    asyncio.run(test())


def test_a_directory_that_can_not_be_listed_is_unknown(tmp_path: Path) -> None:
    async def test() -> None:
        (tmp_path / "m").write_text("a file")
        async with heard(FileSource(tmp_path / "m", "n", every=0.01)) as ear:
            await until("it is unknown", lambda: "Not a directory" in ear.names())

    asyncio.run(test())


class Answering(BaseHTTPRequestHandler):
    """Answers with the server's next answer; the last one for ever."""

    def do_GET(self) -> None:
        server: Any = self.server
        status, body = server.answers.pop(0) if len(server.answers) > 1 else server.answers[0]
        server.seen.append(dict(self.headers))
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def server() -> Iterator[Any]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Answering) as server:
        server.seen = []  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_url_says_pods_and_everything_but_200_is_unknown(server: Any) -> None:
    one = json.dumps(manifest("a")).encode()
    empty = json.dumps({"kind": "PodList", "apiVersion": "v1", "items": []}).encode()
    server.answers = [(200, one), (200, one), (500, b"x"), (204, b""), (200, b""), (200, one), (200, empty)]
    url = f"http://127.0.0.1:{server.server_address[1]}/pods"

    async def test() -> None:
        async with heard(UrlSource(url, "n", {"X-Who": "me"}, every=0.01)) as ear:
            await until("it is cleared", lambda: ear.names() == [])
        kinds = [sorted(one) and "pods" if not isinstance(one, Unknown) else "unknown" for one in ear.said]
        assert kinds == ["pods", "unknown", "unknown", "unknown", "pods", []], "the same bytes are said once"
        assert server.seen[0]["X-Who"] == "me"

    asyncio.run(test())


def test_a_url_that_nobody_answers_is_unknown() -> None:
    async def test() -> None:
        async with heard(UrlSource("http://127.0.0.1:9/", "n", every=0.01)) as ear:
            await until("it is unknown", lambda: "refused" in ear.names())

    asyncio.run(test())
