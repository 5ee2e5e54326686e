"""What must not be in an image: two machines that start from it would be taken for one, or share a secret.

Sources: machine-id(5), cloud-init's `clean`, image-builder's sysprep role, virt-sysprep.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping

from msgspec import Struct

from protokube.core.node import hostname, unit_files
from protokube.core.node.machine import MachineFacts
from protokube.core.node.settings import HOSTNAME_AUTO, HOSTNAME_KEEP, NodeupSettings
from protokube.core.node.wants import Wanted

IDENTITY, SECRET = "image/identity", "image/secret"

MACHINE_ID = "/etc/machine-id"
SSH_KEYS = tuple(
    f"/etc/ssh/ssh_host_{kind}_key{suffix}" for kind in ("dsa", "ecdsa", "ed25519", "rsa") for suffix in ("", ".pub")
)
SSH_KEYS_UNIT = "ssh-host-keys.service"

REMOVED = {
    hostname.PATH: "each machine gets a name of its own",
    "/var/lib/dbus/machine-id": "each machine gets an id of its own",
    "/var/lib/systemd/random-seed": "a seed that every machine has is none",
    "/var/lib/systemd/credential.secret": "each machine makes a secret of its own",
    **dict.fromkeys(SSH_KEYS, "each machine makes keys of its own"),
}
"""Files that a boot makes again: taken out of an image, with the reason for each."""


class Trace(Struct, frozen=True):
    """A thing that an image must not hold: a glob below its root, the rule, what it is, and the remedy.

    `blank`: contents that do no harm; None where the mere file does.
    """

    pattern: str
    rule: str
    what: str
    remedy: str
    blank: frozenset[str] | None = None


_CLOUD = "`cloud-init clean --logs --seed` (in the tree) removes it"
_GONE = "remove it"
_STOPPED = "stop and clean the node before you take its disk as an image"

TRACES = (
    Trace("etc/machine-id", IDENTITY, "a machine's id", "empty it", frozenset({"", "uninitialized"})),
    Trace("var/lib/dbus/machine-id", IDENTITY, "a machine's id", _GONE, frozenset({"", "uninitialized"})),
    Trace("etc/hostname", IDENTITY, "a machine's name", _GONE, frozenset(hostname.DEFAULTS)),
    Trace("etc/ssh/ssh_host_*", IDENTITY, "a machine's SSH key", _GONE),
    Trace("var/lib/systemd/random-seed", IDENTITY, "a machine's random seed", _GONE),
    Trace("var/lib/systemd/credential.secret", SECRET, "a machine's secret", _GONE),
    Trace("var/lib/cloud/instances/*", IDENTITY, "what cloud-init knows of a machine, with its user-data", _CLOUD),
    Trace("var/lib/cloud/seed/*/*", SECRET, "user-data for one machine", _CLOUD),
    Trace("etc/cloud/cloud.cfg.d/99-installer.cfg", IDENTITY, "an installer's answers, with passwords", _GONE),
    Trace("etc/cloud/ds-identify.cfg", IDENTITY, "the cloud that a machine was installed in", _GONE),
    Trace("etc/udev/rules.d/70-persistent-net.rules", IDENTITY, "a machine's network cards", _GONE),
    Trace("etc/netplan/50-cloud-init.yaml", IDENTITY, "a machine's addresses", _GONE),
    Trace("etc/network/interfaces.d/50-cloud-init*", IDENTITY, "a machine's addresses", _GONE),
    Trace("etc/NetworkManager/system-connections/*", SECRET, "a machine's connections, with passwords", _GONE),
    Trace("var/lib/dhcp/*.lease*", IDENTITY, "a machine's addresses", _GONE),
    Trace("var/lib/dhcpcd/*", IDENTITY, "a machine's addresses", _GONE),
    Trace("var/lib/NetworkManager/*.lease", IDENTITY, "a machine's addresses", _GONE),
    Trace("var/log/journal/*", IDENTITY, "a machine's journal", _GONE),
    Trace("var/log/cloud-init*.log", SECRET, "what cloud-init did on a machine", _CLOUD, frozenset({""})),
    Trace("run/protokube/*", IDENTITY, "what a running protokube remembers", _GONE),
    Trace("var/lib/protokube/*", SECRET, "a node's certificates and keys", _STOPPED),
    Trace("var/lib/kubelet/pki/*", SECRET, "a node's certificates and keys", _STOPPED),
    Trace("var/lib/kubelet/kubeconfig", SECRET, "a node's way into its cluster", _STOPPED),
    Trace("var/lib/kubelet/bootstrap-kubeconfig", SECRET, "a node's way into its cluster", _STOPPED),
    Trace("var/lib/kubelet/config.json", SECRET, "registries' passwords", _GONE),
    Trace("var/lib/kubelet/pods/*", IDENTITY, "a node's pods", _STOPPED),
    Trace("etc/kubernetes/*.conf", SECRET, "a way into a cluster", _GONE),
    Trace("etc/kubernetes/pki/*", SECRET, "a cluster's certificates and keys", _GONE),
    Trace("etc/kubernetes/manifests/*", IDENTITY, "pods that every machine would start", _GONE),
    Trace("var/lib/etcd/*", SECRET, "a cluster's data", _GONE),
    Trace("var/lib/containerd/io.containerd.runtime.v2.task/*/*", IDENTITY, "containers that ran", _STOPPED),
    Trace("var/lib/containerd/io.containerd.grpc.v1.cri/*/*", IDENTITY, "containers and pods that ran", _STOPPED),
    Trace("root/.ssh/authorized_keys", SECRET, "who may log in as root", _GONE),
    Trace("home/*/.ssh/authorized_keys", SECRET, "who may log in", _GONE),
    Trace("root/.ssh/id_*", SECRET, "a person's SSH key", _GONE),
    Trace("home/*/.ssh/id_*", SECRET, "a person's SSH key", _GONE),
    Trace("root/.*_history", SECRET, "commands as they were typed, with what stood in them", _GONE),
    Trace("home/*/.*_history", SECRET, "commands as they were typed, with what stood in them", _GONE),
    Trace("root/.kube/config", SECRET, "a way into a cluster", _GONE),
    Trace("root/.docker/config.json", SECRET, "registries' passwords", _GONE),
    Trace("root/.aws/credentials", SECRET, "a way into a cloud", _GONE),
)

SEARCHED = ("etc", "root", "home", "srv", "usr/local/etc")
"""Directories whose files are searched for keys."""

TOKEN_SEARCHED = ("etc/protokube", "etc/kubernetes")
"""Directories whose files are searched for bootstrap tokens as well; elsewhere too much looks like one."""

_KEY = re.compile(rb"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----")
_ENDS = (b"PRIVATE KEY-----", b"PRIVATE KEY BLOCK-----")
_BLANK = re.compile(rb"\s+")
# PKCS#8, PKCS#1 and SEC 1: a sequence that begins with a version, and then what no certificate has in this place.
_DER = re.compile(
    rb"\x30(?:[\x00-\x7f]|\x81.|\x82..)"
    rb"(?:\x02\x01[\x00\x01]\x30[\x05-\x7f]\x06|\x02\x01\x00\x02(?:\x81.|\x82..)|\x02\x01\x01\x04[\x14-\x42])",
    re.DOTALL,
)
_DER_TEXT = re.compile(rb"(?<![A-Za-z0-9+/])M(?:\s*[A-Za-z0-9+/]){31}")
"""Base64 of 24 bytes that begin as a sequence does."""
_TOKEN = re.compile(rb"(?<![a-z0-9.])[a-z0-9]{6}\.[a-z0-9]{16}(?![a-z0-9.])")


def secret_in(path: str, data: bytes) -> str | None:
    """What kind of secret a file holds; None when it holds none that is known. `path` is below the root."""
    if _KEY.search(data) or _DER.match(data) or _encoded_key(data):
        return "a private key"
    if path.startswith(tuple(f"{folder}/" for folder in TOKEN_SEARCHED)) and _TOKEN.search(data):
        return "a bootstrap token"
    return None


def _encoded_key(data: bytes) -> bool:
    """Whether a key is there in base64, as kubeconfigs hold them; in one line or many, and wherever it begins."""
    text = _BLANK.sub(b"", data)
    if any(part in text for part in _ENCODED_ENDS):
        return True
    found = (base64.b64decode(_BLANK.sub(b"", match[0])) for match in _DER_TEXT.finditer(data))
    return any(_DER.match(one) for one in found)


def _alignments(part: bytes) -> Iterator[bytes]:
    """The base64 of bytes that stand inside of others: what it is whatever stands before and after them."""
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + part)
        yield encoded[(before * 8 + 5) // 6 : (before + len(part)) * 8 // 6]


_ENCODED_ENDS = tuple(encoded for part in _ENDS for encoded in _alignments(part))


def image_wanted(out: Wanted, machine: MachineFacts, settings: NodeupSettings, units: Mapping[str, str]) -> None:
    """Add what an image is to have: no identity, and the means to get one at the first boot."""
    if settings.hostname not in (HOSTNAME_AUTO, HOSTNAME_KEEP):
        evidence = f"each machine of the image would be named {settings.hostname}; leave `hostname` out"
        out.findings.refuse("hostname", IDENTITY, evidence)
    of_one_machine = {MACHINE_ID, *REMOVED}
    for file in settings.files:
        if file.path in of_one_machine:
            evidence = "each machine of the image would have the same; take it out of `files`"
            out.findings.refuse(file.path, IDENTITY, evidence)
    out.files = [file for file in out.files if file.path not in of_one_machine]
    # Empty, not `uninitialized`: that starts systemd's first-boot mode, which asks questions on the console.
    out.file(MACHINE_ID, "", "each machine gets an id of its own", 0o444)
    out.removed |= REMOVED
    if unit_files.SSH in machine.packaged_units:
        path = f"{unit_files.FOLDER}/{SSH_KEYS_UNIT}"
        out.file(path, units[SSH_KEYS_UNIT], "each machine makes keys of its own")
        out.enabled.append(unit_files.enablement(SSH_KEYS_UNIT, ("multi-user.target",), path))
