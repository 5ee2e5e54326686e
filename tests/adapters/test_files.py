"""Files and links on a real filesystem, and on a mounted volume."""

from __future__ import annotations

import fcntl
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from protokube.core.node.actions import MakeDirectory, MakeLink, RemoveFile, Unlink, WriteFile
from protokube.core.node.model import Absent, Directory, File, Link, OnVolume, OtherFile
from protokube.errors import ProviderError
from protokube.host.files import NodeFiles

MANIFESTS = "/etc/kubernetes/manifests"
EXT4_IOC_SHUTDOWN = 0x8004587D
ON_VOLUME = "/mnt/master-a/k8s.io/manifests/etcd.manifest"


@pytest.fixture
def files(tmp_path: Path) -> NodeFiles:
    return NodeFiles(str(tmp_path / "root"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


def changes(top: Path) -> dict[str, tuple[int, int]]:
    """Inode and change time of everything below a directory."""
    return {str(p): (p.lstat().st_ino, p.lstat().st_ctime_ns) for p in sorted(top.rglob("*"))}


def test_write_makes_the_directories_sets_the_mode_and_reads_back(files: NodeFiles, root: Path) -> None:
    files.write(WriteFile("/var/lib/kubelet/kubeconfig", content="ü\n", mode=0o400))
    written = root / "var/lib/kubelet/kubeconfig"
    assert written.read_text() == "ü\n"
    state = files.read(["/var/lib/kubelet/kubeconfig", "/var/lib", "/nothing/there"])
    assert state["/var/lib/kubelet/kubeconfig"] == File("ü\n", 0o400, written.stat().st_mtime_ns)
    assert state["/var/lib"] == Directory(0o755)
    assert state["/nothing/there"] == Absent()


def test_the_mode_does_not_depend_on_the_umask(files: NodeFiles, root: Path) -> None:
    before = os.umask(0o077)
    try:
        files.write(WriteFile("/f", content="x", mode=0o644))
    finally:
        os.umask(before)
    assert (root / "f").stat().st_mode & 0o7777 == 0o644


def test_the_same_content_and_mode_writes_nothing(files: NodeFiles, root: Path) -> None:
    action = WriteFile("/etc/f", content="x")
    files.write(action)
    before = changes(root)
    files.write(action)
    assert changes(root) == before
    files.write(WriteFile("/etc/f", content="x", mode=0o600))
    assert (root / "etc/f").stat().st_mode & 0o777 == 0o600


def test_replacing_is_a_rename(files: NodeFiles, root: Path) -> None:
    files.write(WriteFile("/f", content="old"))
    with (root / "f").open() as old:
        files.write(WriteFile("/f", content="new"))
        assert old.read() == "old"
    assert (root / "f").read_text() == "new"


def test_what_a_crash_left_is_not_listed_and_goes_with_the_next_write(files: NodeFiles, root: Path) -> None:
    files.write(WriteFile(f"{MANIFESTS}/a", content="x"))
    leftover = root / MANIFESTS[1:] / ".a.protokube-new"
    leftover.write_text("half")
    assert list(files.listing(MANIFESTS)) == [f"{MANIFESTS}/a"]
    files.write(WriteFile(f"{MANIFESTS}/a", content="x"))
    assert not leftover.exists()


@pytest.mark.parametrize("call", ["openat", "write", "fchmod", "fsync", "rename", "renameat"])
def test_a_kill_at_any_call_leaves_the_old_or_the_new_content(tmp_path: Path, call: str) -> None:
    root = tmp_path / "root"
    files = NodeFiles(str(root))
    action = WriteFile("/d/f", content="new" * 1000)
    program = (
        "import os, sys; from protokube.host.files import NodeFiles;"
        "from protokube.core.node.actions import WriteFile;"
        f"files = NodeFiles({str(root)!r}); os.getpriority(0, 0);"
        "files.write(WriteFile('/d/f', content='new' * 1000))"
    )
    ends = set()
    for number in range(1, 4):
        files.write(WriteFile("/d/f", content="old"))
        inject = ["-e", f"inject={call}:signal=KILL:when={number}"]
        trace = ["strace", "-o", "/dev/null", "-P", str(root / "d"), "-P", str(root / "d/.f.protokube-new"), *inject]
        done = subprocess.run([*trace, sys.executable, "-c", program], timeout=60, capture_output=True, check=False)
        assert done.returncode in (0, -signal.SIGKILL), done.stderr
        ends.add(done.returncode)
        assert (root / "d/f").read_text() in ("old", action.content)
        files.write(action)
        assert [entry.name for entry in (root / "d").iterdir()] == ["f"]
    assert -signal.SIGKILL in ends or call in ("rename", "renameat")


def test_a_link_is_relative_and_holds_from_both_sides(files: NodeFiles, root: Path) -> None:
    files.write(WriteFile(ON_VOLUME, content="pod"))
    files.link(MakeLink(f"{MANIFESTS}/etcd.manifest", target=ON_VOLUME))
    link = root / MANIFESTS[1:] / "etcd.manifest"
    assert str(link.readlink()) == f"../../..{ON_VOLUME}"
    assert link.read_text() == "pod"
    state = files.read([f"{MANIFESTS}/etcd.manifest"])[f"{MANIFESTS}/etcd.manifest"]
    assert state == Link(ON_VOLUME, link.lstat().st_mtime_ns)


def test_a_link_is_relative_to_where_its_directory_really_is(files: NodeFiles, root: Path) -> None:
    (root / "data/manifests").mkdir(parents=True)
    (root / "etc").mkdir()
    (root / "etc/manifests").symlink_to("../data/manifests")
    files.write(WriteFile("/mnt/x", content="pod"))
    files.link(MakeLink("/etc/manifests/x", target="/mnt/x"))
    assert (root / "etc/manifests/x").read_text() == "pod"
    state = files.read(["/etc/manifests/x"])["/etc/manifests/x"]
    assert isinstance(state, Link) and state.target == "/mnt/x"


def test_linking_again_makes_a_fresh_link(files: NodeFiles, root: Path) -> None:
    action = MakeLink("/l", target="/somewhere")
    files.link(action)
    before = (root / "l").lstat().st_ino
    files.link(action)
    assert (root / "l").lstat().st_ino != before


def test_an_absolute_link_is_given_as_written(files: NodeFiles, root: Path) -> None:
    root.mkdir()
    (root / "l").symlink_to("/there")
    assert files.read(["/l"])["/l"] == Link("/there", (root / "l").lstat().st_mtime_ns)


def test_nothing_of_another_kind_is_removed_or_overwritten(files: NodeFiles, root: Path) -> None:
    files.write(WriteFile("/file", content="x"))
    files.link(MakeLink("/link", target="/file"))
    files.make_directory(MakeDirectory("/folder"))
    os.mkfifo(root / "pipe")
    before = changes(root)
    calls: list[Callable[[], object]] = [
        lambda: files.unlink(Unlink("/file")),
        lambda: files.unlink(Unlink("/folder")),
        lambda: files.unlink(Unlink("/pipe")),
        lambda: files.remove(RemoveFile("/link")),
        lambda: files.remove(RemoveFile("/folder")),
        lambda: files.remove(RemoveFile("/pipe")),
        lambda: files.write(WriteFile("/link", content="y")),
        lambda: files.write(WriteFile("/folder", content="y")),
        lambda: files.write(WriteFile("/pipe", content="y")),
        lambda: files.link(MakeLink("/file", target="/folder")),
    ]
    for call in calls:
        with pytest.raises(ProviderError, match="left alone"):
            call()
    assert changes(root) == before
    assert files.read(["/pipe"])["/pipe"] == OtherFile("pipe")


def test_removing_what_is_absent_is_fine(files: NodeFiles, root: Path) -> None:
    files.unlink(Unlink("/a/b"))
    files.remove(RemoveFile("/a/b"))
    root.mkdir()
    files.unlink(Unlink("/b"))
    files.remove(RemoveFile("/b"))
    assert not list(root.iterdir())


def test_removing(files: NodeFiles, root: Path) -> None:
    files.write(WriteFile("/file", content="x"))
    files.link(MakeLink("/link", target="/file"))
    files.unlink(Unlink("/link"))
    assert [entry.name for entry in root.iterdir()] == ["file"]
    files.remove(RemoveFile("/file"))
    assert not list(root.iterdir())


@pytest.mark.parametrize("path", ["/a/../b", "../b", "a", "/", "", "/a\0b"])
def test_a_path_that_is_not_plain_is_refused(files: NodeFiles, root: Path, path: str) -> None:
    calls: list[Callable[[], object]] = [
        lambda: files.write(WriteFile(path, content="x")),
        lambda: files.make_directory(MakeDirectory(path)),
        lambda: files.link(MakeLink("/l", target=path)),
        lambda: files.read([path]),
    ]
    for call in calls:
        with pytest.raises(ProviderError, match="absolute path"):
            call()
    assert not root.exists()


def test_a_link_out_of_the_root_is_not_followed(files: NodeFiles, root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "f").write_text("machine's")
    root.mkdir()
    (root / "etc").symlink_to(outside)
    with pytest.raises(ProviderError, match=r"a symbolic link to .*, where no directory is"):
        files.write(WriteFile("/etc/f", content="x"))
    with pytest.raises(ProviderError, match=r"a symbolic link to .*, where no directory is"):
        files.write(WriteFile("/etc/below/f", content="x"))
    assert (outside / "f").read_text() == "machine's" and len(list(outside.iterdir())) == 1
    assert files.read(["/etc/f"])["/etc/f"] == Absent()


def test_a_link_is_followed_as_inside_of_the_root(files: NodeFiles, root: Path) -> None:
    (root / "usr/lib").mkdir(parents=True)
    (root / "lib").symlink_to("/usr/lib")
    (root / "up").symlink_to("../../../usr/lib")
    (root / "circle").symlink_to("/circle")
    files.write(WriteFile("/lib/new/f", content="x"))
    files.write(WriteFile("/up/g", content="x"))
    assert (root / "usr/lib/new/f").read_text() == (root / "usr/lib/g").read_text() == "x"
    with pytest.raises(ProviderError, match="leads in a circle"):
        files.write(WriteFile("/circle/f", content="x"))


def test_a_file_where_a_directory_should_be_is_named(files: NodeFiles) -> None:
    files.write(WriteFile("/etc/kubernetes", content="x"))
    with pytest.raises(ProviderError, match="/etc/kubernetes is not a directory"):
        files.write(WriteFile("/etc/kubernetes/manifests/x", content="x"))
    state = files.read(["/etc/kubernetes/manifests"])["/etc/kubernetes/manifests"]
    assert isinstance(state, OtherFile) and "/etc/kubernetes is not a directory" in state.kind
    with pytest.raises(ProviderError, match="/etc/kubernetes is not a directory"):
        files.listing("/etc/kubernetes")


def test_what_is_no_text_has_none(files: NodeFiles, root: Path) -> None:
    root.mkdir()
    (root / "binary").write_bytes(b"\xff\xfe")
    (root / "large").write_bytes(b"x" * ((1 << 20) + 1))
    (root / "limit").write_bytes(b"x" * (1 << 20))
    states = files.read(["/binary", "/large", "/limit"])
    texts = {path: state.text for path, state in states.items() if isinstance(state, File)}
    assert texts == {"/binary": None, "/large": None, "/limit": "x" * (1 << 20)}


def test_a_listing_has_every_entry_by_its_full_path(files: NodeFiles) -> None:
    assert files.listing(MANIFESTS) == {}
    files.write(WriteFile(f"{MANIFESTS}/b", content="x"))
    files.link(MakeLink(f"{MANIFESTS}/a", target=f"{MANIFESTS}/b"))
    listed = files.listing(MANIFESTS)
    assert list(listed) == [f"{MANIFESTS}/a", f"{MANIFESTS}/b"]
    assert listed == files.read(list(listed))


def test_a_directory_gets_its_mode(files: NodeFiles, root: Path) -> None:
    files.make_directory(MakeDirectory("/a/b", mode=0o700))
    assert files.read(["/a", "/a/b"]) == {"/a": Directory(0o755), "/a/b": Directory(0o700)}
    before = changes(root)
    files.make_directory(MakeDirectory("/a/b", mode=0o700))
    assert changes(root) == before


def test_a_link_is_read_without_looking_where_it_leads(files: NodeFiles, root: Path) -> None:
    """What can't be looked at there, such as a name that is too long or a disk that hangs, hides no other path."""
    files.write(WriteFile("/d/file", content="x"))
    files.link(MakeLink("/d/a", target="/d/b"))
    files.link(MakeLink("/d/b", target="/d/a"))
    nowhere = "/" + "x" * 300
    (root / "d/l").symlink_to(nowhere)
    with pytest.raises(OSError, match="File name too long"):
        (root / "d/l").stat()
    assert files.listing("/d") == {
        "/d/a": Link("/d/b", (root / "d/a").lstat().st_mtime_ns),
        "/d/b": Link("/d/a", (root / "d/b").lstat().st_mtime_ns),
        "/d/file": File("x", 0o644, (root / "d/file").stat().st_mtime_ns),
        "/d/l": Link(nowhere, (root / "d/l").lstat().st_mtime_ns),
    }


# --- on a volume -----------------------------------------------------------------------------------


@pytest.fixture
def volume(root: Path) -> Iterator[OnVolume]:
    """A filesystem of its own, mounted where a volume would be."""
    target = root / "mnt/master-a"
    target.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "volume", target], check=True, timeout=20)
    try:
        device = target.stat().st_dev
        yield OnVolume("/mnt/master-a", (os.major(device), os.minor(device)))
    finally:
        subprocess.run(["umount", "-R", target], check=True, timeout=20)


