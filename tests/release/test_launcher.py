"""The one-file program's launcher: unpacked once, whole, by one of many, and run from a folder that is ours alone."""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
import sys
import zipapp
from pathlib import Path

import pytest

from release.pyz import launcher, start
from release.pyz.build import pack
from release.pyz.launcher import IDENTITY, PAYLOAD, RefusedError, find

PROGRAM = "import sys\ndef main():\n    print({name!r}, *sys.argv[1:])\n    return 3\n"


class Archive:
    """A small program as the archive holds it."""

    def __init__(self, folder: Path, identity: str = "one") -> None:
        for name in ("protokube", "nodeup"):
            package = folder / "tree" / name
            package.mkdir(parents=True)
            (package / "__init__.py").touch()
            (package / "__main__.py").write_text(PROGRAM.format(name=name))
        self.members = {IDENTITY: identity.encode(), PAYLOAD: pack(folder / "tree")}
        self.reads: list[str] = []

    def read(self, name: str) -> bytes:
        self.reads.append(name)
        return self.members[name]


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(tmp_path / "archive")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "var/cache/protokube"


def test_the_first_start_unpacks_and_the_second_reads_nothing(archive: Archive, cache: Path) -> None:
    tree = Path(find(str(cache), archive.read))
    assert tree == cache / "one"
    assert (tree / "nodeup/__main__.py").read_text() == PROGRAM.format(name="nodeup")
    archive.reads.clear()
    assert find(str(cache), archive.read) == str(tree)
    assert archive.reads == [IDENTITY]


