"""Nodes of the local cloud on one inventory with one image, in this process and in processes of their own."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from protokube.cloudprovider.local import local_cloud
from protokube.cloudprovider.static.provider import Addresses, StaticCloud, load_inventory, own_node
from protokube.core.model import Unknown
from protokube.core.volumes.model import CloudVolume, Instance, Peer

INVENTORY = """\
cluster: dev.example.com
nodes:
  - {name: node-a}
  - {name: node-b, externalAddress: 203.0.113.7}
volumes:
  - {id: main-a, file: volumes/main-a.img, size: 32MiB, tags: {k8s.io/etcd/main: a/a}}
"""
IMAGE = "volumes/main-a.img"

Make = Callable[..., StaticCloud]


@contextmanager
def nodes(folder: Path) -> Iterator[Make]:
    """Makes nodes of one inventory in `folder`; they are closed in the end."""
    made: list[StaticCloud] = []

    def make(
        node: str = "node-a",
        *,
        text: str = INVENTORY,
        addresses: tuple[str, ...] = ("10.0.0.1",),
        choose: Addresses | None = None,
        root: str = "/",
    ) -> StaticCloud:
        path = folder / "inventory.yaml"
        path.write_text(text)
        inventory = load_inventory(str(path))
        choice = choose or (lambda _announced: addresses)
        made.append(local_cloud(inventory, own_node(inventory, node), choice, root=root))
        return made[-1]

    try:
        yield make
    finally:
        for cloud in made:
            cloud.close()


def instance(cloud: StaticCloud) -> Instance:
    """Its node."""
    found = cloud.snapshot(volumes=False).instance
    assert isinstance(found, Instance), found
    return found


def volumes(cloud: StaticCloud) -> tuple[CloudVolume, ...]:
    """Its volumes."""
    found = cloud.snapshot(volumes=True).volumes
    assert not isinstance(found, Unknown), found
    return found


def peers(cloud: StaticCloud) -> tuple[Peer, ...]:
    """Its peers."""
    found = cloud.snapshot(volumes=True).peers
    assert not isinstance(found, Unknown), found
    return found


def only(cloud: StaticCloud) -> CloudVolume:
    """Its one volume."""
    (volume,) = volumes(cloud)
    return volume


def holders(cloud: StaticCloud) -> list[str]:
    """The nodes that it says hold the volume."""
    return [attachment.instance for attachment in only(cloud).attachments]


def loop_of(image: Path) -> str | None:
    """The loop device of an image. By sysfs: `losetup -j` asks every device of the machine, and a test's may hang."""
    for path in Path("/sys/block").glob("loop*/loop/backing_file"):
        with suppress(FileNotFoundError):
            if path.read_text().rstrip("\n") == str(image):
                return f"/dev/{path.parts[3]}"
    return None


def make_filesystem(image: Path) -> str:
    """Make an ext4 on an attached image, and return its device."""
    device = loop_of(image)
    assert device
    subprocess.run(["mkfs.ext4", "-q", device], check=True, timeout=60)
    return device


def stamps(folder: Path) -> dict[str, tuple[int, int]]:
    """Inode and time of change of everything in a folder."""
    return {str(path): (path.stat().st_ino, path.stat().st_ctime_ns) for path in sorted(folder.rglob("*"))}


PROGRAM = """
import os, sys, time
from protokube.cloudprovider.local import local_cloud
from protokube.cloudprovider.static.provider import load_inventory, own_node
inventory = load_inventory(sys.argv[1])
cloud = local_cloud(inventory, own_node(inventory, sys.argv[2]), lambda _: ("10.0.0.9",), root=sys.argv[3])
loops = cloud._kinds[1]._kept
"""


def run(tmp_path: Path, code: str, *before: str, node: str = "node-a", root: str = "/") -> subprocess.Popen[str]:
    """A program on a node, with `cloud` made for it; `before` are words before the interpreter's."""
    words = [
        *before,
        sys.executable,
        "-c",
        PROGRAM + textwrap.dedent(code),
        str(tmp_path / "inventory.yaml"),
        node,
        root,
    ]
    return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def end(process: subprocess.Popen[str]) -> int:
    """Kill it, and return its exit code."""
    process.kill()
    process.communicate(timeout=20)
    return process.returncode


def line(process: subprocess.Popen[str]) -> str:
    """The next line that it prints."""
    assert process.stdout
    return process.stdout.readline().strip()
