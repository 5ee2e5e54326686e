"""etcd's own tools, which alone know how to restore: etcdutl, or etcdctl before 3.6."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from msgspec import Struct

from protokube.core.backup.tools import BUMP, parse_tool_version, why_not
from protokube.core.static_pod import Version, image_version, spell_version
from protokube.errors import ProviderError

_DIRECTORIES = ("/usr/local/bin", "/usr/bin", "/opt/bin", "/usr/local/sbin")
_NAMES = ("etcdutl", "etcdctl")
_VERSION_LIMIT = 10.0
_RESTORE_LIMIT = 1800.0
_TOLD = 400


class Tool(Struct, frozen=True):
    """A tool that can restore, and its version."""

    path: Path
    version: Version

    @property
    def name(self) -> str:
        """Its name and version, for people."""
        return f"{self.path.name} {spell_version(self.version)}"


class Place(Struct, frozen=True):
    """The member for which a snapshot is restored: its data directory is made, by itself, and must not be there.

    `lock`: an open file that the tool keeps open as long as it runs.
    """

    data_dir: Path
    name: str
    peer_url: str
    initial_cluster: str
    token: str
    lock: int | None = None


def find_tools(first: str | None) -> tuple[Tool, ...]:
    """The tools of this machine that can restore, the best first: those in the directory `first`, then the newest."""
    found = [tool for path in _candidates(first) if (tool := _asked(path)) is not None]
    own = [tool for tool in found if first is not None and tool.path.parent == Path(first)]
    others = sorted((tool for tool in found if tool not in own), key=lambda tool: tool.version, reverse=True)
    return (*own, *others)


def _candidates(first: str | None) -> Iterator[Path]:
    for directory in ([first] if first else []) + list(_DIRECTORIES):
        for name in _NAMES:
            path = Path(directory, name)
            if os.access(path, os.X_OK) and path.is_file():
                yield path


def _asked(path: Path) -> Tool | None:
    """The tool; None when it doesn't tell its version, or can't restore."""
    try:
        done = _run([str(path), "version"], _VERSION_LIMIT)
    except (OSError, subprocess.TimeoutExpired):
        return None
    version = parse_tool_version(done.stdout)
    if version is None or (path.name == "etcdctl" and version >= (3, 6, 0)):  # gone there (etcd 3.6's CHANGELOG)
        return None
    return Tool(path, version)


def choose_tool(first: str | None, etcd_version: str) -> Tool:
    """A tool that restores rightly for an etcd of this version. Raises ProviderError, with every tool's fault."""
    version = image_version(f"etcd:{etcd_version}")
    if version is None:
        raise ProviderError(f"etcd's version {etcd_version!r} can't be understood; which tool fits isn't known")
    faults = []
    for tool in find_tools(first):
        problem = why_not(tool.path.name, tool.version, version)
        if problem is None:
            return tool
        faults.append(problem)
    minor: Version = version
    told = "; ".join(faults) or "neither etcdutl nor etcdctl is installed"
    raise ProviderError(
        f"nothing here can restore: {told}. Install etcdutl of etcd {minor[0]}.{minor[1]}, and name its directory "
        "under etcd.backup.tools"
    )


def restore(tool: Tool, snapshot: Path, place: Place, *, bump: bool) -> None:
    """Restore a snapshot. `bump`: raise the revision, and let no watch go on from before.

    Raises ProviderError when the tool refuses. It leaves a half-made directory then, which is removed.
    """
    argv = [str(tool.path), "snapshot", "restore", str(snapshot), f"--data-dir={place.data_dir}"]
    argv += [f"--name={place.name}", f"--initial-advertise-peer-urls={place.peer_url}"]
    argv += [f"--initial-cluster={place.initial_cluster}", f"--initial-cluster-token={place.token}"]
    if bump:
        argv += [f"--bump-revision={BUMP}", "--mark-compacted"]
    try:
        done = _run(argv, _RESTORE_LIMIT, place.lock)
    except OSError as error:
        raise ProviderError(f"{tool.path}: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        shutil.rmtree(place.data_dir, ignore_errors=True)
        raise ProviderError(f"{tool.name} did not end within {_RESTORE_LIMIT:g} s") from error
    if done.returncode != 0:
        shutil.rmtree(place.data_dir, ignore_errors=True)
        said = " ".join((done.stderr or done.stdout).split())[-_TOLD:]
        raise ProviderError(f"{tool.name} refuses the snapshot (exit code {done.returncode}): {said}")


def _run(argv: Sequence[str], limit: float, lock: int | None = None) -> subprocess.CompletedProcess[str]:
    environment = {"ETCDCTL_API": "3", "LC_ALL": "C", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    return subprocess.run(
        argv,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=limit,
        env=environment,
        check=False,
        pass_fds=() if lock is None else (lock,),
    )
