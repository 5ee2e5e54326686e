"""Volumes that look like this member's and aren't, or whose data is gone: none is adopted, none starts as new."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from tests.safety import members
from tests.safety.claims import Job, Result
from tests.safety.images import MIB
from tests.safety.members import identity, kops_manifest

_SIZE = 64 * MIB
_FOREIGN_UUID = "11111111-2222-4333-8444-555555555555"
_MANIFEST = "k8s.io/manifests/etcd.manifest"
_IDENTITY = "k8s.io/identity.yaml"
_DATA = "var/etcd/data/member"

Content = Mapping[str, str | bytes | None]
"""Path → text; None for a directory; a text that begins with "→" for a symbolic link."""

_KOPS: dict[str, str | bytes | None] = {_MANIFEST: kops_manifest(), _DATA: None, f"{_DATA}/snap/db": "data"}
_OURS: dict[str, str | bytes | None] = {**_KOPS, _IDENTITY: identity()}


@dataclass(frozen=True)
class Planted:
    """A volume. `serves`: it is the member's own, and must be taken: so that refusals are for their own reason."""

    content: Content
    uuid: str = _FOREIGN_UUID
    spec: str = "a/a"
    tags: Mapping[str, str] = field(default_factory=dict)
    serves: bool = False


def _kops(**changes: str) -> Content:
    return {**_KOPS, _MANIFEST: kops_manifest(**changes)}


def _without(content: Content, *paths: str) -> Content:
    return {path: text for path, text in content.items() if not path.startswith(paths)}


_ours = partial(Planted, uuid=members.UUID)
_many = {f"k8s.io/manifests/m{number}.manifest": "x" for number in range(3000)}

