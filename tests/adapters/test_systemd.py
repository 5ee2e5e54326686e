"""SystemBus against a real systemd: its states, its verdicts, its signals, and buses that misbehave."""

from __future__ import annotations

import asyncio
import os
import queue
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from protokube.core.node.model import UnitState
from protokube.errors import ProviderError
from protokube.host.systemd import SystemBus, unit_path
from tests.lab.systemd_node import SystemdNode

LIMIT = 120.0

UNITS = {
    "steady.service": (
        "[Unit]\nStartLimitIntervalSec=0\n[Service]\nType=exec\n"
        "ExecStart=/bin/sleep 1000\nRestart=always\nRestartSec=100ms\n"
    ),
    "broken.service": "[Service]\nType=oneshot\nExecStart=/bin/false\n",
    "slow.service": "[Service]\nType=notify\nTimeoutStartSec=infinity\nExecStart=/bin/sleep 1000\n",
    "unmet.service": "[Unit]\nRequires=broken.service\nAfter=broken.service\n[Service]\nExecStart=/bin/sleep 9\n",
    "wrong.service": "[Service]\nExecStart=not-absolute/but-a-path\n",
    # Its ordering keeps absent.service in PID 1's memory, as not-found.
    "orderly.service": "[Unit]\nAfter=absent.service\n[Service]\nExecStart=/bin/sleep 1000\n",
}

MANAGER = ["org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager"]
LAST_CALL = ["org.freedesktop.DBus", "GetId"]


class Running:
    """A SystemBus in an event loop of its own thread, as in the daemon; `wakes` collects its reasons."""

    def __init__(self, address: str, *, limit: float = LIMIT, job_limit: float = 3.0) -> None:
        self.wakes: queue.Queue[str] = queue.Queue()
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()
        self.bus = SystemBus(self.loop, address, limit=limit, job_limit=job_limit, on_change=self.wakes.put_nowait)

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        self.bus.close()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()

    def wait_for(self, text: str) -> str:
        """The next wake whose reason holds `text`."""
        while text not in (reason := self.wakes.get(timeout=LIMIT)):
            pass
        return reason

    def drain(self) -> list[str]:
        reasons = []
        while not self.wakes.empty():
            reasons.append(self.wakes.get_nowait())
        return reasons


@pytest.fixture
def node(tmp_path: Path) -> Iterator[SystemdNode]:
    files = {f"/etc/systemd/system/{name}": text for name, text in UNITS.items()}
    with SystemdNode(tmp_path, files=files) as node:
        # systemd joins the bus a moment after the boot; busctl waits for it.
        node.run("busctl", "get-property", *MANAGER, "Version")
        yield node


@pytest.fixture
def running(node: SystemdNode) -> Iterator[Running]:
    with Running(node.bus_address) as running:
        yield running


def main_pid(node: SystemdNode, unit: str) -> int:
    return int(node.run("systemctl", "show", "-P", "MainPID", unit).stdout)


