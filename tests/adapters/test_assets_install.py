"""Assets in their places: whole or not at all, only where they belong, and never written twice."""

from __future__ import annotations

import gzip
import hashlib
import lzma
import os
import subprocess
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from nodeup.assets.errors import AssetError
from nodeup.assets.notes import PLACE
from protokube.core.node.assets import Asset, Extract
from tests.lab.asset_files import Machine, restarted, tar
from tests.lab.lying_server import LyingServer

CONTENT = os.urandom(300_000)
TARGET = "/usr/local/bin/kubelet"
CNI = {"bridge": os.urandom(5000), "loopback": os.urandom(7000), "README.md": b"read me"}
BIN = "/opt/cni/bin"


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def served(machine: Machine, name: str, content: bytes) -> tuple[tuple[str], str]:
    """A file on a medium: its URLs and hash."""
    medium = machine.root.parent / "media"
    medium.mkdir(exist_ok=True)
    (medium / name).write_bytes(content)
    return (f"file://{medium}/{name}",), hashlib.sha256(content).hexdigest()


def kubelet(machine: Machine, content: bytes = CONTENT) -> Asset:
    urls, sha256 = served(machine, "kubelet", content)
    return Asset(urls, sha256, path=TARGET)


def cni(machine: Machine, packed: bytes | None = None, extract: Mapping[str, str] | None = None) -> Asset:
    packed = packed if packed is not None else tar(*((f"./{name}", data) for name, data in CNI.items()))
    urls, sha256 = served(machine, "cni.tgz", packed)
    rules = tuple(Extract(pattern, target) for pattern, target in (extract or {"*": f"{BIN}/"}).items())
    return Asset(urls, sha256, extract=rules)


def refusal(machine: Machine, asset: Asset) -> AssetError:
    with pytest.raises(AssetError) as caught:
        machine.converge(asset)
    return caught.value


def written(machine: Machine) -> dict[str, tuple[int, int]]:
    """Every file below the root, with its inode and time of change."""
    return {
        path: (machine.path(path).stat().st_ino, machine.path(path).stat().st_ctime_ns) for path in machine.below()
    }


@pytest.mark.parametrize("make", [kubelet, cni], ids=["file", "archive"])
def test_a_second_run_does_nothing_and_reads_nothing(machine: Machine, make: Callable[[Machine], Asset]) -> None:
    asset = make(machine)
    assert machine.converge(asset) == ["fetch-asset", "install-asset"]
    before = written(machine)
    again = restarted(machine)
    bytes_read = _read_so_far()
    assert again.converge(asset) == []
    assert _read_so_far() - bytes_read < 20_000
    assert written(machine) == before


def _read_so_far() -> int:
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("rchar")).split()[1])


def test_one_that_stands_already_is_only_noted(machine: Machine) -> None:
    place = machine.path(TARGET)
    place.parent.mkdir(parents=True)
    place.write_bytes(CONTENT)
    place.chmod(0o700)
    inode = place.stat().st_ino
    asset = kubelet(machine)
    assert machine.converge(asset) == ["install-asset"]
    assert (place.stat().st_ino, place.stat().st_mode & 0o7777) == (inode, 0o755)
    assert not machine.cache.exists()
    assert restarted(machine).converge(asset) == []


@pytest.mark.parametrize("make", [kubelet, cni], ids=["file", "archive"])
def test_without_its_notes_nothing_is_written_that_is_right(
    machine: Machine, make: Callable[[Machine], Asset]
) -> None:
    asset = make(machine)
    machine.converge(asset)
    before = written(machine)
    (machine.root / PLACE).unlink()
    again = restarted(machine)
    assert again.converge(asset) == ["install-asset"]
    assert written(machine) == before
    assert again.converge(asset) == []


def test_two_archives_with_another_file_for_one_path_are_refused(machine: Machine) -> None:
    packed = tar(("tool", b"x"), ("README.md", b"another"))
    urls, sha256 = served(machine, "tool.tgz", packed)
    tool, plugins = Asset(urls, sha256, extract=(Extract("*", f"{BIN}/"),)), cni(machine)
    assert machine.converge(plugins) == ["fetch-asset", "install-asset"]
    machine.files.fetch(tool)
    machine.files.states([plugins, tool])
    with pytest.raises(AssetError) as caught:
        machine.files.install(tool)
    assert caught.value.rule == "asset/archive"
    assert f"{tool.subject}: {BIN}/README.md is a file of {plugins.subject} as well" in str(caught.value)
    assert machine.path(f"{BIN}/README.md").read_bytes() == b"read me" and machine.converge(plugins) == []


