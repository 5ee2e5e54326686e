"""The installed kubelet and the machine it is to serve: asked once, not once a round."""

from __future__ import annotations

import os
import subprocess
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from protokube.core.kubelet.model import KubeletBinary
from protokube.errors import ProviderError
from protokube.together import start

if TYPE_CHECKING:
    from protokube.core.kubelet.model import Machine

PLACES = ("usr/bin/kubelet", "usr/local/bin/kubelet", "opt/bin/kubelet")
OPTIONS = ("--version", "--help")
_LIMIT = 10.0


class InstalledKubelet:
    """Implements `ports.KubeletProbe`. The binary is asked again only when the file behind it has changed."""

    def __init__(self, root: str) -> None:
        self._root = Path(root)
        self._asked: tuple[tuple[int, int, int], KubeletBinary] | None = None
        self._machine: Machine | None = None

    def machine(self) -> Machine:
        """Memory and CPUs; whether systemd is PID 1, as sd_booted(3) tells."""
        if self._machine is None:
            import psutil  # like kubelet's schema, when it is first asked for

            from protokube.core.kubelet.model import Machine

            memory, cpus = psutil.virtual_memory().total, psutil.cpu_count() or 1
            self._machine = Machine(memory, cpus, Path(self._root, "run/systemd/system").is_dir())
        return self._machine

    def kubelet(self) -> KubeletBinary | None:
        """What `kubelet --version` and `--help` say; None when there is no kubelet below the root."""
        found = next((path for place in PLACES if (path := self._root / place).is_file()), None)
        if found is None:
            return None
        state = found.stat()
        key = (state.st_ino, state.st_mtime_ns, state.st_size)
        if self._asked is None or self._asked[0] != key:
            from protokube.core.component.schema import flags_of_help

            asking = [start(f"kubelet {option}", partial(self._ask, found, option)) for option in OPTIONS]
            version, text = (answer.result() for answer in asking)
            self._asked = key, KubeletBinary(version.strip().removeprefix("Kubernetes").strip(), flags_of_help(text))
        return self._asked[1]

    def _ask(self, binary: Path, option: str) -> str:
        if not os.access(binary, os.X_OK):
            raise ProviderError(f"{binary} is not executable; install kubelet properly")
        try:
            done = subprocess.run([binary, option], capture_output=True, text=True, timeout=_LIMIT, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ProviderError(f"{binary} {option}: {error}; is it the binary for this machine?") from error
        if done.returncode != 0:
            raise ProviderError(f"{binary} {option} exited {done.returncode}: {done.stderr.strip()[:200]}")
        return done.stdout or done.stderr
