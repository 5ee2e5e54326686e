"""Running clusters that are replaced, upgraded and restored, with somebody killed on the way; for `make safety`.

A change begins on three machines of etcd_moves.machines(). `Kill` says who ends when: the command that the operator
gave, the daemon, or the whole machine. The operator gives the command again; the rest is up to the machines.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.lab.cluster import LIMIT, Cluster, acknowledged, cluster_id, holders, members, value
from tests.lab.etcd_moves import (
    MANIFEST,
    OFF,
    PATIENCE,
    cut,
    main_volumes,
    restart_daemon,
    restart_machine,
    serve,
    while_killed,
)
from tests.lab.etcd_releases import TOOLS
from tests.lab.etcd_versions import install
from tests.lab.etcd_writer import Writer
from tests.lab.trial import FOR_ETCD, TrialNode, until, volume

OLD, NEW = "3.4.23", "3.5.30"
TWICE = "512MiB"
"""Room for a member's old data and the restored ones."""
CONFIG = f"etcd: {{backup: {{every: 1h, tools: {TOOLS[NEW]}}}}}\n"

WORDS = ("backup: ", "removed ", "added ", "waiting until ", "promoted ")
"""What `etcd replace` prints after each of its steps."""
BEGINNING = {
    "format": "format ",
    "mount": "mount ",
    "manifest": MANIFEST,
    "link": r"link /etc/kubernetes/manifests/etcd\.manifest ",
}
"""What the daemon of a machine with a blank volume logs of each of its steps."""


def _any(endings: Sequence[str], top: Path) -> bool:
    """Whether something of these names stands beside a member's data."""
    return any((top / f"{_DATA}{ending}").exists() for ending in endings)


_MARK = "k8s.io/restore.json"
_DATA = "var/etcd/data"
_LEFT = {
    "part": (".part", ".restored-1", ".before-1"),
    "restored": (".restored-1", ".before-1"),
    "before": (".before-1",),
}
RESTORED: dict[str, Callable[[Path], bool]] = {
    "mark": lambda top: (top / _MARK).exists(),
    **{step: partial(_any, endings) for step, endings in _LEFT.items()},
    "exchanged": lambda top: _any(_LEFT["before"], top) and (top / _DATA).exists(),
    "over": lambda top: _any(_LEFT["before"], top) and not (top / _MARK).exists(),
}
"""Whether a member's restore has come so far, by what stands on its volume. Steps that take a moment may be over when
they are seen."""


@dataclass(frozen=True)
class Kill:
    """Who is killed (`command`, `daemon`, `machine`) after which step. A daemon that is killed starts again."""

    who: str
    after: str

    def strike(
        self,
        node: TrialNode,
        command: subprocess.Popen[bytes] | None,
        version: str,
        options: tuple[str, ...] = OFF,
    ) -> None:
        """Kill it. `options` are the daemon's."""
        if self.who == "machine":
            restart_machine(node, version, *options)
        elif self.who == "daemon":
            restart_daemon(node, *options)
        elif command is not None and command.poll() is None:
            node.kill(command)


def give(node: TrialNode, log: str, *words: str) -> subprocess.Popen[bytes]:
    """A command of the operator's on a node."""
    python, m, protokube, *own = node.arguments()
    return node.spawn(log, python, m, protokube, "etcd", *words, "--cluster", "main", "--yes", *own)


def given(node: TrialNode, *words: str) -> subprocess.CompletedProcess[str]:
    """Such a command, when it has ended."""
    return node.protokube("etcd", *words, "--cluster", "main", "--yes", timeout=PATIENCE)


def given_again(node: TrialNode, *words: str) -> None:
    """Give a command until it succeeds, as an operator would whose machine has just come back."""
    until(f"etcd {words[0]} succeeds on {node.name}", lambda: given(node, *words).returncode == 0, PATIENCE)


