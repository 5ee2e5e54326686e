"""The hosts file on a real filesystem, killed at every call and torn at every byte."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from protokube.core.dns.model import ChangeKind, OwnedRecord, RecordChange, RecordSet, RecordType, UnmanagedRecord
from protokube.dnsprovider import backup
from protokube.dnsprovider.hosts import HostsFile
from protokube.dnsprovider.hosts_text import BEGIN, END
from protokube.errors import ProviderError

NAME = "etcd-a.internal.dev.example.com"
AROUND = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost\n# k\xfcche\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "hosts"
    path.write_bytes(AROUND.encode("latin-1"))
    return path


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """The folder for backups; made when needed."""
    return tmp_path / "var/lib/protokube"


@pytest.fixture
def hosts(path: Path, state: Path) -> HostsFile:
    return HostsFile(str(path), str(state))


@pytest.fixture
def copy(state: Path) -> Path:
    """Where the backup stands."""
    state.mkdir(parents=True)
    return state / "hosts.backup"


def put(name: str, *values: str, type_: RecordType = "A") -> RecordChange:
    return RecordChange(ChangeKind.UPSERT, name, type_, values, 60, "node-a", shared=False)


def drop(name: str, type_: RecordType = "A") -> RecordChange:
    return RecordChange(ChangeKind.DELETE, name, type_, (), 60, "node-a", shared=False)


def records(hosts: HostsFile, name: str = NAME) -> RecordSet:
    return hosts.record_sets(frozenset({name}))[name]


def files(path: Path) -> list[str]:
    """What stands beside the file, and in the folder for backups."""
    return sorted(entry.name for entry in path.parent.rglob("*") if not entry.is_dir())


def test_addresses_are_put_replaced_and_removed(hosts: HostsFile, path: Path) -> None:
    hosts.change([put(NAME, "10.0.0.2", "10.0.0.1"), put(NAME, "fd00:0::1", type_="AAAA"), put("api.c", "10.0.0.1")])
    assert records(hosts) == RecordSet(
        NAME,
        (OwnedRecord("A", ("10.0.0.1", "10.0.0.2"), 60, None), OwnedRecord("AAAA", ("fd00::1",), 60, None)),
    )
    hosts.change([put(NAME, "10.0.0.3"), drop(NAME, "AAAA")])
    assert records(hosts).owned == (OwnedRecord("A", ("10.0.0.3",), 60, None),)
    hosts.change([drop(NAME)])
    assert path.read_bytes() == AROUND.encode("latin-1") + f"{BEGIN}\n10.0.0.1\tapi.c\n{END}\n".encode()
    hosts.change([drop("api.c")])
    assert path.read_bytes() == AROUND.encode("latin-1")
    assert files(path) == ["hosts"]


@pytest.mark.root
def test_the_resolver_reads_it(hosts: HostsFile, path: Path) -> None:
    """glibc's own reader, in a mount namespace of its own."""
    hosts.change([put(NAME, "10.9.8.7"), put("api.c", "10.9.8.7")])
    code = f"mount --bind {path} /etc/hosts && getent hosts {NAME}"
    words = ["unshare", "--mount", "--propagation", "private", "sh", "-c", code]
    done = subprocess.run(words, capture_output=True, text=True, timeout=20, check=True)
    assert done.stdout.split()[0] == "10.9.8.7"


def test_the_file_keeps_its_inode_and_mode(hosts: HostsFile, path: Path) -> None:
    path.chmod(0o640)
    before = path.stat()
    hosts.change([put(NAME, "10.0.0.1")])
    assert (path.stat().st_ino, path.stat().st_mode) == (before.st_ino, before.st_mode)


def test_what_would_not_change_is_not_written(hosts: HostsFile, path: Path) -> None:
    hosts.change([put(NAME, "10.0.0.1")])
    before = (path.stat().st_mtime_ns, path.stat().st_ctime_ns, path.parent.stat().st_mtime_ns)
    hosts.change([put(NAME, "10.0.0.1"), drop("api.c")])
    records(hosts)
    assert (path.stat().st_mtime_ns, path.stat().st_ctime_ns, path.parent.stat().st_mtime_ns) == before


