"""The local cloud when daemons are killed, machines lose power, and many want one volume: the kernel is the lock."""

from __future__ import annotations

import fcntl
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from protokube.cloudprovider.local import local_cloud
from protokube.cloudprovider.static.provider import load_inventory, own_node
from protokube.core.model import MIB
from protokube.core.volumes.model import Peer
from protokube.errors import VolumeInUseError
from tests.lab import inside
from tests.lab.disks import until
from tests.lab.local_cloud import (
    INVENTORY,
    Make,
    end,
    holders,
    line,
    loop_of,
    only,
    peers,
    run,
)
from tests.lab.systemd_node import SystemdNode

pytestmark = pytest.mark.root


@pytest.mark.parametrize(
    "before", [[], ["unshare", "--mount", "--propagation", "private"]], ids=["process", "namespace"]
)
def test_a_killed_node_frees_its_volume(make: Make, tmp_path: Path, before: list[str]) -> None:
    cloud = make()
    code = "cloud.attach('main-a'); print('attached', flush=True); sys.stdin.read()"
    process = run(tmp_path, code, *before, node="node-b")
    try:
        assert line(process) == "attached"
        assert holders(cloud) == ["node-b"]
        assert peers(cloud) == (Peer("node-b", ("10.0.0.9",), ("203.0.113.7",)),)
        with pytest.raises(VolumeInUseError, match="node-b"):
            cloud.attach("main-a")
    finally:
        end(process)
    assert only(cloud).available and peers(cloud) == ()
    cloud.attach("main-a")
    assert holders(cloud) == ["node-a"]


def test_a_mount_in_another_namespace_holds_the_volume_until_the_namespace_ends(
    make: Make, tmp_path: Path, image: Path
) -> None:
    cloud = make("node-b")
    (tmp_path / "mnt").mkdir()
    code = f"""
        import subprocess
        from pathlib import Path
        from tests.lab.local_cloud import loop_of
        cloud.attach("main-a")
        device = loop_of(Path({str(image)!r}))
        subprocess.run(["mkfs.ext4", "-q", device], check=True)
        subprocess.run(["mount", device, {str(tmp_path / "mnt")!r}], check=True)
        cloud.close()
        print([a.instance for v in cloud.snapshot(volumes=True).volumes for a in v.attachments], flush=True)
        sys.stdin.read()
    """
    process = run(tmp_path, code, "unshare", "--mount", "--propagation", "private")
    try:
        assert line(process) == "['node-a']"
        assert holders(cloud) == ["node-a"]
        with pytest.raises(VolumeInUseError, match="node-a"):
            cloud.attach("main-a")
    finally:
        end(process)
    assert only(cloud).available


def test_a_tool_that_outlives_its_process_still_holds_the_volume_for_this_node(make: Make, tmp_path: Path) -> None:
    """mkfs goes on when the daemon is killed: the next one must find it, not fight it."""
    cloud, other = make(), make("node-b")
    code = """
        import subprocess
        cloud.attach("main-a")
        (device,) = loops.values()
        tool = subprocess.Popen(["sleep", "600"], pass_fds=[device], stdout=subprocess.DEVNULL, process_group=0)
        print(tool.pid, flush=True)
        sys.stdin.read()
    """
    process = run(tmp_path, code)
    tool = int(line(process))
    try:
        end(process)
        assert holders(cloud) == holders(other) == ["node-a"]
        cloud.attach("main-a")
    finally:
        os.kill(tool, signal.SIGKILL)
        while Path(f"/proc/{tool}").exists() and "Z" not in Path(f"/proc/{tool}/stat").read_text().split()[2]:
            pass
    assert only(other).available


IN_A_CONTAINER = """
import os, subprocess, sys
from protokube.cloudprovider.local import local_cloud
from protokube.cloudprovider.static.provider import load_inventory, own_node
def node():
    inventory = load_inventory("/shared/inventory.yaml")
    return local_cloud(inventory, own_node(inventory, "node-b"), lambda _: ("10.0.0.9",))
cloud = node()
cloud.attach("main-a")
(device,) = cloud._kinds[1]._kept.values()
path = os.readlink(f"/proc/self/fd/{device}")
subprocess.run(["mkfs.ext4", "-q", path], check=True)
os.makedirs("/mnt/master-main-a")
subprocess.run(["mount", path, "/mnt/master-main-a"], check=True)
cloud.close()
print([attachment.instance for volume in node().snapshot(volumes=True).volumes for attachment in volume.attachments])
"""


