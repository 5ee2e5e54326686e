"""A whole node: the daemon as its unit on a real systemd, with a stand-in for kubelet, and what tests ask of it.

with UnitNode(tmp_path, "node-a", {"cloud": "local"}, binds=LOOPS) as node:
    node.bring_up()
    assert node.kubelets()
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.lab import inside
from tests.lab.kubelet_standin import kubelet_script
from tests.lab.systemd_node import SystemdNode
from tests.lab.trial import CHECKOUT, ETCD_IMAGE, until

RECORD = "/run/kubelet-argv.jsonl"
SAW = "/run/kubelet-saw"
"""The first line of every manifest that kubelet found when it started, one a line."""
UNIT = "protokube.service"
LIMIT = 120.0
"""Seconds that only a hang exceeds, however busy the machine is."""
LINKS = ("etcd.manifest", "etcd-events.manifest")

LOOPS = ["/dev/loop-control", *sorted(str(path) for path in Path("/dev").glob("loop[0-9]*"))]
"""As in a container, the node has what it is given."""

_KUBELET = kubelet_script(record=RECORD).replace(
    "exec ",
    # What a pod would find; --version and --help are asked at any time.
    f'case "$*" in *--config*) (cd /etc/kubernetes/manifests && head -qn 1 *.manifest) >>{SAW} 2>&1 ;; esac\nexec ',
)

_FILES = {
    **{f"/usr/lib/systemd/system/{path.name}": path.read_text() for path in (CHECKOUT / "systemd").glob("*.service")},
    "/usr/bin/protokube": f'#!/bin/sh\ncd {inside.CHECKOUT} && exec {inside.PYTHON} -m protokube "$@"\n',
    "/usr/bin/kubelet": _KUBELET,
    # Only what a test would otherwise wait for.
    f"/etc/systemd/system/{UNIT}.d/quick.conf": "[Service]\nRestartSec=100ms\n",
}


class UnitNode(SystemdNode):
    """The node. `config` is laid over a master's configuration with an interval of an hour, so that no poll of a
    converged node hides a missing event."""

    limit = LIMIT

    def __init__(
        self,
        base: Path,
        name: str,
        config: Mapping[str, Any],
        *,
        files: Mapping[str, str] | None = None,
        binds: Sequence[str | Path] = (),
        netns: str | None = None,
        **more: Any,
    ) -> None:
        self.config = {"master": True, "interval": 3600, "etcdImage": ETCD_IMAGE, **config}
        own = {"/etc/protokube/config.yaml": json.dumps(self.config)}
        all_files = _FILES | own | dict(files or {})
        super().__init__(base, name, files=all_files, binds=binds, netns=netns, all_capabilities=True, **more)

    def bring_up(self) -> None:
        """Start the daemon, and wait until all is done and kubelet has looked around."""
        started = self.run("systemctl", "start", UNIT, check=False)
        assert started.returncode == 0, self.journal(UNIT)
        self.converged()
        self.until("kubelet is up", self.kubelets)

    def converged(self, times: int = 1) -> None:
        """Wait until the daemon has said so often that the node is converged."""
        self.until("it is converged", lambda: self.journal(UNIT).splitlines().count("converged") >= times)

    def until(self, what: str, holds: Callable[[], Any]) -> Any:
        """The first true answer; when there is none, the daemon's log tells why."""
        try:
            return until(what, holds, self.limit)
        except AssertionError as still:
            raise AssertionError(f"{still}\n{self.journal(UNIT)}") from None

    def journal(self, unit: str) -> str:
        """What a unit has logged since the machine was switched on."""
        return self.run("journalctl", "--no-pager", "-b", "-o", "cat", "-u", unit).stdout

    def said(self, words: str) -> int:
        """How often the daemon has logged these words since then."""
        return self.journal(UNIT).count(words)

    def show(self, name: str, unit: str = UNIT) -> str:
        """A property of a unit."""
        return self.run("systemctl", "show", "-P", name, unit).stdout.strip()

    def kubelets(self) -> list[dict[str, Any]]:
        """argv and configuration of every kubelet that has started so far."""
        record = self.path(RECORD)
        return [json.loads(line) for line in record.read_text().splitlines()] if record.exists() else []

    def configure(self, **more: Any) -> None:
        """Change the daemon's configuration file."""
        self.config |= more
        self.path("/etc/protokube/config.yaml").write_text(json.dumps(self.config))

    def links(self) -> set[str]:
        """The manifests that kubelet would find."""
        folder = self.path("/etc/kubernetes/manifests")
        return {path.name for path in folder.glob("*") if path.is_symlink()}

    def mounts(self) -> dict[str, str]:
        """Mount point → device of the volumes, as PID 1 sees them."""
        lines = self.path("/proc/1/mountinfo").read_text().splitlines()
        found = re.findall(r"(/mnt/master-\S+) .* - ext4 (\S+)", "\n".join(lines))
        return dict(found)

    def filesystems(self) -> dict[str, str]:
        """Mount point → UUID, as PID 1 sees them."""
        return {
            target: self.run("blkid", "-p", "-o", "value", "-s", "UUID", device).stdout.strip()
            for target, device in self.mounts().items()
        }
