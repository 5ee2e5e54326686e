"""Whether the clock is in sync: who is asked, and a timedated that answers, doesn't, or says something else."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from protokube.errors import ProviderError
from protokube.host.timedate import clock_in_sync as ask_timedated
from protokube.kernel.clock import clock_in_sync as ask_kernel
from protokube.pki.node import NodePki
from protokube.ports import Store
from tests.lab import timedated
from tests.lab.systemd_node import SystemdNode

LIMIT = 120.0


def no_store() -> Store:
    raise AssertionError("nothing here needs the store")


def forbidden() -> bool:
    raise PermissionError(1, "Operation not permitted")


@pytest.mark.parametrize("answer", [True, False])
def test_timedated_is_asked_where_the_kernel_may_not_be(answer: bool) -> None:
    assert NodePki("/nowhere", no_store, in_sync=forbidden, timedated=lambda: answer).clock_in_sync() is answer
    assert NodePki("/nowhere", no_store, in_sync=lambda: answer, timedated=forbidden).clock_in_sync() is answer


def test_without_a_bus_a_forbidden_question_names_the_remedy() -> None:
    with pytest.raises(ProviderError, match=r"kernel about its clock: .*filter.*--trust-clock"):
        NodePki("/nowhere", no_store, in_sync=forbidden).clock_in_sync()


def test_what_timedated_cannot_tell_is_its_own_error() -> None:
    def silent() -> bool:
        raise ProviderError("timedated is masked")

    with pytest.raises(ProviderError, match=r"^timedated is masked$"):
        NodePki("/nowhere", no_store, in_sync=forbidden, timedated=silent).clock_in_sync()


def test_another_error_of_the_kernel_is_told_and_timedated_is_not_asked() -> None:
    def broken() -> bool:
        raise OSError(22, "Invalid argument")

    with pytest.raises(ProviderError, match="kernel about its clock: Invalid argument"):
        NodePki("/nowhere", no_store, in_sync=broken, timedated=lambda: True).clock_in_sync()


def test_no_bus(tmp_path: Path) -> None:
    with pytest.raises(ProviderError, match=r"none: .*No such file.*systemd-timedated.*--trust-clock"):
        ask_timedated(f"unix:path={tmp_path}/none")


def test_a_bus_that_never_answers() -> None:
    name = f"protokube-test-{os.urandom(6).hex()}"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"\0{name}")
        server.listen()
        with pytest.raises(ProviderError, match=r"timedate1: no answer within 0.3 s; .*--trust-clock"):
            ask_timedated(f"unix:abstract={name}", limit=0.3)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[SystemdNode]:
    with SystemdNode(tmp_path, all_capabilities=True) as node:
        yield node


@pytest.mark.root
class TestRealTimedated:
    def test_it_says_what_the_kernel_says(self, node: SystemdNode) -> None:
        assert ask_timedated(node.bus_address, limit=LIMIT) is ask_kernel()

    def test_masked(self, node: SystemdNode) -> None:
        node.run("systemctl", "mask", timedated.SERVICE)
        with pytest.raises(ProviderError, match=r"NTPSynchronized: .*masked.*systemctl status systemd-timedated"):
            ask_timedated(node.bus_address, limit=LIMIT)
