"""The local cloud on real loop devices: what it tells, attaches and remembers, and what can't serve."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
from pathlib import Path

import pytest

from protokube.cloudprovider.loopfile import devices as loop
from protokube.cloudprovider.static.provider import load_inventory
from protokube.core.model import MIB, Unknown
from protokube.core.volumes.model import Instance, Peer
from protokube.errors import ConfigError, ProviderError, VolumeInUseError
from protokube.kernel import mountinfo
from tests.lab.disks import FaultDisk, until
from tests.lab.local_cloud import (
    INVENTORY,
    Make,
    end,
    holders,
    instance,
    line,
    loop_of,
    make_filesystem,
    only,
    peers,
    run,
    stamps,
    volumes,
)

pytestmark = pytest.mark.root

LOOP_CTL_ADD = 0x4C80
LOOP_CTL_REMOVE = 0x4C81


# --- reading ---------------------------------------------------------------------------------------


def test_looking_makes_nothing(make: Make, tmp_path: Path) -> None:
    cloud = make()
    before = stamps(tmp_path)
    volume = only(cloud)
    assert (volume.available, volume.pristine, volume.identity.backing) == (True, True, None)
    assert peers(cloud) == ()
    assert stamps(tmp_path) == before


def test_the_instance(make: Make) -> None:
    cloud = make("node-b", addresses=("10.0.0.2", "fd00::1"))
    node = instance(cloud)
    assert node.cluster_id == cloud.cluster_id() == "dev.example.com"
    assert (node.id, node.name, node.zone) == ("node-b", "node-b", "local")
    assert (node.internal, node.external) == (("10.0.0.2", "fd00::1"), ("203.0.113.7",))


def test_a_single_node_needs_no_entry(make: Make) -> None:
    assert instance(make("host-1", text="cluster: c")).name == "host-1"
    with pytest.raises(ConfigError, match="'Host_1' where a host name"):
        make("Host_1", text="cluster: c")


def test_a_node_that_is_not_in_the_inventory(make: Make) -> None:
    with pytest.raises(ConfigError, match="no node is named 'node-c', known are node-a, node-b"):
        make("node-c")


def test_an_inventory_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"missing\.yaml: the inventory can't be read: No such file"):
        load_inventory(str(tmp_path / "missing.yaml"))
    (tmp_path / "latin.yaml").write_bytes(b"cluster: \xe4")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_inventory(str(tmp_path / "latin.yaml"))


def test_an_address_that_cannot_be_seen_is_not_no_address(make: Make, image: Path) -> None:
    """`ip addr flush`: what the others read stays, and what this node is called is not known, rather than nothing."""
    cloud, other = make(), make("node-b")
    cloud.attach("main-a")
    before = Path(f"{image}.state").read_bytes()
    blind = make(addresses=())
    found = blind.snapshot(volumes=True)
    assert isinstance(found.instance, Unknown)
    assert found.instance.reason.startswith("node-a: no address can be seen (expected one on the interface of the")
    assert not isinstance(found.volumes, Unknown) and [one.id for one in found.volumes] == ["main-a"]
    assert found.peers == peers(other) == (Peer("node-a", ("10.0.0.1",)),)
    assert isinstance(blind.snapshot(volumes=False).instance, Unknown)
    with pytest.raises(ProviderError, match="no address can be seen"):
        make(addresses=()).announce()
    assert Path(f"{image}.state").read_bytes() == before


def test_addresses_that_cannot_be_read_are_unknown(make: Make) -> None:
    def choose(_announced: tuple[str, ...]) -> tuple[str, ...]:
        raise ProviderError("rtnetlink: no")

    found = make(choose=choose).snapshot(volumes=True)
    assert found.instance == Unknown("rtnetlink: no")
    assert not isinstance(found.volumes, Unknown)


def test_the_choice_of_an_address_knows_what_was_announced_last(make: Make) -> None:
    asked: list[tuple[str, ...]] = []

    def choose(announced: tuple[str, ...]) -> tuple[str, ...]:
        asked.append(announced)
        return ("10.0.0.5", "fd00::5")

    cloud = make(choose=choose)
    peers(cloud)
    cloud.attach("main-a")
    peers(cloud)
    cloud.close()
    peers(make(choose=choose))  # a later process, before it holds the volume again
    peers(make("node-b", choose=choose))  # another node's announcement is not its own
    own = ("10.0.0.5", "fd00::5")
    assert asked == [(), (), own, own, ()]


def test_an_internal_address_in_the_inventory_always_wins(make: Make) -> None:
    def choose(_announced: tuple[str, ...]) -> tuple[str, ...]:
        raise AssertionError("it was asked")

    text = (
        "cluster: c\nnodes: [{name: node-a, internalAddress: fd00::7, externalAddress: [2001:db8::7, 203.0.113.7]}]"
    )
    node = instance(make(text=text, choose=choose))
    assert (node.internal, node.external) == (("fd00::7",), ("203.0.113.7", "2001:db8::7"))


def test_a_worker_is_told_of_no_volumes(make: Make, image: Path) -> None:
    image.parent.mkdir()
    Path(f"{image}.state").write_text("damaged")
    found = make().snapshot(volumes=False)
    assert (found.volumes, found.peers, found.can_tag) == ((), (), True)
    assert instance(make()).internal == ("10.0.0.1",)


def test_a_damaged_state_does_not_hide_a_node_whose_address_is_given(make: Make, image: Path) -> None:
    image.parent.mkdir()
    Path(f"{image}.state").write_text("damaged")
    text = INVENTORY.replace("{name: node-a}", "{name: node-a, internalAddress: 10.0.0.1}")
    found = make(text=text).snapshot(volumes=True)
    assert isinstance(found.instance, Instance) and isinstance(found.volumes, Unknown)


# --- attaching -------------------------------------------------------------------------------------


def test_attaching_makes_a_sparse_image_on_a_loop_device(make: Make, image: Path) -> None:
    cloud = make()
    cloud.attach("main-a")
    info = image.stat()
    assert (info.st_size, info.st_blocks, info.st_mode & 0o777) == (32 * MIB, 0, 0o600)
    volume = only(cloud)
    assert holders(cloud) == ["node-a"]
    assert volume.identity.backing == (info.st_dev, info.st_ino)
    assert loop_of(image)


def test_attaching_again_does_nothing(make: Make, image: Path, tmp_path: Path) -> None:
    cloud = make()
    cloud.attach("main-a")
    before, device = stamps(tmp_path), loop_of(image)
    cloud.attach("main-a")
    assert (stamps(tmp_path), loop_of(image)) == (before, device)


def test_letting_go_frees_the_volume(make: Make, image: Path) -> None:
    cloud = make()
    cloud.attach("main-a")
    cloud.close()
    assert (only(cloud).available, loop_of(image)) == (True, None)
    cloud.attach("main-a")
    assert holders(cloud) == ["node-a"]


def test_pristine_means_that_nothing_was_ever_written(make: Make, image: Path) -> None:
    cloud = make()
    cloud.attach("main-a")
    assert only(cloud).pristine is None  # the loop device may hold what hasn't reached the image
    cloud.close()
    assert only(cloud).pristine is True
    with image.open("r+b") as file:
        file.seek(MIB)
        file.write(b"\0")
    assert only(cloud).pristine is None


def test_a_mount_keeps_the_volume_and_gives_it_back(make: Make, image: Path, tmp_path: Path) -> None:
    root = tmp_path / "root with blanks"
    target = root / "mnt/master-main-a"
    target.mkdir(parents=True)
    cloud, other = make(root=str(root)), make("node-b", root=str(tmp_path / "other"))
    cloud.attach("main-a")
    subprocess.run(["mount", make_filesystem(image), target], check=True, timeout=20)
    try:
        assert holders(cloud) == ["node-a"]
        cloud.close()  # as at the end of the process
        restarted = make(root=str(root))
        assert holders(cloud) == holders(restarted) == holders(other) == ["node-a"]
        with pytest.raises(VolumeInUseError, match="node-a"):
            other.attach("main-a")
    finally:
        subprocess.run(["umount", target], check=True, timeout=20)
    assert only(other).available and loop_of(image) is None
    other.attach("main-a")
    assert holders(cloud) == holders(other) == ["node-b"]


def test_the_device_is_let_go_once_it_is_mounted(make: Make, image: Path, tmp_path: Path) -> None:
    cloud = make(root=str(tmp_path))
    cloud.attach("main-a")
    (tmp_path / "mnt").mkdir()
    subprocess.run(["mount", make_filesystem(image), tmp_path / "mnt"], check=True, timeout=20)
    assert holders(cloud) == ["node-a"]
    subprocess.run(["umount", tmp_path / "mnt"], check=True, timeout=20)
    assert (holders(cloud), loop_of(image)) == ([], None)


def test_a_daemon_of_the_same_name_with_another_root_is_another_holder(make: Make, tmp_path: Path) -> None:
    real, trial = make(root=str(tmp_path / "real")), make(root=str(tmp_path / "trial"))
    real.attach("main-a")
    (holder,) = holders(trial)
    assert holder == f"node-a (another daemon, with root {tmp_path / 'real'})"
    with pytest.raises(VolumeInUseError, match="another daemon"):
        trial.attach("main-a")
    with pytest.raises(ProviderError, match="only its holder may tag it"):
        trial.tag("main-a", "k", "v")


# --- what it remembers -----------------------------------------------------------------------------


def test_a_new_address_is_written_when_it_is_recorded_and_only_then(make: Make, tmp_path: Path) -> None:
    cloud, other = make(), make("node-b")
    cloud.attach("main-a")
    before = stamps(tmp_path)
    cloud.announce()
    other.announce()
    assert stamps(tmp_path) == before
    moved = make(addresses=("10.0.0.77",))
    # Also to itself it tells what the others are told, so that the difference is seen and announced.
    assert instance(moved).internal == ("10.0.0.77",)
    assert peers(moved) == peers(other) == (Peer("node-a", ("10.0.0.1",)),)
    moved.announce()
    assert peers(other) == (Peer("node-a", ("10.0.0.77",)),)


def test_the_same_tag_again_writes_nothing(make: Make, tmp_path: Path) -> None:
    cloud = make()
    cloud.attach("main-a")
    cloud.tag("main-a", "k", "v")
    before = stamps(tmp_path)
    cloud.tag("main-a", "k", "v")
    assert stamps(tmp_path) == before


def test_tags_survive_a_change_of_holder(make: Make) -> None:
    cloud, other = make(), make("node-b")
    cloud.attach("main-a")
    cloud.tag("main-a", "protokube.k8s.io/filesystem", "uuid")
    cloud.close()
    other.attach("main-a")
    assert only(cloud).tags == {"k8s.io/etcd/main": "a/a", "protokube.k8s.io/filesystem": "uuid"}


@pytest.mark.parametrize(
    "content",
    [
        "", "{", "[]", "{}", "\xff", '{"version": 2, "holder": null, "tags": {}}', '{"version": 1, "tags": {}}',
        '{"version": 1, "holder": null, "tags": {"k": 1}}', '{"version": 1, "holder": {"node": "a"}, "tags": {}}',
        '{"version": 1, "holder": "a", "tags": {}}', "[" * 100_000,
    ],
)  # fmt: skip
def test_a_damaged_state_is_no_empty_state(make: Make, image: Path, content: str) -> None:
    cloud = make()
    image.parent.mkdir()
    state = Path(f"{image}.state")
    state.write_bytes(content.encode("latin-1"))
    found = cloud.snapshot(volumes=True)
    # The instance too: which of its addresses was announced stands there, and another one may not take its place.
    for part in (found.volumes, found.peers, found.instance):
        assert isinstance(part, Unknown) and "main-a.img.state can't be understood" in part.reason
    with pytest.raises(ProviderError, match=r"main-a\.img\.state can't be understood"):
        cloud.attach("main-a")
    assert not image.exists()


def test_the_state_is_json_for_people(make: Make, image: Path) -> None:
    cloud = make("node-b", root="/tmp")
    cloud.attach("main-a")
    state = json.loads(Path(f"{image}.state").read_text())
    namespace = str(Path("/proc/self/ns/mnt").readlink())
    assert state == {
        "version": 1,
        "holder": {
            "node": "node-b", "internal": ["10.0.0.1"], "external": ["203.0.113.7"], "root": "/tmp",
            "mountNamespace": namespace,
        },
        "tags": {},
    }  # fmt: skip


def test_nodes_with_members_are_peers(make: Make) -> None:
    text = """\
