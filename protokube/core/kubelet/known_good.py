"""Do kubelet's new files work? The last good ones are kept, and come back when kubelet doesn't stay up with new ones.

Files are *proven* once kubelet has run with them for a while. Proven files are copied aside. When kubelet was started
with unproven files and doesn't stay up, what was rendered is recorded as rejected: from then on the last good files
are wanted in its place, until the configuration renders something else.
"""

from __future__ import annotations

import hashlib
import json
from enum import StrEnum
from typing import TYPE_CHECKING

from msgspec import Struct

from protokube.core.kubelet.paths import ARGS_PATH, CONFIG_PATH
from protokube.core.model import Unknown
from protokube.core.node.model import File, UnitState
from protokube.core.observed import Observed

if TYPE_CHECKING:
    from protokube.core.kubelet.render import KubeletFiles

FOLDER = "/var/lib/protokube/kubelet"
GOOD = f"{FOLDER}/last-good.json"
"""Both texts in one file, which is replaced whole: half of one pair and half of another would be no pair."""
REJECTED = f"{FOLDER}/rejected"
PATHS = (GOOD, REJECTED)


class Proof(StrEnum):
    """What is known of the files that kubelet was started with."""

    PROVEN = "proven"
    OPEN = "open"
    FAILED = "failed"


class Pair(Struct, frozen=True):
    """The texts of kubelet's two files."""

    args: str
    config: str

    @property
    def digest(self) -> str:
        """What a rejected pair is remembered by."""
        return hashlib.sha256(f"{self.args}\0{self.config}".encode()).hexdigest()

    def render(self) -> str:
        """The text in which a good pair is kept."""
        return json.dumps({"args": self.args, "config": self.config}, indent=1) + "\n"


def pair_of(rendered: KubeletFiles) -> Pair:
    """What was rendered."""
    return Pair(rendered.args_file, rendered.config_file)


def _on_disk(observed: Observed) -> Pair | None:
    """The files that kubelet starts with."""
    if isinstance(observed.files, Unknown):
        return None
    args, config = (observed.files.get(path) for path in (ARGS_PATH, CONFIG_PATH))
    if not isinstance(args, File) or not isinstance(config, File) or args.text is None or config.text is None:
        return None
    return Pair(args.text, config.text)


def last_good(observed: Observed) -> Pair | None:
    """The files that kubelet last stayed up with."""
    there = None if isinstance(observed.files, Unknown) else observed.files.get(GOOD)
    if not isinstance(there, File) or there.text is None:
        return None
    try:
        kept = json.loads(there.text)
    except (ValueError, RecursionError):
        return None  # kubelet's next good hour writes it anew
    args, config = (kept.get("args"), kept.get("config")) if isinstance(kept, dict) else (None, None)
    return Pair(args, config) if isinstance(args, str) and isinstance(config, str) else None


def is_rejected(observed: Observed, rendered: Pair) -> bool:
    """Whether kubelet did not stay up with exactly this."""
    there = None if isinstance(observed.files, Unknown) else observed.files.get(REJECTED)
    return isinstance(there, File) and there.text is not None and there.text.strip() == rendered.digest


def prove(observed: Observed, unit: UnitState, patience: float) -> Proof:
    """Judge the files on disk by the unit: `patience` is how long, in seconds, kubelet has to stay up with them.

    Failed is only what was tried: kubelet was started with these files, time enough has passed since then and since
    this program's own start, and kubelet has not been up for even half of it. Who starts or stops kubelet by hand
    proves nothing by it: the trial begins anew with that start, and a unit at rest isn't on trial.
    """
    there = _on_disk(observed)
    if there is None or isinstance(observed.files, Unknown) or unit.started_at is None:
        return Proof.OPEN
    written = max(
        state.mtime_ns / 1e9 for path in (ARGS_PATH, CONFIG_PATH) if isinstance(state := observed.files[path], File)
    )
    if unit.started_at < written or unit.active not in ("active", "activating", "failed"):
        return Proof.OPEN
    # The program's own uptime knows nothing of the clock: a clock that is set right after boot proves nothing.
    up = min(observed.now - unit.started_at, observed.uptime) if unit.active == "active" else 0.0
    if up >= patience:
        return Proof.PROVEN
    fell = unit.restarts > 0 or unit.active == "failed" or unit.sub == "auto-restart"
    tried = min(observed.now - (written if fell else unit.started_at), observed.uptime)
    return Proof.FAILED if tried >= patience and up < patience / 2 else Proof.OPEN
