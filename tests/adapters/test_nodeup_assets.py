"""nodeup's command line with assets, on the tree of a Debian."""

from __future__ import annotations

import hashlib
import json
import os
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nodeup.cli import main
from nodeup.sources import load
from tests.lab.asset_files import tar
from tests.lab.lying_server import LyingServer
from tests.lab.nodeup_tree import Killed, Kills, debian, image_run, picture

KUBELET = os.urandom(200_000)
CNI = tar(("./bridge", b"bridge"), ("./loopback", b"loopback"))
FETCHED = ["fetch-asset", "fetch-asset", "install-asset", "install-asset"]


@pytest.fixture
def servers() -> Iterator[tuple[LyingServer, LyingServer]]:
    with LyingServer(KUBELET) as kubelet, LyingServer(CNI) as cni:
        yield kubelet, cni


def configuration(folder: Path, kubelet: str, cni: str) -> Path:
    """A configuration with kubelet and CNI's plugins, and one for another architecture."""
    sha256 = hashlib.sha256(KUBELET).hexdigest()
    file = folder / "node.yaml"
    file.write_text(
        f"""
cluster: dev.example.com
assets:
  - {{path: /usr/local/bin/kubelet, sha256: {sha256}, urls: ["{kubelet}"], arch: arm64}}
  - {{path: /usr/local/bin/kubelet, sha256: {"f" * 64}, urls: ["{kubelet}"], arch: amd64}}
  - archive: {cni}
    sha256: {hashlib.sha256(CNI).hexdigest()}
    extract: {{"*": /opt/cni/bin/}}
"""
    )
    return file


def nodeup(capsys: pytest.CaptureFixture[str], folder: Path, config: Path, *more: str) -> tuple[int, dict[str, Any]]:
    """A run of `--target image`: its exit code and report."""
    arguments = ["--config", str(config), "--target", "image", "--root", str(folder / "root")]
    code = main([*arguments, "--cache", str(folder / "cache"), "-o", "json", *more])
    report: dict[str, Any] = json.loads(capsys.readouterr().out)
    return code, report


def assets_of(report: dict[str, Any], status: str) -> list[str]:
    kinds = [step["action"] for step in report["steps"] if step["status"] == status]
    return sorted(kind for kind in kinds if kind.endswith("-asset"))


def test_they_are_fetched_installed_and_then_left_alone(
    tmp_path: Path, servers: tuple[LyingServer, LyingServer], capsys: pytest.CaptureFixture[str]
) -> None:
    config = configuration(tmp_path, servers[0].url("right"), servers[1].url("right", "cni.tgz"))
    root = debian(tmp_path / "root")
    before = picture(root)
    code, report = nodeup(capsys, tmp_path, config, "--dry-run", "--detailed-exitcode")
    assert (code, assets_of(report, "planned"), picture(root)) == (2, FETCHED, before)
    code, report = nodeup(capsys, tmp_path, config)
    assert (code, assets_of(report, "done"), report["settled"]) == (0, FETCHED, True), report
    assert (root / "usr/local/bin/kubelet").read_bytes() == KUBELET
    assert (root / "opt/cni/bin/bridge").read_bytes() == b"bridge"
    written = tomllib.loads((root / "etc/containerd/config.toml").read_text())
    assert written["plugins"]["io.containerd.grpc.v1.cri"]["cni"]["bin_dir"] == "/opt/cni/bin"
    after, asked = picture(root), len(servers[0].requests) + len(servers[1].requests)
    assert nodeup(capsys, tmp_path, config)[1]["steps"] == []
    assert (picture(root), len(servers[0].requests) + len(servers[1].requests)) == (after, asked)


@pytest.mark.parametrize(
    ("lie", "rule"), [("500", "asset/unreachable"), ("wrong", "asset/hash"), ("huge", "asset/space")]
)
def test_without_a_mirror_it_ends_with_75_and_everything_else_is_done(
    tmp_path: Path,
    servers: tuple[LyingServer, LyingServer],
    capsys: pytest.CaptureFixture[str],
    lie: str,
    rule: str,
) -> None:
    root = debian(tmp_path / "root")
    config = configuration(tmp_path, servers[0].url(lie), servers[1].url("right", "cni.tgz"))
    code, report = nodeup(capsys, tmp_path, config)
    assert code == 75 and not report["settled"]
    (failed,) = (step for step in report["steps"] if step["status"] == "failed")
    assert failed["action"] == "fetch-asset" and failed["subject"] == "/usr/local/bin/kubelet"
    assert failed["error"].startswith(f"{rule}: /usr/local/bin/kubelet: {servers[0].url(lie)}: ")
    assert (root / "opt/cni/bin/bridge").exists() and (root / "etc/containerd/config.toml").exists()
    config = configuration(tmp_path, servers[0].url("right"), servers[1].url("right", "cni.tgz"))
    code, report = nodeup(capsys, tmp_path, config)
    assert (code, assets_of(report, "done")) == (0, ["fetch-asset", "install-asset"])


