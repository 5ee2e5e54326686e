"""Nodes whose names stand in a real BIND: addresses that change, a server that is down, strangers' hands."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab.bind import Bind
from tests.lab.cluster import LIMIT, acknowledged, healthy, run, value
from tests.lab.netns import Namespace, Network
from tests.lab.trial import CLUSTER, ETCD_IMAGE, FOR_ETCD, TrialNode, both, first_woken_by, until
from tests.lab.unit_node import LINKS, LOOPS, UNIT, UnitNode

pytestmark = pytest.mark.root

SERVER = "10.77.0.1"
MAIN, EVENTS = f"etcd-a.internal.{CLUSTER}", f"etcd-events-a.internal.{CLUSTER}"
API = f"api.internal.{CLUSTER}"


class Lab:
    """A network with a name server at its gateway, and an inventory that leaves addresses to the machines."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self._network = Network(f"{SERVER}/24")

    def __enter__(self) -> Lab:
        self._network.__enter__()
        self.bind = Bind(self.base, (CLUSTER,), SERVER, port=53)
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bind.thaw()
        self.bind.stop()
        self._network.__exit__()

    def start(self) -> None:
        """Start the name server, in the network."""
        with self._network.switch.inside():
            self.bind.start()

    def stop(self) -> None:
        """End it."""
        self.bind.stop()

    def values(self, name: str, rdtype: str = "A") -> set[str]:
        """What it answers."""
        with self._network.switch.inside():
            return self.bind.values(name, rdtype)

    def add(self, name: str, *values: str) -> None:
        """Add addresses, as somebody else."""
        with self._network.switch.inside():
            self.bind.add(name, "A", *values)

    def remove(self, name: str, *values: str) -> None:
        """Remove addresses, as somebody else."""
        with self._network.switch.inside():
            self.bind.remove(name, "A", *values)

    def space(self, address: str) -> Namespace:
        """A machine's network, with a default route."""
        return self._network.node(f"{address}/24", gateway=SERVER)

    def inventory(self, folder: Path, volumes: list[dict[str, Any]], **more: Any) -> Path:
        """An inventory of three machines that know their addresses themselves."""
        folder.mkdir(parents=True, exist_ok=True)
        nodes = [{"name": f"node-{letter}"} for letter in "abc"]
        path = folder / "inventory.yaml"
        path.write_text(json.dumps({"cluster": CLUSTER, "nodes": nodes, "volumes": volumes, **more}))
        return path

    def options(self, keyfile: Path | None = None) -> tuple[str, ...]:
        """What sends names to this server."""
        return (
            "--dns",
            "rfc2136",
            "--dns-server",
            f"{SERVER}:53",
            "--dns-tsig-keyfile",
            str(keyfile or self.bind.keyfile),
        )

    def node(self, letter: str, inventory: Path, **config: Any) -> TrialNode:
        """A machine, switched on. It polls once an hour, so that nothing but events explains what it does."""
        base = self.base / letter
        options = (*self.options(), "--etcd-image", ETCD_IMAGE)
        at = self.space(f"10.77.0.1{ord(letter) - ord('a') + 1}")
        node = TrialNode(base, inventory, f"node-{letter}", network=at, options=options)
        etc = base / "root/etc"
        (etc / "protokube").mkdir(parents=True)
        (etc / "protokube/config.yaml").write_text(json.dumps({"interval": 3600, **config}))
        (etc / "resolv.conf").write_text(f"nameserver {SERVER}\noptions timeout:1\n")
        return node


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with Lab(tmp_path) as lab:
        yield lab


def converged(node: TrialNode) -> bool:
    """Whether the daemon has said so."""
    return " I converged\n" in node.log()


def record_changes(report: dict[str, Any]) -> list[str]:
    """The changes to records among the steps of a report."""
    return [step["description"] for step in report["steps"] if step["action"] == "change-records"]


def move(node: TrialNode, address: str) -> None:
    """Give a machine another address, as a DHCP lease that wasn't renewed does."""
    batch = f"addr flush dev eth0\naddr add {address}/24 dev eth0\nroute add default via {SERVER}\n"
    moved = node.run("sh", "-c", f"printf '%s' '{batch}' | ip -batch -")
    assert moved.returncode == 0, moved.stderr


