"""Whole nodes back etcd up by themselves, and come back from a verified backup: one member and three, under load.

Real disks, real etcd and etcdutl, a network namespace for each machine.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.lab.cluster import LIMIT, Cluster, acknowledged, cluster_id, etcd_pid, healthy, run, value
from tests.lab.etcd_releases import TOOLS
from tests.lab.load import Writer
from tests.lab.trial import CLUSTER, TrialNode, both, until, volume

pytestmark = pytest.mark.root

CONFIG = "etcd: {{backup: {{every: {every}, tools: {tools}}}}}\n"
TWICE = "512MiB"
"""Room for the old data and the new ones."""

Make = Callable[..., tuple[Cluster, list[TrialNode], Path]]


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Make]:
    """Nodes that run, with a store that they share."""
    with ExitStack() as stack:

        def make(letters: str, every: str = "1h", *options: str) -> tuple[Cluster, list[TrialNode], Path]:
            store = tmp_path / "store"
            store.mkdir(0o700)
            volumes = [one for me in letters for one in both(me, ",".join(letters), TWICE)]
            given = ("--store", f"file://{store}", "--trust-clock", "--interval", "1", *options)
            cluster = stack.enter_context(Cluster(tmp_path, volumes, options=given))
            nodes = [cluster.node(letter) for letter in letters]
            for node in nodes:
                config = node.root / "etc/protokube/config.yaml"
                config.parent.mkdir(parents=True)
                config.write_text(CONFIG.format(every=every, tools=TOOLS["3.5.30"]))
                run(node)
            until("etcd runs", lambda: healthy(*nodes), LIMIT)
            return cluster, nodes, store

        yield make


def records(store: Path, etcd: str = "main") -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted((store / CLUSTER / "backups" / etcd).glob("*.json"))]


def command(node: TrialNode, *words: str) -> subprocess.CompletedProcess[str]:
    return node.protokube("etcd", *words, timeout=LIMIT)


def restore(node: TrialNode, *words: str) -> subprocess.Popen[bytes]:
    """Begin the command on a node; it waits for the others."""
    python, m, protokube, *own = node.arguments()
    return node.spawn(
        "restore.log", python, m, protokube, "etcd", "restore", "--cluster", "main", "--yes", *words, *own
    )


def begin(node: TrialNode) -> subprocess.Popen[bytes]:
    """Begin a restore on a node, and wait until its member has stopped."""
    before = node.log("restore.log").count("to stop: run")
    begun = restore(node)
    until(
        f"{node.name} has stopped",
        lambda: node.log("restore.log").count("to stop: run") > before or begun.poll() is not None,
        LIMIT,
    )
    return begun


def test_backups_are_taken_again_and_again_and_a_killed_daemon_s_are_followed_by_others(made: Make) -> None:
    _, (node,), store = made("a", "2s")
    acknowledged(node, "kept", "yes")
    until("both etcd clusters are backed up", lambda: records(store) and records(store, "events"), LIMIT)
    until("a second one is taken", lambda: len(records(store)) > 1, LIMIT)
    assert all(one["proven"] and one["reason"] for one in records(store) + records(store, "events"))
    until("the key is in one", lambda: records(store)[-1]["keys"] == 1, LIMIT)
    node.kill(node._processes[0])  # the daemon, and perhaps in the middle of a backup
    before = len(records(store))
    node.start_daemon()
    until("the next daemon takes another one", lambda: len(records(store)) > before + 1, LIMIT)
    assert all(one["proven"] for one in records(store))

    def told() -> bool:
        notes: list[str] = node.report("--dry-run")["notes"]
        return any(note.startswith("backups of main: the newest is ") and note.endswith(" proven") for note in notes)

    until("the report tells, between two backups", told, LIMIT)
    assert {path.stat().st_mode & 0o077 for path in (store / CLUSTER).rglob("*")} == {0}


def test_the_commands_list_prove_and_take(made: Make) -> None:
    _, (node,), store = made("a")
    until("the first ones are taken", lambda: records(store) and records(store, "events"), LIMIT)
    taken = command(node, "backup", "--cluster", "main")
    assert taken.returncode == 0 and "restored on trial" in taken.stdout, taken.stdout + taken.stderr
    assert [one["reason"] for one in records(store)][-1] == "by command"
    listed = json.loads(command(node, "backups", "-o", "json").stdout)
    assert {one["cluster"]: len(one["backups"]) for one in listed["clusters"]} == {"main": 2, "events": 1}
    assert "by command" in command(node, "backups", "--cluster", "main").stdout
    good = command(node, "backups", "--cluster", "main", "--backup", "latest")
    assert good.returncode == 0 and "restored with etcdctl 3.4.23" in good.stdout, good.stdout + good.stderr

    newest = sorted((store / CLUSTER / "backups/main").glob("*.db"))[-1]
    os.truncate(newest, newest.stat().st_size - 512)
    bad = command(node, "backups", "--cluster", "main", "--backup", newest.stem)
    assert bad.returncode == 1 and "it is damaged" in bad.stderr
    none = command(node, "restore", "--cluster", "main", "--backup", "20200101T000000Z-1", "--dry-run")
    assert none.returncode == 1 and "no such backup" in none.stderr


def test_one_member_comes_back_from_its_backup(made: Make) -> None:
    _, (node,), store = made("a")
    with Writer(node) as load:
        load.more()
        kept = list(load.kept)
        assert command(node, "backup", "--cluster", "main").returncode == 0
        load.more()
        before, pid, name = cluster_id(node), etcd_pid(node), sorted(store.rglob("main/*.db"))[-1].stem
        shown = command(node, "restore", "--cluster", "main", "--dry-run")
        assert shown.returncode == 0 and f"from backup {name}" in shown.stdout, shown.stdout + shown.stderr
        assert etcd_pid(node) == pid and not node.path("/mnt/master-main-a/k8s.io/restore.json").exists()
        done = command(node, "restore", "--cluster", "main", "--backup", name, "--yes")
        assert done.returncode == 0, done.stdout + done.stderr
        until("etcd serves again", lambda: healthy(node), LIMIT)
        load.more()
    print(f"one member restored: the longest gap between two writes {load.longest:.2f} s")
    assert cluster_id(node) != before
    assert all(value(node, key) == "x" for key in kept)
    beside = {path.name for path in node.path("/mnt/master-main-a/var/etcd").iterdir()}
    assert beside == {"data", "data.before-1"}


def test_three_members_come_back_whoever_is_killed_and_nobody_is_lost_by_a_restore_that_is_abandoned(
    made: Make,
) -> None:
    _, nodes, store = made("abc", "1h")
    a, b, c = nodes
    # A daemon's own first one, taken slowly, would have the later write, and be the latest.
    until("a daemon has taken its first", lambda: records(store), LIMIT)
    with Writer(a) as load:
        load.more()
        kept = list(load.kept)
        assert command(a, "backup", "--cluster", "main").returncode == 0
    acknowledged(c, "later", "x")
    before = cluster_id(a)
    abandoned(a, b, c)
    first = begin(a)
    first.send_signal(signal.SIGKILL)
    first.wait(LIMIT)
    first = restore(a)
    b.kill(b._processes[0])
    b.start_daemon()
    commands = [first, restore(b), restore(c)]
    for node, one in zip(nodes, commands, strict=True):
        assert one.wait(LIMIT) == 0, node.log("restore.log")
    until("all serve again", lambda: healthy(*nodes), LIMIT)
    assert cluster_id(a) == cluster_id(b) == cluster_id(c) != before
    for node in nodes:
        assert all(value(node, key) == "x" for key in kept) and value(node, "later") is None
    acknowledged(b, "again", "y")
    assert value(c, "again") == "y"
    again = command(a, "restore", "--cluster", "main", "--abandon")
    assert again.returncode == 1 and "is under way" in again.stderr


def test_blank_volumes_in_the_place_of_lost_ones_are_restored(made: Make) -> None:
    """A majority of main's volumes is lost, and then all of them: no cluster is born empty, and the command brings it
    back. With TLS."""
    cluster, nodes, store = made("abc")
    names = {me: f"main-{me}" for me in "abc"}
    acknowledged(nodes[0], "kept", "x")
    for lost in ("bc", "abc"):
        assert command(nodes[0], "backup", "--cluster", "main").returncode == 0
        names |= {me: f"{names[me]}-2" for me in lost}
        lost_and_restored(cluster, nodes, store, lost, names)


def lost_and_restored(
    cluster: Cluster, nodes: list[TrialNode], store: Path, lost: str, names: dict[str, str]
) -> None:
    """These members' volumes are lost; `names` are those that there are from now on."""
    a, b, c = nodes
    taken = len(records(store))
    for node in nodes:
        node.power_cut()
    main = [volume(names[me], "main", f"{me}/a,b,c", TWICE) for me in "abc"]
    events = [volume(f"events-{me}", "events", f"{me}/a,b,c", TWICE) for me in "abc"]
    cluster.lists([*main, *events])
    for node in nodes:
        node.power_on()
        run(node)
    expected = {"abc": "etcd/cluster-lost", "bc": "etcd/member-lost"}[lost]

    def refused(node: TrialNode) -> bool:
        return any(one["rule"] == expected for one in node.report("--dry-run")["refusals"])

    until("the blank ones are refused", lambda: sum(map(refused, nodes)) == len(lost), LIMIT)
    assert not healthy(b, ports=(4001,)) and len(records(store)) == taken
    first = begin(c)
    for node, one in {c: first, b: restore(b), a: restore(a)}.items():
        assert one.wait(LIMIT) == 0, node.log("restore.log")
    until("all serve again", lambda: healthy(*nodes), LIMIT)
    assert [value(node, "kept") for node in nodes] == ["x"] * 3
    acknowledged(c, "again", "y")
    manifests = [next(node.path("/mnt").glob("master-main-*/k8s.io/manifests/etcd.manifest")) for node in nodes]
    assert all("https://" in path.read_text() for path in manifests)


def abandoned(a: TrialNode, b: TrialNode, c: TrialNode) -> None:
    """A restore is abandoned before all have stopped."""
    waiting = begin(a)
    waiting.kill()
    waiting.wait(LIMIT)
    assert value(b, "later") == "x", "two members go on"
    done = command(c, "restore", "--cluster", "main", "--abandon", "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    left = command(a, "restore", "--cluster", "main", "--yes")
    assert left.returncode == 0 and "is abandoned" in left.stdout, left.stdout + left.stderr
    until("a serves again", lambda: healthy(a, b, c), LIMIT)
    assert value(a, "later") == "x"
