"""Container images of one layer, as archives that `ctr images import` takes: programs with their libraries.

The same files give the same bytes. Nothing is fetched.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import subprocess
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

_LIBRARY = re.compile(r"(/\S+) \(0x")


def libraries(program: Path, folder: Path) -> Iterator[Path]:
    """The shared libraries that a program loads, its loader too; `folder` holds some that the machine lacks."""
    done = subprocess.run(
        ["ldd", program],
        env={"LD_LIBRARY_PATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    yield from (Path(found) for found in _LIBRARY.findall(done.stdout))


def write_image(archive: Path, name: str, files: Mapping[str, Path | str], entrypoint: Sequence[str]) -> None:
    """Write a docker archive of one layer. `files`: path in the image → file of this machine, or a link's target."""
    layer = _layer(files)
    digest = hashlib.sha256(layer).hexdigest()
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Entrypoint": list(entrypoint), "Env": ["PATH=/usr/local/bin:/usr/sbin:/usr/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        "history": [{"created": "1970-01-01T00:00:00Z"}],
    }
    text = json.dumps(config).encode()
    described = f"{hashlib.sha256(text).hexdigest()}.json"
    manifest = [{"Config": described, "RepoTags": [name], "Layers": [f"{digest}/layer.tar"]}]
    with tarfile.open(archive, "w") as tar:
        _add(tar, described, text)
        _add(tar, f"{digest}/layer.tar", layer)
        _add(tar, "manifest.json", json.dumps(manifest).encode())


def _layer(files: Mapping[str, Path | str]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path, source in sorted(files.items()):
            if isinstance(source, str):
                link = tarfile.TarInfo(path.lstrip("/"))
                link.type, link.linkname = tarfile.SYMTYPE, source
                tar.addfile(link)
            else:
                _add(tar, path.lstrip("/"), source.read_bytes(), 0o755)
    return buffer.getvalue()


def _add(tar: tarfile.TarFile, name: str, content: bytes, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    tar.addfile(entry, io.BytesIO(content))
