"""From the start of the process to mounted volumes and linked manifests, on two blank disks of 1 GiB and again.

What mkfs and mount take by themselves, one volume after the other, is measured in the same run.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from protokube.host.disk import mountpoint, reference
from tests.lab.trial import TrialNode, volume, write_inventory

RUNS = 10
IDS = ("main-a", "events-a")
LINKS = ("etcd.manifest", "etcd-events.manifest")
_UUID = "26464824-ba61-5399-8d21-92c8ad37ce2b"


def main() -> None:
    rows: dict[str, list[float]] = {}
    for _ in range(RUNS):
        with tempfile.TemporaryDirectory(prefix="protokube-bench-", ignore_cleanup_errors=True) as folder:
            for name, seconds in one_run(Path(folder)).items():
                rows.setdefault(name, []).append(seconds)
    alone = statistics.median(rows["mkfs and mount alone, both volumes, one after the other"])
    for name, values in rows.items():
        median = statistics.median(values)
        spread = f"min {min(values):.3f}, max {max(values):.3f}; {median / alone:4.1f} × alone"
        print(f"{name:57} {median:6.3f} s  ({spread})")


def one_run(folder: Path) -> dict[str, float]:
    volumes = [volume(one, one.partition("-")[0], "a/a", "1GiB") for one in IDS]
    found: dict[str, float] = {}
    with TrialNode(folder / "node", write_inventory(folder, *volumes)) as node:
        found["mkfs and mount alone, both volumes, one after the other"] = _alone(node, folder)
        daemon, since = _start(node)
        found["start → both volumes mounted"] = _until(since, lambda: all(_mounted(node, one) for one in IDS))
        found["start → both manifests linked"] = _until(since, lambda: _linked(node))
        node.end(daemon)
        _unlink(node)
        daemon, since = _start(node)
        found["restart, volumes still mounted → both manifests linked"] = _until(since, lambda: _linked(node))
        node.end(daemon)
        node.power_cut()
        _unlink(node)
        node.power_on()
        daemon, since = _start(node)
        found["reboot, filesystems used before → both manifests linked"] = _until(since, lambda: _linked(node))
        node.end(daemon)
    return found


def _alone(node: TrialNode, folder: Path) -> float:
    """What no bootstrap can do without, with the program's own options, on disks of the same size.

    The program has mkfs.ext4 write to memory first, and writes the journal's zeros itself.
    """
    options = reference.OPTIONS.format(uuid=_UUID)
    environment = " ".join(f"{key}={value}" for key, value in reference.ENVIRONMENT.items())
    script = "set -e\n"
    for one in IDS:
        image, at = folder / f"alone-{one}.img", folder / f"alone-{one}"
        script += f"truncate -s 1G {image}; mkdir {at}; d_{one[0]}=$(losetup -f --show {image})\n"
    script += "date +%s.%N\n"
    for one in IDS:
        script += f"{environment} mkfs.ext4 -q -E {options} -U {_UUID} -L {one} $d_{one[0]}\n"
        script += f"mount -o noatime,nodev,nosuid,{mountpoint.OPTIONS} $d_{one[0]} {folder}/alone-{one}\n"
    script += "date +%s.%N\n"
    for one in IDS:
        script += f"umount {folder}/alone-{one}; losetup -d $d_{one[0]}\n"
    before, after = node.run("sh", "-c", script).stdout.split()
    return float(after) - float(before)


def _start(node: TrialNode) -> tuple[subprocess.Popen[bytes], float]:
    since = time.monotonic()
    return node.start_daemon(), since


def _until(since: float, holds: Callable[[], bool]) -> float:
    while not holds():
        if time.monotonic() - since > 30:
            raise SystemExit("the daemon did not get there within 30 s")
        time.sleep(0.003)  # who looks more often takes the time from those who work
    return time.monotonic() - since


def _mounted(node: TrialNode, volume_id: str) -> bool:
    return os.path.lexists(node.path(f"/mnt/master-{volume_id}/lost+found"))


def _linked(node: TrialNode) -> bool:
    return all(os.path.lexists(node.root / "etc/kubernetes/manifests" / name) for name in LINKS)


def _unlink(node: TrialNode) -> None:
    for name in LINKS:
        (node.root / "etc/kubernetes/manifests" / name).unlink()


if __name__ == "__main__":
    main()
