"""A file that is too large for one request: nothing is there before all of it is, and one of several writers wins."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from moto.s3.models import s3_backends

from protokube.errors import StoreConflictError, StoreError
from protokube.store.parts import PART
from protokube.store.s3 import TRIES, S3Store
from tests.lab.s3 import ACCOUNT, Fault, S3Server, serving

BUCKET = "masters"
NAME = "c/backups/main/one.db"
SIZE = 2 * PART + 1234
CONFLICT = Fault("ConditionalRequestConflict", 409, "POST", query="uploadId=")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    with serving(monkeypatch, BUCKET) as server:
        yield server


@pytest.fixture
def store(server: S3Server) -> S3Store:
    return S3Store(BUCKET, "p/", largest=PART)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "snapshot"
    path.write_bytes(os.urandom(SIZE))
    return path


def unfinished() -> int:
    """The uploads whose parts the bucket keeps."""
    return len(s3_backends[ACCOUNT]["aws"].list_multipart_uploads(BUCKET))


def test_it_comes_back_as_it_was_and_is_made_once(
    server: S3Server, store: S3Store, file: Path, tmp_path: Path
) -> None:
    assert store.put_file_if_absent(NAME, file)
    assert server.calls["PUT"] == 3, "in parts"
    assert store.get_file(NAME, tmp_path / "back") and (tmp_path / "back").read_bytes() == file.read_bytes()
    other = tmp_path / "other"
    other.write_bytes(b"y" * SIZE)
    assert not store.put_file_if_absent(NAME, other)
    assert server.content(BUCKET, f"p/{NAME}") == file.read_bytes() and unfinished() == 0


def test_of_several_who_send_one_at_once_exactly_one_wins(store: S3Store, file: Path, tmp_path: Path) -> None:
    made: list[bool] = []
    senders = [threading.Thread(target=lambda: made.append(store.put_file_if_absent(NAME, file))) for _ in range(3)]
    for one in senders:
        one.start()
    for one in senders:
        one.join()
    assert sorted(made) == [False, False, True] and unfinished() == 0


def test_a_conflict_at_the_end_sends_it_again_with_a_limit(server: S3Server, store: S3Store, file: Path) -> None:
    server.faults += [CONFLICT] * (TRIES - 1)
    assert store.put_file_if_absent(NAME, file)
    assert server.content(BUCKET, f"p/{NAME}") == file.read_bytes() and unfinished() == 0
    server.faults += [CONFLICT] * TRIES
    with pytest.raises(StoreConflictError, match=f"CompleteMultipartUpload p/{NAME}"):
        store.put_file_if_absent(NAME, file)


@pytest.mark.parametrize(
    "fault", [Fault("SlowDown", 503, "PUT"), Fault("InternalError", 500, "POST", query="uploadId=")]
)
def test_one_that_fails_on_its_way_leaves_nothing(server: S3Server, store: S3Store, file: Path, fault: Fault) -> None:
    server.faults.append(fault)
    with pytest.raises(StoreError, match=fault.code):
        store.put_file_if_absent(NAME, file)
    assert store.list("c/") == [] and unfinished() == 0
    assert store.put_file_if_absent(NAME, file)


def test_one_that_can_t_be_aborted_is_told_and_the_first_error_is_raised(
    server: S3Server, store: S3Store, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server.faults += [Fault("SlowDown", 503, "PUT"), Fault("AccessDenied", 403, "DELETE")]
    with caplog.at_level(logging.WARNING), pytest.raises(StoreError, match="SlowDown"):
        store.put_file_if_absent(NAME, file)
    assert "its parts may stay there" in caplog.text and unfinished() == 1


def test_a_bucket_that_doesn_t_encrypt_gets_no_part(server: S3Server, store: S3Store, file: Path) -> None:
    server.plain = True
    with pytest.raises(StoreError, match="doesn't say that the object is encrypted"):
        store.put_file_if_absent(NAME, file)
    assert server.calls["PUT"] == 0 and unfinished() == 0