def replace(cluster: Cluster, nodes: Sequence[TrialNode], version: str, kill: Kill) -> None:
    """One member loses its volume and gets a blank one; `etcd replace` on another machine brings it back.

    Kills after WORDS strike where the command runs, kills after BEGINNING where the member is to come back.
    """
    commander, other, broken = nodes
    before, identity = members(commander), cluster_id(commander)
    (lost,) = (me for me, node in holders(*nodes).items() if node is broken)
    broken.power_cut()
    cluster.lists(
        [
            *(one for one in main_volumes() if one["id"] != f"main-{lost}"),
            volume("main-new", "main", f"{lost}/a,b,c", FOR_ETCD),
        ]
    )
    until("the others serve", lambda: serve([commander, other]), LIMIT)
    since = len(broken.log())
    broken.power_on()
    install(broken, version)
    broken.start_daemon(*OFF)
    broken.start_pods()
    words = ("replace", "--member", lost)
    command = give(commander, "replace.log", *words)

    def seen() -> bool:
        if kill.after in WORDS:
            return kill.after in commander.log("replace.log") or command.poll() is not None
        return re.search(BEGINNING[kill.after], broken.log()[since:]) is not None

    until(f"after {kill.after.strip()}", seen, PATIENCE)
    kill.strike(commander if kill.after in WORDS else broken, command, version)
    given_again(commander, *words)
    until("they serve", lambda: serve(nodes), LIMIT)
    after = members(commander)
    changed = [name for name in after if after[name] != before.get(name)]
    assert after.keys() == before.keys() and changed == [f"etcd-{lost}"], f"members: {before}, then {after}"
    assert cluster_id(commander) == identity, "another cluster has formed"


def upgrade(nodes: Sequence[TrialNode], member: str, kill: Kill) -> None:
    """Every daemon is told to run the newer version; a member's daemon or machine is killed after its step."""
    options = (*OFF, "--etcd-image", f"registry.k8s.io/etcd:{NEW}-0")
    before, identity = members(nodes[0]), cluster_id(nodes[0])
    how = cut(member, kill.after, power=kill.who == "machine", version=NEW, options=options)
    with while_killed(nodes, how):
        for node in nodes:
            install(node, NEW)
            restart_daemon(node, *options)

    def upgraded() -> bool:
        told = [node.etcdctl("endpoint", "status", "-w", "json").stdout for node in nodes]
        return all(f'"version":"{NEW}"' in one for one in told)

    until("all run the newer version", upgraded, PATIENCE)
    until("they serve", lambda: serve(nodes), LIMIT)
    assert (members(nodes[0]), cluster_id(nodes[0])) == (before, identity), "the members have changed"


def restore(cluster: Cluster, nodes: Sequence[TrialNode], version: str, member: str, kill: Kill) -> None:
    """A backup, further writes, and the command on every machine; somebody of one member is killed on the way."""
    # A daemon's own first one, taken slowly, would have the later write, and be the latest.
    until("a daemon has taken its first", lambda: nodes[0].protokube("etcd", "backups").returncode == 0, LIMIT)
    with Writer(cluster, *nodes) as writer:
        writer.more()
        kept = dict(writer.kept)
        given_again(nodes[0], "backup")
    acknowledged(nodes[1], "later", "x")
    before = cluster_id(nodes[0])
    victim = holders(*nodes)[member]
    others = [node for node in nodes if node is not victim]
    # The first begins the restore, the others join it. Side by side all but one would be refused.
    commands = {victim: _restoring(victim)}
    reached, top = RESTORED[kill.after], f"/mnt/master-main-{member}"
    if kill.after == "mark":
        until("it has its mark", lambda: reached(victim.path(top)), LIMIT)
        kill.strike(victim, commands[victim], version)
    commands |= {node: _restoring(node) for node in others}
    if kill.after != "mark":
        until(f"after {kill.after}", lambda: reached(victim.path(top)), PATIENCE)
        kill.strike(victim, commands[victim], version)
    if kill.who != "daemon":
        until("it has ended its part", lambda: _goes_on(victim, victim.path(top)), PATIENCE)
        del commands[victim]
    for node, command in commands.items():
        assert command.wait(PATIENCE) == 0, node.log("restore.log")
    until("they serve", lambda: serve(nodes), LIMIT)
    until("they are one cluster", lambda: len({cluster_id(node) for node in nodes}) == 1, LIMIT)
    assert cluster_id(nodes[0]) != before, "it is the cluster of before"
    assert value(nodes[2], "later") is None, "a write of after the backup is there"
    with Writer(cluster, *nodes, prefix="after/") as writer:
        writer.more()
        writer.check(victim)
    Writer(cluster, *nodes).holds(victim, kept)


def _restoring(node: TrialNode) -> subprocess.Popen[bytes]:
    """`etcd restore` on a node, from when it waits for something."""
    command = give(node, "restore.log", "restore")
    until("it has begun", lambda: "waiting for " in node.log("restore.log"), LIMIT)
    return command


def _goes_on(node: TrialNode, top: Path) -> bool:
    """Give the command again where the member still takes part: after its end it would begin another restore."""
    if not (top / "k8s.io").is_dir():
        return False
    return not (top / _MARK).exists() or given(node, "restore").returncode == 0