def test_a_power_cut_of_a_node_in_a_container_frees_its_volume(make: Make, tmp_path: Path) -> None:
    """Two nodes of one machine in namespaces of their own, each with its own idea of the paths."""
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "inventory.yaml").write_text(INVENTORY)
    inventory = load_inventory(str(shared / "inventory.yaml"))
    outside = local_cloud(inventory, own_node(inventory, "node-a"), lambda _: ("10.0.0.1",))
    # Those with numbers of four digits are made and removed by other tests meanwhile.
    loops = [*Path("/dev").glob("loop[0-9]"), *Path("/dev").glob("loop[0-9][0-9]")]
    binds = [f"{shared}:/shared", "/dev/loop-control", *map(str, loops)]
    with SystemdNode(tmp_path / "node", binds=binds) as node:
        done = node.run("env", f"PYTHONPATH={inside.CHECKOUT}", inside.PYTHON, "-c", IN_A_CONTAINER)
        assert done.stdout.strip() == "['node-b']"
        assert holders(outside) == ["node-b"]
        with pytest.raises(VolumeInUseError, match="node-b"):
            outside.attach("main-a")
        node.kill()
        for _ in range(500):  # the kernel takes the dead namespace's mounts away in its own time
            if only(outside).available:
                break
            time.sleep(0.02)
        outside.attach("main-a")
        assert holders(outside) == ["node-a"]
        outside.close()


@pytest.mark.parametrize("call", ["flock", "ftruncate", "fsync", "rename", "ioctl"])
def test_a_kill_at_any_call_of_an_attach_is_undone_by_attaching_again(
    make: Make, tmp_path: Path, image: Path, call: str
) -> None:
    make()
    killed = 0
    loops = ["/dev/loop-control", *map(str, Path("/dev").glob("loop[0-9]*"))]
    paths = [word for path in loops for word in ("-P", path)] if call == "ioctl" else []
    for number in range(1, 5):
        trace = ["strace", "-o", "/dev/null", *paths, "-e", f"inject={call}:signal=KILL:when={number}"]
        process = run(tmp_path, "cloud.attach('main-a')", *trace)
        process.communicate(timeout=60)
        killed += process.returncode == -signal.SIGKILL
        cloud = make()
        assert (only(cloud).available, only(cloud).pristine, loop_of(image)) == (True, True, None)
        cloud.attach("main-a")
        assert holders(cloud) == ["node-a"] and image.stat().st_size == 32 * MIB
        cloud.close()
        for leftover in (image, Path(f"{image}.state"), tmp_path / "main-a.used"):
            leftover.unlink()
    assert killed


def test_others_that_look_are_no_holders_and_an_attach_outlasts_them(make: Make, image: Path) -> None:
    cloud = make()
    cloud.attach("main-a")
    cloud.close()
    looking = os.open(image, os.O_RDONLY)
    fcntl.flock(looking, fcntl.LOCK_SH)
    assert only(cloud).available
    done = threading.Timer(0.02, os.close, [looking])
    done.start()
    cloud.attach("main-a")
    done.join()
    assert holders(cloud) == ["node-a"]


def test_only_one_of_many_wins_a_race(make: Make, tmp_path: Path) -> None:
    make()
    code = """
        from protokube.errors import VolumeInUseError
        sys.stdin.readline()
        try:
            cloud.attach("main-a")
            print("won", flush=True)
        except VolumeInUseError:
            print("lost", flush=True)
        sys.stdin.read()
    """
    processes = [run(tmp_path, code, node=node) for node in ("node-a", "node-b") * 2]
    try:
        for process in processes:
            assert process.stdin
            process.stdin.write("go\n")
            process.stdin.flush()
        # Two processes of one node are one daemon's past and present: both may have it.
        results = [line(process) for process in processes]
    finally:
        for process in processes:
            end(process)
    winners = {node for node, result in zip(("node-a", "node-b") * 2, results, strict=True) if result == "won"}
    assert len(winners) == 1


def attach_and_let_go(make: Make, image: Path) -> None:
    """What a daemon leaves that attached the volume and was killed: its name in the state file."""
    first = make()
    first.attach("main-a")
    first.close()
    until(lambda: loop_of(image) is None, "the loop device is let go")


def test_what_a_killed_daemon_of_this_node_still_holds_is_waited_for(
    make: Make, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel lets the loop device of a killed process go by and by, and the image stays locked meanwhile."""
    attach_and_let_go(make, image)
    with image.open("rb") as locked:
        fcntl.flock(locked, fcntl.LOCK_EX)
        monkeypatch.setattr(time, "sleep", lambda _: fcntl.flock(locked, fcntl.LOCK_UN))
        second = make()
        assert holders(second) == []
        second.attach("main-a")
        assert holders(second) == ["node-a"]


def test_a_lock_that_stays_is_waited_for_once(make: Make, image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    attach_and_let_go(make, image)
    with image.open("rb") as locked:
        fcntl.flock(locked, fcntl.LOCK_EX)
        pauses: list[float] = []
        monkeypatch.setattr(time, "sleep", pauses.append)
        second = make()
        assert (
            holders(second)
            == holders(second)
            == ["node-a (without a loop device: another program locks the image; fuser -v names it)"]
        )
        assert len(pauses) == 1000
