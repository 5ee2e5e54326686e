"""`protokube token` on a real API server."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from protokube.core.objects.tokens import NAMESPACE
from protokube.kubeapi.client import KubeApi
from protokube.kubeapi.http import KubeError
from tests.lab.api_server import ApiServer
from tests.lab.netns import Network
from tests.lab.trial import CHECKOUT, until, write_inventory

pytestmark = pytest.mark.root


def opens(door: KubeApi) -> bool:
    try:
        return door.get("/apis/certificates.k8s.io/v1") is not None
    except KubeError:
        return False


class Machine:
    """A control-plane node's files below a root, in the API server's network namespace."""

    def __init__(self, root: Path, server: ApiServer, command: list[str]) -> None:
        self.server, self._command = server, command
        inventory = write_inventory(root / "inventory", nodes={"node-a": "10.77.0.11"})
        pki = root / "var/lib/protokube/pki"
        pki.mkdir(parents=True)
        (pki / "protokube").symlink_to(server.base / "admin")
        self._options = ["--root", str(root), "--cloud", "local", "--inventory", str(inventory), "--node", "node-a"]

    def token(self, *argv: str) -> subprocess.CompletedProcess[str]:
        """`protokube token`."""
        words = [*self._command, sys.executable, "-m", "protokube", "token", *argv, *self._options]
        return subprocess.run(words, capture_output=True, text=True, cwd=CHECKOUT, timeout=120, check=False)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    base: Path = tmp_path_factory.mktemp("token")
    with Network() as network:
        space = network.node("10.77.0.11/24", gateway="10.77.0.1")
        with ApiServer(base / "api", space) as server, server.inside():
            yield Machine(base / "root", server, space.command())


def test_a_token_opens_the_door_until_it_is_deleted(machine: Machine) -> None:
    made = machine.token("create", "--ttl", "30m", "--description", "rack 7", "-o", "json")
    assert made.returncode == 0, made.stderr
    told = json.loads(made.stdout)
    assert told["api"] == "https://api.internal.dev.example.com:6443"
    assert told["ca"] == (machine.server.base / "admin/ca.crt").read_text()
    door = machine.server.with_token(told["token"])
    assert door.get("/apis/certificates.k8s.io/v1")

    identity, _, secret = told["token"].partition(".")
    listed = machine.token("list")
    assert identity in listed.stdout and "rack 7" in listed.stdout and secret not in listed.stdout
    assert json.loads(machine.token("list", "-o", "json").stdout)[0]["expires"] == told["expires"]

    assert machine.token("delete", identity).returncode == 0
    until("it is closed", lambda: not opens(door))  # the API server remembers a token for 10 s
    again = machine.token("delete", identity)
    assert again.returncode == 1 and "there is no such token" in again.stderr


def test_what_is_printed_can_be_run_on_the_new_machine(machine: Machine, tmp_path: Path) -> None:
    made = machine.token("create")
    assert made.returncode == 0, made.stderr
    script = made.stdout.replace("/etc/protokube", str(tmp_path / "etc"))
    subprocess.run(["sh", "-eu"], input=script, text=True, check=True, timeout=60)
    token = (tmp_path / "etc/token").read_text().strip()
    assert machine.server.with_token(token).get("/apis/certificates.k8s.io/v1")
    assert (tmp_path / "etc/token").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "etc/ca.crt").read_text().strip() == (machine.server.base / "admin/ca.crt").read_text().strip()


@pytest.mark.parametrize(
    "argv",
    [
        ("create", "--for", "Worker_7"),
        ("create", "--ttl", "25h"),
        ("create", "abcdef"),
        ("delete",),
        ("delete", "abcdef.0123456789abcdef"),
        ("list", "--ttl", "1h"),
        ("show",),
    ],
)
def test_wrong_usage_is_told_and_makes_nothing(machine: Machine, argv: tuple[str, ...]) -> None:
    api = machine.server.admin()
    path = api.path("v1", "Secret", NAMESPACE)
    before = len(api.list(path))
    done = machine.token(*argv)
    assert done.returncode == 64 and done.stderr
    assert len(api.list(path)) == before


def test_a_token_of_one_machine_says_so(machine: Machine) -> None:
    made = json.loads(machine.token("create", "--for", "worker-7", "-o", "json").stdout)
    assert made["node"] == "worker-7"
    (listed,) = (one for one in json.loads(machine.token("list", "-o", "json").stdout) if one["node"])
    assert made["token"].startswith(listed["id"]) and listed["node"] == "worker-7"
    assert "for worker-7" in machine.token("list").stdout


def test_a_node_without_a_control_plane_says_so(machine: Machine, tmp_path: Path) -> None:
    inventory = write_inventory(tmp_path, nodes={"node-a": "10.77.0.11"})
    words = [sys.executable, "-m", "protokube", "token", "list", "--root", str(tmp_path / "root")]
    words += ["--cloud", "local", "--inventory", str(inventory), "--node", "node-a"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=CHECKOUT, timeout=120, check=False)
    assert done.returncode == 1 and "--control-plane" in done.stderr
