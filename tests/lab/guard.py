"""What no test may touch, and what a test that needs root must have around it.

An audit hook (PEP 578) sees every connection, name lookup and open that Python makes, in whatever library and
thread. Programs that tests start are held by the network namespace that the test run has to itself.
"""

from __future__ import annotations

import ctypes
import ipaddress
import os
import socket
import struct
import sys
from fcntl import ioctl
from pathlib import Path
from typing import Any

_CLONE_NEWNS = 0x00020000
_SYSTEM_BUS = frozenset({"/run/dbus/system_bus_socket", "/var/run/dbus/system_bus_socket", "/run/systemd/private"})
_LOCAL_NAMES = frozenset({"", "localhost", "ip6-localhost", "0.0.0.0", "::"})
_RESERVED_DOMAINS = (".test", ".example", ".example.com", ".invalid", ".localhost")  # RFC 2606, RFC 6761
_CREDENTIALS = str(Path("~/.aws").expanduser())

# Loopback, and what some kernels add to every network namespace.
_EVERYWHERE = frozenset({"lo", "sit0", "tunl0", "ip6tnl0", "gre0", "gretap0", "erspan0", "ip_vti0", "ip6_vti0"})

# What would make the program under test talk to the machine it is tested on.
_UNWANTED_VARIABLES = ("AWS_", "BOTO_", "PROTOKUBE_", "NOTIFY_SOCKET", "WATCHDOG_", "DBUS_")


class Refused(BaseException):
    """A test reached for something of the machine's. A BaseException, so that nothing under test swallows it."""


def install(*, confined: bool) -> None:
    """Guard this process from now on; there is no way back. `confined`: its network is nobody else's."""
    for name in list(os.environ):
        if name.startswith(_UNWANTED_VARIABLES):
            del os.environ[name]
    os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
    os.environ["AWS_SHARED_CREDENTIALS_FILE"] = os.environ["AWS_CONFIG_FILE"] = "/nonexistent/aws"
    sys.addaudithook(lambda event, arguments: _judge(event, arguments, confined))


def _judge(event: str, arguments: tuple[Any, ...], confined: bool) -> None:
    if event in ("socket.connect", "socket.sendto"):
        _judge_address(arguments[0].family, arguments[1], confined)
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        _judge_name(arguments[0])
    elif event == "open" and str(arguments[0]).startswith(_CREDENTIALS):
        raise Refused(f"a test read {arguments[0]}: AWS credentials are none of its business")


def _judge_address(family: int, address: Any, confined: bool) -> None:
    if family == socket.AF_UNIX and os.fsdecode(address) in _SYSTEM_BUS:
        raise Refused(f"a test connected to {address}, the machine's own; give the code a SystemdNode's bus")
    if family not in (socket.AF_INET, socket.AF_INET6):
        return
    try:
        ip = ipaddress.ip_address(address[0])
    except ValueError:
        _judge_name(address[0])
        return
    # In a network namespace of our own, private addresses are those that tests have made.
    if not (ip.is_loopback or ip.is_unspecified or (confined and not ip.is_global)):
        raise Refused(f"a test connected to {ip}: no test reaches beyond loopback and its own namespaces")


def _judge_name(host: Any) -> None:
    name = os.fsdecode(host or "").lower().rstrip(".")
    try:
        ipaddress.ip_address(name)
    except ValueError:
        if name not in _LOCAL_NAMES | {socket.gethostname()} and not name.endswith(_RESERVED_DOMAINS):
            raise Refused(f"a test looked up {name}: no test asks the machine's name servers") from None


def private_namespaces() -> str | None:
    """Why this process must not touch kernel objects, or None: it is root in namespaces of its own.

    To be asked before any test has made an interface: a namespace of one's own has nothing but loopback.
    """
    how = "`make test`, or unshare --net --mount --propagation private .venv/bin/python -m pytest"
    if os.geteuid() != 0:
        return f"this test needs root; run {how} as root"
    outside = {name for _, name in socket.if_nameindex()} - _EVERYWHERE
    if outside:
        return f"this test would change the machine's own network ({', '.join(sorted(outside))}); run {how}"
    if any(" / / " in line and " shared:" in line for line in Path("/proc/self/mountinfo").read_text().splitlines()):
        return f"this test's mounts would spread to the machine; run {how}"
    return None


def separate_mounts() -> None:
    """Give this process mounts of its own, below those of the test run.

    The workers of a run would share them otherwise, and each node that a test makes on one worker would copy, and so
    keep busy, whatever a test on another has just mounted.
    """
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNS):
        raise OSError(ctypes.get_errno(), "unshare: the mount namespace")


def bring_loopback_up() -> None:
    """A fresh network namespace has its loopback down."""
    get_flags, set_flags, up = 0x8913, 0x8914, 0x1  # SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = ioctl(any_socket, get_flags, struct.pack("16sh14x", b"lo", 0))
        (flags,) = struct.unpack_from("h", request, 16)
        ioctl(any_socket, set_flags, struct.pack("16sh14x", b"lo", flags | up))
