"""A subPath stays in its volume, whatever the volume's containers have left there."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from protokube.agent.core.model import spec_of
from protokube.agent.core.references import File
from protokube.agent.ports import Mount
from protokube.agent.subpath import SubPaths, bind
from protokube.agent.volumes import NO_FILES, Files, Volumes
from protokube.errors import ProviderError
from tests.agent.pods import UIDS, wanted

EMPTY = {"name": "v", "emptyDir": {}}


class Disk:
    """A machine's disk with an emptyDir volume."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.volume = base / "kept" / UIDS[1] / "v"
        self.volume.mkdir(parents=True)
        self.outside = base / "outside"
        self.outside.mkdir()
        self.bound: dict[str, str] = {}

    def mounts(self, sub_path: str, volume: dict[str, Any] = EMPTY, files: Files = NO_FILES) -> list[Mount]:
        mount = {"name": "v", "mountPath": "/m", "subPath": sub_path}
        spec = spec_of(wanted(volumes=[volume], containers=[{"name": "c", "image": "x", "volumeMounts": [mount]}]))
        mounts = self.all().mounts(UIDS[1], spec, spec.containers[0], files)
        return [replace(one, source=self.bound.get(one.source, one.source)) for one in mounts]

    def all(self) -> Volumes:
        """Volumes whose mounts are noted: what is mounted is found by its descriptor."""
        parts = SubPaths(self.base / "parts", self.bind, self.unbind)
        return Volumes(self.base, self.base / "kept", self.base / "memory", parts)

    def bind(self, source: str, target: str) -> None:
        self.bound[target] = str(Path(source).readlink())

    def unbind(self, target: str) -> None:
        if self.bound.pop(target, None) is None:
            raise OSError(errno.EINVAL, "it is no mount")


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path)


@pytest.mark.parametrize("sub_path", ["link", "link/new", "a/link", "./link/"])
def test_a_link_is_not_followed(disk: Disk, sub_path: str) -> None:
    (disk.volume / "a").mkdir()
    for place in (disk.volume, disk.volume / "a"):
        (place / "link").symlink_to(disk.outside)
    with pytest.raises(ProviderError, match=r"link: it is a symbolic link"):
        disk.mounts(sub_path)
    assert list(disk.outside.iterdir()) == []


def test_a_link_to_nothing_makes_nothing(disk: Disk) -> None:
    (disk.volume / "link").symlink_to(disk.base / "new")
    with pytest.raises(ProviderError, match="symbolic link"):
        disk.mounts("link")
    assert not (disk.base / "new").exists()


def test_a_link_in_a_host_path_is_not_followed_below_it(disk: Disk) -> None:
    """The hostPath itself may lead over links: whoever may ask for one may ask for any."""
    (disk.volume / "link").symlink_to(disk.outside)
    (disk.base / "way").symlink_to(disk.volume)
    host = {"name": "v", "hostPath": {"path": "/way"}}
    assert disk.mounts("new", host) == [Mount(str(disk.volume / "new"), "/m")]
    with pytest.raises(ProviderError, match="symbolic link"):
        disk.mounts("link", host)


def test_missing_directories_are_made_and_files_are_taken(disk: Disk) -> None:
    assert disk.mounts("a/./b//c") == [Mount(str(disk.volume / "a/b/c"), "/m")]
    assert (disk.volume / "a/b/c").is_dir()
    (disk.volume / "file").touch()
    assert disk.mounts("file") == [Mount(str(disk.volume / "file"), "/m")]
    with pytest.raises(ProviderError, match="file/x: Not a directory"):
        disk.mounts("file/x")


def test_nothing_is_made_in_a_volume_that_is_filled(disk: Disk) -> None:
    volume = {"name": "v", "configMap": {"name": "m"}}
    files = {"v": {"key": File(b"x")}}
    place = disk.base / "memory" / UIDS[1] / "v"
    assert disk.mounts("key", volume, files) == [Mount(str(place / "key"), "/m", read_only=True)]
    with pytest.raises(ProviderError, match="other: No such file"):
        disk.mounts("other", volume, files)
    assert [path.name for path in place.iterdir()] == ["key"]


def test_what_was_mounted_is_taken_away_once_and_nothing_in_it_is_removed(disk: Disk) -> None:
    for name in ("a", "b", "a"):  # another start of the container mounts it anew
        disk.mounts(name)
    (disk.volume / "file").touch()
    disk.mounts("file")
    assert list(disk.bound.values()) == [str(disk.volume / "file")]
    (disk.volume / "a/kept").touch()
    disk.all()._parts.release(UIDS[1])
    assert disk.bound == {} and (disk.volume / "a/kept").exists() and not (disk.base / "parts" / UIDS[1]).exists()


@pytest.mark.root
def test_a_path_that_is_exchanged_after_the_look_leads_nowhere_else(disk: Disk) -> None:
    """What was found is mounted: a link that takes its place is too late."""
    (disk.volume / "a").mkdir()
    (disk.volume / "a/mine").touch()
    (disk.outside / "secret").touch()

    def exchanged(source: str, target: str) -> None:
        (disk.volume / "a").rename(disk.volume / "b")
        (disk.volume / "a").symlink_to(disk.outside)
        bind(source, target)

    parts = SubPaths(disk.base / "parts", exchanged)
    place = parts.mounted(UIDS[1], "c.0", disk.volume, "a", make=True)
    try:
        assert [path.name for path in place.iterdir()] == ["mine"]
        assert (disk.base / "parts").stat().st_mode & 0o777 == 0o700
    finally:
        parts.release(UIDS[1])
    assert (disk.volume / "b/mine").exists() and not place.exists()
