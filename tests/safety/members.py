"""Nodes that are given one volume: what `protokube --once`, as people run it, makes of a disk of a member."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.lab.trial import CLUSTER, ETCD_IMAGE, TrialNode, tags
from tests.lab.trial import write_inventory as _write
from tests.safety.images import MIB, blank, run

VOLUME = "main-a"
UUID = "26464824-ba61-5399-8d21-92c8ad37ce2b"
"""The UUID of the filesystem of member a of main in dev.example.com on the volume main-a."""
MOUNT = f"/mnt/master-{VOLUME}"
LINK = "/etc/kubernetes/manifests/etcd.manifest"


def image_of(folder: Path) -> Path:
    """Where the volume's image stands."""
    return folder / f"volumes/{VOLUME}.img"


@contextmanager
def member(
    folder: Path,
    size: int,
    spec: str = "a/a",
    more: Mapping[str, str] | None = None,
    name: str = "node-a",
    image: str = ETCD_IMAGE,
    options: tuple[str, ...] = (),
) -> Iterator[TrialNode]:
    """A node whose inventory has the one volume, whose image the case has made or will be made on first use."""
    one = {"id": VOLUME, "file": f"volumes/{VOLUME}.img", "size": f"{size // MIB}MiB"}
    inventory = _write(folder, {**one, "tags": {**tags("main", spec), **(more or {})}}, nodes={name: "10.1.2.3"})
    image_of(folder).parent.mkdir(exist_ok=True)
    with TrialNode(folder / name, inventory, name, options=("--etcd-image", image, *options)) as node:
        yield node


def serves(node: TrialNode, report: Mapping[str, Any]) -> str:
    """Why the member doesn't serve; empty when its manifest is linked, on its mounted volume."""
    if node.path(LINK).exists():
        return ""
    told = [f"{one.get('rule', '')} {one.get('evidence') or one.get('reason')}" for one in _left(report)]
    return "; ".join(told) or f"exit {report['exit']}, no link and no reason"


def _left(report: Mapping[str, Any]) -> list[dict[str, str]]:
    return [*report["refusals"], *report["unknown"], *report["waiting"]]


def make_ext4(image: Path, size: int, tree: Path, uuid: str = UUID, label: str = "etcd-a") -> None:
    """An ext4 image that holds what a folder holds."""
    blank(image, size)
    run("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0", "-U", uuid, "-L", label, "-d", tree, image)


def kops_manifest(
    name: str = "etcd-a",
    cluster: str = CLUSTER,
    members: str = "a",
    image: str = ETCD_IMAGE,
    container: str = "etcd-container",
) -> str:
    """A member's manifest as kops left it on its volumes."""
    hosts = [f"etcd-{one}=http://etcd-{one}.internal.{cluster}:2380" for one in members]
    host = f"{name}.internal.{cluster}"
    variables = {
        "ETCD_NAME": name,
        "ETCD_DATA_DIR": "/var/etcd/data",
        "ETCD_LISTEN_PEER_URLS": "http://0.0.0.0:2380",
        "ETCD_LISTEN_CLIENT_URLS": "http://0.0.0.0:4001",
        "ETCD_ADVERTISE_CLIENT_URLS": f"http://{host}:4001",
        "ETCD_INITIAL_ADVERTISE_PEER_URLS": f"http://{host}:2380",
        "ETCD_INITIAL_CLUSTER_STATE": "new",
        "ETCD_INITIAL_CLUSTER_TOKEN": "etcd-cluster-token-etcd",
        "ETCD_INITIAL_CLUSTER": ",".join(hosts),
    }
    env = "".join(f"    - name: {key}\n      value: {value}\n" for key, value in variables.items())
    return (
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: etcd-server\n  namespace: kube-system\n"
        f"spec:\n  hostNetwork: true\n  containers:\n  - name: {container}\n    image: {image}\n    env:\n{env}"
    )


def identity(**changes: str) -> str:
    """The identity file of this very member, or of another one."""
    fields = {
        "cluster": CLUSTER,
        "etcdCluster": "main",
        "member": "a",
        "volume": VOLUME,
        "filesystem": UUID,
        "etcdVersion": "3.4.23",
        "started": "true",
        **changes,
    }
    return "".join(f"{key}: {value}\n" for key, value in fields.items())


def replayed(image: Path) -> None:
    """Replay the journal by e2fsck, as an operator would."""
    subprocess.run(["e2fsck", "-p", image], check=False, capture_output=True, timeout=120)
