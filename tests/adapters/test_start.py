"""What the start of the program loads: imports are a third of the way to a node's first link."""

from __future__ import annotations

import subprocess
import sys

from tests.lab.trial import CHECKOUT

LATER = (
    "asyncio", "subprocess", "socket", "ssl", "http", "email", "random", "tempfile", "importlib.metadata",
    "botocore", "cryptography", "dns", "dbus_next", "pyroute2", "inotify_simple", "rich",
    "protokube.accept", "protokube.core.accept", "protokube.daemon", "protokube.host.disk.worker",
    "protokube.host.kubelet", "protokube.host.timedate", "protokube.host.watch", "protokube.pki.node",
    "protokube.store.file",
)  # fmt: skip
"""What is loaded beside the first reconcile, or where it is needed."""


def test_the_command_line_loads_nothing_that_can_wait() -> None:
    loaded = modules_after("import protokube.cli")
    assert not loaded & set(LATER)


def test_a_local_cloud_is_chosen_without_the_event_loop() -> None:
    chosen = "import protokube.cli; from protokube.cloudprovider import local; from protokube.host import network"
    assert not modules_after(chosen) & set(LATER)


def test_the_command_line_is_read_without_what_only_help_needs() -> None:
    read = "from protokube.config.load import read; read(['--root', '/nowhere', '--master'], {})"
    assert "shutil" not in modules_after(read)


def modules_after(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; {code}; print(*sys.modules)"],
        capture_output=True, text=True, timeout=120, check=True, cwd=CHECKOUT,
    )  # fmt: skip
    return set(done.stdout.split())
