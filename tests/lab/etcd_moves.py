"""Three machines whose etcd serves, to be moved to TLS or to other authorities; for tests and `make safety`."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from tests.lab.cluster import LIMIT, Cluster, etcd_pid, healthy, holders
from tests.lab.etcd_versions import install
from tests.lab.trial import FOR_ETCD, TrialNode, both, until

PACE = ("--interval", "1")
OFF = ("--etcd-tls", "off", *PACE)
ON = ("--etcd-tls", "on", *PACE)
PATIENCE = 3 * LIMIT
MANIFEST = r"write /mnt/\S+/etcd\.manifest "
"""How the daemon's log names a member's new manifest, as the other steps below."""
STEPS = {
    "update-member": "change the peer URL of ",
    "manifest": MANIFEST,
    "link": r"link /etc/kubernetes/manifests/etcd\.manifest ",
    "identity": r"write /mnt/\S+/identity\.yaml ",
    "tell": "tell the members of etcd cluster ",
}
Cut = Callable[[Sequence[TrialNode]], Callable[[], None]]
"""Looks at the nodes, before anything happens on them, and tells how to kill."""


@contextmanager
def machines(
    base: Path, version: str, options: tuple[str, ...], *, size: str = FOR_ETCD, config: str = ""
) -> Iterator[tuple[Cluster, list[TrialNode]]]:
    """Three machines with a shared store; main's members alone, so that a machine of the tests can bear it. `size` is
    that of each volume, `config` the text of the daemons' configuration file, `options` are OFF or ON."""
    store = base / "store"
    store.mkdir(0o700)
    image = f"registry.k8s.io/etcd:{version}-0"
    shared = ("--store", f"file://{store}", "--trust-clock", "--etcd-image", image)
    with Cluster(base, main_volumes(size), options=shared) as cluster:
        nodes = [cluster.node(letter) for letter in "abc"]
        for node in nodes:
            install(node, version)
            if config:
                file = node.root / "etc/protokube/config.yaml"
                file.parent.mkdir(parents=True)
                file.write_text(config)
            node.start_daemon(*options)
            node.start_pods()
        until("the cluster forms", lambda: serve(nodes), LIMIT)
        yield cluster, nodes


def main_volumes(size: str = FOR_ETCD) -> list[dict[str, Any]]:
    """The volumes of main's three members."""
    return [one for me in "abc" for one in both(me, "a,b,c", size) if one["id"] == f"main-{me}"]


def serve(nodes: Sequence[TrialNode]) -> bool:
    """Whether main's member on every node serves with quorum."""
    return healthy(*nodes, ports=(4001,))


def restart_daemon(node: TrialNode, *options: str) -> None:
    """SIGKILL for the node's daemon, not for commands of the operator's, and a new one with options."""
    for process in [one for one in node._processes if _is_daemon(one.args)]:
        node.kill(process)
    node.start_daemon(*options)


def _is_daemon(words: object) -> bool:
    """Whether a program's words are the daemon's: options alone follow its name, and no command."""
    if not isinstance(words, list) or "protokube" not in words:
        return False
    return str(words[words.index("protokube") + 1]).startswith("-")


def restart_machine(node: TrialNode, version: str, *options: str) -> None:
    """Switch the node off and on again, with etcd's programs of this version, the daemon and the pods."""
    node.power_cut()
    node.power_on()
    install(node, version)
    node.start_daemon(*options)
    node.start_pods()


def cut(member: str, step: str, *, power: bool, version: str = "3.4.23", options: tuple[str, ...] = ON) -> Cut:
    """Kill the daemon, or switch off the machine, of a member right after its next step of this kind; then start it
    again. `options` are its daemon's."""

    def prepared(nodes: Sequence[TrialNode]) -> Callable[[], None]:
        node = holders(*nodes)[member]
        seen = _count(node, step)

        def kill() -> None:
            until(f"{step} of {member}", lambda: _count(node, step) > seen, PATIENCE)
            if power:
                restart_machine(node, version, *options)
            else:
                restart_daemon(node, *options)

        return kill

    return prepared


@contextmanager
def while_killed(nodes: Sequence[TrialNode], how: Cut | None) -> Iterator[None]:
    """Whoever is to be killed is, beside what goes on in the block; both have ended after it."""
    if how is None:
        yield
        return
    kill = how(nodes)
    with ThreadPoolExecutor(1) as pool:
        killed = pool.submit(kill)
        yield
        killed.result()


def _count(node: TrialNode, step: str) -> int:
    return len(re.findall(STEPS[step], node.log()))


def pki(node: TrialNode, *words: str) -> bool:
    """`protokube pki`; False when it refuses."""
    python, _m, protokube, *own = node.arguments()
    return node.run(python, _m, protokube, "pki", *words, "--yes", *own).returncode == 0


def secure(node: TrialNode) -> bool:
    """Whether every member's URLs are https, as a quorum tells."""
    listed = node.etcdctl("member", "list", "-w", "json")
    if listed.returncode != 0:
        return False
    found = json.loads(listed.stdout)["members"]
    urls = [url for one in found for url in (*one["peerURLs"], *one.get("clientURLs", ()))]
    return all(url.startswith("https:") for url in urls)


def move_to_tls(nodes: Sequence[TrialNode], killing: Cut | None = None) -> None:
    """Make authorities, let every daemon begin again with TLS on, and wait until all members have moved."""
    assert pki(nodes[0], "create")
    with while_killed(nodes, killing):
        for node in nodes:
            restart_daemon(node, *ON)
    until("all have moved", lambda: all(map(secure, nodes)) and serve(nodes), PATIENCE)


def replace_step(
    nodes: Sequence[TrialNode], authority: str = "etcd-peers-main", *, restarts: bool, killing: Cut | None = None
) -> None:
    """Take the next step of an authority's replacement, and wait until all members have followed."""
    before = {node: etcd_pid(node) for node in nodes}
    with while_killed(nodes, killing):
        until("the step is taken", lambda: pki(nodes[0], "rotate", "--authority", authority), PATIENCE)
        for node in nodes[1:]:
            until("it follows", partial(_follows, node), PATIENCE)
    deadline = time.monotonic() + PATIENCE
    while restarts and any(running(node) in (None, before[node]) for node in nodes):
        assert time.monotonic() < deadline, "they don't all restart"
        time.sleep(0.2)
    until("they serve", lambda: serve(nodes), LIMIT)
    assert restarts or {node: etcd_pid(node) for node in nodes} == before


def _follows(node: TrialNode) -> bool:
    """Whether the node has issued what it is to issue; a machine that is switched off meanwhile is asked again."""
    try:
        return pki(node, "rotate")
    except AssertionError:
        return False


def running(node: TrialNode) -> int | None:
    """The process of the node's member; None while there is none."""
    try:
        return etcd_pid(node)
    except AssertionError:
        return None
