"""The daemon when files break while it runs, PID 1 is deaf, no watches are left, or a disk hangs."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.lab.disks import FaultDisk
from tests.lab.trial import TrialNode, both, tags, until, volume, write_inventory

pytestmark = pytest.mark.root

KEY = 'key "protokube" { algorithm hmac-sha256; secret "c2VjcmV0"; };\n'


@pytest.fixture
def node(tmp_path: Path) -> Iterator[TrialNode]:
    with TrialNode(tmp_path / "a", write_inventory(tmp_path, *both())) as node:
        yield node


def converged(node: TrialNode, times: int = 1) -> None:
    until(f"it has converged {times} times", lambda: node.log().count(" I converged\n") >= times)


def test_a_reload_with_a_broken_inventory_changes_nothing(node: TrialNode, tmp_path: Path) -> None:
    """It is reported, the old one goes on, and a mended one is used."""
    daemon = node.start_daemon("--interval", "3600")
    converged(node)
    inventory = tmp_path / "inventory.yaml"
    for text, said in (
        ("cluster: [\n", r"inventory\.yaml:\d+: not valid YAML"),
        ("cluster: c\nnodes: [{name: node-b}]\n", "no node is named 'node-a', known are node-b"),
        (None, "the inventory can't be read: No such file"),
    ):
        begun = node.log().count(" I converged\n")
        inventory.write_text(text) if text else inventory.unlink()
        os.kill(daemon.pid, signal.SIGHUP)
        until("it says why", lambda: re.search(f"the new configuration is not used: .*{said}", node.log()))
        converged(node, begun + 1)

    write_inventory(tmp_path, *both(), nodes={"node-a": "10.1.2.99"})
    os.kill(daemon.pid, signal.SIGHUP)
    hosts = node.root / "etc/hosts"
    until("the mended one is used", lambda: "10.1.2.99" in hosts.read_text())
    assert node.end(daemon) == 0


def test_a_reload_with_a_broken_key_changes_nothing(node: TrialNode, tmp_path: Path) -> None:
    keyfile = tmp_path / "tsig.key"
    keyfile.write_text(KEY)
    names = ("--dns", "rfc2136", "--dns-server", "127.0.0.1:9", "--dns-tsig-keyfile", str(keyfile))
    daemon = node.start_daemon("--interval", "3600", *names)
    until("it misses its server", lambda: "unknown: dns" in node.log())
    for number, (text, said) in enumerate((("", "no key and nothing else"), (None, "can't be read")), start=1):
        keyfile.write_text(text) if text is not None else keyfile.unlink()
        os.kill(daemon.pid, signal.SIGHUP)
        until("it says why", lambda: re.search(f"the new configuration is not used: .*{said}", node.log()))
        os.kill(daemon.pid, signal.SIGUSR1)
        until("it goes on", lambda: node.log().count("woken by SIGUSR1") == number)
    assert node.end(daemon) == 0


def test_a_deaf_pid_1_ends_no_daemon(node: TrialNode, tmp_path: Path) -> None:
    """Whatever it is to be told: ready, reloading, stopping."""
    deaf = f"NOTIFY_SOCKET={tmp_path}/nobody"
    daemon = node.spawn("daemon.log", "env", deaf, *node.arguments("--interval", "3600"))
    converged(node)
    os.kill(daemon.pid, signal.SIGHUP)
    converged(node, 2)
    assert node.end(daemon) == 0
    for told in ("READY", "RELOADING", "STOPPING"):
        assert f"{told}=1 could not be sent" in node.log()


def test_a_reload_applies_how_to_log(node: TrialNode) -> None:
    config = node.root / "etc/protokube/config.yaml"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text("logFormat: text\n")
    daemon = node.start_daemon("--interval", "3600")
    converged(node)
    config.write_text("logFormat: json\n")
    os.kill(daemon.pid, signal.SIGHUP)
    until("it logs as JSON", lambda: re.search(r'"message": ?"converged"', node.log()))
    assert node.end(daemon) == 0


def test_a_hosts_file_that_is_rewritten_comes_back_by_an_event(node: TrialNode) -> None:
    """cloud-init does that, late in the boot."""
    daemon = node.start_daemon("--interval", "3600")
    converged(node)
    hosts = node.root / "etc/hosts"
    until("its names are there", lambda: "etcd-a.internal.dev.example.com" in hosts.read_text())
    replaced = hosts.with_name("hosts.cloud-init")
    replaced.write_text("127.0.0.1 localhost\n")
    replaced.rename(hosts)
    until("its names are there again", lambda: "etcd-a.internal.dev.example.com" in hosts.read_text())
    assert "127.0.0.1 localhost" in hosts.read_text() and "woken by the clock" not in node.log()
    assert node.end(daemon) == 0


@pytest.mark.parametrize("kind", ["instances", "watches"])
def test_no_watches_left(tmp_path: Path, kind: str) -> None:
    """Events only wake: it says what is missed, does everything, and goes by the clock. A node without disks, since
    it runs in a user namespace, which has limits of its own."""
    with TrialNode(tmp_path / "a", write_inventory(tmp_path)) as node:
        none_left = f'echo 0 > /proc/sys/user/max_inotify_{kind}; exec "$0" "$@"'
        arguments = [one for one in node.arguments("--interval", "1") if one != "--master"]
        inside = ["unshare", "--user", "--map-root-user", "sh", "-c", none_left, *arguments]
        daemon = node.spawn("daemon.log", *inside)
        until("it goes by the clock", lambda: node.log().count("woken by the clock") >= 2)
        missed = re.findall(
            r"not watched, and seen only in reconciles by the clock: (\S+): .*; raise (\S+)", node.log()
        )
        assert ("/dev", f"fs.inotify.max_user_{kind}") in missed
        assert len(missed) == len(set(missed)), "said once"
        assert " I converged\n" in node.log() and "Traceback" not in node.log()
        assert node.end(daemon) == 0
        once = node.run(*inside, "--once")
        assert once.returncode == 0 and "Traceback" not in once.stderr, once.stderr


def watches(pid: int, directory: Path) -> bool:
    """Whether a process has an inotify watch on a directory."""
    status = directory.stat()
    device = os.major(status.st_dev) << 20 | os.minor(status.st_dev)  # as the kernel writes it
    told = ""
    for path in Path(f"/proc/{pid}/fdinfo").iterdir():
        with suppress(FileNotFoundError):
            told += path.read_text()
    return f" ino:{status.st_ino:x} sdev:{device:x} " in told


def test_a_disk_that_hangs_does_not_hang_the_daemon(tmp_path: Path) -> None:
    """It still hears events and signals, although every look at the volume hangs."""
    with FaultDisk(tmp_path / "fault") as fault:
        device = {"id": "main-a", "device": fault.device, "size": "64MiB", "tags": tags("main", "a/a")}
        inventory = write_inventory(tmp_path, device, volume("events-a", "events", "a/a"))
        with TrialNode(tmp_path / "a", inventory) as node:
            try:
                node.once()
                node.power_cut()
                node.power_on()  # nothing is written there any more, so that what is cached can be dropped
                daemon = node.start_daemon("--interval", "3600")
                converged(node)
                data = node.path("/mnt/master-main-a/var/etcd/data")
                until("it watches the volume", lambda: watches(daemon.pid, data))
                fault.hang()
                for _ in range(3):  # what was used lately survives the first time
                    Path("/proc/sys/vm/drop_caches").write_text("3\n")
                node.path("/etc/kubernetes/manifests/news").touch()
                until("the event is heard", lambda: "manifests/news changed" in node.log())
                os.kill(daemon.pid, signal.SIGTERM)
                until("the signal is heard", lambda: "SIGTERM: ending" in node.log())
                fault.hang(False)  # the kernel lets nobody go who waits for a disk
                assert node.end(daemon) == 0
            finally:
                fault.hang(False)