@pytest.mark.root
def test_writing_on_a_volume(files: NodeFiles, root: Path, volume: OnVolume) -> None:
    files.make_directory(MakeDirectory("/mnt/master-a/var/etcd", mode=0o700, volume=volume))
    files.write(WriteFile(ON_VOLUME, content="pod", volume=volume))
    assert (root / ON_VOLUME[1:]).read_text() == "pod"
    assert list(files.listing("/mnt/master-a")) == ["/mnt/master-a/k8s.io", "/mnt/master-a/var"]


@pytest.mark.root
def test_nothing_is_written_beneath_a_missing_mount(files: NodeFiles, root: Path, volume: OnVolume) -> None:
    (root / "mnt/master-b").mkdir()
    elsewhere = OnVolume("/mnt/master-b", volume.number)
    with pytest.raises(ProviderError, match="isn't mounted there"):
        files.write(WriteFile("/mnt/master-b/k8s.io/f", content="x", volume=elsewhere))
    with pytest.raises(ProviderError, match="not below the mount point"):
        files.write(WriteFile("/mnt/master-b/k8s.io/f", content="x", volume=volume))
    assert not list((root / "mnt/master-b").iterdir())


@pytest.mark.root
@pytest.mark.parametrize("planted", ["k8s.io", "k8s.io/manifests", "k8s.io/manifests/etcd.manifest"])
def test_a_planted_link_is_named_and_nothing_is_written(
    files: NodeFiles, root: Path, volume: OnVolume, tmp_path: Path, planted: str
) -> None:
    outside = tmp_path / "outside"
    (outside / "manifests").mkdir(parents=True)
    (outside / "manifests/etcd.manifest").write_text("machine's")
    link = root / "mnt/master-a" / planted
    link.parent.mkdir(parents=True, exist_ok=True)
    target = outside.joinpath(*Path(planted).parts[1:])
    link.symlink_to(target)
    before = changes(outside)
    with pytest.raises(ProviderError, match=f"/mnt/master-a/{planted} is a symbolic link"):
        files.write(WriteFile(ON_VOLUME, content="pod", volume=volume))
    assert changes(outside) == before
    state = files.read([ON_VOLUME])[ON_VOLUME]
    if planted.endswith(".manifest"):
        assert isinstance(state, Link)
    else:
        assert isinstance(state, OtherFile) and f"/mnt/master-a/{planted} is a symbolic link" in state.kind


