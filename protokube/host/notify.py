"""Tells systemd how the daemon is doing: sd_notify(3), without a library.

Outside a Type=notify unit nothing listens, and every method does nothing.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping

from protokube.errors import ProviderError

_SEND_LIMIT = 1.0  # seconds; PID 1 reads its socket whenever it isn't hung


class Notifier:
    """The unit's line to PID 1. `environment` is the process's own, as systemd made it.

    `watchdog_interval` is the pause between calls of `watchdog` in seconds (half of WatchdogSec), None without a
    watchdog.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        self.watchdog_interval = _watchdog_interval(environment)

    def ready(self, status: str) -> None:
        """Say that the first reconcile is done: units ordered after this one may start."""
        self._send("READY=1", f"STATUS={_one_line(status)}")

    def status(self, text: str) -> None:
        """Set the line that `systemctl status` shows."""
        self._send(f"STATUS={_one_line(text)}")

    def watchdog(self) -> None:
        """Say that the daemon is alive."""
        self._send("WATCHDOG=1")

    def reloading(self) -> None:
        """Say that the configuration is being read again, until `ready`."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self, status: str) -> None:
        """Say that the daemon is about to end."""
        self._send("STOPPING=1", f"STATUS={_one_line(status)}")

    def _send(self, *lines: str) -> None:
        if not self._address:
            return
        # "@" stands for the zero byte of an abstract socket.
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.settimeout(_SEND_LIMIT)
                sender.sendto("\n".join(lines).encode(), address)
        except OSError as error:
            raise ProviderError(
                f"NOTIFY_SOCKET {self._address}: {lines[0]} could not be sent: {error}; systemd may take "
                "the unit for hanging; is PID 1 alive?"
            ) from error


def _watchdog_interval(environment: Mapping[str, str]) -> float | None:
    """Half the limit that systemd has set for this very process (sd_watchdog_enabled(3))."""
    limit = environment.get("WATCHDOG_USEC", "")
    watched = environment.get("WATCHDOG_PID", str(os.getpid()))
    if not limit.isdecimal() or int(limit) == 0 or watched != str(os.getpid()):
        return None
    return int(limit) / 2e6


def _one_line(text: str) -> str:
    return " ".join(text.split())
