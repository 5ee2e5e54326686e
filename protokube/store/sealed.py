"""Objects that only the operator's key opens: AES-256-GCM, with the object's name as associated data.

A sealed object is `SEALED`, a nonce of 12 bytes, and the ciphertext with its tag. The name is authenticated, so that
no object can stand in another one's place. Without a key, objects are stored as they are.

A big object is sealed part by part: `SEALED_PARTS`, 7 random bytes, and parts of 1 MiB, each with its tag. A part's
nonce is these bytes, its number, and whether it is the last: so no part can be left out, moved, or cut off (the
STREAM construction of Hoang, Reyhanitabar, Rogaway and Vizár).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from protokube.core.model import MIB, Fault
from protokube.errors import ConfigError, StoreError, StoreKeyError
from protokube.ports import BulkStore, StoredObject
from protokube.store.names import check_name

SEALED = b"protokube-sealed-1\n"
SEALED_PARTS = b"protokube-sealed-parts-1\n"
KEY_SIZE = 32
_NONCE_SIZE = 12
_PREFIX_SIZE = 7
_TAG_SIZE = 16
_PART = MIB


def read_key(path: Path) -> bytes:
    """The key in a file. Raises ConfigError unless it has 32 bytes, and nobody but its owner may read it."""
    rule = StoreKeyError.rule
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            key = file.read(KEY_SIZE + 1)
    except OSError as error:
        raise ConfigError([Fault(str(path), f"{rule}: the store's key can't be read: {error.strerror}")]) from error
    faults = []
    if mode & 0o077:
        faults.append(Fault(str(path), f"{rule}: mode {mode:04o} (expected 0600 or 0400); chmod 0600 it"))
    if len(key) != KEY_SIZE:
        size = f"{len(key)} bytes" if len(key) < KEY_SIZE else "more"
        made = f"make one with: head -c {KEY_SIZE} /dev/urandom"
        faults.append(Fault(str(path), f"{rule}: the key has {size} (expected {KEY_SIZE} bytes); {made}"))
    if faults:
        raise ConfigError(faults)
    return key


class SealedStore:
    """A store whose objects are sealed with `key`, or stored as they are without one; implements `ports.BulkStore`.

    `cryptography` is imported with the first object that is sealed or opened.
    """

    def __init__(self, store: BulkStore, key: bytes | None) -> None:
        self._store, self._key = store, key

    def get(self, name: str) -> StoredObject | None:
        """See ports.StoreReader. Raises StoreKeyError when the key doesn't open the object."""
        found = self._store.get(name)
        return None if found is None else StoredObject(self._open(name, found.content), found.version)

    def list(self, prefix: str) -> Sequence[str]:
        """See ports.StoreReader."""
        return self._store.list(prefix)

    def put_if_absent(self, name: str, content: bytes) -> bool:
        """See ports.Store."""
        return self._store.put_if_absent(name, self._seal(name, content))

    def compare_and_swap(self, name: str, content: bytes, version: str) -> bool:
        """See ports.Store."""
        return self._store.compare_and_swap(name, self._seal(name, content), version)

    def put_file_if_absent(self, name: str, path: Path) -> bool:
        """See ports.BulkStore. Needs as much space again beside the file."""
        if self._key is None:
            return self._store.put_file_if_absent(name, path)
        check_name(name)
        beside = path.with_name(f"{path.name}.sealed")
        try:
            beside.unlink(missing_ok=True)
            with path.open("rb") as plain, _created(beside) as sealed:
                _seal_parts(self._key, name, plain, sealed)
            return self._store.put_file_if_absent(name, beside)
        except OSError as error:
            raise StoreError(f"{name}: sealing {path}: {error.strerror}") from error
        finally:
            beside.unlink(missing_ok=True)

    def get_file(self, name: str, path: Path) -> bool:
        """See ports.BulkStore. Raises StoreKeyError when the key doesn't open the object. Needs as much space again
        beside the file."""
        beside = path.with_name(f"{path.name}.sealed")
        try:
            beside.unlink(missing_ok=True)
            if not self._store.get_file(name, beside):
                return False
            with beside.open("rb") as file:
                sealed = file.read(len(SEALED_PARTS)) == SEALED_PARTS
                if sealed is not (self._key is not None):
                    raise _wrong_state(name, sealed=sealed)
                if self._key is not None:
                    with _created(path) as plain:
                        _open_parts(self._key, name, file, plain)
                    return True
            beside.rename(path)
            return True
        except OSError as error:
            raise StoreError(f"{name}: opening it to {path}: {error.strerror}") from error
        finally:
            beside.unlink(missing_ok=True)

    def delete(self, name: str) -> None:
        """See ports.BulkStore."""
        self._store.delete(name)

    def _seal(self, name: str, content: bytes) -> bytes:
        if self._key is None:
            return content
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        nonce = os.urandom(_NONCE_SIZE)
        return SEALED + nonce + AESGCM(self._key).encrypt(nonce, content, name.encode())

    def _open(self, name: str, content: bytes) -> bytes:
        sealed = content.startswith(SEALED)
        if self._key is None:
            if sealed:
                raise _wrong_state(name, sealed=True)
            return content
        if not sealed:
            raise _wrong_state(name, sealed=False)
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        nonce, rest = content[len(SEALED) :][:_NONCE_SIZE], content[len(SEALED) + _NONCE_SIZE :]
        try:
            return AESGCM(self._key).decrypt(nonce, rest, name.encode())
        except (InvalidTag, ValueError) as error:
            raise _not_opened(name) from error


def _wrong_state(name: str, *, sealed: bool) -> StoreKeyError:
    if sealed:
        return StoreKeyError(f"{name}: the object is encrypted (expected: not); give its key with --store-key")
    return StoreKeyError(f"{name}: the object is not encrypted (expected: with the key of --store-key)")


def _not_opened(name: str) -> StoreKeyError:
    return StoreKeyError(f"{name}: the key of --store-key doesn't open the object, or it is damaged")


def _created(path: Path) -> IO[bytes]:
    return open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb")


def _parts(file: IO[bytes], size: int) -> Iterator[tuple[bytes, bool]]:
    """The rest of a file in parts, each with whether it is the last. An empty rest is one empty part."""
    part = file.read(size)
    while following := file.read(size):
        yield part, False
        part = following
    yield part, True


def _nonce(prefix: bytes, number: int, *, last: bool) -> bytes:
    return prefix + number.to_bytes(4, "big") + bytes([last])


def _seal_parts(key: bytes, name: str, plain: IO[bytes], sealed: IO[bytes]) -> None:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    cipher, prefix = AESGCM(key), os.urandom(_PREFIX_SIZE)
    sealed.write(SEALED_PARTS + prefix)
    for number, (part, last) in enumerate(_parts(plain, _PART)):
        sealed.write(cipher.encrypt(_nonce(prefix, number, last=last), part, name.encode()))


def _open_parts(key: bytes, name: str, sealed: IO[bytes], plain: IO[bytes]) -> None:
    """Open what stands behind the head of a sealed file. Raises StoreKeyError."""
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    cipher, prefix = AESGCM(key), sealed.read(_PREFIX_SIZE)
    try:
        for number, (part, last) in enumerate(_parts(sealed, _PART + _TAG_SIZE)):
            plain.write(cipher.decrypt(_nonce(prefix, number, last=last), part, name.encode()))
    except (InvalidTag, ValueError) as error:
        raise _not_opened(name) from error
