"""Machines made of network namespaces, on a switch that is a namespace as well.

Nothing touches the namespace that the test runs in, so tests side by side may use the same addresses:

    with Network() as network:
        a = network.node("10.77.0.11/24", gateway="10.77.0.1")
        a.run("ping", "-c1", "10.77.0.1")
        with a.inside():                        # this thread's new sockets are the node's
            server = socket.create_server(("10.77.0.11", 80))
        SystemdNode(tmp_path, netns=a.name)

Needs root and iproute2. Namespaces end with their Network; so does everything in them.
"""

from __future__ import annotations

import ctypes
import os
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

_CLONE_NEWNET = 0x40000000


class Namespace:
    """One network namespace, with loopback up. `name` is what `ip netns` knows it by."""

    def __init__(self, label: str) -> None:
        self.name = f"{label}-{secrets.token_hex(4)}"
        _ip("netns", "add", self.name)
        self.ip("link", "set", "lo", "up")

    def ip(self, *arguments: str) -> str:
        """Run iproute2's `ip` in the namespace; what it printed."""
        return _ip("-n", self.name, *arguments)

    def run(
        self, *argv: str, check: bool = True, timeout: float = 120.0, stdin: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the namespace and capture its output."""
        done = subprocess.run(
            self.command(*argv), input=stdin, text=True, capture_output=True, timeout=timeout, check=False
        )
        if check and done.returncode:
            raise AssertionError(f"{self.name}: {argv} exited {done.returncode}:\n{done.stdout}{done.stderr}")
        return done

    def command(self, *argv: str) -> list[str]:
        """The argument vector that runs `argv` in the namespace, for Popen."""
        return ["nsenter", f"--net=/run/netns/{self.name}", *argv]

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Move the calling thread into the namespace; sockets that it makes there stay there."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            there = os.open(f"/run/netns/{self.name}", os.O_RDONLY | os.O_CLOEXEC)
            try:
                _setns(there)
            finally:
                os.close(there)
            try:
                yield
            finally:
                _setns(home)
        finally:
            os.close(home)

    def close(self) -> None:
        """Remove the namespace; it lives on only as long as a process is in it."""
        _ip("netns", "del", self.name)


class Network:
    """A switch with nodes plugged into it. `gateway` is the switch's own address (with its prefix length)."""

    def __init__(self, gateway: str = "10.77.0.1/24") -> None:
        self._gateway = gateway
        self._namespaces: list[Namespace] = []

    def __enter__(self) -> Self:
        self.switch = self._namespace("switch")
        self.switch.ip("link", "add", "br0", "type", "bridge")
        self.switch.ip("addr", "add", self._gateway, "dev", "br0")
        self.switch.ip("link", "set", "br0", "up")
        return self

    def __exit__(self, *_: object) -> None:
        while self._namespaces:
            self._namespaces.pop().close()

    def node(self, *addresses: str, gateway: str | None = None, label: str = "node") -> Namespace:
        """A namespace whose eth0 has these addresses (with prefix lengths) and a default route by `gateway`."""
        node = self._namespace(label)
        self.plug(node, "eth0")
        for address in addresses:
            # nodad: an IPv6 address is usable at once.
            node.ip("addr", "add", address, "dev", "eth0", *(["nodad"] if ":" in address else []))
        if gateway is not None:
            node.ip("route", "add", "default", "via", gateway)
        return node

    def plug(self, node: Namespace, interface: str) -> None:
        """Give the node one more interface on the switch, up and without addresses."""
        port = f"p{secrets.token_hex(5)}"
        self.switch.ip("link", "add", port, "type", "veth", "peer", "name", interface, "netns", node.name)
        self.switch.ip("link", "set", port, "master", "br0", "up")
        node.ip("link", "set", interface, "up")

    def _namespace(self, label: str) -> Namespace:
        namespace = Namespace(label)
        self._namespaces.append(namespace)
        return namespace


def _ip(*arguments: str) -> str:
    done = subprocess.run(["ip", *arguments], text=True, capture_output=True, timeout=120, check=False)
    if done.returncode:
        raise AssertionError(f"ip {' '.join(arguments)}: exit {done.returncode}: {done.stderr}")
    return done.stdout


def _setns(descriptor: int) -> None:
    if ctypes.CDLL(None, use_errno=True).setns(descriptor, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), f"setns {Path(f'/proc/self/fd/{descriptor}').readlink()}")
