"""A node on a strict EC2 with IMDSv2: how soon it is up, what trouble costs it, and what a converged reconcile takes.

EC2 is moto's server in this process (3 to 10 ms a call), the disks are loop devices of 1 GiB. Times count from the
start of the process; medians.
"""

from __future__ import annotations

import os
import re
import signal
import statistics
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.lab.aws import ZONE, etcd_tags
from tests.lab.aws_node import AwsNode, AwsRegion
from tests.lab.trial import until
from tests.lab.unit_node import LINKS

RUNS = 3
RECONCILES = 50
OTHERS = 1000
OTHER_ETCD = 250
"""Etcd volumes of another cluster. With a thousand, moto takes longer for an answer than EC2 is given."""
_TICK = os.sysconf("SC_CLK_TCK")


class Trial:
    """A fresh region with one node, switched on, and two blank volumes. `log` is what the daemon prints."""

    def __init__(self, base: Path, region: AwsRegion, node: AwsNode) -> None:
        self.region = region
        self.node = node
        self.log = base / "daemon.log"
        self._base = base

    def start(self) -> tuple[subprocess.Popen[bytes], float]:
        """The daemon itself, without systemd's part."""
        command = self.node.command(*self.node.command_line())
        since = time.monotonic()
        with self.log.open("ab") as log:
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log), since

    def pid(self) -> int:
        """The daemon's pid, as this machine sees it."""
        leader = Path(f"/proc/{self.node.leader}/ns/pid").readlink()
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                words = (folder / "cmdline").read_bytes().split(b"\0")
                inside = (folder / "ns/pid").readlink() == leader
            except OSError:
                continue
            if inside and b"-m" in words and b"protokube" in words:
                return int(folder.name)
        raise SystemExit("the daemon is gone")

    def end(self, daemon: subprocess.Popen[bytes]) -> None:
        os.kill(self.pid(), signal.SIGTERM)
        daemon.wait(30)

    def mounted(self) -> bool:
        return len(self.node.mounts()) == len(LINKS)

    def linked(self) -> bool:
        return len(self.node.links()) == len(LINKS)

    def calls(self) -> str:
        counted = Counter(self.region.ec2.operations())
        return ", ".join(f"{name} {count}" for name, count in sorted(counted.items())) or "none"


@contextmanager
def trial() -> Iterator[Trial]:
    with tempfile.TemporaryDirectory(prefix="protokube-bench-", ignore_cleanup_errors=True) as folder:
        base = Path(folder)
        with AwsRegion(base) as region:
            for key in ("main", "events"):
                region.volume(key)
            with region.node() as node:
                yield Trial(base, region, node)


def bootstrap(prepare: Callable[[AwsRegion], object], holds: Callable[[Trial], bool]) -> float:
    """Seconds from the start of the process until `holds`, on a fresh node."""
    with trial() as one:
        prepare(one.region)
        daemon, since = one.start()
        seconds = _until(since, lambda: holds(one))
        one.end(daemon)
        return seconds


def restart(holds: Callable[[Trial], bool]) -> float:
    """The same for a process that starts anew, with volumes that are mounted; the links have been removed."""
    with trial() as one:
        daemon, since = one.start()
        _until(since, lambda: holds(one))
        one.end(daemon)
        for name in LINKS:
            one.node.path(f"/etc/kubernetes/manifests/{name}").unlink()
        daemon, since = one.start()
        seconds = _until(since, lambda: holds(one))
        one.end(daemon)
        return seconds


def converged() -> None:
    """CPU, memory and calls; then the same with many other volumes in the region."""
    with trial() as one:
        daemon, _ = one.start()
        _until_converged(one)
        print(f"calls of a fresh bootstrap              {one.calls()}")
        pid = one.pid()
        for label, more, tags in (
            ("", 0, {}),
            (f", {OTHERS} volumes in the region", OTHERS, {}),
            (f", {OTHER_ETCD} of other etcds", OTHER_ETCD, etcd_tags(cluster="other.example.com")),
        ):
            for _ in range(more):
                one.region.ec2._backend.create_volume(1, ZONE).add_tags(tags)
            one.region.ec2.forget()
            one.region.imds.requests.clear()
            before = _cpu(pid)
            for _ in range(RECONCILES):
                seen = len(one.region.ec2.calls)
                os.kill(pid, signal.SIGUSR1)
                until("it asked", lambda: len(one.region.ec2.calls) > seen)
                time.sleep(0.1)
            spent = (_cpu(pid) - before) / RECONCILES * 1000
            print(f"CPU of a converged reconcile{label:36} {spent:7.2f} ms")
            print(f"  calls in {RECONCILES} reconciles: {one.calls()}, IMDS {len(one.region.imds.requests)}")
        status = Path(f"/proc/{pid}/status").read_text()
        kib = int(re.findall(r"VmRSS:\s+(\d+)", status)[0])
        print(f"memory of the daemon (RSS)              {kib / 1024:7.1f} MB")
        one.end(daemon)


def main() -> None:
    def late(region: AwsRegion) -> None:
        region.late = 0.5

    def failing(region: AwsRegion) -> None:
        for _ in range(4):
            region.ec2.fail_next("DescribeVolumes", "InternalError", "An internal error has occurred", 500)

    def refused(region: AwsRegion) -> None:
        region.ec2.fail_next("AttachVolume", "InternalError", "An internal error has occurred", 500)

    def nothing(_: AwsRegion) -> None:
        pass

    rows: dict[str, Callable[[], float]] = {
        "start → both volumes mounted": lambda: bootstrap(nothing, Trial.mounted),
        "start → both manifests linked": lambda: bootstrap(nothing, Trial.linked),
        "restart, volumes mounted → manifests linked": lambda: restart(Trial.linked),
        "disks appear 0.5 s after attach → mounted": lambda: bootstrap(late, Trial.mounted),
        "4 DescribeVolumes fail → mounted": lambda: bootstrap(failing, Trial.mounted),
        "1 AttachVolume refused → mounted": lambda: bootstrap(refused, Trial.mounted),
    }
    for name, measure in rows.items():
        values = [measure() for _ in range(RUNS)]
        print(f"{name:45} {statistics.median(values):6.3f} s  (min {min(values):.3f}, max {max(values):.3f})")
    converged()


def _until(since: float, holds: Callable[[], bool]) -> float:
    while not holds():
        if time.monotonic() - since > 60:
            raise SystemExit("the daemon did not get there within 60 s")
        time.sleep(0.001)
    return time.monotonic() - since


def _until_converged(one: Trial) -> None:
    """Converged, and what it has just changed has woken it once more."""
    until("it is converged", lambda: " I converged" in one.log.read_text() or "\nconverged" in one.log.read_text())
    time.sleep(2)


def _cpu(pid: int) -> float:
    """Seconds of CPU, children that have ended included."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(one) for one in fields[11:15]) / _TICK


if __name__ == "__main__":
    main()