def test_all_addresses_of_a_cluster_change_at_once(lab: Lab) -> None:
    volumes = [one for member in "abc" for one in both(member, "a,b,c", FOR_ETCD)]
    inventory = lab.inventory(lab.base, volumes)
    with lab.node("a", inventory) as a, lab.node("b", inventory) as b, lab.node("c", inventory) as c:
        nodes = (a, b, c)
        for node in nodes:
            run(node)
        until("the cluster forms", lambda: healthy(*nodes), LIMIT)
        until("all have converged", lambda: all(converged(node) for node in nodes), LIMIT)
        acknowledged(a, "before", "the move")
        old = {"10.77.0.11", "10.77.0.12", "10.77.0.13"}
        assert lab.values(API) == old
        manifests = {node: node.path("/etc/kubernetes/manifests/etcd.manifest").read_text() for node in nodes}
        said = {node: len(node.log()) for node in nodes}

        new = {a: "10.77.0.21", b: "10.77.0.22", c: "10.77.0.23"}
        for node, address in new.items():
            move(node, address)

        until("api follows", lambda: lab.values(API) == set(new.values()), LIMIT)
        names = [f"etcd{events}-{member}.internal.{CLUSTER}" for member in "abc" for events in ("", "-events")]
        until("etcd's names follow", lambda: set().union(*map(lab.values, names)) == set(new.values()), LIMIT)
        assert all(len(lab.values(name)) == 1 for name in names)
        until("the cluster is healthy again", lambda: healthy(*nodes), LIMIT)
        acknowledged(b, "after", "the move")
        assert (value(c, "before"), value(a, "after")) == ("the move", "the move")
        for node, address in new.items():
            since = node.log()[said[node] :]
            moved = rf"woken by addresses: \S+ → (\S+, )?{address}"
            assert re.search(moved, since) and not first_woken_by(since).startswith("the clock"), since
            assert f"announce that {node.name} is at {address}" in since
            assert node.path("/etc/kubernetes/manifests/etcd.manifest").read_text() == manifests[node]
        known = "".join(path.read_text() for path in lab.base.glob("volumes/*.state"))
        assert all(address in known for address in new.values())
        assert not any(f'"{address}"' in known or f" {address}\n" in known for address in old), known


def test_the_server_is_down_when_a_machine_boots(lab: Lab) -> None:
    """Everything but the names is done, kubelet runs, the node says what is missing; it comes with the server."""
    _boots_without_names(lab, lab.stop, lab.start)


def test_the_server_answers_nothing_when_a_machine_boots(lab: Lab) -> None:
    """A server that takes the connection and hangs holds up no more than one that is away."""
    _boots_without_names(lab, lab.bind.freeze, lab.bind.thaw)


def _boots_without_names(lab: Lab, down: Any, up: Any) -> None:
    keyfile = Path("/etc/protokube/tsig.key")
    disks = lab.base / "disks"
    (disks / "volumes").mkdir(parents=True)
    text = lab.inventory(disks, both()).read_text().replace('"volumes/', '"/var/lib/disks/volumes/')
    names = {"dns": "rfc2136", "dnsServer": f"{SERVER}:53", "dnsTsigKeyfile": str(keyfile)}
    config = {"cloud": "local", "interval": 2, **names}
    files = {"/etc/protokube/inventory.yaml": text, str(keyfile): lab.bind.keyfile.read_text()}
    binds = [*LOOPS, f"{disks}:/var/lib/disks"]
    space = lab.space("10.77.0.11")
    down()
    with UnitNode(lab.base / "node", "node-a", config, files=files, binds=binds, netns=space.name) as node:
        node.run("systemctl", "start", UNIT)
        node.until("kubelet runs", node.kubelets)
        assert node.links() == set(LINKS) and set(node.mounts()) == {"/mnt/master-main-a", "/mnt/master-events-a"}
        assert node.said("gate opened") == 0
        node.until("it says what is missing", lambda: "dns" in node.show("StatusText"))
        assert SERVER in node.journal(UNIT)
        assert "converged" not in node.journal(UNIT).splitlines()

        up()
        node.converged()
        for name in (MAIN, EVENTS, API):
            assert lab.values(name) == {"10.77.0.11"}
        assert len(node.kubelets()) == 1