@pytest.mark.root
def test_a_filesystem_mounted_on_the_volume_is_not_entered(files: NodeFiles, root: Path, volume: OnVolume) -> None:
    inner = root / "mnt/master-a/k8s.io"
    inner.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "inner", inner], check=True, timeout=20)
    with pytest.raises(ProviderError, match="another filesystem"):
        files.write(WriteFile(ON_VOLUME, content="pod", volume=volume))
    assert not list(inner.iterdir())


@pytest.mark.root
def test_a_full_volume_is_explained_and_leaves_nothing_behind(files: NodeFiles, root: Path, volume: OnVolume) -> None:
    with pytest.raises(ProviderError, match=r"/mnt/master-a/f: .*free space"):
        files.write(WriteFile("/mnt/master-a/f", content="x" * (2 << 20), volume=volume))
    assert not list((root / "mnt/master-a").iterdir())


@pytest.mark.root
def test_a_read_only_volume_is_explained(files: NodeFiles, root: Path, volume: OnVolume) -> None:
    subprocess.run(["mount", "-o", "remount,ro", root / "mnt/master-a"], check=True, timeout=20)
    with pytest.raises(ProviderError, match=r"/mnt/master-a/f: .*read-only"):
        files.write(WriteFile("/mnt/master-a/f", content="x", volume=volume))


