"""The environment of a process on this machine's own network, found by what it was started with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from protokube.errors import explain

_PROC = Path("/proc")


def process_environment(program: str, given: Mapping[str, str]) -> Mapping[str, str] | None:
    """The environment of the process with the name `program` in which every variable of `given` stands; None when
    there is none.

    Processes in another network namespace are not this node's: several nodes of a trial share one kernel.
    """
    with explain(f"look for the process of {program}"):
        network = (_PROC / "self/ns/net").readlink()
        for folder in _PROC.glob("[0-9]*"):
            try:
                if (folder / "comm").read_bytes() != f"{program}\n".encode():
                    continue
                if (folder / "ns/net").readlink() != network:
                    continue
                text = (folder / "environ").read_bytes().decode(errors="replace")
            except (FileNotFoundError, ProcessLookupError):
                continue  # it has ended
            found = dict(line.partition("=")[::2] for line in text.split("\0") if "=" in line)
            if given.items() <= found.items():
                return found
    return None