@contextmanager
def counted_calls(node: SystemdNode, unit: str) -> Iterator[list[str]]:
    """The method calls on a unit that systemd gets meanwhile."""
    calls: list[str] = []
    monitor = node.command("busctl", "monitor", "--system", "--match=type='method_call'", "--json=short")
    with subprocess.Popen(monitor, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert process.stdout is not None
        try:
            process.stderr.readline()  # "Monitoring bus message stream."
            yield calls
            node.run("busctl", "call", *["org.freedesktop.DBus", "/org/freedesktop/DBus"], *LAST_CALL)
            for line in process.stdout:
                if LAST_CALL[1] in line:
                    break
                if unit_path(unit) in line:
                    calls.append(line)
        finally:
            process.kill()


def test_the_program_that_a_unit_starts_is_known(node: SystemdNode) -> None:
    with Running(f"unix:path={node.path('/run/dbus/system_bus_socket')}") as running:
        assert running.bus.program("steady.service") == "/bin/sleep"
        assert running.bus.program("absent.service") is None
        assert running.bus.program("multi-user.target") is None


def test_object_paths() -> None:
    assert unit_path("kubelet.service") == "/org/freedesktop/systemd1/unit/kubelet_2eservice"
    assert unit_path("a-b@c_1.service") == "/org/freedesktop/systemd1/unit/a_2db_40c_5f1_2eservice"
    assert unit_path("9p.mount") == "/org/freedesktop/systemd1/unit/_39p_2emount"


@pytest.mark.root
class TestStates:
    def test_from_never_loaded_to_running_to_dead(self, node: SystemdNode, running: Running) -> None:
        bus = running.bus
        assert bus.state("steady.service") == UnitState("loaded", "inactive", "dead")
        bus.start("steady.service")
        state = bus.state("steady.service")
        assert (state.load, state.active, state.sub) == ("loaded", "active", "running")
        assert state.started_at is not None
        pid = main_pid(node, "steady.service")
        assert abs(state.started_at - node.path(f"/proc/{pid}").stat().st_ctime) < 60
        node.run("systemctl", "stop", "steady.service")
        assert bus.state("steady.service").active == "inactive"

    def test_a_unit_that_is_not_there(self, running: Running) -> None:
        assert running.bus.state("nonesuch.service") == UnitState("not-found", "inactive", "dead")
        with pytest.raises(ProviderError, match=r"nonesuch.service.*not found.*install the unit's file"):
            running.bus.start("nonesuch.service")

    def test_masked(self, node: SystemdNode, running: Running) -> None:
        node.run("systemctl", "mask", "steady.service", "--runtime", check=False)
        node.run("ln", "-sf", "/dev/null", "/etc/systemd/system/idle.service")
        assert running.bus.state("idle.service").load == "masked"
        with pytest.raises(ProviderError, match="unmask"):
            running.bus.start("idle.service")

    def test_a_bad_unit_file(self, running: Running) -> None:
        assert running.bus.state("wrong.service").load == "bad-setting"
        with pytest.raises(ProviderError, match="systemd-analyze verify"):
            running.bus.start("wrong.service")

    def test_a_unit_without_processes(self, running: Running) -> None:
        assert running.bus.state("basic.target") == UnitState("loaded", "active", "active")

    def test_restarts_are_counted(self, node: SystemdNode, running: Running) -> None:
        running.bus.start("steady.service")
        first = running.bus.state("steady.service")
        running.drain()
        node.run("kill", "-9", str(main_pid(node, "steady.service")))
        running.wait_for("activating")
        running.wait_for("active (running)")
        second = running.bus.state("steady.service")
        assert second.restarts == 1
        assert second.started_at is not None
        assert first.started_at is not None
        assert second.started_at > first.started_at


@pytest.mark.root
class TestJobs:
    def test_a_start_that_fails_says_so(self, running: Running) -> None:
        with pytest.raises(ProviderError, match=r"broken.service.*'failed'.*journalctl -u broken.service"):
            running.bus.start("broken.service")
        assert running.bus.state("broken.service").active == "failed"

    def test_a_start_whose_dependency_fails_says_so(self, running: Running) -> None:
        with pytest.raises(ProviderError, match=r"unmet.service.*'dependency'"):
            running.bus.start("unmet.service")

    def test_a_start_that_takes_long_is_no_error(self, node: SystemdNode) -> None:
        with Running(node.bus_address, job_limit=0.1) as running:
            running.bus.start("slow.service")
            assert running.bus.state("slow.service").active == "activating"

    def test_a_restart_takes_a_new_process(self, node: SystemdNode, running: Running) -> None:
        running.bus.start("steady.service")
        before = main_pid(node, "steady.service")
        running.bus.restart("steady.service")
        assert running.bus.state("steady.service").active == "active"
        assert main_pid(node, "steady.service") not in (0, before)

    @pytest.mark.parametrize("method", ["start", "restart"])
    def test_a_changed_unit_file_is_read_first(self, node: SystemdNode, running: Running, method: str) -> None:
        running.bus.start("orderly.service")  # so that systemd has read the other files as well
        running.bus.start("steady.service")
        if method == "start":
            node.run("systemctl", "stop", "steady.service")
        changed = UNITS["steady.service"].replace("sleep 1000", "sleep 2000")
        node.path("/etc/systemd/system/steady.service").write_text(changed)
        os.utime(node.path("/etc/systemd/system/steady.service"), (2**31 - 9, 2**31 - 9))
        running.bus.start("steady.service") if method == "start" else running.bus.restart("steady.service")
        pid = main_pid(node, "steady.service")
        assert node.path(f"/proc/{pid}/cmdline").read_text() == "/bin/sleep\x002000\x00"

    def test_a_unit_file_that_comes_late_is_found(self, node: SystemdNode, running: Running) -> None:
        running.bus.start("orderly.service")
        assert running.bus.state("absent.service").load == "not-found"
        node.path("/etc/systemd/system/absent.service").write_text(UNITS["steady.service"])
        running.bus.start("absent.service")
        assert running.bus.state("absent.service").active == "active"


@pytest.mark.root
class TestEvents:
    def test_a_stopped_unit_wakes(self, node: SystemdNode, running: Running) -> None:
        running.bus.start("steady.service")
        assert running.bus.state("steady.service").active == "active"
        running.drain()
        node.run("systemctl", "stop", "steady.service")
        running.wait_for("steady.service is inactive")

    def test_other_units_dont_wake(self, node: SystemdNode, running: Running) -> None:
        running.bus.start("steady.service")
        running.bus.state("steady.service")
        running.drain()
        node.run("systemctl", "start", "orderly.service")
        node.run("systemctl", "stop", "orderly.service")
        running.bus.state("steady.service")  # whatever was on its way has arrived
        assert running.drain() == []

    def test_asking_doesnt_wake(self, running: Running) -> None:
        """systemd loads and unloads an idle unit for every question, and tells so."""
        for _ in range(3):
            running.bus.state("nonesuch.service")
            running.bus.state("steady.service")
        assert running.drain() == []

    def test_a_daemon_reload_wakes(self, node: SystemdNode, running: Running) -> None:
        running.bus.state("nonesuch.service")
        node.path("/etc/systemd/system/nonesuch.service").write_text(UNITS["steady.service"])
        node.run("systemctl", "daemon-reload")
        running.wait_for("read its unit files again")
        assert running.bus.state("nonesuch.service").load == "loaded"

    def test_a_converged_reconcile_asks_once(self, node: SystemdNode, running: Running) -> None:
        running.bus.start("steady.service")
        first = running.bus.state("steady.service")
        with counted_calls(node, "steady.service") as calls:
            assert [running.bus.state("steady.service") for _ in range(5)] == [first] * 5
        assert len(calls) == 5, calls

    def test_what_is_remembered_is_never_stale(self, node: SystemdNode, running: Running) -> None:
        """The bus delivers in order: a restart that systemctl has seen the end of is in the next answer."""
        running.bus.start("steady.service")
        last = running.bus.state("steady.service")
        for _ in range(20):
            node.run("systemctl", "restart", "steady.service")
            fresh = running.bus.state("steady.service")
            assert fresh.started_at is not None and last.started_at is not None
            assert fresh.started_at > last.started_at
            assert running.bus.state("steady.service") == fresh
            last = fresh


@pytest.mark.root
class TestTrouble:
    def test_the_bus_restarts(self, node: SystemdNode, running: Running) -> None:
        running.bus.start("steady.service")
        running.bus.state("steady.service")
        node.run("systemctl", "kill", "-s", "KILL", "dbus.service")
        running.wait_for("closed the connection")
        node.run("systemctl", "start", "dbus.service")
        assert running.bus.state("steady.service").active == "active"
        running.drain()
        node.run("systemctl", "stop", "steady.service")
        running.wait_for("steady.service is inactive")

    def test_systemd_re_executes_itself(self, node: SystemdNode, running: Running) -> None:
        running.bus.start("steady.service")
        running.bus.state("steady.service")
        node.run("systemctl", "daemon-reexec")
        running.wait_for("systemd has left or joined")
        assert running.bus.state("steady.service").active == "active"

    def test_a_pid1_that_hangs(self, node: SystemdNode) -> None:
        with Running(node.bus_address, limit=0.5) as running:
            running.bus.start("steady.service")
            os.kill(node.leader, 19)  # SIGSTOP
            try:
                with pytest.raises(ProviderError, match=r"didn't answer within 0.5 s.*steady.service"):
                    running.bus.state("steady.service")
            finally:
                os.kill(node.leader, 18)
            node.run("systemctl", "is-active", "steady.service")
            assert running.bus.state("steady.service").active == "active"

    def test_close_ends_calls_in_flight(self, node: SystemdNode) -> None:
        with Running(node.bus_address) as running:
            running.bus.state("steady.service")
            os.kill(node.leader, 19)
            try:
                threading.Timer(0.2, running.bus.close).start()
                with pytest.raises(ProviderError, match="closed"):
                    running.bus.state("steady.service")
            finally:
                os.kill(node.leader, 18)


def test_no_bus(tmp_path: Path) -> None:
    with Running(f"unix:path={tmp_path}/none") as running, pytest.raises(ProviderError) as caught:
        running.bus.state("kubelet.service")
    assert str(tmp_path / "none") in str(caught.value)
    assert "No such file" in str(caught.value)
    assert "--kubelet-unit none" in str(caught.value)


def test_an_address_that_is_none() -> None:
    with Running("carrier-pigeon:x=y") as running, pytest.raises(ProviderError, match="carrier-pigeon"):
        running.bus.state("kubelet.service")


@pytest.mark.parametrize(
    ("answer", "expected"),
    [(b"", "closed the connection"), (b"REJECTED EXTERNAL\r\n", "REJECTED")],
)
def test_a_bus_that_wont_have_us(answer: bytes, expected: str) -> None:
    with listening() as (address, server), Running(address) as running:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1)
                connection.sendall(answer)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(64):  # closing with something unread would be a reset
                    pass

        peer = threading.Thread(target=serve)
        peer.start()
        with pytest.raises(ProviderError, match=expected):
            running.bus.state("kubelet.service")
        peer.join()


def test_a_bus_that_never_answers() -> None:
    with (
        listening() as (address, _),
        Running(address, limit=0.3) as running,
        pytest.raises(ProviderError, match=r"within 0.3 s"),
    ):
        running.bus.state("kubelet.service")


@contextmanager
def listening() -> Iterator[tuple[str, socket.socket]]:
    """Something that listens where a bus would."""
    name = f"protokube-test-{os.urandom(6).hex()}"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"\0{name}")
        server.listen()
        server.settimeout(LIMIT)
        yield f"unix:abstract={name}", server
