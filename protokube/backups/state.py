"""What this boot's backups came to: one small file for each etcd cluster below /run. Losing it costs delay."""

from __future__ import annotations

import os
import time
from pathlib import Path

from msgspec import MsgspecError, Struct
from msgspec.json import decode, encode
from msgspec.structs import replace

from protokube.core.backup.model import BackupRecord
from protokube.errors import explain


class State(Struct, frozen=True):
    """The last backup that this machine took since the boot `boot`, and why the one after it failed, at a time in
    seconds since that boot."""

    boot: str = ""
    last: BackupRecord | None = None
    failure: str = ""
    failed_at: float = 0.0


class StateFile:
    """The state of one etcd cluster's backups."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> State:
        """The state of this boot; an empty one when there is none, or it can't be understood."""
        boot = _boot_id()
        with explain(f"read {self._path}"):
            try:
                state = decode(self._path.read_bytes(), type=State)
            except (FileNotFoundError, MsgspecError):
                return State(boot)
        return state if state.boot == boot else State(boot)

    def succeeded(self, record: BackupRecord) -> None:
        """Remember a backup."""
        self._write(State(_boot_id(), record))

    def failed(self, reason: str) -> None:
        """Remember a failure."""
        self._write(replace(self.read(), failure=reason, failed_at=uptime()))

    def _write(self, state: State) -> None:
        with explain(f"write {self._path}"):
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            beside = self._path.with_name(f"{self._path.name}.{os.getpid()}.new")
            beside.write_bytes(encode(state))
            beside.rename(self._path)


def uptime() -> float:
    """Seconds since the machine started."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _boot_id() -> str:
    with explain("read the boot's id"):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