def test_a_member_of_several_waits_for_names_and_not_for_ever(lab: Lab) -> None:
    volumes = [one for member in "abc" for one in both(member, "a,b,c")]
    lab.stop()
    with lab.node("a", lab.inventory(lab.base, volumes), interval=1, etcdNamesTimeout=8) as node:
        node.start_daemon()
        until("it waits with the link", lambda: "names of other members are missing" in node.log(), LIMIT)
        mounted = list(node.path("/mnt").glob("master-*/k8s.io/manifests/*.manifest"))
        assert len(mounted) == len(LINKS)
        folder = node.path("/etc/kubernetes/manifests")
        assert not list(folder.glob("*.manifest"))
        until("its patience ends", lambda: len(list(folder.glob("*.manifest"))) == len(LINKS), LIMIT)
        assert not converged(node)
        lab.start()
        until("the records come", lambda: lab.values(API) == {"10.77.0.11"}, LIMIT)


def test_strangers_changes_are_repaired_in_the_next_reading(lab: Lab) -> None:
    with lab.node("a", lab.inventory(lab.base, both()), interval=1, dnsReadEvery=1) as node:
        node.start_daemon()
        until("it is converged", lambda: converged(node), LIMIT)
        lab.remove(MAIN)
        until("a record is there again", lambda: lab.values(MAIN) == {"10.77.0.11"}, LIMIT)
        lab.add(EVENTS, "10.99.0.1")
        until("a stranger's address is gone", lambda: lab.values(EVENTS) == {"10.77.0.11"}, LIMIT)
        lab.remove(API, "10.77.0.11")
        until("its own part is there again", lambda: lab.values(API) == {"10.77.0.11"}, LIMIT)


@pytest.mark.parametrize(("every", "least", "most"), [(1, 8, 10), (3, 2, 4)])
def test_converged_reconciles_read_as_often_as_configured(lab: Lab, every: int, least: int, most: int) -> None:
    """Ten reconciles, one more or less, since a reconcile may be under way when they are counted."""
    with lab.node("a", lab.inventory(lab.base, both()), interval=1, dnsReadEvery=every) as node:
        node.start_daemon()
        until("it is converged", lambda: converged(node), LIMIT)

        def reconciles() -> int:
            return node.log().count("woken by the clock")

        began = reconciles()
        until("a reconcile of its own", lambda: reconciles() > began, LIMIT)
        began, asked, updates = reconciles(), lab.bind.asked(MAIN, "A"), lab.bind.updates()
        until("nine reconciles", lambda: reconciles() >= began + 9, LIMIT)
        assert least <= lab.bind.asked(MAIN, "A") - asked <= most
        assert lab.bind.updates() == updates, "a converged node writes nothing"


def test_a_dry_run_shows_records_as_a_diff(lab: Lab) -> None:
    with lab.node("a", lab.inventory(lab.base, both())) as node:
        first = node.run(*node.arguments("--dry-run")).stdout
        assert f"       + {MAIN} A 10.77.0.11\n" in first and f"- {MAIN}" not in first
        assert lab.bind.updates() == 0

        done = node.once()
        assert done.returncode == 0, done.stdout + done.stderr
        lab.remove(EVENTS)
        move(node, "10.77.0.21")
        updates = lab.bind.updates()

        shown = node.run(*node.arguments("--dry-run")).stdout
        assert f"       - {MAIN} A 10.77.0.11\n       + {MAIN} A 10.77.0.21\n" in shown, shown
        assert f"       - {API} A 10.77.0.11\n       + {API} A 10.77.0.21\n" in shown, shown
        assert f"       + {EVENTS} A 10.77.0.21\n" in shown and f"- {EVENTS}" not in shown, shown
        assert lab.bind.updates() == updates and lab.values(MAIN) == {"10.77.0.11"}


def test_who_holds_no_main_volume_writes_nothing(lab: Lab) -> None:
    inventory = lab.inventory(lab.base, both())
    with lab.node("a", inventory) as a, lab.node("b", inventory) as b, lab.node("c", inventory) as c:
        a.start_daemon()
        until("the master is converged", lambda: converged(a), LIMIT)
        updates = lab.bind.updates()
        assert updates > 0

        standby = b.report()
        assert (standby["settled"], record_changes(standby)) == (True, [])
        arguments = [one for one in c.arguments("--once", "-o", "json") if one != "--master"]
        assert arguments[0] == sys.executable
        worker = c.run(*arguments)
        assert worker.returncode == 0, worker.stderr
        assert record_changes(json.loads(worker.stdout)) == []

        assert lab.bind.updates() == updates
        assert {name: lab.values(name) for name in (MAIN, EVENTS, API)} == {
            name: {"10.77.0.11"} for name in (MAIN, EVENTS, API)
        }
