"""containerd's own word on the files that are written for it, from three releases of it."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from protokube.core.node.containerd import MIRRORS, ContainerdSettings, config_toml, containerd_files
from tests.lab.containerds import RELEASES, ctr, dump, ignored, running, version


def config(release: str) -> str:
    text = config_toml("registry.example/pause:9", version(release))
    assert isinstance(text, str), text
    return text


@pytest.mark.parametrize("release", RELEASES)
def test_every_key_is_in_effect(release: str, tmp_path: Path) -> None:
    written = config(release)
    in_effect = dump(release, written, tmp_path)
    assert ignored(tomllib.loads(written), in_effect) == []
    assert in_effect["disabled_plugins"] == []


def test_a_file_for_another_release_is_ignored_without_a_word(tmp_path: Path) -> None:
    """This is why the version matters, and it shows that the check above can fail."""
    new = config("2.1")
    lost = ignored(tomllib.loads(new), dump("1.6", new, tmp_path))
    assert any("SystemdCgroup: True is written, None is in effect" in one for one in lost), lost
    assert any("pinned_images/sandbox" in one for one in lost), lost
    old = config("1.6").replace("version = 2\n", "")
    assert any("sandbox_image" in one for one in ignored(tomllib.loads(old), dump("1.6", old, tmp_path)))


def test_bin_dir_and_bin_dirs_never_stand_side_by_side(tmp_path: Path) -> None:
    """2.1's CRI plugin refuses both."""
    in_effect = dump("2.1", config("2.1"), tmp_path)
    assert in_effect["plugins"]["io.containerd.cri.v1.runtime"]["cni"]["bin_dir"] == ""


@pytest.mark.root
@pytest.mark.parametrize("release", RELEASES)
def test_its_plugins_for_kubelet_start(release: str, tmp_path: Path) -> None:
    with running(release, config(release), tmp_path) as address:
        said = ctr(release, address, "plugins", "ls").stdout
    kubelets = [line.split() for line in said.splitlines() if ".cri.v1" in line or " cri " in line]
    assert kubelets and all(line[-1] == "ok" for line in kubelets), said


@contextmanager
def registry() -> Iterator[tuple[str, list[str]]]:
    """A registry that has no image: its host, and the paths that it was asked for."""
    asked: list[str] = []

    class Registry(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *arguments: object) -> None:
            """Nobody reads it."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Registry) as server:
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield f"127.0.0.1:{server.server_address[1]}", asked
        server.shutdown()


def pull(release: str, folder: Path, settings: ContainerdSettings, former: Sequence[str], *images: str) -> str:
    """Pull as kubelet does, by the hosts.toml below the directory of `config_path`; what was said about failures."""
    files = containerd_files(settings, version(release), former)
    assert isinstance(files, tuple)
    for file in files:
        if file.path.startswith(MIRRORS):
            place = folder / file.path.removeprefix("/")
            place.parent.mkdir(parents=True)
            place.write_text(file.content)
    with running(release, config(release), folder) as address:
        pulls = [ctr(release, address, "images", "pull", "--hosts-dir", f"{folder}{MIRRORS}", one) for one in images]
    return "".join(done.stderr for done in pulls)


@pytest.mark.root
@pytest.mark.parametrize("release", RELEASES)
def test_a_mirror_is_asked_and_at_the_right_path(release: str, tmp_path: Path) -> None:
    with registry() as (host, asked):
        mirrors = {
            "docker.io": (f"http://{host}",),
            "registry.example:5000": (f"http://{host}/v2/proxy",),
            "*": (f"http://{host}/all",),
        }
        images = ("docker.io/library/a:1", "registry.example:5000/b:1", "other.example/c:1", "former.example/d:1")
        pull(release, tmp_path, ContainerdSettings(mirrors=mirrors), ["docker.io", "former.example"], *images)
    assert asked == [
        "/v2/library/a/manifests/1?ns=docker.io",
        "/v2/proxy/b/manifests/1?ns=registry.example%3A5000",
        "/all/v2/c/manifests/1?ns=other.example",
        "/all/v2/d/manifests/1?ns=former.example",
    ]


@pytest.mark.root
@pytest.mark.parametrize("release", RELEASES)
def test_without_mirrors_that_there_once_were_a_registry_is_asked_itself(release: str, tmp_path: Path) -> None:
    with registry() as (host, asked):
        said = pull(release, tmp_path, ContainerdSettings(), ["_default"], f"{host}/a:1")
    # 1.6 falls back to HTTP on loopback; the others insist on HTTPS, which is not spoken here.
    assert asked == ["/v2/a/manifests/1"] or f'Head "https://{host}/v2/a/manifests/1"' in said
