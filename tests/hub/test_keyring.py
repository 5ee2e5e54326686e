"""A node's keys over a power cut: what was removed doesn't come back, and a key is asked for once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from protokube.core.model import Unknown
from protokube.hub.core.membership import Issued
from protokube.hub.core.names import Identity
from protokube.hub.keyring import Hub, Keyring
from protokube.hub.pki import Pair, make_authority, make_request, sign_request


def granted(key: str) -> Pair:
    """A certificate of a hub's for a key."""
    issued = sign_request(
        make_authority("hub", 0.0), make_request(key, "n0"), Identity("hub", "node", "n0"), 1e9, 8.0
    )
    assert isinstance(issued, Issued)
    return Pair(key, issued.pem)


def test_a_key_whose_pair_is_in_use_is_never_asked_for_again(tmp_path: Path) -> None:
    ring = Keyring(tmp_path / "keys")
    key = ring.pending()
    assert ring.pending() == key
    own = ring.take(granted(key), make_authority("hub", 0.0).certificate, Hub("hub", 7443, "hub", "n0", "pin"))
    (tmp_path / "keys" / "pending.pem").write_text(key)  # the cut came before its end was on the disk
    other = ring.pending()
    assert other != key == own.key.read_text() and ring.pending() == other


def test_a_pair_s_request_is_gone_from_the_disk_once_it_is_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ring = Keyring(tmp_path / "keys")
    pair = granted(ring.pending())
    synced: list[list[str]] = []
    real = os.fsync

    def fsync(opened: int) -> None:
        real(opened)
        synced.append(os.listdir(ring.directory))

    monkeypatch.setattr(os, "fsync", fsync)
    ring.take(pair, make_authority("hub", 0.0).certificate, Hub("hub", 7443, "hub", "n0", "pin"))
    assert "current" in synced[-1] and "pending.pem" not in synced[-1]


def test_where_the_pair_in_use_is_damaged_the_one_before_is(tmp_path: Path) -> None:
    ring, hub, bundle = Keyring(tmp_path / "keys"), Hub("hub", 7443, "hub", "n0", "pin"), make_authority("hub", 0.0)
    assert ring.load() is None
    pairs = [ring.take(granted(ring.pending()), bundle.certificate, hub) for _ in range(3)]
    assert ring.load() == pairs[2] and not pairs[0].folder.exists()
    pairs[2].certificate.write_text("cut off")
    assert ring.load() == pairs[1]
    pairs[1].key.write_text(pairs[2].key.read_text())  # not its certificate's
    damaged = ring.load()
    assert isinstance(damaged, Unknown) and str(pairs[2].folder) in damaged.reason