def test_an_asset_takes_the_place_of_a_link_to_debian_s_plugin(machine: Machine) -> None:
    folder = machine.path(BIN)
    folder.mkdir(parents=True)
    (folder / "loopback").symlink_to("../../../usr/lib/cni/loopback")
    assert machine.converge(cni(machine)) == ["fetch-asset", "install-asset"]
    assert (folder / "loopback").read_bytes() == CNI["loopback"] and not (folder / "loopback").is_symlink()


def test_two_archives_may_have_the_same_file(machine: Machine) -> None:
    urls, sha256 = served(machine, "tool.tgz", tar(("tool", b"x"), ("README.md", b"read me")))
    tool, plugins = Asset(urls, sha256, extract=(Extract("*", f"{BIN}/"),)), cni(machine)
    for asset in (plugins, tool):
        machine.converge(asset)
    assert all(state.done for state in machine.files.states([plugins, tool]).values())


def test_a_changed_file_is_replaced_and_its_siblings_stay(machine: Machine) -> None:
    asset = cni(machine)
    machine.converge(asset)
    before = written(machine)
    machine.path(f"{BIN}/bridge").write_bytes(b"something else")
    assert machine.converge(asset) == ["install-asset"]
    assert machine.path(f"{BIN}/bridge").read_bytes() == CNI["bridge"]
    assert {path for path, seen in written(machine).items() if seen != before[path]} == {f"{BIN}/bridge"}


def test_a_touched_file_is_read_and_noted_again(machine: Machine) -> None:
    asset = kubelet(machine)
    machine.converge(asset)
    os.utime(machine.path(TARGET), (1, 1))
    inode = machine.path(TARGET).stat().st_ino
    assert machine.converge(asset) == ["install-asset"]
    assert machine.path(TARGET).stat().st_ino == inode
    assert machine.converge(asset) == []


@pytest.mark.parametrize("make", [kubelet, cni], ids=["file", "archive"])
def test_a_copied_tree_is_recognised_without_a_network(machine: Machine, make: Callable[[Machine], Asset]) -> None:
    """As an image's: other inodes, no cache."""
    asset = make(machine)
    machine.converge(asset)
    machine.root.rename(machine.root.with_name("built"))
    subprocess.run(["cp", "-a", machine.root.with_name("built"), machine.root], check=True)
    for one in (*machine.cache.iterdir(), *(machine.root.parent / "media").iterdir()):
        one.unlink()
    assert restarted(machine).converge(asset) == ["install-asset"]
    assert restarted(machine).converge(asset) == []


def test_a_new_version_replaces_the_old_one(machine: Machine) -> None:
    machine.converge(kubelet(machine))
    assert machine.converge(kubelet(machine, b"new")) == ["fetch-asset", "install-asset"]
    assert machine.path(TARGET).read_bytes() == b"new"
    machine.converge(cni(machine))
    newer = cni(machine, tar(("bridge", b"newer")))
    assert machine.converge(newer) == ["fetch-asset", "install-asset"]
    assert machine.path(f"{BIN}/bridge").read_bytes() == b"newer"
    assert machine.converge(newer) == []


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress], ids=["gz", "xz"])
def test_a_packed_file_is_unpacked_and_both_hashes_are_checked(
    machine: Machine, pack: Callable[[bytes], bytes]
) -> None:
    urls, sha256 = served(machine, "tool", pack(CONTENT))
    right = Asset(urls, sha256, path=TARGET, unpacked=hashlib.sha256(CONTENT).hexdigest())
    wrong = Asset(urls, sha256, path=TARGET, unpacked="0" * 64)
    refused = refusal(machine, wrong)
    assert refused.rule == "asset/hash" and "wrong unpackedSha256 (expected 0000" in str(refused)
    assert machine.below() == set()
    assert machine.converge(right) == ["install-asset"]
    assert machine.path(TARGET).read_bytes() == CONTENT


