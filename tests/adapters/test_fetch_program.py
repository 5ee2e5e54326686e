"""The first boot's download: the right file or none, from the first mirror that has it."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from nodeup.targets import fetch_program
from tests.lab.lying_server import LyingServer

CONTENT = b"#!/usr/bin/python3\n" + bytes(range(256)) * 800


def fetch(folder: Path, sha256: str, *urls: str) -> int:
    wanted = {"path": str(folder / "bin/protokube"), "link": str(folder / "bin/nodeup"), "sha256": sha256}
    (folder / "bin").mkdir(exist_ok=True)
    file = folder / "program.json"
    file.write_text(json.dumps({**wanted, "urls": urls}))
    return fetch_program.main(str(file))


def names(folder: Path) -> set[str]:
    return {path.name for path in (folder / "bin").iterdir()}


@pytest.mark.parametrize("way", ["right", "chunked"])
def test_it_is_put_in_its_place_with_its_other_name(way: str, tmp_path: Path) -> None:
    with LyingServer(CONTENT) as server:
        assert fetch(tmp_path, server.sha256, server.url(way)) == 0
    assert (tmp_path / "bin/protokube").read_bytes() == CONTENT
    assert os.access(tmp_path / "bin/protokube", os.X_OK)
    assert os.readlink(tmp_path / "bin/nodeup") == "protokube"
    assert names(tmp_path) == {"protokube", "nodeup"}


def test_a_file_url_needs_no_network(tmp_path: Path) -> None:
    (tmp_path / "media").write_bytes(CONTENT)
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    assert fetch(tmp_path, sha256, (tmp_path / "media").as_uri()) == 0
    assert (tmp_path / "bin/protokube").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("way", "said"),
    [
        ("wrong", "wrong content (expected sha256 "),
        ("page", "wrong content (expected sha256 "),
        ("truncated", f"got {len(CONTENT) // 2} bytes with sha256 "),
        ("cut-chunks", "IncompleteRead"),
        ("half-bracket", "Invalid IPv6 URL"),
        ("empty-label", "label empty or too long"),
    ],
)
def test_a_mirror_that_lies_is_named_and_the_next_one_asked(
    way: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with LyingServer(CONTENT) as server:
        assert fetch(tmp_path, server.sha256, server.url(way), server.url("right")) == 0
        assert (tmp_path / "bin/protokube").read_bytes() == CONTENT
        assert f"{server.url(way)}: " in (error := capsys.readouterr().err)
        assert said in error


def test_without_any_mirror_nothing_is_installed_and_systemd_tries_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with LyingServer(CONTENT) as server:
        gone = server.url("right", "x?sign=secret")
    assert fetch(tmp_path, server.sha256, gone) == 75
    assert names(tmp_path) == set()
    error = capsys.readouterr().err
    assert "Connection refused" in error and "trying again" in error
    assert "secret" not in error


def test_a_mirror_that_falls_silent_or_never_ends_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch_program, "SILENCE", 0.2)
    with LyingServer(CONTENT) as server:
        assert fetch(tmp_path, server.sha256, server.url("hang")) == 75
    monkeypatch.setattr(fetch_program, "MOST", 1000)
    with LyingServer(CONTENT) as server:
        assert fetch(tmp_path, server.sha256, server.url("right")) == 75


def test_a_program_that_is_there_stays(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/protokube").write_text("newer")
    assert fetch(tmp_path, "0" * 64, "http://127.0.0.1:1/x") == 0
    assert (tmp_path / "bin/protokube").read_text() == "newer"
    assert os.readlink(tmp_path / "bin/nodeup") == "protokube"