def test_a_missing_file_is_empty_and_made_when_needed(tmp_path: Path) -> None:
    path = tmp_path / "root/etc/hosts"
    hosts = HostsFile(str(path))
    assert records(hosts) == RecordSet(NAME)
    hosts.change([drop(NAME)])
    hosts.recover()
    assert not path.parent.exists()
    hosts.change([put(NAME, "10.0.0.1")])
    assert path.read_text() == f"{BEGIN}\n10.0.0.1\t{NAME}\n{END}\n"
    assert path.stat().st_mode & 0o777 == 0o644


def test_entries_of_others_are_unmanaged_and_stay(hosts: HostsFile, path: Path) -> None:
    path.write_text(f"10.1.1.1 {NAME.upper()}\n")
    hosts.change([put(NAME, "10.0.0.1")])
    with path.open("a") as file:
        file.write(f"fd00::2 {NAME}\n")
    found = records(hosts)
    before = UnmanagedRecord("A", ("10.1.1.1",), f"line 1 of {path}, before our entries, and so wins over them")
    after = UnmanagedRecord("AAAA", ("fd00::2",), f"line 5 of {path}, after our entries")
    assert found.unmanaged == (before, after)
    assert found.owned == (OwnedRecord("A", ("10.0.0.1",), 60, None),)
    adopting = RecordChange(ChangeKind.UPSERT, NAME, "A", ("10.0.0.1",), 60, "node-a", shared=False, adopts=(before,))
    with pytest.raises(ProviderError, match="remove it by hand"):
        hosts.change([adopting])


@pytest.mark.parametrize(
    "change", [put(NAME, "10.0.0"), put(NAME, "fd00::1"), put("a b", "10.0.0.1"), put("a\n", "10.0.0.1")]
)
def test_what_cannot_stand_in_a_hosts_file_is_refused(hosts: HostsFile, path: Path, change: RecordChange) -> None:
    before = path.read_bytes()
    with pytest.raises(ProviderError, match=r"is no IP address|can't stand in a hosts file"):
        hosts.change([change])
    assert path.read_bytes() == before