@pytest.mark.parametrize(
    "packed",
    [b"plain", gzip.compress(CONTENT)[:-20], gzip.compress(b"x") + b"trailing rubbish"],
    ids=["plain", "cut off", "with more behind"],
)
def test_one_that_cannot_be_unpacked(machine: Machine, packed: bytes) -> None:
    urls, sha256 = served(machine, "tool", packed)
    refused = refusal(machine, Asset(urls, sha256, path=TARGET, unpacked="0" * 64))
    assert refused.rule in ("asset/archive", "asset/hash")
    assert machine.below() == set()


def test_an_archive_s_files_get_modes_of_their_own(machine: Machine) -> None:
    machine.converge(cni(machine))
    modes = {path: machine.path(path).stat().st_mode & 0o7777 for path in machine.below()}
    assert modes == {f"{BIN}/bridge": 0o755, f"{BIN}/loopback": 0o755, f"{BIN}/README.md": 0o644}


@pytest.mark.parametrize("mode", ["w:", "w:gz", "w:xz", "w:bz2"])
def test_every_form_of_tar(machine: Machine, mode: str) -> None:
    asset = cni(machine, tar(("etcd-v3/etcd", CONTENT), ("etcd-v3/doc/a", b""), mode=mode), {"etcd-*/etcd": "/bin/e"})
    machine.converge(asset)
    assert machine.path("/bin/e").read_bytes() == CONTENT and machine.below() == {"/bin/e"}


def test_links_inside_become_files(machine: Machine) -> None:
    hard = tarfile.TarInfo("hard")
    hard.type, hard.linkname = tarfile.LNKTYPE, "sub/tool"
    packed = tar(("link", "./soft"), ("soft", "sub/tool"), ("sub/tool", b"tool"), ("hard", hard))
    machine.converge(cni(machine, packed))
    assert {path: machine.path(path).read_bytes() for path in machine.below()} == {
        f"{BIN}/link": b"tool",
        f"{BIN}/soft": b"tool",
        f"{BIN}/hard": b"tool",
    }
    assert not machine.path(f"{BIN}/link").is_symlink()


def special(name: str, kind: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    return info


@pytest.mark.parametrize(
    ("packed", "problem"),
    [
        (tar(("bridge", b"x"), ("out", "/etc/shadow")), "'out' leads out of the archive (to /etc/shadow)"),
        (tar(("bridge", b"x"), ("out", "../../etc/shadow")), "leads out of the archive"),
        (tar(("bridge", b"x"), ("gone", "nothing")), "'gone' is a link to nothing, which is not in the archive"),
        (tar(("bridge", b"x"), ("a", "b"), ("b", "a")), "leads in a circle"),
        (tar(("bridge", b"x"), ("dev", special("dev", tarfile.CHRTYPE))), "'dev' is a device or a pipe"),
        (tar(("bridge", b"x"), ("pipe", special("pipe", tarfile.FIFOTYPE))), "'pipe' is a device or a pipe"),
        (tar(("bridge", b"x"), ("sub/../evil", b"x")), "'sub/../evil' leads out of the archive"),
        (tar(("bridge", b"x"), ("./bridge", b"y")), f"and another file both go to {BIN}/bridge"),
        (tar(("sub/bridge", b"x")), "no file matches '*'"),
        (tar(), "no file matches '*'"),
        (b"no archive at all", "not a readable tar archive"),
        (tar(("bridge", CONTENT))[:-5000], "not a readable tar archive"),
    ],
    ids=lambda value: value if isinstance(value, str) else "packed",
)
def test_an_archive_that_leads_elsewhere_is_refused_as_a_whole(machine: Machine, packed: bytes, problem: str) -> None:
    refused = refusal(machine, cni(machine, packed))
    assert refused.rule == "asset/archive" and problem in str(refused), refused
    assert machine.below() == set()


def test_every_pattern_must_find_something(machine: Machine) -> None:
    refused = refusal(machine, cni(machine, extract={"bridge": f"{BIN}/", "brigde": f"{BIN}/"}))
    assert "no file matches 'brigde'; `tar -tf` lists" in str(refused)


@pytest.mark.parametrize("kind", ["directory", "link", "file above"])
def test_what_stands_in_the_way_is_named_and_stays(machine: Machine, kind: str) -> None:
    place = machine.path(TARGET)
    place.parent.parent.mkdir(parents=True)
    if kind == "file above":
        place.parent.write_text("mine")
    else:
        place.parent.mkdir()
        place.mkdir() if kind == "directory" else place.symlink_to("elsewhere")
    refused = refusal(machine, kubelet(machine))
    assert refused.rule == "asset/install" and "move it away" in str(refused), refused
    assert place.is_dir() or place.is_symlink() or place.parent.read_text() == "mine"


def test_a_link_out_of_the_root_is_not_followed(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    machine.path("/usr/local").mkdir(parents=True)
    machine.path("/usr/local/bin").symlink_to(tmp_path / "outside")
    assert "where no directory is" in str(refusal(machine, kubelet(machine)))
    assert list((tmp_path / "outside").iterdir()) == []


def test_a_damaged_cache_is_found_and_fetched_again(machine: Machine) -> None:
    asset = kubelet(machine)
    machine.step(asset)
    (machine.cache / asset.sha256).write_bytes(b"rotten")
    refused = refusal(machine, asset)
    assert refused.rule == "asset/hash" and "its copy in the cache was damaged" in str(refused)
    assert machine.below() == set()
    assert restarted(machine).converge(asset) == ["fetch-asset", "install-asset"]


@pytest.mark.root
def test_a_read_only_place_and_a_read_only_cache(machine: Machine) -> None:
    asset = kubelet(machine)
    machine.path("/usr").mkdir()
    with read_only(machine.path("/usr")):
        refused = refusal(machine, asset)
        assert refused.rule == "asset/install"
        assert "Read-only file system; the filesystem is read-only: see the kernel's log" in str(refused)
    assert machine.converge(asset) == ["install-asset"]
    other = kubelet(machine, b"other")
    with read_only(machine.cache):
        refused = refusal(machine, other)
        assert refused.rule == "asset/install" and f"cache {machine.cache}: Read-only file system" in str(refused)
    assert machine.converge(other) == ["fetch-asset", "install-asset"]


@contextmanager
def read_only(path: Path) -> Iterator[None]:
    subprocess.run(["mount", "--bind", path, path], check=True, timeout=20)
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", path], check=True, timeout=20)
        yield
    finally:
        subprocess.run(["umount", path], check=True, timeout=20)


@contextmanager
def small(path: Path, size: str) -> Iterator[None]:
    path.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "small", path], check=True, timeout=20)
    try:
        yield
    finally:
        subprocess.run(["umount", path], check=True, timeout=20)


