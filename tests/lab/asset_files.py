"""An AssetFiles on a directory, with limits that pass in moments, and archives to serve."""

from __future__ import annotations

import io
import ssl
import tarfile
from pathlib import Path

from msgspec.structs import replace

from nodeup.assets.limits import Limits
from nodeup.assets.port import AssetFiles
from nodeup.assets.progress import Lines
from nodeup.assets.web import Trust
from protokube.core.node.asset_actions import next_action
from protokube.core.node.assets import Asset

SHORT = Limits(connect=5.0, stall=0.3, window=0.2, floor=10_000, redirects=5, cuts=3, reserve=0, together=2)
"""Seconds as short as the lies need. An honest answer comes in one piece, and so within them."""


def no_trust() -> ssl.SSLContext:
    """Trusts no authority at all."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


class Machine:
    """A root directory with a cache beside it. `log` has what people were told."""

    def __init__(self, folder: Path, limits: Limits = SHORT, trust: Trust = no_trust) -> None:
        self.root = folder / "root"
        self.root.mkdir(exist_ok=True)
        self.cache = folder / "cache"
        self.log = io.StringIO()
        self.files = AssetFiles(str(self.root), str(self.cache), limits=limits, trust=trust, progress=Lines(self.log))

    def step(self, asset: Asset) -> str | None:
        """Do the next thing for an asset; its kind, None when nothing was left to do."""
        action = next_action(asset, self.files.states([asset])[asset.subject])
        if action is None:
            return None
        action.execute(self.files)
        return action.kind

    def converge(self, asset: Asset) -> list[str]:
        """Do everything for an asset; the kinds of what was done."""
        done: list[str] = []
        while kind := self.step(asset):
            assert len(done) < 5, done
            done.append(kind)
        return done

    def path(self, path: str) -> Path:
        """A path of the machine's as a path of ours."""
        return self.root / path.lstrip("/")

    def below(self) -> set[str]:
        """Every file below the root, without the notes."""
        found = {"/" + str(one.relative_to(self.root)) for one in self.root.rglob("*") if not one.is_dir()}
        return found - {"/var/lib/nodeup/assets.json"}


def restarted(machine: Machine, **limits: float) -> Machine:
    """The next run on the same machine."""
    return Machine(machine.root.parent, replace(SHORT, **limits))


def tar(*entries: tuple[str, bytes | str | tarfile.TarInfo], mode: str = "w:gz") -> bytes:
    """An archive. An entry is a name and its content (bytes), its link's target (text), or made by hand."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode=mode) as archive:  # type: ignore[call-overload]
        for name, what in entries:
            info = what if isinstance(what, tarfile.TarInfo) else tarfile.TarInfo(name)
            data = what if isinstance(what, bytes) else b""
            info.size = len(data)
            if isinstance(what, str):
                info.type, info.linkname = tarfile.SYMTYPE, what
            elif isinstance(what, bytes):
                info.mode = 0o644 if "." in name.removeprefix("./") else 0o6755
            archive.addfile(info, io.BytesIO(data))
    return packed.getvalue()
