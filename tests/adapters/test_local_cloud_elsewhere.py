"""The local cloud starts no member on an empty image whose filesystem another volume has."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from protokube.cloudprovider.static import state
from protokube.cloudprovider.static.provider import StaticCloud
from protokube.core.disks.identity import Identity
from protokube.core.model import Unknown
from protokube.core.volumes.model import FILESYSTEM_TAG, CloudVolume, EtcdMember
from protokube.core.volumes.uuid import filesystem_uuid
from protokube.errors import VolumeDeniedError
from tests.lab.disks import LoopDisk
from tests.lab.local_cloud import Make

pytestmark = pytest.mark.root

CLUSTER = "dev.example.com"
MAIN_A = EtcdMember("main", "a", ("a",))
OTHER = "11111111-1111-4111-8111-111111111111"
OLD = "  - {id: main-old, file: volumes/main-old.img, size: 64MiB}\n"
INVENTORY = f"""\
cluster: {CLUSTER}
nodes:
  - {{name: node-a}}
volumes:
  - id: main-a
    file: volumes/main-a.img
    size: 32MiB
    tags: {{KubernetesCluster: {CLUSTER}, k8s.io/etcd/main: a/a}}
"""


def uuid(member: EtcdMember = MAIN_A, cluster: str = CLUSTER, volume: str = "main-old") -> str:
    return filesystem_uuid(cluster, member, volume)


def shown(cloud: StaticCloud) -> CloudVolume:
    found = cloud.snapshot(volumes=True).volumes
    assert not isinstance(found, Unknown), found
    return next(one for one in found if one.id == "main-a")


def old_image(folder: Path, made: str) -> Path:
    """The image of main-old, with an ext4 of this UUID."""
    image = folder / "volumes/main-old.img"
    image.parent.mkdir(exist_ok=True)
    with LoopDisk(image) as disk:
        disk.make_ext4(made)
    return image


def recorded(folder: Path) -> Path:
    """The image, which was in use, and which the inventory no longer lists."""
    image = old_image(folder, uuid())
    (folder / "main-old.used").write_text(f"{image} has been in use: no other image is made for main-old\n")
    return image


def remembered(folder: Path) -> Path:
    """The state file alone: the image is on a disk that isn't there now."""
    path = folder / "volumes/main-old.img.state"
    path.parent.mkdir()
    state.save(str(path), state.State(None, {FILESYSTEM_TAG: uuid()}))
    return path


SHOWN: dict[str, tuple[str, Callable[[Path], Path]]] = {
    "the tag was moved to a new volume": (INVENTORY + OLD, lambda folder: old_image(folder, uuid())),
    "the volume got a new id": (INVENTORY, recorded),
    "its image is away": (INVENTORY + OLD, remembered),
}


@pytest.mark.parametrize("empty", [False, True], ids=["missing", "empty"])
@pytest.mark.parametrize("case", SHOWN)
def test_an_empty_image_is_neither_made_nor_used(make: Make, tmp_path: Path, case: str, empty: bool) -> None:
    text, place = SHOWN[case]
    path = place(tmp_path)
    image = tmp_path / "volumes/main-a.img"
    if empty:
        subprocess.run(["truncate", "-s", "32M", image], check=True, timeout=20)
    cloud = make(text=text, root=str(tmp_path / "root"))
    found = shown(cloud)
    assert found.obstacle and found.obstacle.rule == "volume/member-elsewhere" and found.pristine is None
    assert f"(shown by {path})" in found.obstacle.reason
    with pytest.raises(VolumeDeniedError, match="its member has a filesystem on another volume"):
        cloud.attach("main-a")
    assert image.exists() == empty
    path.rename(tmp_path / "given up")
    assert shown(cloud).obstacle is None
    cloud.attach("main-a")
    assert shown(cloud).attachments


def test_an_image_with_data_is_used_whatever_others_hold(make: Make, tmp_path: Path) -> None:
    old_image(tmp_path, uuid())
    (tmp_path / "volumes/main-a.img").write_bytes(b"\x01" + bytes(32 * 2**20 - 1))
    cloud = make(text=INVENTORY + OLD, root=str(tmp_path / "root"))
    assert shown(cloud).obstacle is None


@pytest.mark.parametrize(
    "made",
    [
        OTHER,
        uuid(EtcdMember("main", "b", ("b",))),
        uuid(EtcdMember("events", "a", ("a",))),
        uuid(cluster="other.example.com"),
        uuid(volume="main-a"),
    ],
    ids=["another's", "another member", "another etcd cluster", "another cluster", "this volume's own"],
)
def test_what_was_made_for_another_is_no_evidence(make: Make, tmp_path: Path, made: str) -> None:
    old_image(tmp_path, made)
    cloud = make(text=INVENTORY + OLD, root=str(tmp_path / "root"))
    assert shown(cloud).obstacle is None
    cloud.attach("main-a")


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({}, True),
        ({"member": "b"}, False),
        ({"etcd_cluster": "events"}, False),
        ({"cluster_id": "other.example.com"}, False),
    ],
)
def test_the_identity_file_of_a_mounted_volume(
    make: Make, tmp_path: Path, changes: dict[str, str], found: bool
) -> None:
    """A volume of kops keeps its UUID, so its identity file alone tells whose it is."""
    identity = replace(Identity(CLUSTER, "main", "a", "main-kops", OTHER), **changes)
    target = tmp_path / "root/mnt/master-main-kops"
    target.mkdir(parents=True)
    with LoopDisk(tmp_path / "kops.img") as disk:
        disk.make_ext4(OTHER)
        with disk.mounted(target) as mounted:
            cloud = make(text=INVENTORY, root=str(tmp_path / "root"))
            assert shown(cloud).obstacle is None
            (mounted / "k8s.io").mkdir()
            (mounted / "k8s.io/identity.yaml").symlink_to("/etc/hostname")
            assert shown(cloud).obstacle is None, "a planted link leads nowhere"
            (mounted / "k8s.io/identity.yaml").unlink()
            (mounted / "k8s.io/identity.yaml").write_text(identity.render())
            obstacle = shown(cloud).obstacle
            assert bool(obstacle) == found
            assert not obstacle or f"{target}/k8s.io/identity.yaml" in obstacle.reason
    assert shown(cloud).obstacle is None