@pytest.mark.root
def test_a_full_disk_is_seen_beforehand_and_leaves_nothing(machine: Machine) -> None:
    asset, archive = kubelet(machine), cni(machine, tar(("bridge", CONTENT), ("loopback", CONTENT)))
    with small(machine.cache, "100k"):
        refused = refusal(machine, asset)
        assert refused.rule == "asset/space" and "300000 bytes where 98304 are free" in str(refused)
    machine.step(asset)
    machine.step(archive)
    with small(machine.path("/usr"), "100k"), small(machine.path("/opt"), "400k"):
        refused = refusal(machine, asset)
        assert refused.rule == "asset/space" and "300000 bytes where" in str(refused)
        assert "600000 bytes where" in str(refusal(machine, archive))
        assert machine.below() == set()
    assert machine.converge(asset) == ["install-asset"]


@pytest.mark.root
def test_a_cache_that_fills_up_meanwhile_is_emptied_for_the_next_mirror(machine: Machine) -> None:
    """Nobody knows how much follows where no length is told."""
    with LyingServer(CONTENT) as server, small(machine.cache, "100k"):
        asset = Asset((server.url("chunked"),), server.sha256, path=TARGET)
        refused = refusal(machine, asset)
        assert refused.rule == "asset/space" and "the cache's disk is full: No space left on device" in str(refused)
        assert [one.stat().st_size for one in machine.cache.iterdir()] == [0]


@pytest.mark.root
def test_a_disk_that_fills_up_meanwhile_leaves_nothing(machine: Machine) -> None:
    """Nobody knows how large a packed file will be."""
    urls, sha256 = served(machine, "tool", gzip.compress(bytes(3_000_000)))
    asset = Asset(urls, sha256, path=TARGET, unpacked=hashlib.sha256(bytes(3_000_000)).hexdigest())
    with small(machine.path("/usr"), "1m"):
        refused = refusal(machine, asset)
        assert refused.rule == "asset/space" and "No space left on device; free space" in str(refused)
        assert machine.below() == set()
    assert machine.converge(asset) == ["install-asset"]
