"""The manifests of an addon channel, from directories and from the web, and what is refused of them."""

from __future__ import annotations

import hashlib
import math
from functools import partial
from http.client import HTTPMessage, HTTPResponse
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, cast
from urllib.request import Request

import pytest

from protokube.config.addons import read_addons
from protokube.core.located import Section, parse
from protokube.core.model import Fault
from protokube.core.objects.channels import hash_of
from protokube.core.objects.model import ChannelSource, key_of
from protokube.errors import ProviderError
from protokube.kubeapi import sources
from protokube.kubeapi.sources import read_manifests

if TYPE_CHECKING:
    from socket import socket

ONE = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: one}\ndata: {when: 2026-11-28}\n"
TWO = "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Namespace, metadata: {name: x}}\n---\n" + ONE


def names(folder: Path) -> list[str]:
    return [key_of(one).name for one in read_manifests(ChannelSource("c", str(folder)))]


def test_every_manifest_of_a_directory_counts(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(TWO)
    (tmp_path / "b.txt").write_text("no manifest")
    assert names(tmp_path) == ["x", "one"]
    (found,) = [one for one in read_manifests(ChannelSource("c", str(tmp_path))) if one["kind"] == "ConfigMap"]
    assert found["data"] == {"when": "2026-11-28"}, "a date is text to Kubernetes"


def test_a_channel_file_names_manifests_and_their_hashes(tmp_path: Path) -> None:
    (tmp_path / "v1").mkdir()
    (tmp_path / "v1/one.yaml").write_text(ONE)
    (tmp_path / "other.yaml").write_text("not read")
    right = hashlib.sha256(ONE.encode()).hexdigest()
    channel = tmp_path / "channel.yaml"
    channel.write_text(f"addons:\n- {{name: one, version: 1.0.0, manifest: v1/one.yaml, sha256: {right}}}\n")
    assert names(tmp_path) == ["one"]
    channel.write_text(f"addons:\n- {{name: one, manifest: v1/one.yaml, sha256: {'ab' * 32}}}\n")
    with pytest.raises(ProviderError, match="its sha256 isn't abab"):
        names(tmp_path)


@pytest.mark.parametrize(
    ("channel", "reason"),
    [
        ("addons: {}", "no list"),
        ("- a", "no list"),
        ("addons: [{name: a}]", "no manifest"),
        ("addons: [{name: a, manifest: ../b.yaml}]", "isn't below the channel"),
        ("addons: [{name: a, manifest: /b.yaml}]", "isn't below the channel"),
        ("addons: [{name: a, manifest: gone.yaml}]", "gone.yaml"),
        ("addons: [", "no YAML"),
    ],
)
def test_a_wrong_channel_file_is_told(tmp_path: Path, channel: str, reason: str) -> None:
    (tmp_path / "channel.yaml").write_text(channel)
    with pytest.raises(ProviderError, match=reason):
        names(tmp_path)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: [", "no YAML"),
        ("kind: ConfigMap", "no object of the API"),
        ("text", "no object of the API"),
        ("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: 7}", "no object of the API"),
        (ONE + "---\n" + ONE, "twice"),
        ("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: 2024}", "no object of the API"),
        ("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: [a]}", "no object of the API"),
        ("kind: List\nitems: 5", "a List's items are int"),
        (ONE + "more: &a [*a]", "can't be written as JSON"),
        (ONE + "more: {? [a] : b}", "no YAML|as JSON"),
        (ONE + "more: {true: b}", "as JSON"),
        (ONE + "more: !!bool maybe", "no YAML"),
    ],
)
def test_a_wrong_manifest_is_told(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(ProviderError, match=reason):
        names(tmp_path)


def test_a_key_that_is_a_number_is_text_as_in_kubernetes(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {9000: default/x}\n"
    )
    (found,) = read_manifests(ChannelSource("c", str(tmp_path)))
    assert found["data"] == {"9000": "default/x"} and hash_of(found)


class Answer:
    """A connection over which one answer comes."""

    def __init__(self, text: bytes) -> None:
        self._text = text

    def makefile(self, _mode: str) -> BytesIO:
        return BytesIO(self._text)


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        ("Content-Length: 5", ""),
        ("Content-Length: 9", "ends after 5 bytes, 4 are missing"),
        ("A: b", "tell its length"),
    ],
)
def test_an_answer_that_ends_early_is_no_shorter_channel(head: str, reason: str) -> None:
    response = HTTPResponse(cast("socket", Answer(f"HTTP/1.1 200 OK\r\n{head}\r\n\r\n12345".encode())))
    response.begin()
    if not reason:
        assert sources._body("x", response, math.inf) == b"12345"
        return
    with pytest.raises(ProviderError, match=reason):
        sources._body("x", response, math.inf)


def test_no_redirect_leads_away_from_https() -> None:
    follow = partial(
        sources._SameScheme().redirect_request, Request("https://a/x"), BytesIO(), 302, "", HTTPMessage()
    )
    assert follow("https://b/y")
    with pytest.raises(ProviderError, match="no https URL"):
        follow("http://b/y")


def test_a_directory_that_is_missing_is_no_empty_channel(tmp_path: Path) -> None:
    with pytest.raises(ProviderError, match="gone"):
        names(tmp_path / "gone")


def test_from_the_web_every_manifest_needs_its_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    pages = {"channel.yaml": b"addons: [{name: one, manifest: one.yaml}]", "one.yaml": ONE.encode()}
    monkeypatch.setattr(sources, "_web", lambda _url: pages.__getitem__)
    remote = ChannelSource("c", "https://example.com/addons/")
    with pytest.raises(ProviderError, match="sha256"):
        read_manifests(remote)
    right = hashlib.sha256(ONE.encode()).hexdigest()
    pages["channel.yaml"] = f"addons: [{{name: one, manifest: one.yaml, sha256: {right}}}]".encode()
    assert [key_of(one).name for one in read_manifests(remote)] == ["one"]


def test_the_web_is_asked_by_https_alone() -> None:
    with pytest.raises(ProviderError, match="no https URL"):
        read_manifests(ChannelSource("c", "http://example.com/addons/"))


def read(text: str) -> tuple[tuple[ChannelSource, ...], list[Fault]]:
    document, faults = parse(text, "config.yaml")
    assert document is not None
    return read_addons(Section.of(document, ("addons",), faults), faults), faults


def test_channels_of_the_configuration() -> None:
    found, faults = read("addons: [{name: core, source: /etc/a, prune: false}, {name: b, source: 'https://x/y'}]")
    assert found == (ChannelSource("core", "/etc/a", False), ChannelSource("b", "https://x/y")) and not faults


@pytest.mark.parametrize(
    "one",
    [
        "{name: Core, source: /a}",
        "{name: core}",
        "{source: /a}",
        "{name: core, source: a}",
        "{name: core, source: 'http://x/y'}",
        "{name: core, source: /a/../b}",
        "{name: core, source: /a, prune: 1}",
        "{name: core, source: /a, more: 1}",
        "{name: core, source: /a}, {name: core, source: /b}",
    ],
)
def test_a_wrong_channel_of_the_configuration_is_refused(one: str) -> None:
    assert read(f"addons: [{one}]")[1]