PLANTED: dict[str, Planted] = {
    "control: kops's volume of this member": Planted(_KOPS, serves=True),
    "control: our volume": _ours(_OURS, serves=True),
    "control: our volume that never ran": _ours(
        {_IDENTITY: identity(started="false", etcdVersion="null")}, serves=True
    ),
    "kops: another cluster": Planted(_kops(cluster="other.example.com")),
    "kops: another cluster, three members": Planted(
        _kops(cluster="other.example.com", members="abc"), spec="a/a,b,c"
    ),
    "kops: another member": Planted(_kops(name="etcd-b")),
    "kops: another etcd cluster's name": Planted(_kops(name="etcd-events-a")),
    "kops: events beside main": Planted({**_KOPS, "k8s.io/manifests/etcd-events.manifest": kops_manifest()}),
    "kops: no member/": Planted({_MANIFEST: kops_manifest(), "var/etcd/data": None}),
    "kops: no data at all": Planted({_MANIFEST: kops_manifest()}),
    "kops: no member/, under our UUID": _ours({_MANIFEST: kops_manifest(), "var/etcd/data": None}),
    "kops: member/ is a link": Planted({**_without(_KOPS, _DATA), _DATA: "→/tmp"}),
    "kops: member/ is a file": Planted({**_without(_KOPS, _DATA), _DATA: "x"}),
    "kops: data is a link": Planted({**_without(_KOPS, "var"), "var/etcd/data": "→/tmp"}),
    "kops: no manifest": Planted(_without(_KOPS, _MANIFEST)),
    "kops: the manifest is noise": Planted({**_KOPS, _MANIFEST: bytes(range(256)) * 4}),
    "kops: the manifest is empty": Planted({**_KOPS, _MANIFEST: ""}),
    "kops: the manifest is a link": Planted({**_KOPS, _MANIFEST: "→/etc/passwd"}),
    "kops: the manifest is a list": Planted({**_KOPS, _MANIFEST: "- a\n- b\n"}),
    "kops: the manifest is a bomb": Planted({**_KOPS, _MANIFEST: "a: &a [x]\n" + "b: [*a, *a]\n" * 99}),
    "kops: 3,000 manifests": Planted({**_KOPS, **_many}),
    "kops: a file beside": Planted({**_KOPS, "backup.tar": "x"}),
    "kops: a hidden file beside": Planted({**_KOPS, ".config": "x"}),
    "kops: a directory beside": Planted({**_KOPS, "home/user": "x"}),
    "kops: other data in var": Planted({**_KOPS, "var/lib/mysql/ibdata1": "x"}),
    "kops: other data in k8s.io": Planted({**_KOPS, "k8s.io/other": "x"}),
    "kops: a name with a line break": Planted({**_KOPS, "lost\nfound": "x"}),
    "kops: a folder named like a leftover": Planted({**_KOPS, ".data.protokube-new/ibdata1": "x"}),
    "kops: tagged with another filesystem": Planted(_KOPS, tags={"protokube.k8s.io/filesystem": members.UUID}),
    "foreign: an empty ext4": Planted({}),
    "foreign: a root filesystem": Planted({"etc/passwd": "x", "bin/sh": "x", "var/log/messages": "x"}),
    "foreign: data under our UUID": _ours({"precious": "x"}),
    "foreign: a leftover's name under our UUID": _ours({".precious.protokube-new/data": "x"}),
    "ours: another cluster": _ours({**_OURS, _IDENTITY: identity(cluster="other.example.com")}),
    "ours: another etcd cluster": _ours({**_OURS, _IDENTITY: identity(etcdCluster="events")}),
    "ours: another member": _ours({**_OURS, _IDENTITY: identity(member="b")}),
    "ours: another volume": _ours({**_OURS, _IDENTITY: identity(volume="main-b")}),
    "ours: another filesystem": Planted(_OURS),
    "ours: a restored copy under a new UUID": Planted(
        {**_OURS, _IDENTITY: identity(filesystem=_FOREIGN_UUID)}, tags={"protokube.k8s.io/filesystem": members.UUID}
    ),
    "ours: the identity is noise": _ours({**_OURS, _IDENTITY: bytes(range(256))}),
    "ours: the identity is empty": _ours({**_OURS, _IDENTITY: ""}),
    "ours: the identity is a link": _ours({**_OURS, _IDENTITY: "→/etc/hostname"}),
    "ours: the identity is a directory": _ours({**_OURS, _IDENTITY: None}),
    "ours: the identity is 300 KiB": _ours({**_OURS, _IDENTITY: identity() + "#" * (300 << 10)}),
    "ours: an identity with more": _ours({**_OURS, _IDENTITY: identity(owner="x")}),
    "ours: ran, data is gone": _ours(_without(_OURS, "var")),
    "ours: ran, member/ is gone": _ours({**_without(_OURS, _DATA), "var/etcd/data": None}),
    "ours: ran, member/ is a link": _ours({**_without(_OURS, _DATA), _DATA: "→/tmp"}),
    "ours: ran, data is a link": _ours({**_without(_OURS, "var"), "var/etcd/data": "→/tmp"}),
    "ours: ran, var is a link": _ours({**_without(_OURS, "var"), "var": "→/tmp"}),
    "ours: k8s.io is a link": _ours({**_without(_OURS, "k8s.io"), "k8s.io": "→/etc"}),
    "ours: never ran, tagged as one that did": _ours(
        {_IDENTITY: identity(started="false", etcdVersion="null")},
        tags={"protokube.k8s.io/etcd-bootstrapped": "true"},
    ),
    "ours: everything in lost+found": _ours(
        {
            "lost+found/#12": None,
            "lost+found/#12/identity.yaml": identity(),
            "lost+found/#2049": None,
            "lost+found/#2049/etcd/data/member": None,
        }
    ),
    "ours: a file in lost+found": _ours({"lost+found/#13": "x"}),
    "ours: an empty root, tagged as one that ran": _ours({}, tags={"protokube.k8s.io/etcd-bootstrapped": "true"}),
}


def jobs() -> list[Job]:
    """All of them."""
    return [Job("own" if one.serves else "adoption", name, _Case(name, one).run) for name, one in PLANTED.items()]


class _Case:
    def __init__(self, name: str, planted: Planted) -> None:
        self._name = name
        self._planted = planted

    def run(self, scratch: Path) -> Iterator[Result]:
        """Plant, run a node on it, and see whether the member's manifest is linked."""
        tree = scratch / "tree"
        _plant(tree, self._planted.content)
        with members.member(scratch / "node", _SIZE, self._planted.spec, self._planted.tags) as node:
            members.make_ext4(members.image_of(scratch / "node"), _SIZE, tree, self._planted.uuid)
            report = node.report("--timeout", "30")
            why = members.serves(node, report)
        if self._planted.serves:
            yield Result("own", self._name, why)
        else:
            yield Result("adoption", self._name, "" if why else "the member's manifest is linked")


def _plant(root: Path, content: Content) -> None:
    root.mkdir()
    for path, text in content.items():
        at = root / path
        at.parent.mkdir(parents=True, exist_ok=True)
        if text is None:
            at.mkdir(parents=True, exist_ok=True)
        elif isinstance(text, bytes):
            at.write_bytes(text)
        elif text.startswith("→"):
            at.symlink_to(text[1:])
        else:
            at.write_text(text)