@pytest.mark.root
def test_a_dead_disk_does_not_hide_the_other_paths(files: NodeFiles, root: Path, tmp_path: Path) -> None:
    target, image = root / "mnt/master-a", tmp_path / "disk.img"
    target.mkdir(parents=True)
    subprocess.run(["mkfs.ext4", "-q", image, "16M"], check=True, timeout=20)
    subprocess.run(["mount", "-o", "loop", image, target], check=True, timeout=20)
    try:
        device = target.stat().st_dev
        volume = OnVolume("/mnt/master-a", (os.major(device), os.minor(device)))
        files.write(WriteFile(ON_VOLUME, content="pod", volume=volume))
        files.write(WriteFile("/etc/f", content="x"))
        folder = os.open(target, os.O_RDONLY)
        fcntl.ioctl(folder, EXT4_IOC_SHUTDOWN, struct.pack("I", 2))
        os.close(folder)
        states = files.read([ON_VOLUME, "/etc/f"])
        assert states[ON_VOLUME] == OtherFile("unreadable: Input/output error")
        assert isinstance(states["/etc/f"], File)
        with pytest.raises(ProviderError, match="the kernel's log"):
            files.write(WriteFile(ON_VOLUME, content="new", volume=volume))
    finally:
        subprocess.run(["umount", target], check=True, timeout=20)
