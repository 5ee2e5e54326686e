"""Where a store is: `file:///path` or `s3://bucket/prefix`."""

from __future__ import annotations

import re
from pathlib import Path

from msgspec import Struct

from protokube.core.model import Fault
from protokube.errors import ConfigError
from protokube.ports import BulkStore

_BUCKET = r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]"
_PREFIX = r"(?:[A-Za-z0-9_:-][A-Za-z0-9._:-]*/)*"


class StorePlace(Struct, frozen=True):
    """A store that was named, or the default one. One of `directory` and `bucket` is given.

    `named`: an operator named it. A default store is this node's own; its directory is made by the first write.
    """

    named: bool
    directory: str | None = None
    bucket: str | None = None
    prefix: str = ""
    key: bytes | None = None
    imds_v1: bool = False

    def __repr__(self) -> str:
        """Without the key."""
        return f"StorePlace({self.directory or f's3://{self.bucket}/{self.prefix}'})"

    def open(self) -> BulkStore:
        """The store. Touches nothing yet; botocore is imported with its first request."""
        from protokube.store.sealed import SealedStore

        return SealedStore(self._adapter(), self.key)

    def _adapter(self) -> BulkStore:
        if self.directory is not None:
            from protokube.store.file import FileStore

            return FileStore(Path(self.directory), make=not self.named)
        from protokube.store.s3 import S3Store

        assert self.bucket is not None
        return S3Store(self.bucket, self.prefix, imds_v1=self.imds_v1)


def find_store(url: str | None, key_file: str | None, default: Path, *, imds_v1: bool = False) -> StorePlace:
    """Read --store and --store-key. Raises ConfigError with every fault."""
    faults: list[Fault] = []
    key = None
    if key_file is not None:
        from protokube.store.sealed import read_key

        try:
            key = read_key(Path(key_file))
        except ConfigError as error:
            faults += error.faults
    if url is None:
        place = StorePlace(named=False, directory=str(default), key=key)
    elif url.startswith("file:///") and url.rstrip("/") != "file:" and ".." not in url.split("/"):
        place = StorePlace(named=True, directory=url.removeprefix("file://").rstrip("/"), key=key)
    elif (parsed := _bucket(url)) is not None:
        place = StorePlace(named=True, bucket=parsed[0], prefix=parsed[1], key=key, imds_v1=imds_v1)
    else:
        faults.append(Fault("--store", f"{url!r} where file:///PATH or s3://BUCKET[/PREFIX] was expected"))
    if faults:
        raise ConfigError(faults)
    return place


def _bucket(url: str) -> tuple[str, str] | None:
    if not url.startswith("s3://"):
        return None
    bucket, _, prefix = url.removeprefix("s3://").rstrip("/").partition("/")
    prefix = f"{prefix}/" if prefix else ""
    return (bucket, prefix) if re.fullmatch(_BUCKET, bucket) and re.fullmatch(_PREFIX, prefix) else None
