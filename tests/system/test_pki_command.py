"""`protokube pki` from outside."""

from __future__ import annotations

import json
import os
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.x509.oid import NameOID

from tests.lab.secrets import private_keys
from tests.lab.trial import CLUSTER, ETCD_IMAGE, FOR_ETCD, TrialNode, both, until, write_inventory

pytestmark = pytest.mark.root


@pytest.fixture
def store(tmp_path: Path) -> Path:
    directory = tmp_path / "store"
    directory.mkdir(0o700)
    return directory


@pytest.fixture
def node(tmp_path: Path, store: Path) -> Iterator[TrialNode]:
    options = ("--store", f"file://{store}", "--trust-clock", "--etcd-image", ETCD_IMAGE)
    with TrialNode(tmp_path / "a", write_inventory(tmp_path, *both(size=FOR_ETCD)), options=options) as node:
        yield node


def pki(node: TrialNode, *words: str, code: int = 0) -> str:
    _python, _m, _protokube, *own = node.arguments()
    done = node.run(_python, _m, _protokube, "pki", *words, *own)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def status(node: TrialNode) -> tuple[dict[str, dict[str, object]], dict[str, dict[str, object]]]:
    found = json.loads(pki(node, "status", "-o", "json"))
    return {one["name"]: one for one in found["certificates"]}, {
        one["name"]: one for one in found["authorities"] or ()
    }


def test_a_node_s_certificates_are_shown_and_replaced(node: TrialNode) -> None:
    assert node.once().returncode == 0
    certificates, authorities = status(node)
    assert sorted(certificates) == [
        "etcd-client", "etcd-peer-events", "etcd-peer-main", "etcd-server-events", "etcd-server-main",
    ]  # fmt: skip
    assert sorted(authorities) == [
        "etcd-clients",
        "etcd-peers-events",
        "etcd-peers-main",
        "front-proxy",
        "kubernetes",
        "service-account",
    ]
    text = pki(node, "status")
    assert "etcd-peer-main: ends in 365 days" in text and "etcd reads it at each handshake" in text

    assert "issued etcd-client" in pki(node, "rotate", "etcd-client")
    after, _ = status(node)
    changed = {name for name in after if after[name]["serial"] != certificates[name]["serial"]}
    assert changed == {"etcd-client"}
    said = pki(node, "rotate", "etcd-cleint", code=1)
    assert "no such certificate; it has etcd-client, " in said
    assert node.report()["steps"] == [], "the daemon is content with what the command did"


def step_taken(node: TrialNode, authority: str) -> bool:
    """Whether the next step was taken; the refusal of one says who hasn't followed the last."""
    _python, _m, _protokube, *own = node.arguments()
    done = node.run(_python, _m, _protokube, "pki", "rotate", "--authority", authority, "--yes", *own)
    assert done.returncode == 0 or "etcd-a of etcd cluster main: not yet" in done.stderr or "127.0.0.1" in done.stderr
    return done.returncode == 0


def test_an_authority_is_replaced_in_three_steps_each_of_which_waits_for_etcd(node: TrialNode) -> None:
    node.start_daemon("--interval", "1")
    node.start_pods()
    until("etcd serves", lambda: node.healthy(4001) and node.healthy(4002))
    first = status(node)[1]["etcd-peers-main"]
    stages: list[object] = []
    for _ in range(3):
        if stages:
            until("the last step is followed", lambda: step_taken(node, "etcd-peers-main"))
        else:
            pki(node, "rotate", "--authority", "etcd-peers-main", "--yes")
        certificates, authorities = status(node)
        one = authorities["etcd-peers-main"]
        assert certificates["etcd-peer-main"]["issuer"] == one["id"]
        folder = node.root / "var/lib/protokube/pki/etcd-peer-main"
        assert (folder / "ca.crt").read_text().count("BEGIN") == len(one["trusted"])  # type: ignore[arg-type]
        assert node.run("openssl", "verify", "-CAfile", f"{folder}/ca.crt", f"{folder}/tls.crt").returncode == 0
        stages.append(one["stage"])
    assert stages == ["bundle", "reissue", "steady"]
    assert status(node)[1]["etcd-peers-main"]["id"] != first["id"]
    assert "no such authority; the store has " in pki(node, "rotate", "--authority", "etcd-peer-main", code=1)


