"""A database that fills up: every node shows the alarm, and `protokube etcd defrag` ends it, member by member."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.lab.cluster import LIMIT, Cluster, healthy, three_members
from tests.lab.trial import CHECKOUT, TrialNode, until

pytestmark = pytest.mark.root

QUOTA = 1 << 20


def small(folder: Path) -> Path:
    """The shipped templates, with a small quota."""
    templates = folder / "templates"
    shutil.copytree(CHECKOUT / "templates/etcd", templates)
    pod = templates / "manifest.yaml"
    name = '        - {name: ETCD_NAME, value: "${member_name}"}\n'
    assert name in pod.read_text()
    more = f'        - {{name: ETCD_QUOTA_BACKEND_BYTES, value: "{QUOTA}"}}\n'
    pod.write_text(pod.read_text().replace(name, name + more))
    return templates


def status(node: TrialNode) -> dict[str, Any]:
    done = node.protokube("etcd", "status", "--cluster", "main", "-o", "json")
    assert done.stdout, done.stderr
    (told,) = json.loads(done.stdout)["clusters"]
    return {**told, "exit": done.returncode}


def rules(node: TrialNode) -> set[str]:
    return {one["rule"] for one in status(node)["problems"]}


def test_a_full_cluster_is_seen_and_takes_writes_again(tmp_path: Path) -> None:
    options = ("--template-dir", str(small(tmp_path)))
    with Cluster(tmp_path, three_members(), options=options) as cluster:
        nodes = [cluster.start(letter) for letter in "abc"]
        until("the cluster forms", lambda: healthy(*nodes), LIMIT)
        a = nodes[0]
        assert status(a)["database"]["quota"] == QUOTA
        value = "x" * 20_000
        until("it is full", lambda: "NOSPACE" in a.etcdctl("alarm", "list").stdout or _put(a, value), LIMIT)

        for node in nodes:
            until(f"{node.name} sees it", lambda node=node: "etcd/nospace" in rules(node), LIMIT)  # type: ignore[misc]
            assert status(node)["exit"] == 1
        shown = a.protokube("etcd", "defrag", "--cluster", "main", "--dry-run")
        assert shown.returncode == 0 and "drop what was overwritten" in shown.stdout, shown.stdout + shown.stderr
        before = {node.name: status(node)["database"]["size"] for node in nodes}
        assert a.etcdctl("put", "key", "y").returncode != 0

        for node in nodes:
            done = node.protokube("etcd", "defrag", "--cluster", "main", "--yes")
            assert done.returncode == 0, done.stdout + done.stderr
            assert status(node)["database"]["size"] < before[node.name]
        assert {rule for node in nodes for rule in rules(node)} == set()
        until("writes go on", lambda: a.etcdctl("put", "key", "again").returncode == 0, LIMIT)

        nodes[1].power_cut()

        def refused() -> bool:
            done = a.protokube("etcd", "defrag", "--cluster", "main", "--yes")
            return done.returncode == 1 and "must serve first" in done.stderr

        until("a member that is alone in serving isn't stopped", refused, LIMIT)


def _put(node: TrialNode, value: str) -> bool:
    node.etcdctl("put", "key", value)
    return False
