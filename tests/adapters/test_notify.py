"""What the daemon tells systemd, read from a real datagram socket."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from protokube.errors import ProviderError
from protokube.host.notify import Notifier


@pytest.fixture(params=["path", "abstract"])
def pid1(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    """The value of NOTIFY_SOCKET, and the socket behind it."""
    unique = f"protokube-test-{secrets.token_hex(6)}"
    # pytest's own directories may be too long for a socket's path
    name = f"/tmp/{unique}" if request.param == "path" else f"@{unique}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(name.replace("@", "\0"))
        listener.settimeout(5)
        yield name, listener
    Path(name).unlink(missing_ok=True)


def test_every_message(pid1: tuple[str, socket.socket]) -> None:
    name, listener = pid1
    notifier = Notifier({"NOTIFY_SOCKET": name})
    notifier.ready("converged")
    notifier.status("waiting for main-a:\nin use by i-0abc")
    notifier.watchdog()
    notifier.stopping("SIGTERM")
    heard = [listener.recv(4096).decode() for _ in range(4)]
    assert heard == [
        "READY=1\nSTATUS=converged",
        "STATUS=waiting for main-a: in use by i-0abc",
        "WATCHDOG=1",
        "STOPPING=1\nSTATUS=SIGTERM",
    ]


def test_reloading_carries_the_time_that_systemd_compares_with(pid1: tuple[str, socket.socket]) -> None:
    name, listener = pid1
    Notifier({"NOTIFY_SOCKET": name}).reloading()
    first, second = listener.recv(4096).decode().splitlines()
    assert first == "RELOADING=1"
    assert second.startswith("MONOTONIC_USEC=")
    assert second.removeprefix("MONOTONIC_USEC=").isdecimal()


def test_outside_a_unit_nothing_is_sent() -> None:
    notifier = Notifier({})
    notifier.ready("converged")
    notifier.watchdog()
    assert notifier.watchdog_interval is None


def test_a_socket_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(ProviderError, match=r"gone.*READY=1.*No such file"):
        Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")}).ready("converged")


@pytest.mark.parametrize(
    ("environment", "interval"),
    [
        ({"WATCHDOG_USEC": "60000000"}, 30.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"}, None),  # meant for another process
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_watchdog_interval(environment: dict[str, str], interval: float | None) -> None:
    assert Notifier(environment).watchdog_interval == interval
