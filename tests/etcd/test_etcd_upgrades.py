"""A cluster under load goes from etcd 3.4 to 3.5, one member at a time; a step that isn't safe is refused.

The machine's etcd is 3.4. On a node that gets 3.5 a newer release's programs lie over /usr (`.ci/packages-etcd`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab.cluster import LIMIT, Cluster, cluster_id, healthy, members, three_members
from tests.lab.load import Writer
from tests.lab.trial import CHECKOUT, TrialNode, until

pytestmark = pytest.mark.root

NEWER = CHECKOUT / "build/etcd/sid/root/usr"
IMAGE = "registry.k8s.io/etcd:{}-0"
WANTED = "3.5.30"


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with Cluster(tmp_path, three_members()) as cluster:
        yield cluster


def offer(node: TrialNode) -> None:
    """Let the node's programs be those of the newer release."""
    assert (NEWER / "bin/etcd").is_file(), "make build/etcd/made"
    done = node.run("mount", "-t", "overlay", "overlay", "-o", f"lowerdir={NEWER}:/usr", "/usr")
    assert done.returncode == 0, done.stderr


def versions(node: TrialNode) -> dict[str, Any]:
    """What the members of main run, by their own word."""
    done = node.protokube("etcd", "status", "--cluster", "main", "-o", "json")
    assert done.stdout, done.stderr
    (told,) = json.loads(done.stdout)["clusters"]
    return {one["name"]: one["version"] for one in told["members"]}


def test_a_cluster_under_load_is_upgraded_one_member_at_a_time(cluster: Cluster) -> None:
    nodes = [cluster.node(letter) for letter in "abc"]
    daemons = {}
    for node in nodes:
        offer_later = node.start_daemon()
        daemons[node.name] = offer_later
        node.start_pods()
    a, b, c = nodes
    until("the cluster forms", lambda: healthy(*nodes), LIMIT)
    before, identity = members(a), cluster_id(a)
    assert set(versions(a).values()) == {"3.4.23"}
    shown = a.protokube("etcd", "upgrade", "--cluster", "main", "--to", WANTED, "--dry-run")
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.index("etcd-a") < shown.stdout.index("etcd-b") < shown.stdout.index("etcd-c")
    for barred, told in (("3.6.8", "one minor version up at a time"), ("3.5.1", "can corrupt data")):
        refused = a.protokube("etcd", "upgrade", "--cluster", "main", "--to", barred, "--dry-run")
        assert refused.returncode == 1 and told in refused.stdout + refused.stderr

    seen: list[tuple[str, ...]] = []
    with Writer(a) as load:
        load.more()
        for node in nodes:
            offer(node)
            # A daemon that is killed here and there goes on with the new image.
            node.kill(daemons[node.name])
            daemons[node.name] = node.start_daemon("--etcd-image", IMAGE.format(WANTED))

        def done() -> bool:
            now = versions(c)
            running = tuple(str(now[name]) for name in sorted(now) if now[name] is not None)
            if len(running) == 3 and running not in seen:
                seen.append(running)
            return running == (WANTED,) * 3

        until("every member runs the newer version", done, 3 * LIMIT)
        load.more()
    print(f"3.4.23 → {WANTED}: {len(load.kept)} writes acknowledged, the longest gap {load.longest:.2f} s")
    assert load.lost(b) == [] and members(a) == before and cluster_id(a) == identity
    old, new = "3.4.23", WANTED
    way = [(old,) * 3, (new, old, old), (new, new, old), (new,) * 3]
    assert [one for one in way if one in seen] == seen, "the members went by their names"
    until("all are healthy", lambda: healthy(*nodes), LIMIT)
