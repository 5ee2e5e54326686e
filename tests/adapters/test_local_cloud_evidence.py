"""The local cloud makes an image once: any trace of an earlier one refuses a second."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from protokube.cloudprovider.loopfile import images
from protokube.core.model import MIB, Unknown
from protokube.errors import ProviderError, VolumeDeniedError
from tests.lab.local_cloud import INVENTORY, Make, holders, only

pytestmark = pytest.mark.root

MANIFESTS = "etc/kubernetes/manifests"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A node's root, with an empty manifest folder."""
    (tmp_path / "root" / MANIFESTS).mkdir(parents=True)
    return tmp_path / "root"


@pytest.mark.parametrize("node", ["node-a", "node-b"])
def test_images_whose_folder_is_away_are_not_made_again(make: Make, image: Path, root: Path, node: str) -> None:
    """The folder wasn't mounted at boot. Neither the last holder nor another node starts an empty cluster."""
    first = make(root=str(root))
    first.attach("main-a")
    first.close()
    away = image.parent.rename(image.parent.with_name("away"))
    cloud = make(node, root=str(root.with_name("other")))
    obstacle = only(cloud).obstacle
    assert obstacle and obstacle.rule == "volume/image-missing"
    assert obstacle.reason.startswith(f"{image}: missing or empty, and was in use (shown by ")
    assert "mount the folder of the images" in obstacle.reason and only(cloud).pristine is None
    with pytest.raises(VolumeDeniedError, match=r"shown by .*main-a\.used"):
        cloud.attach("main-a")
    assert not image.parent.exists()
    away.rename(image.parent)
    assert only(cloud).obstacle is None
    cloud.attach("main-a")
    assert holders(cloud) == [node]


def _manifest(root: Path, text: str) -> Path:
    path = root / MANIFESTS / "etcd.manifest"
    path.write_text(text)
    return path


def _link(root: Path, target: str) -> Path:
    path = root / MANIFESTS / "etcd-main.manifest"
    path.symlink_to(target)
    return path


