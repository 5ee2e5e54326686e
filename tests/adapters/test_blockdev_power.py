"""Volumes of our own after a power cut: their journal is replayed before they are judged."""

from __future__ import annotations

import lzma
from pathlib import Path

import pytest

from protokube.core.disks.model import Ext4, VolumeContents
from tests.lab.disks import MIB, LoopDisk, Node

pytestmark = pytest.mark.root

IMAGES = sorted((Path(__file__).parent / "data").glob("power-cut-*.img.xz"))
UUID = "26464824-ba61-5399-8d21-92c8ad37ce2b"


@pytest.mark.parametrize("image", IMAGES, ids=lambda image: image.name.partition(".")[0])
def test_the_journal_is_replayed_by_the_check_and_not_by_the_probe(here: Node, tmp_path: Path, image: Path) -> None:
    """Volumes of a real etcd whose writes were cut: what stands in place is a mixture of two moments."""
    with (tmp_path / "disk.img").open("wb") as file:
        content = lzma.decompress(image.read_bytes())
        for start in range(0, len(content), MIB):
            chunk = content[start : start + MIB]
            file.seek(len(chunk), 1) if chunk.count(0) == len(chunk) else file.write(chunk)
        file.truncate(len(content))
    with LoopDisk(tmp_path / "disk.img", 96 * MIB) as disk:
        volume = disk.volume("main-a")
        before = disk.digest()
        found = here.look(volume)
        assert isinstance(found, Ext4) and found.needs_recovery and found.used and not found.checked, found
        assert isinstance(found.contents, VolumeContents) and "k8s.io/" in found.contents.entries, (
            "shown in spite of its bitmaps"
        )
        assert "k8s.io/identity.yaml" not in found.contents.texts, "so that a judgement would be wrong now"
        assert disk.digest() == before

        here.check(volume, disk, UUID)
        here.finish()
        assert here.failure(volume) == ""
        found = here.look(volume)
        assert found.checked and not found.needs_recovery
        assert "member: a\n" in found.contents.texts["k8s.io/identity.yaml"]
        assert (here.mount(volume, disk, UUID) / "var/etcd/data/member/wal").is_dir()