cluster: c
nodes:
  - {name: node-a, internalAddress: 10.0.0.1, members: {main: a}}
  - {name: node-b, internalAddress: 10.0.0.2, externalAddress: 203.0.113.7, members: {main: b}}
"""
    assert peers(make(text=text)) == (
        Peer("node-a", ("10.0.0.1",), members={"main": "a"}),
        Peer("node-b", ("10.0.0.2",), ("203.0.113.7",), members={"main": "b"}),
    )


# --- what can't serve ------------------------------------------------------------------------------


def test_an_image_of_another_size_is_shown_and_never_attached(make: Make, image: Path) -> None:
    image.parent.mkdir()
    image.write_bytes(b"x" * 1000)
    cloud = make()
    assert not only(cloud).available and "has 1000 bytes, the inventory says 33554432" in only(cloud).status
    with pytest.raises(ProviderError, match="has 1000 bytes, the inventory says 33554432"):
        cloud.attach("main-a")
    assert image.read_bytes() == b"x" * 1000 and only(cloud).attachments == ()


def test_an_image_that_is_no_file(make: Make, image: Path) -> None:
    image.mkdir(parents=True)
    cloud = make()
    assert "is not a regular file" in only(cloud).status
    with pytest.raises(ProviderError, match="is not a regular file"):
        cloud.attach("main-a")


def test_one_image_under_two_names(make: Make, tmp_path: Path, image: Path) -> None:
    text = INVENTORY + "  - {id: main-b, file: other.img, size: 32MiB}\n"
    image.parent.mkdir()
    image.touch()
    (tmp_path / "other.img").symlink_to(image)
    cloud = make(text=text)
    assert ["also another volume's" in volume.status for volume in volumes(cloud)] == [True, True]
    with pytest.raises(ProviderError, match="also another volume's"):
        cloud.attach("main-b")


def test_an_image_that_another_program_bound_is_left_alone(make: Make, image: Path) -> None:
    cloud = make()
    cloud.attach("main-a")
    cloud.close()
    words = ["losetup", "-f", "--show", str(image)]
    device = subprocess.run(words, check=True, capture_output=True, text=True, timeout=20).stdout.strip()
    try:
        with pytest.raises(VolumeInUseError, match="another program's loop device"):
            cloud.attach("main-a")
    finally:
        subprocess.run(["losetup", "-d", device], check=True, timeout=20)


def test_an_image_that_another_program_locked(make: Make, image: Path) -> None:
    image.parent.mkdir()
    with image.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        cloud = make()
        assert holders(cloud) == ["an unknown holder"]
        with pytest.raises(VolumeInUseError, match="in use by an unknown holder"):
            cloud.attach("main-a")


@pytest.mark.parametrize(("options", "advice"), [("ro", "read-only"), ("size=4k,nr_inodes=1", "free space")])
def test_a_folder_that_cannot_be_written_is_explained(make: Make, image: Path, options: str, advice: str) -> None:
    image.parent.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "images", image.parent], check=True, timeout=20)
    try:
        cloud = make()
        assert only(cloud).pristine is True
        with pytest.raises(ProviderError, match=rf"attach {image}: .*{advice}"):
            cloud.attach("main-a")
        assert only(cloud).available
    finally:
        subprocess.run(["umount", image.parent], check=True, timeout=20)


def test_without_loop_devices_it_says_what_to_do(make: Make, image: Path, tmp_path: Path) -> None:
    make()
    code = """
        from protokube.errors import ProviderError
        os.system("mount -t tmpfs dev /dev")
        try:
            cloud.attach("main-a")
        except ProviderError as error:
            print(error, flush=True)
    """
    process = run(tmp_path, code, "unshare", "--mount", "--propagation", "private")
    try:
        assert "no free loop device can be opened: hand /dev/loop-control" in line(process)
    finally:
        end(process)


def test_a_container_that_shows_one_loop_device_uses_that_one(make: Make, tmp_path: Path) -> None:
    """The kernel offers a device that the container doesn't show; the one that it shows is tried then."""
    make()
    control = os.open("/dev/loop-control", os.O_RDWR)
    number = fcntl.ioctl(control, LOOP_CTL_ADD, 1000 + os.getpid() % 1000)
    code = f"""
        os.system("mount -t tmpfs dev /dev")
        os.mknod("/dev/loop-control", 0o20600, os.makedev(10, 237))
        os.mknod("/dev/loop{number}", 0o60600, os.makedev(7, {number}))
        cloud.attach("main-a")
        print([os.readlink(f"/proc/self/fd/{{fd}}") for fd in loops.values()], flush=True)
    """
    process = run(tmp_path, code, "unshare", "--mount", "--propagation", "private")
    try:
        assert line(process) == f"['/dev/loop{number}']"
    finally:
        end(process)
        fcntl.ioctl(control, LOOP_CTL_REMOVE, number)
        os.close(control)


