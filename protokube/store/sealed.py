"""Objects that only the operator's key opens: AES-256-GCM, with the object's name as associated data.

A sealed object is `SEALED`, a nonce of 12 bytes, and the ciphertext with its tag. The name is authenticated, so that
no object can stand in another one's place. Without a key, objects are stored as they are.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from protokube.core.model import Fault
from protokube.errors import ConfigError, StoreKeyError
from protokube.ports import Store, StoredObject

SEALED = b"protokube-sealed-1\n"
KEY_SIZE = 32
_NONCE_SIZE = 12


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
    """A store whose objects are sealed with `key`, or stored as they are without one; implements `ports.Store`.

    `cryptography` is imported with the first object that is sealed or opened.
    """

    def __init__(self, store: Store, key: bytes | None) -> None:
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
                raise StoreKeyError(f"{name}: the object is encrypted (expected: not); give its key with --store-key")
            return content
        if not sealed:
            raise StoreKeyError(f"{name}: the object is not encrypted (expected: with the key of --store-key)")
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        nonce, rest = content[len(SEALED) :][:_NONCE_SIZE], content[len(SEALED) + _NONCE_SIZE :]
        try:
            return AESGCM(self._key).decrypt(nonce, rest, name.encode())
        except (InvalidTag, ValueError) as error:
            raise StoreKeyError(
                f"{name}: the key of --store-key doesn't open the object, or it is damaged"
            ) from error
