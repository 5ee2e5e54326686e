"""The parts of the disk adapter that need no disk: records, places, identities, mountinfo."""

from __future__ import annotations

import hashlib
import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protokube.host import process
from protokube.host.children import Child, ChildError
from protokube.host.disk import disklock, intent, sysblock
from protokube.host.disk.jobs import JobState
from protokube.host.disk.places import KIB, MIB, places
from protokube.host.disk.sysblock import UncertainError
from protokube.host.mountpath import way
from protokube.kernel import mountinfo

FIELDS: intent.IntentFields = {
    "cluster_id": "dev.example.com",
    "etcd_cluster": "main",
    "member": "a",
    "volume_id": "vol-0123456789abcdef0",
    "size": 1 << 30,
    "uuid": "0b5e7a4c-52d3-5c1e-9f00-6f2d0c7a1b11",
    "label": "etcd-a",
}


def test_a_record_is_read_as_it_was_written() -> None:
    record = intent.encode(FIELDS)
    assert len(record) == intent.LENGTH
    assert intent.decode(record) == FIELDS


def test_a_disk_without_a_record() -> None:
    assert intent.decode(bytes(intent.LENGTH)) is None


@given(st.integers(0, intent.LENGTH - 1), st.integers(1, 255))
def test_a_record_with_any_byte_changed_is_not_believed(place: int, change: int) -> None:
    record = bytearray(intent.encode(FIELDS))
    record[place] ^= change
    try:
        assert intent.decode(bytes(record)) is None and place < 8
    except intent.IntentError:
        assert place >= 8


@given(st.integers(8, intent.LENGTH))
def test_a_torn_record_is_not_believed(length: int) -> None:
    whole = intent.encode(FIELDS)
    torn = whole[:length].ljust(intent.LENGTH, b"\0")
    if torn != whole:
        with pytest.raises(intent.IntentError):
            intent.decode(torn)


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b'{"version": 2}', b'{"version": 1}', b"\xff", b"[" * 4000])
def test_a_whole_record_of_something_else_is_not_believed(text: bytes) -> None:
    header = struct.pack("<8sI32s", b"PKINTENT", len(text), hashlib.sha256(text).digest())
    with pytest.raises(intent.IntentError):
        intent.decode((header + text).ljust(intent.LENGTH, b"\0"))


@pytest.mark.parametrize("size", [1 << 30, (1 << 30) + 512, 3 * MIB + 512])
def test_the_record_lies_within_the_last_mib_and_on_a_page(size: int) -> None:
    offset = intent.offset(size)
    assert offset % 4096 == 0 and size - MIB <= offset and offset + intent.LENGTH <= size


@pytest.mark.parametrize("size", [2 * MIB, 64 * MIB, 1 << 30, (1 << 30) + 512, 20 << 40])
def test_places_lie_on_the_disk(size: int) -> None:
    for place in places(size):
        assert place.offset >= 0 and 0 < place.length <= MIB and place.offset + place.length <= size


