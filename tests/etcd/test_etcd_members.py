"""`protokube etcd replace` on real clusters, under load, and killed at every step."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.lab.cluster import LIMIT, Cluster, acknowledged, cluster_id, healthy, holders, members, run, three_members
from tests.lab.load import Writer
from tests.lab.trial import FOR_ETCD, TrialNode, until, volume

pytestmark = pytest.mark.root


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with Cluster(tmp_path, three_members()) as cluster:
        yield cluster


def status(node: TrialNode) -> dict[str, Any]:
    """What status says of etcd cluster main, and the exit code."""
    done = node.protokube("etcd", "status", "--cluster", "main", "-o", "json")
    assert done.stdout, done.stderr
    (told,) = json.loads(done.stdout)["clusters"]
    return {**told, "exit": done.returncode}


def lose(cluster: Cluster, nodes: dict[str, TrialNode]) -> tuple[str, TrialNode, TrialNode]:
    """Take node b's volume of main away and put a blank one in its place; the member, its node, and a living one."""
    a, b = nodes["a"], nodes["b"]
    (lost,) = (member for member, node in holders(*nodes.values()).items() if node is b)
    b.power_cut()
    kept = [one for one in three_members() if one["id"] != f"main-{lost}"]
    cluster.lists([*kept, volume(f"main-{lost}-new", "main", f"{lost}/a,b,c", FOR_ETCD)])
    return lost, b, a


def test_a_lost_member_is_replaced_while_a_client_writes(cluster: Cluster) -> None:
    nodes = {letter: cluster.start(letter) for letter in "abc"}
    a, b, c = nodes.values()
    until("the cluster forms", lambda: healthy(a, b, c), LIMIT)
    before, identity = members(a), cluster_id(a)
    well = status(a)
    assert (well["exit"], well["problems"], well["quorum"]) == (0, [], True)
    assert all(one["answers"] and one["version"] == "3.4.23" for one in well["members"])
    assert sum(one["leader"] for one in well["members"]) == 1

    with Writer(a) as load:
        load.more()
        lost, b, a = lose(cluster, nodes)
        name = f"etcd-{lost}"

        def unwell() -> bool:
            told = status(a)
            return bool(told["exit"] == 1 and [one["rule"] for one in told["problems"]] == ["etcd/member-silent"])

        until("the others have a leader and miss it", unwell, LIMIT)
        shown = a.protokube("etcd", "replace", "--cluster", "main", "--member", lost, "--dry-run")
        assert shown.returncode == 0, shown.stderr
        assert f"remove {name}" in shown.stdout and "of them none may fail" in shown.stdout
        assert members(a) == before
        (other,) = (member for member, node in holders(a, c).items() if node is c)
        refused = a.protokube("etcd", "replace", "--cluster", "main", "--member", other, "--yes")
        assert refused.returncode == 0 and "there is nothing to replace" in refused.stdout

        b.power_on()
        run(b)
        done = a.protokube("etcd", "replace", "--cluster", "main", "--member", lost, "--yes", timeout=3 * LIMIT)
        assert done.returncode == 0, done.stdout + done.stderr
        load.more()
    print(f"a member replaced: {len(load.kept)} writes acknowledged, the longest gap {load.longest:.2f} s")
    after = members(a)
    assert after.keys() == before.keys() and cluster_id(a) == identity
    assert {one for one in after if after[one] != before[one]} == {name}
    assert load.lost(b) == [] and load.lost(c) == []
    assert status(a)["problems"] == []


def test_a_replacement_that_is_killed_again_and_again_goes_on_and_none_begins_without_a_quorum(
    cluster: Cluster,
) -> None:
    nodes = {letter: cluster.start(letter) for letter in "abc"}
    until("the cluster forms", lambda: healthy(*nodes.values()), LIMIT)
    before = members(nodes["a"])
    acknowledged(nodes["a"], "kept", "yes")
    lost, b, a = lose(cluster, nodes)

    python, m, protokube, *own = a.arguments()
    words = ("etcd", "replace", "--cluster", "main", "--member", lost, "--yes")
    for number, seen in enumerate(("removed ", "waiting until ")):
        log = f"replace-{number}.log"
        command = a.spawn(log, python, m, protokube, *words, *own)
        heard = partial(
            lambda log, seen, command: seen in a.log(log) or command.poll() is not None, log, seen, command
        )
        until(f"it says {seen!r}", heard, LIMIT)
        command.send_signal(signal.SIGKILL)
        command.wait(LIMIT)
    b.power_on()
    run(b)
    done = a.protokube(*words, timeout=3 * LIMIT)
    assert done.returncode == 0, done.stdout + done.stderr

    after = members(a)
    assert after.keys() == before.keys()
    assert [one for one in after if after[one] != before[one]] == [f"etcd-{lost}"]
    until("all are healthy", lambda: healthy(*nodes.values()), LIMIT)
    assert b.etcdctl("get", "kept", "--print-value-only").stdout == "yes\n"
    again = a.protokube(*words)
    assert again.returncode == 0 and "there is nothing to replace" in again.stdout

    b.power_cut()
    nodes["c"].power_cut()
    done = a.protokube("etcd", "replace", "--cluster", "main", "--member", lost, "--yes")
    assert done.returncode == 1 and "etcd/no-quorum" in done.stderr, done.stdout + done.stderr
    told = status(a)
    assert (told["exit"], told["quorum"]) == (1, False)
    assert "etcd/no-quorum" in [one["rule"] for one in told["problems"]]
