"""Binaries and archives that a node needs: what they are, how they stand, and what each needs next."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from urllib.parse import urlsplit

from msgspec import Struct

MODE = 0o755

ARCHITECTURES = {
    "x86_64": "amd64",
    "aarch64": "arm64",
    "armv7l": "arm",
    "i686": "386",
    "ppc64le": "ppc64le",
    "s390x": "s390x",
    "riscv64": "riscv64",
}
"""The kernel's name of an architecture → its name in downloads, which is Go's."""


class Extract(Struct, frozen=True):
    """What is taken out of an archive: names that match `pattern`, to `target`.

    `*` stands for no slash. A target that ends in a slash is a directory; every other one is the file's own path.
    """

    pattern: str
    target: str


class Asset(Struct, frozen=True):
    """A file or archive that is known by its hash, so that any mirror may serve it.

    `sha256` is that of the file as it is fetched, `unpacked` that of the content of a .gz or .xz. A single file goes
    to `path`, an archive's files go where `extract` says. `arch` is None for every architecture.
    """

    urls: tuple[str, ...]
    sha256: str
    path: str | None = None
    unpacked: str | None = None
    extract: tuple[Extract, ...] = ()
    arch: str | None = None

    @property
    def subject(self) -> str:
        """The file's path, or the archive's first URL."""
        return self.path or shown(self.urls[0])

    @property
    def name(self) -> str:
        """A short name for people."""
        return posixpath.basename(self.path or urlsplit(self.urls[0]).path)

    @property
    def content(self) -> str:
        """The hash of the installed single file."""
        return self.unpacked or self.sha256


class AssetState(Struct, frozen=True):
    """How an asset stands on the machine.

    `installed`: every file of it has the right content. `modes`: and the right mode. `noted`: and that is written
    down, so that the next run needn't read the files. `cached`: it lies in the cache.
    """

    installed: bool = False
    modes: bool = True
    noted: bool = True
    cached: bool = False

    @property
    def done(self) -> bool:
        """Whether nothing is left to do."""
        return self.installed and self.modes and self.noted


def for_machine(assets: Iterable[Asset], arch: str) -> tuple[Asset, ...]:
    """The assets for an architecture."""
    return tuple(asset for asset in assets if asset.arch in (None, arch))


def targets(asset: Asset) -> tuple[str, ...]:
    """The paths and directories (with a slash) that an asset goes to."""
    return (asset.path,) if asset.path else tuple(one.target for one in asset.extract)


def containerd_target(asset: Asset) -> str | None:
    """Where an archive of containerd's releases puts the program; None for every other asset."""
    if asset.path or not re.match(r"containerd(?:-static)?[-_.]v?\d|containerd\.t", asset.name):
        return None
    for target in (one.target for one in asset.extract):
        if target.endswith(("/bin/", "/bin/containerd")):
            return posixpath.join(posixpath.dirname(target), "containerd")
    return None


def version_in(name: str) -> str | None:
    """The version in an archive's name, such as containerd-2.1.4-linux-amd64.tar.gz."""
    found = re.search(r"[-_]v?(\d+\.\d+\.\d+[^-_]*?)(?=[-_]|\.t|$)", name)
    return found[1] if found else None


def match(asset: Asset, member: str) -> tuple[Extract, str] | None:
    """The first rule that takes a file out of an archive, and where it puts it; None when none does."""
    name = posixpath.normpath(member)
    for one in asset.extract:
        pattern = posixpath.normpath(one.pattern)
        if name.count("/") == pattern.count("/") and fnmatchcase(name, pattern):
            into = one.target.endswith("/")
            return one, one.target + posixpath.basename(name) if into else one.target
    return None


def shown(url: str) -> str:
    """A URL as messages may show it: without a password, and without a query, which may be a signature."""
    return re.sub(r"[?#].*|(?<=://)[^/?#]*@", "", url)