def test_without_a_terminal_and_without_yes_nothing_is_replaced(node: TrialNode) -> None:
    assert node.once().returncode == 0
    before = status(node)[1]
    assert "say --yes" in pki(node, "rotate", "--authority", "kubernetes", code=64)
    assert status(node)[1] == before


def test_first_authorities_for_a_cluster_that_has_none(node: TrialNode) -> None:
    assert "no authorities" in pki(node, "kubeconfig", code=1)
    pki(node, "create", "--yes")
    assert len(status(node)[1]) == 6
    assert "already" in pki(node, "create", "--yes", code=1)
    config = yaml.safe_load(pki(node, "kubeconfig"))
    assert config["clusters"][0]["cluster"]["server"] == f"https://api.internal.{CLUSTER}:6443"
    assert subject_of(config) == ("kubernetes-admin", ["system:masters"])
    assert subject_of(yaml.safe_load(pki(node, "kubeconfig", "--user", "admin"))) == subject_of(config)
    assert subject_of(yaml.safe_load(pki(node, "kubeconfig", "--user", "anna"))) == ("anna", [])
    assert "and no system: one" in pki(node, "kubeconfig", "--user", "system:admin", code=64)
    assert "takes no user" in pki(node, "status", "--user", "anna", code=64)


def subject_of(config: dict[str, Any]) -> tuple[str, list[str]]:
    """The name and the groups that a kubeconfig's certificate shows; the context is of that user."""
    (user,), (context,) = config["users"], config["contexts"]
    subject = x509.load_pem_x509_certificate(b64decode(user["user"]["client-certificate-data"])).subject
    (name,) = subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    assert user["name"] == context["context"]["user"] == name.value
    return str(name.value), [str(one.value) for one in subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]


def test_a_member_s_certificates_are_issued_again(node: TrialNode) -> None:
    assert node.once().returncode == 0
    before = status(node)[0]

    def rotate(*words: str, code: int = 0) -> str:
        _python, _m, _protokube, *own = node.arguments()
        done = node.run(_python, _m, _protokube, "etcd", "rotate", *words, *own)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    assert "etcd-server-main and etcd-peer-main again" in rotate("--cluster", "main", "--dry-run")
    assert "say --yes" in rotate("--cluster", "main", code=64)
    assert status(node)[0] == before
    rotate("--cluster", "main", "--yes")
    after = status(node)[0]
    assert {name for name in after if after[name] != before[name]} == {"etcd-server-main", "etcd-peer-main"}


def test_the_clock_is_looked_at_before_anything_is_issued(tmp_path: Path, store: Path) -> None:
    with TrialNode(
        tmp_path / "b", write_inventory(tmp_path, *both()), options=("--store", f"file://{store}")
    ) as node:
        if node.once("--timeout", "3").returncode == 0:
            pytest.skip("this machine's clock is in sync: the test needs one that isn't")
        assert "pki/time" in pki(node, "create", "--yes", code=1)
    assert list(store.iterdir()) == []


def test_with_a_key_nothing_of_the_store_can_be_read(tmp_path: Path, store: Path) -> None:
    key = tmp_path / "key"
    key.write_bytes(os.urandom(32))
    key.chmod(0o600)
    options = ("--store", f"file://{store}", "--trust-clock", "--store-key", str(key))
    with TrialNode(tmp_path / "b", write_inventory(tmp_path, *both()), options=options) as node:
        assert node.once().returncode == 0
        assert private_keys(store) == set() and private_keys(node.root)
        key.write_bytes(os.urandom(32))
        assert "store/key" in pki(node, "rotate", "etcd-client", code=1)
        report = node.report()
        assert report["settled"], "a converged node doesn't read the store"
