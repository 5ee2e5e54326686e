"""A whole run leaves no secret where it doesn't belong: PKI, etcd, sealed store, backups, control plane, a token.

Real etcd and real commands. What the run said, its processes' arguments and environments all the while, and every
file that it left behind are looked through for every private key, the store's key, and a token.
"""

from __future__ import annotations

import base64
import os
import sys
from pathlib import Path

import pytest

from protokube.pki.x509 import make_service_account_key
from protokube.store.file import FileStore
from protokube.store.sealed import SealedStore
from tests.lab.secrets import Watch, forms, holders, keys_in, private_keys, shown, spilled
from tests.lab.trial import CLUSTER, ETCD_IMAGE, FOR_ETCD, TrialNode, both, until, write_inventory

pytestmark = pytest.mark.root

TOKEN_SECRET = "0a1b2c3d4e5f6a7b"


def test_what_gives_a_key_away_is_found_in_each_spelling(tmp_path: Path) -> None:
    made = make_service_account_key()
    pem = made.private.encode()
    secrets = keys_in(pem)
    number = min(secrets, key=len)
    embedded = made.private.replace("\n", "\\n").encode()
    for name, content in {"pem": pem, "json": embedded, "hex": number.hex().encode(), "raw": b"x" + number}.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "kubeconfig").write_bytes(base64.b64encode(pem))
    (tmp_path / "public").write_text(made.public)
    found = {path.name for path in holders(secrets, [tmp_path])}
    assert (
        found == {"pem", "json", "hex", "raw", "kubeconfig"} == {path.name for path in spilled(secrets, [tmp_path])}
    )
    assert len(number) == 32 and shown(secrets, ["nothing", f"a key: {made.private}"]) == [f"a key: {made.private}"]


def control_plane(node: TrialNode, said: list[str]) -> None:
    """The run on a control-plane node, and what every command says."""

    def command(*words: str) -> int:
        done = node.protokube(*words)
        said.extend((done.stdout, done.stderr))
        return done.returncode

    said.append(node.once("-v", "--log-format", "json", "--timeout", "5").stderr)
    for options in (("-o", "json"), ("-v",)):
        planned = node.run(*node.arguments("--dry-run", *options))
        said.extend((planned.stdout, planned.stderr))
    node.start_daemon("-v", "--interval", "1")
    node.start_pods()
    until("etcd serves", lambda: node.healthy(4001) and node.healthy(4002))
    until("the daemon has taken backups", lambda: command("etcd", "backups") == 0)
    assert command("etcd", "backup", "--cluster", "main", "--yes") == 0
    assert command("etcd", "backups", "--cluster", "main", "--backup", "latest") == 0
    for words in (("etcd", "backups"), ("etcd", "status"), ("pki", "status")):
        command(*words)
        command(*words, "-o", "json")
    command("etcd", "restore", "--cluster", "main", "--dry-run")  # which tool is there decides what it says
    assert command("pki", "rotate", "etcd-client") == 0
    assert command("pki", "rotate", "--authority", "etcd-clients", "--yes") == 0
    assert command("token", "list") == 1, "no API server answers here"
    pods = node.root / "etc/kubernetes/manifests"
    until("the API server's pod is there", lambda: (pods / "kube-apiserver.manifest").exists())
    report = node.run(*node.arguments("--dry-run", "-o", "json"))
    said.extend((report.stdout, report.stderr, node.log(), node.log("pods.log"), node.pod_logs()))


def worker(node: TrialNode, root: Path, said: list[str]) -> None:
    """A machine that joins with a token, and whose API server is silent."""
    folder = root / "etc/protokube"
    folder.mkdir(parents=True, mode=0o700)
    (folder / "ca.crt").write_bytes((node.root / "var/lib/protokube/pki/etcd-client/ca.crt").read_bytes())
    (folder / "token").write_text(f"abcdef.{TOKEN_SECRET}\n")
    (folder / "token").chmod(0o600)
    own = ["--cloud", "local", "--inventory", str(root.parent.parent / "inventory.yaml"), "--node", "node-a"]
    words = [sys.executable, "-m", "protokube", "--root", str(root), *own, "--api", "https://127.0.0.1:1"]
    for mode in (("--dry-run", "-o", "json"), ("--once", "-v", "--timeout", "3")):
        done = node.run(*words, *mode)
        said.extend((done.stdout, done.stderr))
    assert (root / "var/lib/kubelet").is_dir(), said[-1]


def test_a_whole_run_leaves_no_secret_in_what_others_can_read(tmp_path: Path) -> None:
    store, key = tmp_path / "store", tmp_path / "keys/store.key"
    for folder in (store, key.parent):
        folder.mkdir(0o700)
    key.write_bytes(os.urandom(32))
    key.chmod(0o600)
    options = ("--store", f"file://{store}", "--store-key", str(key), "--trust-clock", "--etcd-image", ETCD_IMAGE)
    inventory = write_inventory(tmp_path, *both(size=FOR_ETCD))
    file = tmp_path / "a/root/etc/protokube/config.yaml"
    file.parent.mkdir(parents=True)
    file.write_text("kubernetesVersion: 1.36.2\ncontrolPlane: true\n")
    said: list[str] = []
    with TrialNode(tmp_path / "a", inventory, options=options) as node:
        with Watch(node.processes) as watch:
            control_plane(node, said)
            worker(node, tmp_path / "w/root", said)
        stored = SealedStore(FileStore(store), key.read_bytes()).get(f"{CLUSTER}/pki/v1.json")
        assert stored is not None
        authorities = keys_in(stored.content)
        assert len(authorities) >= 6 * 6, "six authorities and the key of tokens"
        sealed = authorities - private_keys(node.root)
        secrets = authorities | private_keys(node.root) | forms(key.read_bytes()) | {TOKEN_SECRET.encode()}
        assert len(watch.seen) > 5 and len(said) > 20

        assert shown(secrets, said) == []
        assert shown(secrets, watch.seen) == []
        assert not any("PRIVATE" in text for text in (*said, *watch.seen))
        # Disks are looked through as they are mounted.
        places = [node.path("/"), node.path("/mnt/master-main-a"), node.path("/mnt/master-events-a"), tmp_path]
        assert spilled(secrets, places, beside=[tmp_path / "volumes"]) == []
        assert list(holders(sealed, [store, node.path("/")])) == [], "what only the store's key opens"
        assert [path.name for path in holders({TOKEN_SECRET.encode()}, [tmp_path], [tmp_path / "volumes"])] == [
            "token"
        ]
