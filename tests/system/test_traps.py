"""Where a member with an empty data directory must not start: no second cluster, no lost acknowledged write.

Each refusal says what to do, and these tests do just that: the commands are taken from its words.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.lab.cluster import (
    LIMIT,
    PORTS,
    Cluster,
    acknowledged,
    cluster_id,
    etcd_pid,
    healthy,
    holders,
    members,
    run,
    three_members,
    value,
)
from tests.lab.trial import ETCD_IMAGE, FOR_ETCD, TrialNode, both, until, volume, write_inventory

pytestmark = pytest.mark.root

LINK = "etc/kubernetes/manifests/{}.manifest"
RARELY = ("--interval", "600")
"""What an operator does to etcd is no event here; a node that waits for it looks again all the same."""


def refusal(node: TrialNode, subject: str, rule: str) -> str:
    """The evidence of a refusal, once it is there."""

    def found() -> str | None:
        for one in node.report("--dry-run")["refusals"]:
            if (one["subject"], one["rule"]) == (subject, rule):
                return str(one["evidence"])
        return None

    return str(until(f"{node.name} refuses {subject}: {rule}", found, LIMIT))


def obey(evidence: str, living: TrialNode) -> None:
    """Do what a refusal says on a living member."""
    (command,) = re.findall(r"`protokube (etcd replace [^`]+)`", evidence)
    done = living.protokube(*shlex.split(command), "--yes", timeout=LIMIT)
    assert done.returncode == 0, done.stdout + done.stderr


def initial(node: TrialNode, volume_id: str, name: str = "etcd") -> tuple[str, set[str]]:
    """The initial state in a manifest, and the members' names in its initial cluster."""
    pod = yaml.safe_load(node.path(f"/mnt/master-{volume_id}/k8s.io/manifests/{name}.manifest").read_text())
    env = {item["name"]: item["value"] for item in pod["spec"]["containers"][0]["env"]}
    return env["ETCD_INITIAL_CLUSTER_STATE"], {
        one.partition("=")[0] for one in env["ETCD_INITIAL_CLUSTER"].split(",")
    }


def decided(node: TrialNode) -> bool:
    """Whether both of the node's members have been allowed to start."""
    return all((node.root / LINK.format(name)).is_symlink() for name in PORTS)


def forgets(node: TrialNode, volume_id: str) -> None:
    """Wait until the link to a lost volume is gone: a dry run may judge before the daemon's first reconcile."""
    link = node.root / LINK.format("etcd")

    def gone() -> bool:
        if not os.path.lexists(link):
            return True
        assert f"/master-{volume_id}/" in os.readlink(link), "the blank volume has got a link"
        return False

    until(f"{node.name} has no link", gone, LIMIT)


def without(volumes: Iterable[dict[str, Any]], volume_id: str, member: str) -> list[dict[str, Any]]:
    """An inventory in which a blank volume has taken a main volume's place."""
    kept = [one for one in volumes if one["id"] != volume_id]
    return [*kept, volume(f"{volume_id}-new", "main", f"{member}/a,b,c", FOR_ETCD)]


def test_tags_grow_from_one_member_to_three(tmp_path: Path) -> None:
    with Cluster(tmp_path, both("a", "a", FOR_ETCD), options=RARELY) as cluster:
        a = cluster.node("a")
        daemon = a.start_daemon()
        a.start_pods()
        until("a is healthy", lambda: healthy(a), LIMIT)
        for port in PORTS.values():
            acknowledged(a, "kept", "for ever", port)
        identity = {port: cluster_id(a, port) for port in PORTS.values()}
        running = etcd_pid(a)

        cluster.lists(three_members())
        os.kill(daemon.pid, signal.SIGHUP)
        grown = {"a": a}
        for letter in "bc":
            node = cluster.start(letter)
            until(f"{letter} holds a volume", partial(holders, node), LIMIT)
            (member,) = holders(node)
            for key, name in (("main", "etcd"), ("events", "etcd-events")):
                refused = refusal(node, f"{key}-{member}", "etcd/member-lost")
                assert f"does not list {name}-{member} (it lists " in refused
                assert not os.path.lexists(node.root / LINK.format(name))
                assert healthy(*grown.values(), ports=[PORTS[name]])
                assert len(members(a, PORTS[name])) == len(grown)
                obey(refused, a)
            grown[member] = node
            until(f"{member} joins", partial(healthy, *grown.values()), LIMIT)
            for key, name in (("main", "etcd"), ("events", "etcd-events")):
                assert initial(node, f"{key}-{member}", name) == ("existing", {f"{name}-{one}" for one in grown})
            # The tags name a member that isn't there yet; the cluster that is joined doesn't.
            assert "names of other members are missing" not in node.log()

        b, c = grown["b"], grown["c"]
        for port in PORTS.values():
            assert {value(node, "kept", port) for node in (a, b, c)} == {"for ever"}
            assert {cluster_id(node, port) for node in (a, b, c)} == {identity[port]}
            assert len(members(c, port)) == 3
        assert etcd_pid(a) == running, "the healthy member was restarted"