def test_a_loop_device_that_vanishes_meanwhile_is_an_error_and_no_bug(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table of mounts and sysfs are read one after the other: a mount may end between them."""
    (tmp_path / "mounts").write_text("36 35 7:1048575 / /mnt/master-main-a rw - ext4 /dev/loop99 rw\n")
    monkeypatch.setattr(mountinfo, "_MOUNTINFO", str(tmp_path / "mounts"))
    found = make().snapshot(volumes=True).volumes
    assert isinstance(found, Unknown) and found.reason.startswith("look at mounted loop devices: No such file")


# --- disks of the machine --------------------------------------------------------------------------


def test_a_disk_of_the_machine_is_always_attached(make: Make, tmp_path: Path) -> None:
    (tmp_path / "disk.img").write_bytes(b"")
    os.truncate(tmp_path / "disk.img", 32 * MIB)
    image = os.open(tmp_path / "disk.img", os.O_RDWR)
    device = loop.bind(image)
    os.close(image)
    path = str(Path(f"/proc/self/fd/{device}").readlink())
    try:
        cloud = make(text=f"cluster: c\nvolumes: [{{id: main-a, device: {path}, size: 32MiB}}]")
        (attachment,) = only(cloud).attachments
        assert (attachment.instance, only(cloud).identity.path, only(cloud).pristine) == ("node-a", path, None)
        cloud.attach("main-a")
        cloud.tag("main-a", "k", "v")
        assert only(cloud).tags == {"k": "v"} and (tmp_path / "main-a.state").exists()
    finally:
        os.close(device)


@pytest.mark.parametrize(
    ("path", "why"), [("/dev/none", "is not on this machine"), ("/dev/null", "is not a block device")]
)
def test_a_disk_that_is_not_there(make: Make, path: str, why: str) -> None:
    cloud = make(text=f"cluster: c\nvolumes: [{{id: main-a, device: {path}, size: 32MiB}}]")
    assert only(cloud).status == f"error: {path} {why}"
    assert only(cloud).attachments == () and not only(cloud).available
    with pytest.raises(ProviderError, match=f"attach main-a: {path} {why}"):
        cloud.attach("main-a")


def test_a_foreign_loop_device_that_hangs_is_nobodys_concern(make: Make, tmp_path: Path) -> None:
    cloud = make()
    with FaultDisk(tmp_path / "fault") as fault:
        fault.hang()
        # The kernel remembers a file's attributes for a moment.
        asked = ["timeout", "-s", "KILL", "1", "stat", str(tmp_path / "fault" / "export.img")]
        until(lambda: subprocess.run(asked, capture_output=True).returncode, "the file's filesystem hangs")
        cloud.attach("main-a")
        cloud.attach("main-a")
        assert only(cloud).attachments
        fault.hang(False)
