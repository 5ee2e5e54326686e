"""Three machines become an etcd cluster, lose one, and get over it, without anybody's help.

Real disks, real etcd, a network namespace for each machine. Names stand in hosts files.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.cluster import (
    ADDRESSES,
    LIMIT,
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
from tests.lab.trial import TrialNode, first_woken_by, until

pytestmark = pytest.mark.root

NAMES = {"etcd-a", "etcd-b", "etcd-c"}


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with Cluster(tmp_path, three_members()) as cluster:
        yield cluster


@pytest.fixture
def hasty(tmp_path: Path) -> Iterator[Cluster]:
    """A cluster whose members wait for the names of the others for less than a minute."""
    with Cluster(tmp_path, three_members(), options=("--etcd-names-timeout", "8")) as cluster:
        yield cluster


def hosts_inside(node: TrialNode) -> dict[str, str]:
    """The address of each name, as the running container of the node's main member sees it."""
    text = Path(f"/proc/{etcd_pid(node)}/root/etc/hosts").read_text()
    fields = [line.split() for line in text.splitlines() if line and not line.startswith("#")]
    return {name: address for address, *names in fields for name in names}


def test_a_cluster_forms_and_survives_the_loss_of_a_machine(cluster: Cluster) -> None:
    a, b, c = (cluster.start(letter) for letter in "abc")
    until("the cluster forms", lambda: healthy(a, b, c), LIMIT)
    before = members(a)
    assert set(before) == NAMES
    assert len({cluster_id(node) for node in (a, b, c)}) == 1
    acknowledged(a, "from", "a")
    acknowledged(a, "from", "a, events", port=4002)
    assert value(c, "from") == "a"
    assert value(c, "from", port=4002) == "a, events"
    identity, running = cluster_id(a), {node: etcd_pid(node) for node in (a, c)}
    (lost,) = (member for member, node in holders(a, b, c).items() if node is b)

    b.power_cut()
    acknowledged(a, "while", "b was gone")
    d = cluster.start("d")

    until("it heals", lambda: healthy(a, c, d), LIMIT)
    assert holders(d) == {lost: d}
    assert (value(d, "from"), value(d, "while")) == ("a", "b was gone")
    assert members(d) == before
    assert {cluster_id(node) for node in (a, c, d)} == {identity}
    name = f"etcd-{lost}.internal.dev.example.com"
    until("their containers see it", lambda: {hosts_inside(one)[name] for one in (a, c)} == {ADDRESSES["d"]}, LIMIT)
    assert {node: etcd_pid(node) for node in (a, c)} == running, "a running container was replaced"

    c.power_cut()

    acknowledged(a, "without", "c")
    acknowledged(d, "without", "c, events", port=4002)
    assert (value(d, "from"), value(d, "while"), value(d, "without")) == ("a", "b was gone", "c")
    assert value(a, "without", port=4002) == "c, events"
    assert cluster_id(d) == identity


def test_a_member_that_comes_late_joins_the_cluster_that_the_others_formed(hasty: Cluster) -> None:
    a, b = (hasty.start(letter) for letter in "ab")
    until("two of three are a cluster", lambda: healthy(a, b), LIMIT)
    assert "names of other members are missing" in a.log() + b.log()
    acknowledged(a, "early", "yes")

    c = hasty.start("c")

    until("the third is in", lambda: healthy(a, b, c), LIMIT)
    assert value(c, "early") == "yes"
    assert set(members(c)) == NAMES
    assert len({cluster_id(node) for node in (a, b, c)}) == 1


def test_all_machines_lose_power_at_once(cluster: Cluster) -> None:
    nodes = [cluster.start(letter) for letter in "abc"]
    until("the cluster forms", lambda: healthy(*nodes), LIMIT)
    acknowledged(nodes[0], "kept", "for ever")
    identity = cluster_id(nodes[0])

    for node in nodes:
        node.power_cut()
    for node in nodes:
        node.power_on()
        run(node)

    until("it is back", lambda: healthy(*nodes), LIMIT)
    assert {value(node, "kept") for node in nodes} == {"for ever"}
    assert {cluster_id(node) for node in nodes} == {identity}


def test_a_standby_names_the_holders_and_takes_over_unasked(cluster: Cluster) -> None:
    a, b, c = (cluster.start(letter) for letter in "abc")
    until("the cluster forms", lambda: healthy(a, b, c), LIMIT)
    acknowledged(a, "from", "a")
    before = members(a)
    owner = holders(a, b, c)
    (lost,) = (member for member, node in owner.items() if node is b)

    d = cluster.node("d")
    told = d.once("-o", "text")
    assert told.returncode == 0, told.stdout + told.stderr
    for member, node in owner.items():
        assert f"main-{member} is in use by {node.name}" in told.stdout
    assert "standby" in told.stdout
    report = d.report()
    assert (report["exit"], report["settled"], report["steps"]) == (0, True, [])
    assert holders(d) == {}
    run(d)
    until("the standby is converged", lambda: "converged" in d.log(), LIMIT)
    said = len(d.log())

    b.power_cut()

    until("the standby took over", lambda: healthy(a, c, d), LIMIT)
    assert holders(d) == {lost: d}
    assert (value(d, "from"), members(d)) == ("a", before)
    assert not first_woken_by(d.log()[said:]).startswith("the clock")
