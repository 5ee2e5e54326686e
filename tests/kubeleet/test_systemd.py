"""Worker, scheduler and service API as their units run them, on a real systemd: pods are units, and outlive them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from protokube.kubeleet.core.pod import Wanted, uid_of
from tests.kubeleet.programs import START
from tests.lab import inside
from tests.lab.redis_server import redis_server, until
from tests.lab.systemd_node import SystemdNode
from tests.lab.trial import CHECKOUT

pytestmark = pytest.mark.root

UNIT = "kubeleet-worker.service"
OTHERS = ("kubeleet-scheduler.service", "kubeleet-service.service")
ASK = """
import sys, urllib.request
method, path, *body = sys.argv[1:]
data, kind = (body[0].encode() if body else None), {"Content-Type": "application/json"}
asked = urllib.request.Request("http://127.0.0.1:7480" + path, data, kind, method=method)
print(urllib.request.urlopen(asked, timeout=120).read().decode())
"""
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


def test_a_service_posted_to_the_api_s_unit_runs(tmp_path: Path) -> None:
    socket = tmp_path / "redis" / "socket"
    given = "--redis unix:///srv/redis/socket --redis-auth-file /etc/kubeleet.auth"
    files = {
        **{f"/etc/systemd/system/{unit}": (CHECKOUT / "systemd" / unit).read_text() for unit in (UNIT, *OTHERS)},
        "/usr/bin/kubeleet": PROGRAM,
        "/usr/bin/app": "#!/bin/sh\nexec sleep 10000\n",
        "/etc/kubeleet.auth": "secret\n",
        "/etc/sysconfig/kubeleet-worker": f"KUBELEET_OPTIONS=--provider systemd --name w1 {given}\n",
        "/etc/sysconfig/kubeleet-scheduler": f"KUBELEET_OPTIONS={given}\n",
        "/etc/sysconfig/kubeleet-service": f"KUBELEET_OPTIONS={given}\n",
    }
    with (
        redis_server(tmp_path / "redis", unixsocket=socket) as redis,
        SystemdNode(
            tmp_path / "node", files=files, binds=[f"{socket.parent}:/srv/redis"], all_capabilities=True
        ) as node,
    ):
        redis.do("ACL", "SETUSER", "default", "on", ">secret")  # the tests' own connections come before it counts
        node.path("/etc/kubeleet.auth").chmod(0o600)
        started = node.run("systemctl", "start", UNIT, *OTHERS, check=False)
        assert started.returncode == 0, node.run("journalctl", "--no-pager", "-u", "kubeleet-*").stdout

        def ask(*words: str) -> Any:
            return json.loads(node.run(inside.PYTHON, "-c", ASK, *words).stdout)

        body = {"name": "app", "uuid": "u1", "image": "/usr/bin/app", "replica": 2}
        assert len(ask("POST", "/service", json.dumps(body))["pods"]) == 2
        until(lambda: set(ask("GET", "/service/u1")["pods"].values()) == {"on@w1"}, every=0.5)
        for unit in OTHERS:  # their shells see nothing but what they need
            pid = node.run("systemctl", "show", "-P", "MainPID", unit).stdout.strip()
            assert "CapEff:\t0000000000000000" in node.path(f"/proc/{pid}/status").read_text()
        assert ask("DELETE", "/service/u1") == {"uuid": "u1"}