@pytest.mark.parametrize("block", [1024, 2048, 4096])
def test_every_spare_superblock_of_a_real_ext4_is_read(tmp_path: Path, block: int) -> None:
    image = tmp_path / "image"
    image.touch()
    os.truncate(image, 4 << 30)
    command = ["mkfs.ext4", "-q", "-n", "-b", str(block), str(image)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    spares = [int(number) for number in re.findall(r"\d+", said.partition("on blocks:")[2])]
    assert len(spares) > 5
    for spare in spares:
        start, end = spare * block, spare * block + KIB
        assert any(place.offset <= start and end <= place.offset + place.length for place in places(4 << 30)), spare


def test_mountinfo_escapes_and_optional_fields() -> None:
    text = rb"36 35 98:0 /mnt1 /mnt/a\040b\134 rw,noatime master:1 shared:2 - ext4 /dev/root rw,errors=continue"
    line = mountinfo.Line(text)
    assert (line.number, line.root, line.target, line.fstype) == ((98, 0), "/mnt1", "/mnt/a b\\", "ext4")
    assert {"rw", "noatime", "errors=continue"} == line.options
    # Without options of the filesystem's own.
    assert mountinfo.Line(b"25 30 0:23 / /sys rw - sysfs ").options == {"rw", ""}


def test_mountinfo_is_split_at_blanks_and_newlines_alone() -> None:
    name = "/mnt/a\rb\x0bc\x1cd\xa0e\u2028f\udcff"
    line = mountinfo.Line(b"36 35 98:0 / " + os.fsencode(name) + b" rw - ext4 /dev/root rw")
    assert (line.target, line.fstype) == (name, "ext4")


@pytest.mark.root
def test_mountinfo_shows_any_name_that_a_pod_may_choose(tmp_path: Path) -> None:
    names = ["plain", "a b\tc\nd\\e", "carriage\rreturn", "vertical\x0btab", "no\xa0break", "next\x85line", "\udcff"]
    try:
        for name in names:
            (tmp_path / name).mkdir()
            subprocess.run(["mount", "--bind", tmp_path / name, tmp_path / name], check=True, timeout=60)
        prefix = f"{tmp_path}/"
        assert [line.target for line in mountinfo.read() if line.target.startswith(prefix)] == [
            prefix + name for name in names
        ]
    finally:
        for name in names:
            subprocess.run(["umount", tmp_path / name], capture_output=True, timeout=60)


def test_what_hides_a_mount() -> None:
    def line(number: int, above: int, target: str) -> mountinfo.Line:
        return mountinfo.Line(f"{number} {above} 7:{number} / {target} rw - ext4 /dev/x rw".encode())

    root, old, volume = line(1, 0, "/"), line(2, 1, "/mnt"), line(3, 2, "/mnt/master-a")
    beside, inside = line(4, 2, "/mnt/master"), line(5, 3, "/mnt/master-a/var")
    lines = [root, old, volume, beside, inside]
    assert mountinfo.cover(volume, lines) is None, "what carries it, stands beside it or inside it hides nothing"
    over, above = line(6, 3, "/mnt/master-a"), line(7, 2, "/mnt")
    assert mountinfo.cover(volume, [*lines, over]) is over
    assert mountinfo.cover(volume, [*lines, above]) is above
    assert mountinfo.cover(volume, [*lines, line(8, 1, "/")]) is not None


def test_the_way_to_the_mount_points(tmp_path: Path) -> None:
    root = str(tmp_path)
    assert way(root) == ("/mnt", {}), "what is missing will be made"
    (tmp_path / "var/mnt/master-a").mkdir(parents=True)
    (tmp_path / "var/mnt/master-b").touch()
    (tmp_path / "var/mnt/other").symlink_to("nowhere")
    (tmp_path / "mnt").symlink_to("var/mnt")
    real, barred = way(root)
    assert real == "/var/mnt" and list(barred) == ["/mnt/master-b"]
    (tmp_path / "mnt").unlink()
    (tmp_path / "mnt").symlink_to("mnt")
    _, barred = way(root)
    assert list(barred) == ["/mnt"] and "a symbolic link that leads in a circle" in barred["/mnt"]
    (tmp_path / "mnt").unlink()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "mnt").symlink_to("../elsewhere")
    _, barred = way(root)
    assert list(barred) == ["/mnt"] and f"leads out of {root}" in barred["/mnt"], "as the mount would go"


def test_mounts_below_a_root() -> None:
    def line(target: str, number: str = "7:0", root: str = "/") -> mountinfo.Line:
        return mountinfo.Line(f"36 35 {number} {root} {target} rw - ext4 /dev/x rw".encode())

    lines = [line("/"), line("/r"), line("/r/a"), line("/r/a", "7:1"), line("/r/b", root="/sub"), line("/rest")]
    below = mountinfo.below("/r", lines)
    assert {target: one.number for target, one in below.items()} == {"/": (7, 0), "/a": (7, 1)}
    assert set(mountinfo.below("/", [line("/"), line("/mnt/x")])) == {"/", "/mnt/x"}


