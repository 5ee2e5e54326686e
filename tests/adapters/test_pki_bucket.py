"""Masters that race for one PKI in a bucket whose server answers as S3 does while other writes are under way."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from protokube.core.pki.actions import IssueCertificate, MakeAuthorities
from protokube.core.pki.model import Certificate, CertificateWanted
from protokube.errors import StoreConflictError
from protokube.pki.node import NodePki
from protokube.store.s3 import S3Store
from tests.lab.s3 import serving

BUCKET, ROUNDS = "masters", 8
WANTED = CertificateWanted("etcd-client", "etcd-clients", "x", client=True)


def master(node: NodePki, cluster: str, begin: threading.Barrier) -> None:
    """Make the authorities, and issue: again while others write, as the next reconcile does."""
    begin.wait()
    actions: list[Callable[[], None]] = [
        partial(node.make_authorities, MakeAuthorities(cluster, ("etcd-clients", "etcd-peers-main"), True)),
        partial(node.issue, IssueCertificate(cluster, WANTED)),
    ]
    for action in actions:
        for _ in range(20):
            try:
                action()
                break
            except StoreConflictError:
                continue


@pytest.mark.parametrize("conflict_every", [2, 3])
def test_three_masters_in_a_bucket_with_conflicts_make_one_pki(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, conflict_every: int
) -> None:
    with serving(monkeypatch, BUCKET) as server:
        server.conflict_every = conflict_every
        issuers: Counter[str] = Counter()
        for number in range(ROUNDS):
            cluster, begin = f"c{number}.test", threading.Barrier(3)
            nodes = [NodePki(str(tmp_path / f"{number}{name}"), lambda: S3Store(BUCKET, "p/")) for name in "abc"]
            threads = [threading.Thread(target=master, args=(node, cluster, begin)) for node in nodes]
            for one in threads:
                one.start()
            for one in threads:
                one.join()
            for node in nodes:
                found = node.certificates()["etcd-client"]
                assert isinstance(found, Certificate)
                issuers[found.issuer] += 1
        assert sorted(issuers.values()) == [3] * ROUNDS, "one PKI in each round"
