"""The files that a container sees: hostPath volumes are checked as their type says, emptyDir volumes are made.

Paths of pods lie below `root`, which is / on a machine of its own.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path

from protokube.agent.core.model import Container, HostPath, Spec, Volume
from protokube.agent.core.references import File
from protokube.agent.ports import Mount
from protokube.agent.subpath import SubPaths
from protokube.errors import ProviderError, explain

Files = Mapping[str, Mapping[str, File]]
NO_FILES: Files = {}
_KINDS = {
    "Directory": (stat.S_ISDIR, "directory"),
    "File": (stat.S_ISREG, "regular file"),
    "Socket": (stat.S_ISSOCK, "socket"),
    "CharDevice": (stat.S_ISCHR, "character device"),
    "BlockDevice": (stat.S_ISBLK, "block device"),
}


class Volumes:
    """Finds and makes volumes.

    `kept` holds emptyDir volumes, `memory` those of medium Memory; beside it are mounted the parts of volumes.
    """

    def __init__(self, root: Path, kept: Path, memory: Path, parts: SubPaths | None = None) -> None:
        self._root = root
        self.memory = memory
        self._parts = parts or SubPaths(memory.with_name("subpaths"))
        self._places = {"": kept, "Memory": memory}

    def mounts(self, uid: str, spec: Spec, container: Container, files: Files = NO_FILES) -> Sequence[Mount]:
        """The container's mounts, the outer ones first. Raises ProviderError for a path that isn't as asked for.

        `files`: what volumes are filled with; nobody may write there.
        """
        volumes = {volume.name: volume for volume in spec.volumes}
        self.fill(uid, files)
        made = []
        for number, mount in enumerate(container.volume_mounts):
            filled = mount.name in files
            source = self._filled(uid, mount.name) if filled else self._source(uid, volumes[mount.name])
            if mount.sub_path:
                place = f"{container.name}.{number}"
                source = self._parts.mounted(uid, place, source, mount.sub_path, make=not filled)
            made.append(Mount(str(source), os.path.normpath(mount.mount_path), mount.read_only or filled))
        return sorted(made, key=lambda mount: mount.target)

    def fill(self, uid: str, files: Files) -> None:
        """Write files that changed, and remove those that aren't there any more. Raises ProviderError."""
        for name, held in files.items():
            place = self._filled(uid, name)
            with explain(f"fill {place}"):
                place.mkdir(parents=True, exist_ok=True)
                # Only root finds the way there; what the files' modes say counts in the container.
                self._places["Memory"].joinpath(uid).chmod(0o700)
                kept = {place / path for path in held}
                for path, file in held.items():
                    _write(place / path, file)
                for there in sorted(place.rglob("*"), reverse=True):
                    if not there.is_dir() and there not in kept:
                        there.unlink()

    def release(self, uid: str) -> None:
        """Remove what was made for a pod. Raises ProviderError."""
        self._parts.release(uid)
        for place in self._places.values():
            with explain(f"remove {place / uid}"):
                if (place / uid).exists():
                    shutil.rmtree(place / uid)

    def _filled(self, uid: str, name: str) -> Path:
        return self._places["Memory"] / uid / name

    def _source(self, uid: str, volume: Volume) -> Path:
        if volume.host_path is not None:
            return self._host_path(volume.host_path)
        medium = str((volume.empty_dir or {}).get("medium", ""))
        place = self._places.get(medium, self._places[""]) / uid / volume.name
        with explain(f"make {place}"):
            place.mkdir(parents=True, exist_ok=True)
            place.chmod(0o777)  # as in Kubernetes: any user of the container may write
        return place

    def _host_path(self, asked: HostPath) -> Path:
        path = self._root / asked.path.lstrip("/")
        with explain(f"hostPath {path}"):
            if asked.type == "DirectoryOrCreate":
                path.mkdir(parents=True, exist_ok=True, mode=0o755)
            elif asked.type == "FileOrCreate":
                path.touch(exist_ok=True, mode=0o644)
            kind = asked.type.removesuffix("OrCreate")
            try:
                mode = path.stat().st_mode
            except FileNotFoundError:
                raise ProviderError(f"hostPath {path}: it isn't there") from None
        if kind in _KINDS and not _KINDS[kind][0](mode):
            raise ProviderError(f"hostPath {path}: it is no {_KINDS[kind][1]}")
        return path


def _write(path: Path, file: File) -> None:
    """Write a file in one step, if it isn't so already."""
    if path.is_file() and path.read_bytes() == file.content and stat.S_IMODE(path.stat().st_mode) == file.mode:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    new.touch(mode=0o600)
    new.write_bytes(file.content)
    new.chmod(file.mode)
    new.rename(path)