class Machine:
    """A picture of /sys/block: the real one here has no NVMe, virtio with serials, or Xen disks."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._path = path
        self.hint = ""
        monkeypatch.setattr(sysblock, "_SYS_BLOCK", str(path))

    def add(self, name: str, size: int, *, serial: str = "", nvme: bool = False) -> None:
        disk = self._path / name
        disk.mkdir(parents=True)
        (disk / "dev").write_text(f"259:{len(list(self._path.iterdir()))}\n")
        (disk / "size").write_text(f"{size // 512}\n")
        if serial:
            where = disk / "device/serial" if nvme else disk / "serial"
            where.parent.mkdir(exist_ok=True)
            where.write_text(serial.ljust(20) + "\n")

    def find(self, size: int, **identity: object) -> str | None:
        serials = frozenset(identity.get("serials", ()))  # type: ignore[call-overload]
        wanted = serials, None, identity.get("path"), identity.get("asked")
        found = sysblock.locate(wanted, size, sysblock.disks(), lambda _: None)  # type: ignore[arg-type]
        self.hint = found.hint if isinstance(found, sysblock.Missing) else ""
        return found.name if isinstance(found, sysblock.BlockDisk) else None


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path / "block", monkeypatch)


def test_a_disk_is_found_by_its_serial_whatever_its_name(machine: Machine) -> None:
    machine.add("nvme0n1", 8 * MIB, serial="vol0root", nvme=True)
    machine.add("nvme1n1", 8 * MIB, serial="vol0123456789abcdef0", nvme=True)
    machine.add("vdb", 8 * MIB, serial="short")
    assert machine.find(8 * MIB, serials={"vol0123456789abcdef0"}, asked="/dev/xvdu") == "nvme1n1"
    assert machine.find(8 * MIB, serials={"short"}) == "vdb"
    assert machine.find(8 * MIB, serials={"absent"}) is None
    assert machine.hint == "no disk has the serial absent"


def test_a_disk_whose_partitions_the_kernel_knows_is_in_use(machine: Machine, tmp_path: Path) -> None:
    for name in ("vdb", "loop0"):
        machine.add(name, 8 * MIB)
        partition = tmp_path / f"block/{name}/{name}p1"
        partition.mkdir()
        (partition / "partition").write_text("1\n")
        (partition / "dev").write_text("259:77\n")
    (tmp_path / "block/loop0/loop").mkdir()
    (tmp_path / "block/loop0/loop/backing_file").write_text("/some/file\n")
    with pytest.raises(disklock.InUseError, match=r"it has partitions: vdbp1; .* partx --delete /dev/vdb"):
        disklock.refuse_used(sysblock.BlockDisk("vdb"))
    disklock.refuse_used(sysblock.BlockDisk("loop0"))  # they may be left from an earlier file


def test_two_disks_with_one_serial_are_both_named(machine: Machine) -> None:
    machine.add("vda", 8 * MIB, serial="one")
    machine.add("vdb", 8 * MIB, serial="one")
    with pytest.raises(UncertainError, match=r"/dev/vda and /dev/vdb both match"):
        machine.find(8 * MIB, serials={"one"})


def test_the_name_asked_for_counts_only_without_a_serial_and_with_the_size(machine: Machine) -> None:
    machine.add("xvdu", 8 * MIB)
    assert machine.find(8 * MIB, serials={"vol0"}, asked="/dev/xvdu") == "xvdu"
    assert machine.find(8 * MIB, serials={"vol0"}, asked="xvdu") == "xvdu"
    assert machine.find(8 * MIB, serials={"vol0"}, asked="/dev/xvdv") is None
    assert machine.hint == "no disk has the serial vol0, and there is no /dev/xvdv"
    with pytest.raises(UncertainError, match="not taken for it"):
        machine.find(9 * MIB, serials={"vol0"}, asked="/dev/xvdu")


def test_the_name_asked_for_does_not_count_for_a_disk_with_another_serial(machine: Machine) -> None:
    machine.add("xvdu", 8 * MIB, serial="other")
    assert machine.find(8 * MIB, serials={"vol0"}, asked="/dev/xvdu") is None
    assert machine.hint.endswith("/dev/xvdu is another disk, with the serial other")


@pytest.mark.parametrize("asked", ["/dev/sdf", "sdf"])
def test_a_name_that_the_kernel_may_have_changed_does_not_count_and_is_explained(
    machine: Machine, asked: str
) -> None:
    """/dev/sdf, as a person asks for it, is xvdf for one Xen kernel and xvdj for another."""
    machine.add("xvdf", 8 * MIB)
    machine.add("xvdj", 8 * MIB)
    assert machine.find(8 * MIB, serials={"vol0"}, asked=asked) is None
    assert "there is no /dev/sdf; /dev/xvdf may be it, but" in machine.hint and "detach the volume" in machine.hint
    assert machine.find(8 * MIB, serials={"vol0"}, asked="/dev/sdg") is None
    assert machine.hint == "no disk has the serial vol0, and there is no /dev/sdg"


def test_a_serial_that_cannot_be_read_is_not_the_same_as_none(machine: Machine, tmp_path: Path) -> None:
    machine.add("xvdu", 8 * MIB)
    (tmp_path / "block/xvdu/serial").mkdir()
    with pytest.raises(UncertainError, match="can't be read"):
        machine.find(8 * MIB, serials={"vol0"}, asked="/dev/xvdu")


def test_the_name_asked_for_does_not_count_beside_nvme_disks(machine: Machine) -> None:
    machine.add("xvdu", 8 * MIB)
    machine.add("nvme0n1", 8 * MIB, nvme=True, serial="vol1")
    assert machine.find(8 * MIB, serials={"vol0"}, asked="/dev/xvdu") is None
    assert machine.hint.endswith("and beside NVMe disks (/dev/nvme0n1) the name /dev/xvdu does not count")
    assert machine.find(8 * MIB, serials={"vol0"}, asked="/dev/xvdv") is None
    assert machine.hint == "no disk has the serial vol0", "no name is expected here"


def test_a_path_leads_to_a_whole_disk_or_to_nothing(machine: Machine, tmp_path: Path) -> None:
    machine.add("vdb", 8 * MIB, serial="one")
    link = tmp_path / "link"
    assert machine.find(8 * MIB, path=str(link)) is None and machine.hint == f"there is no {link}"
    link.symlink_to("/dev/vdb")
    assert machine.find(8 * MIB, path=str(link)) == "vdb"
    assert machine.find(8 * MIB, path=str(link), serials={"one"}) == "vdb"
    with pytest.raises(UncertainError, match="does not agree"):
        machine.find(8 * MIB, path=str(link), serials={"two"})
    link.unlink()
    link.symlink_to("/dev/null")
    with pytest.raises(UncertainError, match="not a whole disk"):
        machine.find(8 * MIB, path=str(link))


def test_a_missing_tool_names_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_TOOL_DIRS", ("/nonexistent",))
    with pytest.raises(process.ToolMissingError, match=r"mkfs\.ext4 is not installed: install the package e2fsprogs"):
        process.tool("mkfs.ext4")


def test_a_child_that_fails_is_no_answer(capfd: pytest.CaptureFixture[str]) -> None:
    child = Child("nosuch", {})
    while not child.read():
        pass
    with pytest.raises(ChildError, match="ended with 1"):
        child.answer()
    assert "ModuleNotFoundError" in capfd.readouterr().err


def test_a_program_that_talks_without_end_is_cut_off() -> None:
    code, text, errors = process.Running([process.tool("yes")]).result(1000)
    assert code < 0 or errors
    assert len(text) == 1000


def test_the_job_state_of_another_boot_or_gone_bad_is_none(tmp_path: Path) -> None:
    state = JobState(str(tmp_path / "disks"), "vol-a")
    state.end("it broke", "mkfs.ext4")
    assert state.recent_failure(60) is not None
    file = tmp_path / "disks/vol-a.json"
    text = file.read_text()
    file.write_text(re.sub('"boot": "[^"]*"', '"boot": "another"', text))
    assert state.recent_failure(60) is None and state.running() is None
    for bad in ("", "{", "[]", "null"):
        file.write_text(bad)
        assert state.load() == {}
    with pytest.raises(ValueError, match=r"can't be part of a file's name"):
        JobState(str(tmp_path), "../vol-a")


@pytest.mark.parametrize("module", ["probe", "worker"])
def test_a_childs_start_loads_nothing_heavy(module: str) -> None:
    """Most of a probe's time is the interpreter's start; a new import is paid for each disk in each reconcile."""
    start = "import sys; sys.path.insert(0, sys.argv[1]); import protokube.host.disk.{}; print(*sys.modules)"
    command = [sys.executable, "-I", "-S", "-c", start.format(module), str(Path(__file__).parents[2])]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    loaded = set(done.stdout.split())
    ours = {name for name in loaded if name.startswith("protokube.")}
    allowed = ("protokube.host.disk", "protokube.host.process", "protokube.kernel")
    plain = {"protokube.host", "protokube.core", "protokube.core.disks", "protokube.core.disks.paths"}
    assert {name for name in ours if not name.startswith(allowed)} <= plain
    heavy = {
        "collections",
        "contextlib",
        "dataclasses",
        "enum",
        "hashlib",
        "json",
        "logging",
        "pathlib",
        "random",
        "re",
    }
    heavy |= {"subprocess", "tempfile", "threading", "typing", "msgspec"}
    assert not heavy & loaded
