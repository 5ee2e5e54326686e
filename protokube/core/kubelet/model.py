"""What is known of the installed kubelet and of the machine that it serves."""

from __future__ import annotations

from msgspec import Struct


class Machine(Struct, frozen=True):
    """Facts about the machine, as it reports them: memory in bytes, logical CPUs, whether systemd is PID 1."""

    memory: int
    cpus: int
    systemd: bool = True


class KubeletBinary(Struct, frozen=True):
    """The installed kubelet: its version as it prints it, and the flags that its help lists."""

    version: str
    flags: frozenset[str]
