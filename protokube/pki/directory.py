"""The node's certificates: `<name>` leads to the directory `<name>.d/<serial>`, and exchanging a link exchanges all.

    <name> -> <name>.d/current
    <name>.d/current -> <serial>
    <name>.d/<serial>/…

What is exchanged is `current`, so that a pod that sees `<name>.d` alone sees the new one.

A directory holds its files (tls.crt, tls.key and ca.crt of a certificate) and about.json. It is complete and
synchronised before the link leads there: a certificate never stands beside another one's key. about.json tells what
the certificate is for, and the hashes of the other files: so a converged node knows its certificates without a
library that reads X.509.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from msgspec import MsgspecError, Struct
from msgspec.json import decode, encode

from protokube.core.model import Unknown
from protokube.core.pki.model import CURRENT, FILES, Certificate, Damaged, directory_of
from protokube.errors import explain

_ABOUT = "about.json"
_NEW = ".new-"
_NAME = re.compile(r"[a-z0-9][a-z0-9-]*")
_MODE = 0o600


class _About(Struct, frozen=True):
    certificate: Certificate
    hashes: Mapping[str, str]


class CertificateDirectory:
    """The certificates below `top`, a path of this machine."""

    def __init__(self, top: Path) -> None:
        self.top = top

    def read(self) -> Mapping[str, Certificate | Damaged | Unknown]:
        """Every certificate that a link names: Unknown when it can't be read, Damaged when its files don't fit."""
        with explain(f"list {self.top}"):
            try:
                links = sorted(entry for entry in self.top.iterdir() if entry.is_symlink())
            except FileNotFoundError:
                return {}
        return {link.name: _read(link) for link in links if _NAME.fullmatch(link.name)}

    def write(self, certificate: Certificate, files: Mapping[str, str]) -> None:
        """Write a certificate's files beside the old ones, and exchange the link. `files` are PEM texts by name.

        Older directories of the name are removed, but for the one before: who has just followed the old link reads
        on there.
        """
        name = certificate.wanted.name
        assert _NAME.fullmatch(name) and sorted(files) == sorted(FILES[certificate.wanted.material])
        with explain(f"write the certificate {name}"):
            self._make_top()
            own, made = self.top / directory_of(name), certificate.serial
            own.mkdir(0o700, exist_ok=True)
            _synchronise(self.top)
            current = own / CURRENT
            before = str(current.readlink()) if current.is_symlink() else ""
            _remove(own, kept={CURRENT, before, made})
            about = _About(certificate, {file: _hash(text.encode()) for file, text in files.items()})
            fresh = own / f"{_NEW}{made}"
            fresh.mkdir(0o700)
            for file, text in (*files.items(), (_ABOUT, encode(about).decode())):
                _write(fresh / file, text.encode())
            _synchronise(fresh)
            fresh.rename(own / made)
            _synchronise(own)
            _lead(current, made)
            if not _is_ours(self.top / name):
                _lead(self.top / name, target_of(name))

    def text(self, name: str, file: str) -> str:
        """A file of a certificate."""
        with explain(f"read {self.top / name / file}"):
            return (self.top / name / file).read_text(encoding="ascii")

    def _make_top(self) -> None:
        """Make the directory. The ones above it are shared with other programs."""
        self.top.parent.mkdir(parents=True, exist_ok=True)
        self.top.mkdir(0o700, exist_ok=True)
        _synchronise(self.top.parent)


def target_of(name: str) -> str:
    """Where the link of a name leads."""
    return f"{directory_of(name)}/{CURRENT}"


def _is_ours(link: Path) -> bool:
    return link.is_symlink() and str(link.readlink()) == target_of(link.name)


def _lead(link: Path, target: str) -> None:
    """Let a link lead elsewhere, in one step."""
    fresh = link.with_name(f"{_NEW}{link.name}")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(target)
    fresh.rename(link)
    _synchronise(link.parent)


def _remove(folder: Path, kept: set[str]) -> None:
    """Remove the directories that nobody uses, and what a crash has left."""
    for entry in list(folder.iterdir()):
        if entry.name in kept:
            continue
        if entry.is_symlink():
            entry.unlink()
        else:
            shutil.rmtree(entry)


def _read(link: Path) -> Certificate | Damaged | Unknown:
    if not _is_ours(link):
        return Damaged(f"it leads to {link.readlink()} (expected {target_of(link.name)})")
    try:
        about = decode((link / _ABOUT).read_bytes(), type=_About)
        if about.certificate.wanted.name != link.name:
            return Damaged(f"it is the certificate {about.certificate.wanted.name}")
        for file, expected in _hashes(about):
            if _hash((link / file).read_bytes()) != expected:
                return Damaged(f"its {file} has changed since it was issued")
    except (FileNotFoundError, NotADirectoryError) as error:
        return Damaged(f"{Path(error.filename).name} is missing")
    except OSError as error:
        return Unknown(f"{link}: {error.strerror}")
    except (MsgspecError, UnicodeDecodeError, RecursionError) as error:
        return Damaged(f"its {_ABOUT} can't be understood: {error}")
    return about.certificate


def _hashes(about: _About) -> Iterator[tuple[str, str]]:
    for file in FILES[about.certificate.wanted.material]:
        yield file, about.hashes.get(file, "")


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _write(path: Path, content: bytes) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _synchronise(directory: Path) -> None:
    opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
