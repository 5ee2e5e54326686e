"""`protokube accept` on real disks: what it shows, asks and refuses, and what the daemon does with it."""

from __future__ import annotations

import os
import pty
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.disks import UUID, LoopDisk, digest
from tests.lab.trial import TrialNode, both, until, write_inventory

pytestmark = pytest.mark.root

RULE = "volume/foreign-data"


@pytest.fixture
def node(tmp_path: Path) -> Iterator[TrialNode]:
    """A node whose main volume has a filesystem that its operator has made, with a file of his on it."""
    (tmp_path / "volumes").mkdir()
    with LoopDisk(image(tmp_path)) as disk:
        disk.make_ext4()
        with disk.mounted(tmp_path / "by hand") as root:
            (root / "README").write_text("the disk of main\n")
            # etcd's data, as kops keeps it; the operator has removed the manifest.
            (root / "var/etcd/data/member/snap").mkdir(parents=True)
    with TrialNode(
        tmp_path / "a", write_inventory(tmp_path, *both()), options=("--etcd-image", "etcd:3.6.8")
    ) as made:
        yield made


def image(folder: Path) -> Path:
    return folder / "volumes/main-a.img"


def accept(node: TrialNode, *words: str) -> list[str]:
    own = [one for one in node.arguments() if one not in ("-m", "protokube")]
    return node.command(own[0], "-m", "protokube", "accept", *words, *own[1:])


def accepted(node: TrialNode, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        accept(node, *words), capture_output=True, text=True, timeout=120, check=False, stdin=subprocess.DEVNULL
    )


def at_a_terminal(node: TrialNode, answer: str, *words: str) -> tuple[int, str]:
    """The exit code, and what the terminal has shown."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(accept(node, *words), stdin=theirs, stdout=subprocess.PIPE, text=True) as process:
        os.write(ours, f"{answer}\n".encode())
        shown, _ = process.communicate(timeout=120)
    os.close(ours)
    os.close(theirs)
    return process.returncode, shown


def refused(node: TrialNode) -> bool:
    return f"refused: main-a: {RULE}" in node.log()


def is_mounted(node: TrialNode) -> bool:
    return os.path.ismount(node.path("/mnt/master-main-a"))


def pending(node: TrialNode) -> list[Path]:
    return list((node.root / "var/lib/protokube/accepted").glob("*"))


def test_it_is_shown_asked_for_and_used_once(node: TrialNode, tmp_path: Path) -> None:
    node.start_daemon()
    until("it is refused", lambda: refused(node))
    before = digest(image(tmp_path))

    told = accepted(node, RULE, "main-a", "--filesystem", UUID)
    assert told.returncode == 64 and "there is no terminal to ask at; say --yes" in told.stderr
    assert "the volume holds README, which neither protokube nor kops makes" in told.stdout
    assert "What will happen, once:" in told.stdout
    assert at_a_terminal(node, "y", RULE, "main-a", "--filesystem", UUID)[0] == 1, "only yes is yes"
    assert not pending(node) and digest(image(tmp_path)) == before

    code, shown = at_a_terminal(node, "yes", RULE, "main-a", "--filesystem", UUID.upper())
    assert code == 0 and "Accepted: the next reconcile acts on it." in shown
    until("the daemon uses it", lambda: is_mounted(node) and not pending(node))
    identity = node.path("/mnt/master-main-a/k8s.io/identity.yaml").read_text()
    assert f"filesystem: {UUID}" in identity and "started: true" in identity
    assert node.path("/mnt/master-main-a/README").read_text() == "the disk of main\n"
    assert f"{RULE}: overruled by the operator" in node.log()
    until("etcd's manifest is linked", lambda: (node.root / "etc/kubernetes/manifests/etcd.manifest").is_symlink())
    again = accepted(node, RULE, "main-a", "--filesystem", UUID, "--yes")
    assert again.returncode == 1 and "does not refuse it" in again.stderr


def test_it_survives_a_power_cut_until_it_is_used(node: TrialNode) -> None:
    daemon = node.start_daemon("--interval", "3600")
    until("it is refused", lambda: refused(node))
    os.kill(daemon.pid, 19)  # SIGSTOP: it uses nothing up
    done = accepted(node, RULE, "main-a", "--filesystem", UUID, "--yes")
    assert done.returncode == 0 and "is overruled once, for filesystem" in done.stderr
    node.power_cut()
    node.power_on()
    assert pending(node) and not is_mounted(node)
    report = node.report()
    assert is_mounted(node) and not pending(node)
    assert (report["settled"], report["accepted"]) == (True, []), report
    warned = [one for one in report["steps"] if "overruled by the operator" in one["reason"]]
    assert {one["action"] for one in warned} >= {"mount-volume", "write-file"}


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ((RULE, "main-a", "--filesystem", "22222222-2222-4222-8222-222222222222"), f"its filesystem is {UUID} now"),
        (("format/not-blank", "main-a", "--filesystem", UUID), "it can't be overruled: a format destroys"),
        (("volume/clone", "main-a", "--filesystem", UUID), f"does not refuse it for its filesystem ({RULE}"),
        (("volume/nonsense", "main-a", "--filesystem", UUID), "there is no such rule"),
        ((RULE, "main-x", "--filesystem", UUID), "no volume that is attached to this machine"),
    ],
)
def test_what_it_refuses_changes_nothing(node: TrialNode, tmp_path: Path, words: tuple[str, ...], why: str) -> None:
    node.start_daemon()
    until("it is refused", lambda: refused(node))
    before = digest(image(tmp_path))
    told = accepted(node, *words, "--yes")
    assert (told.returncode, told.stdout) == (1, "") and why in told.stderr
    assert not pending(node) and digest(image(tmp_path)) == before


@pytest.mark.parametrize(
    "words",
    [
        (),
        (RULE,),
        (RULE, "main-a"),
        (RULE, "main-a", "--filesystem", UUID, "--once"),
        (RULE, "main-a", "--filesystem", UUID, "--dry-run"),
        (RULE, "main-a", "--filesystem", UUID, "--yess"),
    ],
)
def test_what_cannot_be_understood_is_wrong_usage(node: TrialNode, words: tuple[str, ...]) -> None:
    assert accepted(node, *words).returncode == 64
