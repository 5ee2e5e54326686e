"""The shipped unit issues certificates: its filter keeps the kernel's clock from it, and timedated tells."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lab import timedated
from tests.lab.trial import CLUSTER, both, write_inventory
from tests.lab.unit_node import LINKS, LOOPS, UNIT, UnitNode

pytestmark = pytest.mark.root

DISKS = "/var/lib/disks"
STORE = "/var/lib/shared"
PKI = "/var/lib/protokube/pki"


def look_again(node: UnitNode) -> None:
    node.run("systemctl", "kill", "--kill-who=main", "--signal=USR1", UNIT)


def test_certificates_are_issued_once_timedated_says_that_the_clock_is_in_sync(tmp_path: Path) -> None:
    disks = tmp_path / "disks"
    write_inventory(disks, *both())
    (disks / "volumes").mkdir()
    inventory = (disks / "inventory.yaml").read_text().replace('"volumes/', f'"{DISKS}/volumes/')
    files = {"/etc/protokube/inventory.yaml": inventory, **timedated.FILES}
    config = {"cloud": "local", "store": f"file://{STORE}"}
    with UnitNode(tmp_path / "node", "node-a", config, files=files, binds=[*LOOPS, f"{disks}:{DISKS}"]) as node:
        node.run("mkdir", "-m", "700", STORE)
        node.run("systemctl", "mask", timedated.SERVICE)
        node.run("systemctl", "start", UNIT)
        node.until("it says what it can't know", lambda: node.said("unknown: clock: "))
        assert node.said("see `systemctl status systemd-timedated`; where the clock is right, give --trust-clock")
        node.until("everything else is done", lambda: len(node.mounts()) == len(LINKS))
        assert not node.links() and not node.path(PKI).exists() and not list(node.path(STORE).iterdir())

        node.run("systemctl", "unmask", timedated.SERVICE)
        look_again(node)
        node.until("it says that the clock is wrong", lambda: node.said("refused: clock: pki/time"))
        assert not node.links() and not node.path(PKI).exists()

        node.path(timedated.IN_SYNC).touch()
        look_again(node)
        node.until("etcd may start", lambda: node.links() == set(LINKS))
        node.until("the rest is done", lambda: node.said("\nconverged\n"))
        assert node.path(f"{STORE}/{CLUSTER}/pki/v1.json").exists()
        issued = {path.name for path in node.path(PKI).glob("etcd-*") if (path / "tls.crt").exists()}
        assert {f"etcd-{kind}-{name}" for kind in ("server", "peer") for name in ("main", "events")} <= issued