def _file(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


EVIDENCE: dict[str, Callable[[Path], Path]] = {
    "record": lambda root: _file(root.parent / "main-a.used"),
    "link": lambda root: _link(root, "../../../mnt/master-main-a/k8s.io/manifests/etcd-main.manifest"),
    "manifest": lambda root: _manifest(root, "hostPath: {path: /mnt/master-main-a/var/etcd}"),
    "manifest of kops": lambda root: _manifest(root, '"path": "/mnt/master-main-a"'),
}


@pytest.mark.parametrize("kind", EVIDENCE)
def test_any_evidence_is_enough(make: Make, image: Path, root: Path, kind: str) -> None:
    shown = EVIDENCE[kind](root)
    cloud = make(root=str(root))
    obstacle = only(cloud).obstacle
    assert obstacle and f"(shown by {shown})" in obstacle.reason
    with pytest.raises(VolumeDeniedError, match="missing or empty"):
        cloud.attach("main-a")
    assert not image.exists()
    shown.unlink()
    cloud.attach("main-a")
    assert holders(cloud) == ["node-a"]


def test_a_state_without_its_image_is_evidence(make: Make, image: Path, root: Path) -> None:
    cloud = make(root=str(root))
    cloud.attach("main-a")
    cloud.close()
    image.unlink()
    (root.parent / "main-a.used").unlink()
    obstacle = only(cloud).obstacle
    assert obstacle and f"(shown by {image}.state)" in obstacle.reason


def test_a_mount_point_that_protokube_used_is_evidence(make: Make, root: Path) -> None:
    mount_point = root / "mnt/master-main-a"
    mount_point.mkdir(parents=True)
    subprocess.run(["chattr", "+i", mount_point], check=True, timeout=20)
    try:
        obstacle = only(make(root=str(root))).obstacle
        assert obstacle and f"(shown by {mount_point})" in obstacle.reason
    finally:
        subprocess.run(["chattr", "-i", mount_point], check=True, timeout=20)
    assert only(make(root=str(root))).obstacle is None


def test_what_belongs_to_another_volume_is_no_evidence(make: Make, root: Path) -> None:
    (root / "mnt/master-main-a").mkdir(parents=True)  # an operator's: protokube's own is immutable
    (root / MANIFESTS / "folder").mkdir()
    (root / MANIFESTS / "broken").symlink_to("nowhere")
    for number, name in enumerate(("main-ab", "main-a.b", "main-a_", "events-a")):
        (root / MANIFESTS / f"{number}.manifest").write_text(f"path: /mnt/master-{name}/var")
    cloud = make(root=str(root))
    assert only(cloud).obstacle is None
    cloud.attach("main-a")
    assert holders(cloud) == ["node-a"]


def test_an_image_that_lost_all_its_bytes_is_missing_too(make: Make, image: Path, root: Path) -> None:
    cloud = make(root=str(root))
    cloud.attach("main-a")
    cloud.close()
    image.write_bytes(b"")
    with pytest.raises(VolumeDeniedError, match="missing or empty"):
        cloud.attach("main-a")
    assert image.stat().st_size == 0


def test_an_operator_may_give_up_what_was_on_it(make: Make, image: Path, root: Path) -> None:
    """The command that the reason names is a decision: the volume serves again, with an empty image."""
    _link(root, "../../../mnt/master-main-a/k8s.io/manifests/etcd-main.manifest")
    cloud = make(root=str(root))
    obstacle = only(cloud).obstacle
    assert obstacle
    image.parent.mkdir()
    subprocess.run(shlex.split(obstacle.reason.rpartition("one: ")[2]), check=True, timeout=20)
    assert only(cloud).obstacle is None
    cloud.attach("main-a")
    assert holders(cloud) == ["node-a"]


def test_an_image_of_no_bytes_without_evidence_is_what_a_crash_left(make: Make, image: Path, root: Path) -> None:
    _file(image)
    cloud = make(root=str(root))
    cloud.attach("main-a")
    assert image.stat().st_size == 32 * MIB


@pytest.mark.parametrize("left", [False, True], ids=["gone", "empty"])
def test_an_image_that_vanishes_after_the_look_is_not_made(image: Path, left: bool) -> None:
    if left:
        _file(image)
    with pytest.raises(ProviderError, match=r"attach .*main-a\.img: (No such file|it has become empty)"):
        images.open_locked(str(image), 32 * MIB, "node-a", make=False)
    assert not image.exists() or image.stat().st_size == 0


def test_evidence_that_cannot_be_read_is_not_absent(make: Make, image: Path, root: Path) -> None:
    (root / MANIFESTS).rmdir()
    (root / MANIFESTS).touch()
    cloud = make(root=str(root))
    found = cloud.snapshot(volumes=True)
    assert isinstance(found.volumes, Unknown) and "look for evidence of main-a: Not a dir" in found.volumes.reason
    with pytest.raises(ProviderError, match="look for evidence of main-a"):
        cloud.attach("main-a")
    assert not image.exists()


def test_one_lost_image_leaves_the_others_alone(make: Make, root: Path) -> None:
    _file(root.parent / "main-a.used")
    text = INVENTORY + "  - {id: events-a, file: volumes/events-a.img, size: 32MiB}\n"
    cloud = make(text=text, root=str(root))
    cloud.attach("events-a")
    found = cloud.snapshot(volumes=True).volumes
    assert not isinstance(found, Unknown)
    assert [(one.id, bool(one.obstacle), bool(one.attachments)) for one in found] == [
        ("main-a", True, False),
        ("events-a", False, True),
    ]


def test_the_record_is_written_once_and_says_what_it_is(make: Make, image: Path, root: Path) -> None:
    cloud = make(root=str(root))
    cloud.attach("main-a")
    record = root.parent / "main-a.used"
    assert record.read_text() == f"{image} has been in use: no other image is made for main-a\n"
    before = record.stat().st_mtime_ns
    cloud.close()
    cloud.attach("main-a")
    assert record.stat().st_mtime_ns == before
