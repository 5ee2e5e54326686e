"""nodeup's configuration from a URL: every lie of a server ends in a clear error, and no signature is shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from nodeup.cli import main
from nodeup.sources import load
from protokube.errors import ConfigError, ProviderError
from tests.lab.asset_files import SHORT
from tests.lab.lying_server import LyingServer

CONFIG = b"cluster: dev.example.com\n" + b"# a comment\n" * 2000


@pytest.mark.parametrize("way", ["right", "chunked", "redirect"])
def test_a_configuration_is_had(way: str) -> None:
    with LyingServer(CONFIG) as server:
        assert load(server.url(way, "node.yaml"), SHORT).settings.cluster == "dev.example.com"


@pytest.mark.parametrize(
    ("lie", "reason"),
    [
        ("404", "it answers 404 Not Found"),
        ("500", "it answers 500"),
        ("truncated", "the connection ended after"),
        ("silent", "does not answer, or stopped answering"),
        ("hang", "does not answer, or stopped answering"),
        ("trickle", "bytes in 0 s (expected"),
        ("trickled-headers", "bytes in 0 s (expected"),
        ("circle", "redirected in a circle"),
        ("to-file", "no URL of a file on the web"),
        ("garbage", "what it answers is not HTTP"),
    ],
)
def test_a_lie_is_told_and_a_later_run_may_have_more_luck(lie: str, reason: str) -> None:
    with LyingServer(CONFIG) as server, pytest.raises(ProviderError) as caught:
        load(server.url(lie) + "?signature=secret", SHORT)
    assert f"{server.url(lie)}: the configuration can't be had now: " in str(caught.value)
    assert reason in str(caught.value) and "secret" not in str(caught.value)


@pytest.mark.parametrize("way", ["endless", "page"])
def test_what_is_no_configuration_is_a_fault(way: str) -> None:
    with LyingServer(CONFIG) as server, pytest.raises(ConfigError) as caught:
        load(server.url(way) + "?signature=secret", SHORT)
    assert server.url(way) in str(caught.value) and "secret" not in str(caught.value)


def test_a_file_s_url_and_a_wrong_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "node a.yaml").write_bytes(CONFIG)
    assert load(f"file://{tmp_path}/node%20a.yaml").settings.cluster == "dev.example.com"
    assert main(["--config", "http://user:hunter2@a.example/x"]) == 78
    told = capsys.readouterr().err
    assert "holds a user or password" in told and "hunter2" not in told
    assert main(["--config", f"file://{tmp_path}/absent"]) == 78
    assert main(["--config", f"file://{tmp_path}/a%00b"]) == 78
    assert main(["--config", "http://a..b/x"]) == 78
    with LyingServer(CONFIG) as server:
        assert main(["--config", server.url("404")]) == 75


def test_a_file_that_never_ends_is_a_fault() -> None:
    for place in ("/dev/zero", "file:///dev/zero"):
        with pytest.raises(ConfigError) as caught:
            load(place)
        assert f"{place}: more than 1 MiB where a configuration was expected" in str(caught.value)
