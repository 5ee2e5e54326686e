"""A worker as its unit runs it, on a real systemd: pods are units, and outlive the worker."""

from __future__ import annotations

from pathlib import Path

import pytest

from protokube.kubeleet.core.pod import Wanted, uid_of
from tests.kubeleet.programs import START
from tests.lab import inside
from tests.lab.redis_server import redis_server, until
from tests.lab.systemd_node import SystemdNode
from tests.lab.trial import CHECKOUT

pytestmark = pytest.mark.root

UNIT = "kubeleet-worker.service"
PROGRAM = f"#!/bin/sh\ncd {inside.CHECKOUT} && exec {inside.PYTHON} -c '{START}' \"$@\"\n"
POD = Wanted("app", "u", "/usr/bin/app", 1).encode()


def test_a_workers_pods_are_units_and_outlive_it(tmp_path: Path) -> None:
    socket = tmp_path / "redis" / "socket"
    files = {
        f"/etc/systemd/system/{UNIT}": (CHECKOUT / "systemd" / UNIT).read_text(),
        "/usr/bin/kubeleet": PROGRAM,
        "/usr/bin/app": "#!/bin/sh\nexec sleep 10000\n",
        "/etc/sysconfig/kubeleet-worker": "KUBELEET_OPTIONS=--provider systemd --name w1 --redis unix:///srv/redis/socket\n",
    }
    with (
        redis_server(tmp_path / "redis", unixsocket=socket) as redis,
        SystemdNode(
            tmp_path / "node", files=files, binds=[f"{socket.parent}:/srv/redis"], all_capabilities=True
        ) as node,
    ):

        def running() -> list[str]:
            said = node.run("systemctl", "list-units", "--no-legend", "--plain", "--state=running", "protokube-*")
            return [line.split()[0] for line in said.stdout.splitlines()]

        redis.do("LPUSH", "pq:w1", POD)
        node.run("systemctl", "start", UNIT)
        until(lambda: redis.do("SISMEMBER", "cs:w1", POD))
        unit = f"protokube-{uid_of(POD)}-main-0.service"
        assert running() == [unit]
        node.run("systemctl", "restart", UNIT)
        until(lambda: redis.do("GET", "ep:w1") == b"2")
        assert running() == [unit]
        redis.do("SREM", "cs:w1", POD)
        until(lambda: running() == [])
