"""A channel from the web whose server is slow delays nobody."""

from __future__ import annotations

from threading import Event

import pytest

from protokube.core.model import Unknown
from protokube.core.objects.model import ChannelSource, Manifest
from protokube.errors import ProviderError
from protokube.kubeapi import web
from protokube.kubeapi.web import READ_AGAIN, WebChannel

SOURCE = ChannelSource("edge", "https://example.com/addons/")
LIMIT = 120.0


class Server:
    """Answers when it is let go: with objects, or with an error."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked, self.told, self.free = 0, Event(), Event()
        self.answer: tuple[Manifest, ...] | str = ({"kind": "One"},)
        self.now = 0.0
        monkeypatch.setattr(web, "read_manifests", self._read)
        monkeypatch.setattr(web, "PATIENCE", 0.01)
        self.channel = WebChannel(SOURCE, self.told.set, lambda: self.now)

    def _read(self, source: ChannelSource) -> tuple[Manifest, ...]:
        self.asked += 1
        assert source == SOURCE and self.free.wait(LIMIT)
        if isinstance(self.answer, str):
            raise ProviderError(self.answer)
        return self.answer

    def changes(self) -> None:
        """It answers, and the news come."""
        self.told.clear()
        self.free.set()
        assert self.told.wait(LIMIT)


def test_a_look_waits_for_no_slow_server_and_the_next_has_its_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(monkeypatch)
    for _ in range(3):
        told = server.channel.last()
        assert isinstance(told, Unknown) and told.reason == "https://example.com/addons/ is being read"
    assert server.asked <= 1, "one reading at a time"
    server.changes()
    assert server.channel.last() == ({"kind": "One"},) and server.asked == 1


def test_while_a_later_reading_is_under_way_the_last_answer_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(monkeypatch)
    server.channel.last()
    server.changes()
    server.free.clear()
    server.answer, server.now = "GET …: timed out", READ_AGAIN
    assert server.channel.last() == server.channel.last() == ({"kind": "One"},)
    server.changes()
    assert server.channel.last() == Unknown("GET …: timed out")
    server.answer, server.now = (), 2 * READ_AGAIN
    server.told.clear()
    server.channel.last()
    assert server.told.wait(LIMIT)
    assert server.channel.last() == () and server.asked == 3


def test_a_channel_that_is_the_same_wakes_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(monkeypatch)
    server.channel.last()
    server.changes()
    server.told.clear()
    server.now = READ_AGAIN
    reading = server.channel.begin()
    assert reading is not None
    reading.result(LIMIT)
    assert server.asked == 2 and not server.told.is_set()