def test_a_symbolic_link_is_not_followed(tmp_path: Path, path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(path)
    before = path.read_bytes()
    for call in (lambda: records(HostsFile(str(link))), lambda: HostsFile(str(link)).change([put(NAME, "10.0.0.1")])):
        with pytest.raises(ProviderError, match="it is a symbolic link"):
            call()
    assert path.read_bytes() == before


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A filesystem with room for a hosts file and not for its backup."""
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8k", "small", folder], check=True, timeout=20)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True, timeout=20)


@pytest.mark.root
def test_a_full_filesystem_leaves_the_file_alone(small: Path) -> None:
    path = small / "hosts"
    path.write_text("# x\n" * 1500)
    before = path.read_bytes()
    with pytest.raises(ProviderError, match="free space"):
        HostsFile(str(path)).change([put(NAME, "10.0.0.1")])
    assert path.read_bytes() == before


@pytest.mark.root
def test_a_read_only_filesystem_is_explained(small: Path) -> None:
    (small / "hosts").write_text("")
    subprocess.run(["mount", "-o", "remount,ro", small], check=True, timeout=20)
    with pytest.raises(ProviderError, match="read-only: mount a writable file there, or use --dns none"):
        HostsFile(str(small / "hosts")).change([put(NAME, "10.0.0.1")])


@pytest.mark.root
def test_a_writable_file_mounted_into_a_read_only_folder_is_written(small: Path, tmp_path: Path) -> None:
    """As images with a read-only /etc have it: the file is there, and nothing can be made beside it."""
    path, source, state = small / "hosts", tmp_path / "source", tmp_path / "state"
    path.touch()
    source.write_bytes(AROUND.encode("latin-1"))
    subprocess.run(["mount", "-o", "remount,ro", small], check=True, timeout=20)
    subprocess.run(["mount", "--bind", source, path], check=True, timeout=20)
    try:
        HostsFile(str(path), str(state)).change([put(NAME, "10.0.0.1")])
        with pytest.raises(ProviderError, match=f"write {path}.protokube-backup: .*read-only"):
            HostsFile(str(path)).change([put(NAME, "10.0.0.2")])
    finally:
        subprocess.run(["umount", path], check=True, timeout=20)
    assert source.read_bytes() == AROUND.encode("latin-1") + f"{BEGIN}\n10.0.0.1\t{NAME}\n{END}\n".encode()
    assert not list(state.iterdir())


@pytest.mark.root
def test_a_folder_for_backups_that_can_t_be_written_is_named(small: Path, path: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", small], check=True, timeout=20)
    before = path.read_bytes()
    with pytest.raises(ProviderError, match=f"write {small}/state/hosts.backup: .*read-only"):
        HostsFile(str(path), f"{small}/state").change([put(NAME, "10.0.0.1")])
    assert path.read_bytes() == before


def test_it_is_local_and_says_what_to_watch(hosts: HostsFile, path: Path) -> None:
    """A file of this machine costs no call, so that it may be read at each reconcile."""
    assert hosts.local
    assert hosts.watch == (path,)


def test_a_file_that_another_program_wrote_again_is_noticed_and_put_right(hosts: HostsFile, path: Path) -> None:
    """As cloud-init does at boot, by a rename or in place."""
    hosts.change([put(NAME, "10.0.0.1")])
    fresh = path.with_name("fresh")
    fresh.write_bytes(AROUND.encode("latin-1"))
    fresh.replace(path)
    assert records(hosts).owned == ()
    hosts.change([put(NAME, "10.0.0.1")])
    assert records(hosts).owned == (OwnedRecord("A", ("10.0.0.1",), 60, None),)


# --- crashes ---------------------------------------------------------------------------------------

OLD = f"127.0.0.1 localhost\n{BEGIN}\n10.0.0.1\t{NAME}\n10.0.0.2\tlonger.than.the.new.one\n{END}\n# end\n".encode()
NEW = f"127.0.0.1 localhost\n{BEGIN}\n10.0.0.77\t{NAME}\n{END}\n# end\n".encode()
CHANGES = [put(NAME, "10.0.0.77"), drop("longer.than.the.new.one")]


@pytest.mark.parametrize(("old", "new"), [(OLD, NEW), (NEW, OLD), (b"", NEW)], ids=["shorter", "longer", "fresh"])
def test_a_tear_at_any_byte_is_put_right(hosts: HostsFile, path: Path, copy: Path, old: bytes, new: bytes) -> None:
    for at in range(len(new) + 1):
        torn = new[:at] + old[at:]
        for recover in (True, False):
            path.write_bytes(torn)
            copy.write_bytes(backup.pack(old, new))
            is_torn = torn not in (old, new)
            if is_torn:
                assert records(hosts).owned == ()  # so that the next plan writes
            if recover:
                hosts.recover()
                assert path.read_bytes() == (old if is_torn else torn)
            else:
                hosts.change(CHANGES)
                assert records(hosts).owned == (OwnedRecord("A", ("10.0.0.77",), 60, None),)
                assert path.read_bytes() == NEW or not old
            assert files(path) == ["hosts"]


@pytest.mark.parametrize("call", ["openat", "write", "fsync", "rename", "pwrite64", "ftruncate", "unlink"])
def test_a_kill_at_any_call_is_put_right_by_the_next_start(
    hosts: HostsFile, path: Path, state: Path, call: str
) -> None:
    program = (
        "import sys; from protokube.dnsprovider.hosts import HostsFile; from protokube.core.dns.model import *;"
        "c = [RecordChange(ChangeKind.UPSERT, sys.argv[2], 'A', ('10.0.0.77',), 60, 'n', False),"
        "     RecordChange(ChangeKind.DELETE, 'longer.than.the.new.one', 'A', (), 60, 'n', False)];"
        "HostsFile(sys.argv[1], sys.argv[3]).change(c)"
    )
    fresh = state / ".hosts.backup.new"
    paths = [word for place in (path, state / "hosts.backup", fresh, state) for word in ("-P", str(place))]
    killed = 0
    for number in range(1, 5):
        path.write_bytes(OLD)
        inject = ["-e", f"inject={call}:signal=KILL:when={number}"]
        words = [
            "strace",
            "-o",
            "/dev/null",
            *paths,
            *inject,
            sys.executable,
            "-c",
            program,
            str(path),
            NAME,
            str(state),
        ]
        done = subprocess.run(words, timeout=60, capture_output=True, check=False)
        assert done.returncode in (0, -signal.SIGKILL), done.stderr
        killed += done.returncode == -signal.SIGKILL
        hosts.recover()
        assert path.read_bytes() in (OLD, NEW)
        hosts.change(CHANGES)
        assert path.read_bytes() == NEW
        assert files(path) == ["hosts"]
    assert killed


def test_the_file_is_never_empty_or_torn_while_the_backup_is_not_there(path: Path, state: Path) -> None:
    """The order of the calls: the backup is on disk before the file is touched, and goes after it is on disk."""
    path.write_bytes(OLD)
    program = (
        "import sys; from protokube.dnsprovider.hosts import HostsFile; from protokube.core.dns.model import *;"
        "c = [RecordChange(ChangeKind.DELETE, sys.argv[2], 'A', (), 60, 'n', False)];"
        "HostsFile(sys.argv[1], sys.argv[3]).change(c)"
    )
    log = path.parent / "calls"
    calls = "trace=write,fsync,rename,pwrite64,ftruncate,unlink"
    words = ["strace", "-y", "-o", str(log), "-e", calls, sys.executable, "-c", program, str(path), NAME, str(state)]
    subprocess.run(words, check=True, timeout=60, capture_output=True)
    seen = [line.partition("(")[0] for line in log.read_text().splitlines() if str(path.parent) in line]
    wanted = ["unlink", "write", "fsync", "rename", "fsync", "pwrite64", "ftruncate", "fsync", "unlink"]
    assert [call for call in seen if call in wanted] == wanted


def test_what_others_wrote_after_a_crash_stays(hosts: HostsFile, path: Path, copy: Path) -> None:
    copy.write_bytes(backup.pack(OLD, NEW))
    path.write_bytes(NEW + b"10.5.5.5 added\n")
    hosts.recover()
    assert path.read_bytes() == NEW + b"10.5.5.5 added\n" and files(path) == ["hosts"]


def test_a_backup_that_can_t_be_read_is_an_error(hosts: HostsFile, path: Path, copy: Path) -> None:
    path.write_bytes(NEW)
    copy.mkdir()
    for call in (lambda: records(hosts), hosts.recover, lambda: hosts.change(CHANGES)):
        with pytest.raises(ProviderError, match=f"read {copy}: .*a directory stands"):
            call()


def test_a_backup_that_is_not_ours_to_read_changes_nothing(hosts: HostsFile, path: Path, copy: Path) -> None:
    path.write_bytes(OLD)
    copy.write_bytes(backup.pack(OLD, NEW)[:-1])
    hosts.change(CHANGES)
    assert path.read_bytes() == NEW and files(path) == ["hosts"]


def test_reading_a_torn_file_writes_nothing(hosts: HostsFile, path: Path, copy: Path) -> None:
    path.write_bytes(NEW[:40] + OLD[40:])
    copy.write_bytes(backup.pack(OLD, NEW))
    before = [(file.read_bytes(), file.stat().st_ctime_ns) for file in (path, copy)]
    records(hosts)
    assert [(file.read_bytes(), file.stat().st_ctime_ns) for file in (path, copy)] == before
    assert files(path) == ["hosts", "hosts.backup"]


def test_a_write_in_between_is_not_overwritten(path: Path, copy: Path) -> None:
    path.write_bytes(OLD)
    file = os.open(path, os.O_RDWR)
    try:
        assert not backup.rewrite(copy, file, b"what it was before\n", NEW)
    finally:
        os.close(file)
    assert path.read_bytes() == OLD and files(path) == ["hosts"]