def test_the_list_shows_every_architecture_and_needs_no_tree(
    tmp_path: Path, servers: tuple[LyingServer, LyingServer], capsys: pytest.CaptureFixture[str]
) -> None:
    config = configuration(tmp_path, servers[0].url("right"), servers[1].url("right", "cni.tgz"))
    assert main(["assets", "--config", str(config), "-o", "json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [(one["name"], one["arch"], one["size"]) for one in listed["assets"]] == [
        ("kubelet", "arm64", 200_000),
        ("kubelet", "amd64", 200_000),
        ("cni.tgz", None, len(CNI)),
    ]
    assert main(["assets", "--config", str(config)]) == 0
    assert f"from {servers[0].url('right')}" in capsys.readouterr().out
    assert main(["assets"]) == 64


def test_a_fault_in_an_asset_stops_it_before_any_effect(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = debian(tmp_path / "root")
    config = tmp_path / "node.yaml"
    config.write_text("cluster: a.example\nassets: [{path: bin, sha256: x, urls: []}]\ncontainerd: {pauseImage: 3}\n")
    before = picture(root)
    assert main(["--config", str(config), "--target", "image", "--root", str(root)]) == 78
    told = capsys.readouterr().err
    assert all(
        key in told for key in ("assets[0].path", "assets[0].sha256", "assets[0].urls", "containerd.pauseImage")
    )
    assert picture(root) == before


def test_an_update_of_containerd_gets_a_file_that_it_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "node.yaml"
    config.write_text("cluster: a.example\n")
    file = tmp_path / "root/etc/containerd/config.toml"
    debian(tmp_path / "root")
    for version, written in (("1.6.20~ds1-1+deb12u3", 2), ("1.7.24~ds1-6", 2), ("2.1.9+ds1-5", 3)):
        update(tmp_path / "root", version)
        assert nodeup(capsys, tmp_path, config)[0] == 0
        assert tomllib.loads(file.read_text())["version"] == written
    before = file.read_text()
    update(tmp_path / "root", "3.0.0")
    code, report = nodeup(capsys, tmp_path, config)
    assert code == 1 and [one["rule"] for one in report["refusals"]] == ["containerd/version"]
    assert file.read_text() == before


def test_a_registry_that_loses_its_mirrors_is_asked_itself(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = debian(tmp_path / "root")
    theirs = root / "etc/containerd/certs.d/theirs.example/hosts.toml"
    theirs.parent.mkdir(parents=True)
    theirs.write_text('server = "https://theirs.example"\n')
    config = tmp_path / "node.yaml"
    config.write_text("cluster: a.example\ncontainerd: {registryMirrors: {docker.io: ['https://m.example']}}\n")
    file = root / "etc/containerd/certs.d/docker.io/hosts.toml"
    assert nodeup(capsys, tmp_path, config)[0] == 0
    assert tomllib.loads(file.read_text())["host"] == {"https://m.example": {"capabilities": ["pull", "resolve"]}}
    config.write_text("cluster: a.example\n")
    code, report = nodeup(capsys, tmp_path, config)
    assert code == 0 and "/etc/containerd/certs.d/docker.io/hosts.toml" in {one["subject"] for one in report["steps"]}
    assert tomllib.loads(file.read_text()) == {"server": "https://registry-1.docker.io"}
    assert nodeup(capsys, tmp_path, config)[1]["steps"] == []
    assert theirs.read_text() == 'server = "https://theirs.example"\n'


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_killed_at_every_effect_it_ends_in_the_same_place(tmp_path: Path, after: bool) -> None:
    (tmp_path / "kubelet").write_bytes(KUBELET)
    (tmp_path / "cni.tgz").write_bytes(CNI)
    given = load(str(configuration(tmp_path, f"file://{tmp_path}/kubelet", f"file://{tmp_path}/cni.tgz")))
    whole = debian(tmp_path / "w" / "root")
    count = len(image_run(given, whole).account.steps)
    for at in range(count):
        root = debian(tmp_path / str(at) / "root")
        with pytest.raises(Killed):
            image_run(given, root, Kills(at, after=after))
        assert image_run(given, root).account.converged
        assert unnoted(root) == unnoted(whole), at
        assert not image_run(given, root).account.steps


def unnoted(root: Path) -> dict[str, tuple[str, str]]:
    """A tree without nodeup's notes, which hold times and inodes."""
    return {path: state for path, state in picture(root).items() if not path.startswith("var/lib/nodeup/")}


def update(root: Path, version: str) -> None:
    """Another version of containerd is installed by apt."""
    status = root / "var/lib/dpkg/status"
    blocks = status.read_text().split("\n\n")
    changed = [
        "\n".join(f"Version: {version}" if line.startswith("Version:") else line for line in block.splitlines())
        if "Package: containerd\n" in block
        else block
        for block in blocks
    ]
    status.write_text("\n\n".join(changed) + "\n")
