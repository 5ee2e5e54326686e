"""Objects that only the operator's key opens, where a store is, and what is imported when."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from protokube.errors import ConfigError, StoreKeyError
from protokube.store.file import FileStore
from protokube.store.place import find_store
from protokube.store.sealed import SEALED, SEALED_PARTS, SealedStore, read_key

NAME = "c/pki/v1.json"
KEY = bytes(range(32))


@pytest.fixture
def inner(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path / "store", make=True)


def test_nothing_of_the_content_can_be_seen(inner: FileStore) -> None:
    SealedStore(inner, KEY).put_if_absent(NAME, b"a private key" * 10)
    found = inner.get(NAME)
    assert found is not None and found.content.startswith(SEALED) and b"private" not in found.content


@pytest.mark.parametrize("key", [None, bytes(32)], ids=["no key", "another key"])
def test_the_wrong_key_opens_nothing(inner: FileStore, key: bytes | None) -> None:
    SealedStore(inner, KEY).put_if_absent(NAME, b"x")
    with pytest.raises(StoreKeyError) as caught:
        SealedStore(inner, key).get(NAME)
    assert caught.value.rule == "store/key" and NAME in str(caught.value)


def test_a_key_doesn_t_take_an_object_that_is_not_sealed(inner: FileStore) -> None:
    SealedStore(inner, None).put_if_absent(NAME, b"planted")
    with pytest.raises(StoreKeyError, match="not encrypted"):
        SealedStore(inner, KEY).get(NAME)


def test_no_object_stands_in_another_one_s_place(inner: FileStore) -> None:
    SealedStore(inner, KEY).put_if_absent(NAME, b"x")
    moved = inner.get(NAME)
    assert moved is not None
    inner.put_if_absent("d/pki/v1.json", moved.content)
    with pytest.raises(StoreKeyError):
        SealedStore(inner, KEY).get("d/pki/v1.json")


@pytest.mark.parametrize("at", [len(SEALED), -1], ids=["nonce", "tag"])
def test_a_flipped_or_cut_off_byte_is_found(inner: FileStore, at: int) -> None:
    store = SealedStore(inner, KEY)
    store.put_if_absent(NAME, b"x" * 100)
    found = inner.get(NAME)
    assert found is not None
    damaged = bytearray(found.content)
    damaged[at] ^= 1
    inner.put_if_absent("c/damaged", bytes(damaged))
    inner.put_if_absent("c/short", found.content[: len(SEALED) + 5])
    for name in ("c/damaged", "c/short"):
        with pytest.raises(StoreKeyError):
            store.get(name)


BACKUP = "c/backups/main/one.db"
PART = (1 << 20) + 16


def sealed_file(inner: FileStore, folder: Path, size: int = 3 << 20) -> bytes:
    """A file that was sealed, as the store has it."""
    (folder / "plain").write_bytes(os.urandom(size))
    SealedStore(inner, KEY).put_file_if_absent(BACKUP, folder / "plain")
    assert inner.get_file(BACKUP, folder / "sealed")
    return (folder / "sealed").read_bytes()


@pytest.mark.parametrize("key", [None, bytes(32)], ids=["no key", "another key"])
def test_the_wrong_key_opens_no_file(inner: FileStore, tmp_path: Path, key: bytes | None) -> None:
    assert sealed_file(inner, tmp_path).startswith(SEALED_PARTS)
    with pytest.raises(StoreKeyError, match=BACKUP):
        SealedStore(inner, key).get_file(BACKUP, tmp_path / "got")


def test_a_file_that_is_not_sealed_isn_t_taken(inner: FileStore, tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(b"planted")
    inner.put_file_if_absent(BACKUP, tmp_path / "plain")
    with pytest.raises(StoreKeyError, match="not encrypted"):
        SealedStore(inner, KEY).get_file(BACKUP, tmp_path / "got")


@pytest.mark.parametrize("damage", ["cut", "head alone", "swapped", "left out", "flipped", "renamed", "longer"])
def test_no_part_of_a_sealed_file_is_missing_moved_or_changed(inner: FileStore, tmp_path: Path, damage: str) -> None:
    whole = sealed_file(inner, tmp_path)
    at = len(SEALED_PARTS) + 7
    head, one, two, last = whole[:at], whole[at : at + PART], whole[at + PART : at + 2 * PART], whole[at + 2 * PART :]
    damaged = {
        "cut": head + one + two,
        "head alone": head,
        "swapped": head + two + one + last,
        "left out": head + two + last,
        "flipped": head + one + two[:-1] + bytes([two[-1] ^ 1]) + last,
        "renamed": whole,
        "longer": whole + b"x",
    }[damage]
    (tmp_path / "damaged").write_bytes(damaged)
    name = "c/backups/main/two.db"
    inner.delete(BACKUP)
    inner.put_file_if_absent(name if damage == "renamed" else BACKUP, tmp_path / "damaged")
    with pytest.raises(StoreKeyError):
        SealedStore(inner, KEY).get_file(name if damage == "renamed" else BACKUP, tmp_path / "got")


@pytest.mark.parametrize(
    ("content", "mode", "expected"),
    [
        (KEY, 0o644, ["mode 0644"]),
        (KEY[:31], 0o600, ["31 bytes"]),
        (KEY * 2, 0o640, ["mode 0640", "has more"]),
        (None, 0, ["can't be read"]),
    ],
)
def test_a_key_file_is_checked_at_the_start(
    tmp_path: Path, content: bytes | None, mode: int, expected: list[str]
) -> None:
    path = tmp_path / "key"
    if content is not None:
        path.write_bytes(content)
        path.chmod(mode)
    with pytest.raises(ConfigError) as caught:
        read_key(path)
    faults = [str(fault) for fault in caught.value.faults]
    assert len(faults) == len(expected)
    for fault, part in zip(faults, expected, strict=True):
        assert part in fault and "store/key: " in fault and str(path) in fault


def test_a_good_key_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(KEY)
    path.chmod(0o400)
    assert read_key(path) == KEY


@pytest.mark.parametrize(
    "url",
    [
        "",
        "/srv",
        "file://",
        "file:///",
        "file://host/x",
        "s3://",
        "s3://B/x",
        "s3://b",
        "file:///a/../b",
        "s3://bkt/.x",
    ],
)
def test_a_place_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="--store: "):
        find_store(url, None, Path("/var/lib/protokube/store"))


def test_all_faults_come_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        find_store("nfs://x", str(tmp_path / "missing"), tmp_path)
    assert len(caught.value.faults) == 2


def test_a_place_is_read_and_shows_no_key(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(KEY)
    path.chmod(0o600)
    place = find_store("s3://bucket/a/b/", str(path), tmp_path)
    assert (place.bucket, place.prefix, place.named) == ("bucket", "a/b/", True)
    assert repr(place) == "StorePlace(s3://bucket/a/b/)"
    assert find_store("file:///srv/store", None, tmp_path).directory == "/srv/store"
    assert not find_store(None, None, tmp_path).named


def test_choosing_a_store_loads_neither_botocore_nor_cryptography(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from protokube.store.place import find_store\n"
        "for url in ('s3://bucket/x', 'file:///srv'): find_store(url, None, pathlib.Path('/')).open()\n"
        "sys.exit(sorted(m for m in sys.modules if m.split('.')[0] in ('botocore', 'cryptography')) != [])"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0