def test_a_blank_volume_in_a_members_place_makes_no_quorum_without_the_last_write(tmp_path: Path) -> None:
    with Cluster(tmp_path, three_members(), options=RARELY) as cluster:
        nodes = {letter: cluster.node(letter) for letter in "abc"}
        pods = {letter: (node.start_daemon(), node.start_pods())[1] for letter, node in nodes.items()}
        until("the cluster forms", lambda: healthy(*nodes.values()), LIMIT)
        a, b, c = nodes.values()
        member = next(name for name, node in holders(b).items() if node is b)
        c.end(pods["c"])
        acknowledged(a, "missed by c", "yes")

        a.end(pods["a"])
        b.power_cut()
        cluster.lists(without(three_members(), f"main-{member}", member))
        b.power_on()
        run(b)
        c.start_pods()

        # c has just been started: for moments it lists only the members that it has read from its log so far.
        whole = f"lists etcd-{member} as started"
        until("c lists all", lambda: whole in refusal(b, f"main-{member}-new", "etcd/member-lost"), LIMIT)
        forgets(b, f"main-{member}")
        assert not healthy(c, ports=[4001])

        a.start_pods()
        until("a and c are a quorum", lambda: healthy(a, c), LIMIT)
        obey(refusal(b, f"main-{member}-new", "etcd/member-lost"), a)
        until("b is back", lambda: healthy(a, b, c), LIMIT)
        assert {value(node, "missed by c") for node in nodes.values()} == {"yes"}
        assert len(members(b)) == 3


def test_a_peer_that_missed_the_members_first_start_is_not_taken_at_its_word(tmp_path: Path) -> None:
    """The only peer that answers has never heard that the member started; its old list looks like a birth."""
    with Cluster(tmp_path, three_members(), options=RARELY) as cluster:
        nodes = {letter: cluster.node(letter) for letter in "abc"}
        daemons = {letter: node.start_daemon() for letter, node in nodes.items()}
        a, b, c = nodes.values()
        pods = {letter: nodes[letter].start_pods() for letter in "ac"}
        until("two of three are a cluster", lambda: healthy(a, c), LIMIT)
        # While c can still be asked: without it, b has to wait for c as long as it knows nothing better.
        until("b may start", lambda: decided(b), LIMIT)
        os.kill(daemons["b"].pid, signal.SIGSTOP)  # else it may judge again before etcd has started
        (member,) = holders(b)
        c.end(pods["c"])
        b.start_pods()
        until("a and b are a quorum", lambda: healthy(a, b), LIMIT)
        os.kill(daemons["b"].pid, signal.SIGCONT)
        acknowledged(a, "missed by c", "yes")

        a.end(pods["a"])
        b.power_cut()
        cluster.lists(without(three_members(), f"main-{member}", member))
        b.power_on()
        run(b)
        c.start_pods()

        def waits() -> bool:
            report = b.report("--dry-run")
            reasons = [one["reason"] for one in report["waiting"] if one["subject"] == f"main-{member}-new"]
            return not report["settled"] and any("may have missed" in reason for reason in reasons)

        until("b has heard c, and waits for a", waits, LIMIT)
        forgets(b, f"main-{member}")
        assert not healthy(c, ports=[4001])

        a.start_pods()
        until("a and c are a quorum", lambda: healthy(a, c), LIMIT)
        obey(refusal(b, f"main-{member}-new", "etcd/member-lost"), a)
        until("b is back", lambda: healthy(a, b, c), LIMIT)
        assert {value(node, "missed by c") for node in nodes.values()} == {"yes"}


def test_lost_data_of_a_member_that_ran(tmp_path: Path) -> None:
    inventory = write_inventory(tmp_path, *both(size=FOR_ETCD))
    with TrialNode(tmp_path / "a", inventory, options=("--etcd-image", ETCD_IMAGE)) as node:
        assert node.once().returncode == 0
        pods = node.start_pods()
        until("etcd is healthy", lambda: healthy(node), LIMIT)
        assert node.once().returncode == 0
        node.end(pods)
        node.run("rm", "-rf", f"{node.root}/mnt/master-main-a/var/etcd/data")

        report = node.report()

        assert report["exit"] == 1
        assert [(one["action"], one["subject"]) for one in report["steps"]] == [("unlink", "/" + LINK.format("etcd"))]
        assert [(one["subject"], one["rule"]) for one in report["refusals"]] == [("main-a", "etcd/data-lost")]
        assert not os.path.lexists(node.root / LINK.format("etcd"))
        assert (node.root / LINK.format("etcd-events")).is_symlink()
        again = node.report()
        assert (again["exit"], again["steps"]) == (1, [])


@pytest.mark.parametrize("elsewhere", [{"main": "b"}, {}], ids=["on-another-machine", "nowhere"])
def test_nobody_can_know_whether_the_others_ran(tmp_path: Path, elsewhere: dict[str, str]) -> None:
    inventory = write_inventory(tmp_path, volume("main-a", "main", "a/a,b"))
    text = json.loads(inventory.read_text())
    text["nodes"].append({"name": "node-b", "internalAddress": "10.1.2.4", "members": elsewhere})
    inventory.write_text(json.dumps(text))
    names = () if elsewhere else ("--dns", "none")
    with TrialNode(tmp_path / "a", inventory, options=names) as node:
        report = node.report()
        assert report["exit"] == 1
        assert [(one["subject"], one["rule"]) for one in report["refusals"]] == [("main-a", "etcd/bootstrap-unknown")]
        assert "member b" in report["refusals"][0]["evidence"]
        assert "--etcd-bootstrap" in report["refusals"][0]["evidence"]
        assert not os.path.lexists(node.root / LINK.format("etcd"))

        vouched = node.report("--etcd-bootstrap")

        assert (vouched["exit"], vouched["refusals"]) == (0, [])
        assert initial(node, "main-a") == ("new", {"etcd-a", "etcd-b"})
        assert (node.root / LINK.format("etcd")).is_symlink()
