"""The stores that the contract is held against, and the ways in which each becomes unreadable."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from protokube.ports import BulkStore
from protokube.store.file import FileStore
from protokube.store.s3 import S3Store
from protokube.store.sealed import SealedStore
from tests.lab.s3 import Fault, serving

BUCKET = "masters"


class Backend:
    """A kind of store. `open` gives one client more; `break_down` makes every following call fail."""

    def __init__(self, open_: Callable[[], BulkStore], break_down: Callable[[], None]) -> None:
        self.open, self.break_down = open_, break_down


@contextmanager
def file_backend(folder: Path, _: pytest.MonkeyPatch) -> Iterator[Backend]:
    """A directory that is there."""
    directory = folder / "store"
    directory.mkdir()

    def break_down() -> None:
        directory.rename(folder / "unmounted")

    yield Backend(lambda: FileStore(directory), break_down)


@contextmanager
def s3_backend(_: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Backend]:
    """A bucket on a server that answers each third PUT with 409."""
    with serving(monkeypatch, BUCKET) as server:
        server.conflict_every = 3

        def break_down() -> None:
            server.conflict_every = 0
            faults = [Fault("InternalError", 500, method) for method in ("GET", "PUT", "DELETE")]
            server.faults += faults * 20

        yield Backend(lambda: S3Store(BUCKET, "some/where/"), break_down)


@contextmanager
def sealed_backend(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Backend]:
    """The directory, with a key."""
    with file_backend(folder, monkeypatch) as inner:
        yield Backend(lambda: SealedStore(inner.open(), b"k" * 32), inner.break_down)


BACKENDS = {"file": file_backend, "s3": s3_backend, "sealed": sealed_backend}