def test_a_later_start_loads_the_launcher_no_more(archive: Archive, cache: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-ISv", str(make_app(archive, tmp_path))]
    loaded = []
    for _ in range(2):
        done = subprocess.run(
            command, capture_output=True, text=True, env={"PROTOKUBE_CACHE": str(cache)}, check=False
        )
        assert (done.returncode, done.stdout) == (3, "protokube\n")
        loaded.append("import 'launcher'" in done.stderr)
    assert loaded == [True, False]


def test_a_later_start_trusts_no_folder_that_others_can_write_to(archive: Archive, cache: Path) -> None:
    tree = find(str(cache), archive.read)
    assert start.is_ready(str(cache), tree) and not start.is_ready(str(cache), f"{tree}-other")
    cache.chmod(0o770)
    assert not start.is_ready(str(cache), tree)


def test_start_and_launcher_agree() -> None:
    assert (start.PYTHONS, start.IDENTITY) == (launcher.PYTHONS, launcher.IDENTITY)


def test_nobody_else_can_look_or_write_there(archive: Archive, cache: Path) -> None:
    mask = os.umask(0)
    try:
        tree = Path(find(str(cache), archive.read))
    finally:
        os.umask(mask)
    assert [path.stat().st_mode & 0o777 for path in (cache, tree)] == [0o700, 0o700]


def test_what_an_interrupted_start_left_is_thrown_away(archive: Archive, cache: Path) -> None:
    partial = cache / "partial/protokube"
    partial.mkdir(parents=True)
    cache.chmod(0o700)
    (partial / "half.py").touch()
    tree = Path(find(str(cache), archive.read))
    assert not (tree / "protokube/half.py").exists()
    assert {path.name for path in cache.iterdir()} == {"one", "lock"}


def test_another_release_removes_what_nobody_runs_and_nothing_else(tmp_path: Path, cache: Path) -> None:
    trees = [Path(find(str(cache), Archive(tmp_path / one, one).read)) for one in ("idle", "running")]
    assert trees[1].exists()
    _forget_locks(cache)
    running = os.open(trees[1], os.O_RDONLY)
    fcntl.flock(running, fcntl.LOCK_SH)
    find(str(cache), Archive(tmp_path / "new", "new").read)
    os.close(running)
    assert {path.name for path in cache.iterdir()} == {"running", "new", "lock"}


def _forget_locks(cache: Path) -> None:
    """Close the folders that this process has locked, as the end of each program would."""
    for descriptor in os.listdir("/proc/self/fd"):
        link = Path("/proc/self/fd", descriptor)
        if link.is_symlink() and os.readlink(link).startswith(str(cache)):
            os.close(int(descriptor))


def test_a_folder_that_is_removed_while_a_start_waits_is_unpacked_again(archive: Archive, cache: Path) -> None:
    tree = Path(find(str(cache), archive.read))
    _forget_locks(cache)
    held = os.open(tree, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    code = "from tests.release.test_launcher import Archive, find; from pathlib import Path; import sys; "
    code += "print(find(sys.argv[1], Archive(Path(sys.argv[2])).read))"
    command = [sys.executable, "-c", code, str(cache), str(cache.parent / "again")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as waiting:
        _until_it_waits_for_a_lock(waiting)
        for path in sorted(tree.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        tree.rmdir()
        os.close(held)
        assert waiting.communicate(timeout=60)[0].strip() == str(tree)
    assert (tree / "protokube/__main__.py").exists()


def _until_it_waits_for_a_lock(process: subprocess.Popen[str]) -> None:
    """/proc/locks lists who waits, by an arrow."""
    waits = re.compile(rf"-> FLOCK +ADVISORY +READ +{process.pid} ")
    while not waits.search(Path("/proc/locks").read_text()):
        assert process.poll() is None


def test_many_first_starts_at_once_all_run(archive: Archive, cache: Path, tmp_path: Path) -> None:
    program = make_app(archive, tmp_path)
    environment = {"PROTOKUBE_CACHE": str(cache)}
    starts = [
        subprocess.Popen(
            [sys.executable, "-IS", program, str(one)], stdout=subprocess.PIPE, text=True, env=environment
        )
        for one in range(6)
    ]
    said = [start.communicate(timeout=60)[0] for start in starts]
    assert said == [f"protokube {one}\n" for one in range(6)]
    assert {path.name for path in cache.iterdir()} == {"one", "lock"}


def make_app(archive: Archive, folder: Path) -> Path:
    app = folder / "app"
    app.mkdir()
    for name, module in (("__main__.py", start), ("launcher.py", launcher)):
        (app / name).write_text(Path(str(module.__file__)).read_text())
    for name, content in archive.members.items():
        (app / name).write_bytes(content)
    zipapp.create_archive(app, folder / "protokube.pyz", "/usr/bin/env python3")
    return folder / "protokube.pyz"


@pytest.mark.parametrize("name", ["protokube", "nodeup", "nodeup.pyz"])
def test_the_name_decides_what_runs(name: str, archive: Archive, cache: Path, tmp_path: Path) -> None:
    link = tmp_path / "bin" / name
    link.parent.mkdir()
    link.symlink_to(make_app(archive, tmp_path))
    environment = {**os.environ, "PROTOKUBE_CACHE": str(cache)}
    done = subprocess.run([link, "--x"], capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stdout) == (3, f"{name.removesuffix('.pyz')} --x\n")


@pytest.mark.parametrize("mode", [0o770, 0o707])
def test_a_folder_that_others_can_write_to_is_refused(mode: int, archive: Archive, cache: Path) -> None:
    cache.mkdir(parents=True)
    cache.chmod(mode)
    with pytest.raises(RefusedError) as refused:
        find(str(cache), archive.read)
    code, reason = refused.value.args
    assert code == 77
    assert reason.startswith(
        f"{cache}: other users can write there (expected mode 700 and your own, got {mode:o} of user "
    )
    assert list(cache.iterdir()) == []


@pytest.mark.root
def test_another_user_s_folder_is_refused(archive: Archive, cache: Path) -> None:
    cache.mkdir(parents=True, mode=0o700)
    os.chown(cache, 1, 1)
    with pytest.raises(RefusedError, match="got 700 of user 1"):
        find(str(cache), archive.read)


@pytest.mark.root
@pytest.mark.parametrize(
    ("options", "reason"), [("size=4k", "No space left on device"), ("ro", "Read-only file system")]
)
def test_a_full_or_read_only_disk_is_named_and_left_clean(
    options: str, reason: str, archive: Archive, cache: Path
) -> None:
    cache.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"mode=700,{options}", "cache", cache], check=True)
    try:
        with pytest.raises(RefusedError) as refused:
            find(str(cache), archive.read)
        assert {path.name for path in cache.iterdir()} <= {"lock"}
    finally:
        subprocess.run(["umount", cache], check=True)
    expected = f"{cache}: the program can't be unpacked there ({reason}); make 50 MB of writable room, "
    assert refused.value.args == (75, expected + "or name another folder in PROTOKUBE_CACHE")


def test_a_python_without_compiled_modules_is_named(
    archive: Archive, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launcher, "PYTHONS", ((3, 1), (3, 2)))
    assert launcher.prepare("protokube", "/nowhere", archive.read) == 78
    got = "{}.{}".format(*sys.version_info)
    assert f"wrong Python (expected 3.1 or 3.2, got {got})" in capsys.readouterr().err
    assert archive.reads == []
