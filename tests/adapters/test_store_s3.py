"""The store in a bucket: what S3 answers besides yes and no, encryption, and pages."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from protokube.errors import StoreConflictError, StoreError
from protokube.store.parts import MOST_PARTS, PART
from protokube.store.s3 import TRIES, S3Store
from tests.lab.s3 import Fault, S3Server, serving

BUCKET = "masters"
NAME = "c/pki/v1.json"
CONFLICT = Fault("ConditionalRequestConflict", 409, "PUT")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    with serving(monkeypatch, BUCKET) as server:
        yield server


@pytest.fixture
def store(server: S3Server) -> S3Store:
    return S3Store(BUCKET, "p/")


def test_a_write_that_meets_others_is_tried_again_with_a_limit(server: S3Server, store: S3Store) -> None:
    server.faults += [CONFLICT] * (TRIES - 1)
    assert store.put_if_absent(NAME, b"x")
    assert server.calls["PUT"] == TRIES
    server.faults += [CONFLICT] * TRIES
    with pytest.raises(StoreConflictError, match="other writes of this object") as caught:
        store.put_if_absent("c/pki/v2.json", b"x")
    assert caught.value.rule == "store/conflict"
    assert store.get("c/pki/v2.json") is None


def test_every_write_asks_for_encryption_and_every_answer_must_confirm_it(server: S3Server, store: S3Store) -> None:
    store.put_if_absent(NAME, b"x")
    assert server.headers[-1]["HTTP_X_AMZ_SERVER_SIDE_ENCRYPTION"] == "AES256"
    server.plain = True
    with pytest.raises(StoreError, match="doesn't say that the object is encrypted"):
        store.put_if_absent("c/other", b"x")


def test_a_write_whose_answer_was_lost_is_an_error_and_found_afterwards(server: S3Server, store: S3Store) -> None:
    server.faults.append(Fault("InternalError", 500, "PUT", after=True))
    with pytest.raises(StoreError):
        store.put_if_absent(NAME, b"x")
    assert not store.put_if_absent(NAME, b"y")
    found = store.get(NAME)
    assert found is not None and found.content == b"x"


@pytest.mark.parametrize(
    ("code", "status", "remedy"),
    [("AccessDenied", 403, "s3:ListBucket"), ("NoSuchBucket", 404, "make the bucket"), ("SlowDown", 503, "slowly")],
)
def test_an_error_names_call_answer_and_remedy(
    server: S3Server, store: S3Store, code: str, status: int, remedy: str
) -> None:
    server.faults += [Fault(code, status), Fault(code, status, "PUT")]
    for call in (lambda: store.get(NAME), lambda: store.put_if_absent(NAME, b"x")):
        with pytest.raises(StoreError) as caught:
            call()
        said = str(caught.value)
        assert code in said and str(status) in said and remedy in said and f"p/{NAME}" in said


def test_a_bucket_that_doesn_t_exist_is_no_empty_store(server: S3Server) -> None:
    for call in (lambda: S3Store("nobody", "").get(NAME), lambda: S3Store("nobody", "").list("")):
        with pytest.raises(StoreError, match="NoSuchBucket"):
            call()


def test_a_server_that_is_down_is_an_error(monkeypatch: pytest.MonkeyPatch, server: S3Server) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    with pytest.raises(StoreError, match="check the way to the endpoint"):
        S3Store(BUCKET, "").get(NAME)


def test_a_long_list_comes_in_pages(server: S3Server, store: S3Store) -> None:
    server.fill(BUCKET, [f"p/c/tokens/{number:04}" for number in range(1003)])
    assert store.list("c/tokens/") == [f"c/tokens/{number:04}" for number in range(1003)]
    assert server.calls["GET"] == 2


def test_an_object_that_s3_would_not_take_is_refused_before_it_is_sent(
    server: S3Server, store: S3Store, tmp_path: Path
) -> None:
    (tmp_path / "huge").touch()
    os.truncate(tmp_path / "huge", MOST_PARTS * PART + 1)
    with pytest.raises(StoreError, match="which S3 takes in parts"):
        store.put_file_if_absent("c/backups/main/one.db", tmp_path / "huge")
    assert server.calls["PUT"] == server.calls["POST"] == 0


def test_a_file_that_meets_other_writes_is_sent_again_from_its_beginning(
    server: S3Server, store: S3Store, tmp_path: Path
) -> None:
    (tmp_path / "big").write_bytes(b"x" * 3_000_000)
    server.faults += [CONFLICT] * (TRIES - 1)
    assert store.put_file_if_absent("c/backups/main/one.db", tmp_path / "big")
    assert server.content(BUCKET, "p/c/backups/main/one.db") == b"x" * 3_000_000
    assert server.headers[-1]["HTTP_X_AMZ_SERVER_SIDE_ENCRYPTION"] == "AES256"
