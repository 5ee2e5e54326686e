"""What the start of the program loads: imports are a third of the way to a node's first link.

The law: what the configuration doesn't ask for isn't loaded before the first reconcile.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.lab.trial import CHECKOUT

LATER = (
    "asyncio", "subprocess", "socket", "ssl", "http", "email", "random", "tempfile", "importlib.metadata",
    "botocore", "cryptography", "dns", "dbus_next", "pyroute2", "inotify_simple", "rich",
    "protokube.accept", "protokube.config.commands", "protokube.core.accept", "protokube.daemon",
    "protokube.host.disk.worker", "protokube.host.kubelet", "protokube.host.timedate", "protokube.host.watch",
    "protokube.pki.node", "protokube.report.json", "protokube.report.text", "protokube.store.file",
    "protokube.store.sealed",
    # kubelet's tables: until the installed kubelet is known
    "protokube.config.kubelet", "protokube.core.component.schema", "protokube.core.kubelet.files",
    # the control plane
    "protokube.config.controlplane", "protokube.core.assess_control_plane", "protokube.core.controlplane.assess",
    "protokube.core.controlplane.model", "protokube.core.controlplane.schemas", "protokube.core.objects.assess",
    "protokube.core.objects.tokens",
    # backups and restores
    "protokube.core.backup.assess", "protokube.core.backup.restore", "protokube.core.backup.plan",
)  # fmt: skip
"""What is loaded beside the first reconcile, or where it is needed."""

MODULES = 177
"""How many modules of ours a plain node loads before its first reconcile, at most: each takes 0.2 ms."""

PLAIN = "from protokube.config.load import read; read(['--root', '/nowhere', '--master'], {})"


def test_the_command_line_loads_nothing_that_can_wait() -> None:
    loaded = modules_after("import protokube.cli")
    assert not loaded & set(LATER)


def test_a_local_cloud_is_chosen_without_the_event_loop() -> None:
    chosen = "import protokube.cli; from protokube.cloudprovider import local; from protokube.host import network"
    loaded = modules_after(f"{chosen}; from protokube.dnsprovider import hosts; {PLAIN}")
    assert not loaded & set(LATER)
    assert sum(name.startswith("protokube") for name in loaded) <= MODULES


def test_the_command_line_is_read_without_what_only_help_needs() -> None:
    assert "shutil" not in modules_after(PLAIN)


def test_what_the_configuration_names_is_loaded(tmp_path: Path) -> None:
    for text, module in (
        ("kubelet: {maxPods: 20}\n", "protokube.config.kubelet"),
        ("kubeProxy: {mode: nftables}\n", "protokube.config.controlplane"),
        ("instanceGroups: {a: {kubeProxy: {mode: nftables}}}\n", "protokube.config.controlplane"),
    ):
        file = tmp_path / "config.yaml"
        file.write_text(text)
        loaded = modules_after(
            f"from protokube.config.load import read; assert not read(['--config', '{file}'], {{}})[1]"
        )
        assert module in loaded


def modules_after(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; {code}; print(*sys.modules)"],
        capture_output=True, text=True, timeout=120, check=True, cwd=CHECKOUT,
    )  # fmt: skip
    return set(done.stdout.split())
