"""nodeup's command line: exit codes, where a configuration comes from, and what a person reads."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from nodeup.cli import main
from tests.lab.nodeup_tree import debian, picture, put

pytestmark = pytest.mark.root

CONFIG = "cluster: dev.example.com\nrole: control-plane\n"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "node.yaml").write_text(CONFIG)
    return debian(tmp_path / "root")


def image(tree: Path, *more: str, config: str | None = None) -> int:
    given = config or str(tree.parent / "node.yaml")
    return main(["--config", given, "--target", "image", "--root", str(tree), *more])


@pytest.fixture
def server() -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = self.path.startswith("/node.yaml")
            self.send_response(200 if found else 404)
            self.end_headers()
            self.wfile.write(CONFIG.encode() if found else b"")

        def log_message(self, *args: object) -> None:
            """Quiet."""

    with HTTPServer(("127.0.0.1", 0), Handler) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "--config is missing"),
        (["--config", "x", "--target", "moon"], "invalid choice"),
        (["--config", "x", "--target", "image"], "--root is missing"),
        (["image-check"], "--root is missing"),
        (["image-check", "--root", ""], "--root is empty"),
        (["--config", "/nowhere/node.yaml", "--root", ""], "--root is empty"),
        (["image-check", "--root", "/nowhere/at/all"], "/nowhere/at/all: not a directory"),
        (["--config", "x", "--target", "cloudinit", "--root", "/tree", "--dry-run"], "leave --root, --dry-run out"),
        (["--config", "x", "--target", "cloudinit", "-o", "json"], "leave --output out"),
        (["--config", "x", "--target", "image", "--root", "/tree", "--detailed-exitcode"], "is about --dry-run"),
        (["--config", "x", "--detailed-exitcode"], "is about --dry-run"),
        (["assets", "--config", "x", "--root", "/tree", "--cache", "/c"], "leave --root, --cache out"),
        (["assets", "--config", "x", "--target", "image", "--dry-run"], "leave --target, --dry-run out"),
        (["image-check", "--root", "/tree", "--config", "x"], "leave --config out"),
        (["--confg=x"], "unrecognized arguments"),
    ],
)
def test_wrong_usage(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 64
    assert said in capsys.readouterr().err


def test_every_fault_of_a_configuration_is_told_before_any_effect(
    tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "role: master\nprotokube: {intervall: 3, master: true, kubelet: {maxPod: 3}}\nhostnam: x\n"
    (tree.parent / "node.yaml").write_text(text)
    before = picture(tree)
    assert image(tree) == 78
    said = capsys.readouterr().err
    for expected in (
        "node.yaml:1 cluster: is required",
        "node.yaml:1 role: 'master' where control-plane or worker",
        "node.yaml:2 protokube.intervall: unknown key 'intervall': did you mean 'interval'?",
        "protokube.kubelet.maxPod: kubelet has no such field or flag",
        "node.yaml:2 protokube.master: True contradicts this file, which says False",
        "node.yaml:3 hostnam: unknown key 'hostnam': did you mean 'hostname'?",
    ):
        assert expected in said
    assert picture(tree) == before


def test_a_file_that_isn_t_there_is_a_fault(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert image(tree, config="/nowhere.yaml") == 78
    assert "/nowhere.yaml: can't be read: No such file or directory" in capsys.readouterr().err


def test_the_configuration_may_come_from_a_url(tree: Path, server: str) -> None:
    assert image(tree, config=f"{server}/node.yaml?token=secret") == 0
    assert (tree / "etc/protokube/nodeup.yaml").read_text() == CONFIG


@pytest.mark.parametrize("url", ["SERVER/other.yaml?token=secret", "http://127.0.0.1:1/node.yaml?token=secret"])
def test_a_url_that_can_t_be_had_now_may_be_had_later(
    tree: Path, server: str, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert image(tree, config=url.replace("SERVER", server)) == 75
    said = capsys.readouterr().err
    assert "can't be had now" in said and "secret" not in said


def test_a_dry_run_says_by_its_exit_code_whether_there_is_work(tree: Path) -> None:
    assert image(tree, "--dry-run") == 0
    assert image(tree, "--dry-run", "--detailed-exitcode") == 2
    assert image(tree) == 0
    assert image(tree, "--dry-run", "--detailed-exitcode") == 0


def test_a_dry_run_fits_on_a_page_and_shows_what_changes(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(tree, "etc/sysctl.d/90-protokube.conf", "kernel.panic = 0\n")
    put(tree, "etc/protokube/nodeup.yaml", "cluster: a-secret\n")
    assert image(tree, "--dry-run") == 0
    page = capsys.readouterr().out
    assert len(page.splitlines()) < 100
    debian_12 = f"The tree in {tree} (Debian GNU/Linux 12 (bookworm), arm64)"
    assert page.startswith(f"{debian_12} would become an image of a control-plane node of dev.example.com. It takes ")
    assert "-kernel.panic = 0" in page and "+kernel.panic = 10" in page
    assert "a-secret" not in page and "cluster: dev.example.com" not in page
    sections = [line for line in page.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert sections == ["Files:", "Units that each boot starts:"]
    assert image(tree, "--dry-run", "--verbose") == 0
    assert "+[Unit]" in capsys.readouterr().out


def test_json_is_protokube_s_report(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert image(tree, "-o", "json") == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["version"], report["settled"]) == (1, True)
    kinds = {step["action"] for step in report["steps"]}
    assert kinds == {"write-file", "link", "enable-unit", "disable-unit", "remove-file"}
    assert {step["status"] for step in report["steps"]} == {"done"}


def test_an_image_that_can_t_be_clean_isn_t_called_so(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(tree, "root/.ssh/authorized_keys", "ssh-ed25519 AAAA me\n")
    assert image(tree) == 1
    assert "/root/.ssh/authorized_keys: image/secret" in capsys.readouterr().out


def test_one_nodeup_per_root(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = os.open(tree, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    try:
        assert image(tree) == 1
        assert image(tree, "--dry-run") == 0
    finally:
        os.close(folder)
    assert "another nodeup is at work" in capsys.readouterr().err
    assert image(tree) == 0


def test_a_reader_that_has_enough_is_no_traceback(tree: Path) -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    command = [sys.executable, "-m", "nodeup", "image-check", "--root", str(tree)]
    done = subprocess.run(command, stdout=theirs, stderr=subprocess.PIPE, check=False)
    os.close(theirs)
    assert (done.returncode, done.stderr) == (1, b"")
