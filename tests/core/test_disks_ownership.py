"""Whose filesystem it is: what a volume may hold, and what its UUID, its tags and its files say."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from protokube.core.disks.identity import Identity
from protokube.core.disks.model import Expected, VolumeContents
from protokube.core.disks.ownership import is_empty, judge_ownership, kops_manifest, unmanaged_entries
from protokube.core.disks.paths import IDENTITY_PATH
from protokube.core.model import Rejected, Unknown
from protokube.core.volumes.assess import assess
from protokube.core.volumes.model import FILESYSTEM_TAG, CloudVolume, EtcdMember
from protokube.core.volumes.tracking import AttachTracking
from protokube.core.volumes.uuid import filesystem_uuid
from tests.core.states import CLUSTER, UUID, VOLUME, config_of, contents, state, volume
from tests.rounds.process import templates

MEMBER = EtcdMember("main", "a", ("a", "b", "c"))
MINE = Identity(CLUSTER, "main", "a", VOLUME, UUID)
OTHER = "11111111-1111-4111-8111-111111111111"
MANIFEST = "k8s.io/manifests/etcd.manifest"
SUFFIX = f".internal.{CLUSTER}"
POD = (
    "spec: {containers: [{env: [{name: ETCD_NAME, value: %s}, "
    f"{{name: ETCD_INITIAL_CLUSTER, value: etcd-a=http://etcd-a{SUFFIX}:2380}}]}}]}}"
)
KOPS = frozenset({"k8s.io/", "k8s.io/manifests/", MANIFEST})


@pytest.mark.parametrize(
    ("entries", "unmanaged"),
    [
        ({"lost+found/"}, ()),
        ({"lost+found/", "k8s.io/", IDENTITY_PATH, "k8s.io/manifests/", MANIFEST}, ()),
        ({"var/", "var/etcd/", "var/etcd/data/", "var/etcd/data/member/", "var/etcd/data/member/wal/"}, ()),
        ({"k8s.io/.identity.yaml.protokube-new"}, ()),
        ({"home/"}, ("home/",)),
        ({"var/lib/"}, ("var/lib/",)),
        ({"var/etcd/data-events/"}, ("var/etcd/data-events/",)),
        ({"k8s.io/manifests/etcd-events.manifest"}, ("k8s.io/manifests/etcd-events.manifest",)),
        ({"lost+found"}, ("lost+found",)),
        ({"var"}, ("var",)),
        ({"var/etcd/data"}, ("var/etcd/data",)),
    ],
)
def test_unmanaged_entries(entries: set[str], unmanaged: tuple[str, ...]) -> None:
    assert unmanaged_entries(VolumeContents(frozenset(entries)), templates()["main"]) == unmanaged


def test_more_than_could_be_listed_is_unmanaged() -> None:
    assert unmanaged_entries(VolumeContents(overflow=True), templates()["main"])
    assert not is_empty(VolumeContents(overflow=True))
    assert is_empty(VolumeContents(frozenset({"lost+found/"}))) and is_empty(VolumeContents())
    assert not is_empty(VolumeContents(frozenset({"lost+found/", "a"})))


def test_a_kops_manifest_belongs_to_its_member() -> None:
    template = Expected(templates()["main"], SUFFIX)
    assert kops_manifest(VolumeContents(), MEMBER, template) is None
    mine = VolumeContents(texts={MANIFEST: POD % "etcd-a"})
    assert kops_manifest(mine, MEMBER, template) == POD % "etcd-a"
    for text in (POD % "etcd-b", "", "spec: {}", "{", "[]"):
        judged = kops_manifest(VolumeContents(texts={MANIFEST: text}), MEMBER, template)
        assert isinstance(judged, Rejected) and judged.rule == "volume/foreign-data"


def of_cluster(**urls: str) -> str:
    env = {"ETCD_NAME": "etcd-a", **urls}
    listed = ", ".join(f'{{name: {name}, value: "{value}"}}' for name, value in env.items())
    return f"spec: {{containers: [{{env: [{listed}]}}]}}"


@pytest.mark.parametrize(
    ("env", "ours"),
    [
        ({"ETCD_INITIAL_CLUSTER": f"etcd-a=http://etcd-a{SUFFIX}:2380"}, True),
        ({"ETCD_INITIAL_CLUSTER": f"etcd-a=http://etcd-a{SUFFIX}:2380,etcd-b=http://etcd-b{SUFFIX}:2380"}, True),
        ({}, False),
        ({"ETCD_INITIAL_CLUSTER": "etcd-a=http://etcd-a.internal.other.example.com:2380"}, False),
        (
            {
                "ETCD_INITIAL_CLUSTER": f"etcd-a=http://etcd-a{SUFFIX}:2380,etcd-b=http://etcd-b.internal.other:2380",
            },
            False,
        ),
        (
            {
                "ETCD_INITIAL_CLUSTER": f"etcd-a=http://etcd-a{SUFFIX}:2380",
                "ETCD_ADVERTISE_CLIENT_URLS": "http://etcd-a.internal.other.example.com:4001",
            },
            False,
        ),
    ],
)
def test_a_kops_manifest_belongs_to_its_cluster(env: dict[str, str], ours: bool) -> None:
    """Every cluster has an etcd-a: only its hosts tell which one's it is."""
    text = of_cluster(**env)
    judged = kops_manifest(VolumeContents(texts={MANIFEST: text}), MEMBER, Expected(templates()["main"], SUFFIX))
    assert judged == text if ours else isinstance(judged, Rejected) and judged.rule == "volume/foreign-data"


# --- the judgement --------------------------------------------------------------------------------------


def judge(
    uuid: str, read: VolumeContents | Unknown, *others: CloudVolume, tags: dict[str, str] | None = None
) -> Rejected | None:
    cloud = state(tags=tags).cloud
    assert not isinstance(cloud.volumes, Unknown)
    cloud = replace(cloud, volumes=(*cloud.volumes, *others))
    volumes = assess(config_of().volumes, cloud, AttachTracking(), ())
    assert volumes is not None
    expected = Expected(templates()["main"], SUFFIX)
    return next(judge_ownership(volumes, volumes.ours["main"], expected, (uuid, read)), None)


@pytest.mark.parametrize(
    ("uuid", "read"),
    [
        (UUID, contents()),
        (UUID, contents("k8s.io/", identity=MINE)),
        (UUID, contents("k8s.io/", "var/", "var/etcd/", "var/etcd/data/")),
        (UUID, Unknown("I/O error")),
        (OTHER, Unknown("I/O error")),
        (OTHER, VolumeContents(KOPS, {MANIFEST: POD % "etcd-a"})),
        (OTHER, contents("k8s.io/", identity=replace(MINE, filesystem=OTHER))),
    ],
)
def test_nothing_speaks_against_it(uuid: str, read: VolumeContents | Unknown) -> None:
    assert judge(uuid, read) is None and judge(uuid, read, tags={FILESYSTEM_TAG: uuid}) is None


CLONED = filesystem_uuid(CLUSTER, EtcdMember("main", "b", ("a", "b")), "vol-2")


@pytest.mark.parametrize(
    ("uuid", "read", "tagged", "rule", "evidence"),
    [
        (UUID, contents(), OTHER, "volume/identity", f"tagged {FILESYSTEM_TAG}={OTHER}"),
        (CLONED, contents(), None, "volume/clone", "was made for volume vol-2"),
        (CLONED, Unknown("I/O error"), None, "volume/clone", "vol-2"),
        (UUID, contents("home/", "k8s.io/identity.yaml/"), None, "volume/identity", "no plain file"),
        (UUID, VolumeContents(frozenset({IDENTITY_PATH})), None, "volume/identity", "no plain file"),
        (UUID, contents(identity=replace(MINE, volume_id="vol-9")), None, "volume/clone", "says volume vol-9"),
        (UUID, contents(identity=replace(MINE, cluster_id="d")), None, "volume/identity", "says d, main/a"),
        (UUID, contents(*"abcdef"), None, "volume/foreign-data", "holds a, b, c, d, e and 1 more, which neither"),
        (OTHER, contents(), None, "volume/unknown-filesystem", f"expected {UUID}"),
        (OTHER, VolumeContents(KOPS, {MANIFEST: POD % "etcd-b"}), None, "volume/foreign-data", "ETCD_NAME=etcd-b"),
        (OTHER, contents("var/"), None, "volume/foreign-data", "lost+found/, var/ without the manifest"),
    ],
)
def test_what_speaks_against_it(
    uuid: str, read: VolumeContents | Unknown, tagged: str | None, rule: str, evidence: str
) -> None:
    others = (volume("vol-2", "b/a,b"),)
    refused = judge(uuid, read, *others, tags={FILESYSTEM_TAG: tagged} if tagged else {})
    assert refused is not None and refused.rule == rule and evidence in refused.evidence


ETCD_MANAGER = ("myid", "pki/", "data/", "data/abc/", "state")


@pytest.mark.parametrize("entries", [ETCD_MANAGER, ("myid", "pki/"), (*ETCD_MANAGER, "k8s.io/", "k8s.io/manifests/")])
@pytest.mark.parametrize("uuid", [UUID, OTHER])
def test_a_volume_of_etcd_manager_is_refused_with_the_way_to_its_data(entries: tuple[str, ...], uuid: str) -> None:
    refused = judge(uuid, contents(*entries))
    assert refused is not None and refused.rule == "volume/foreign-data"
    assert "kept by etcd-manager (it holds myid and pki/)" in refused.evidence
    assert "`etcdctl snapshot save`" in refused.evidence and "a blank volume" in refused.evidence


@pytest.mark.parametrize("entries", [("myid",), ("pki/",), ("myid", "pki"), ("data/", "state")])
def test_half_of_what_etcd_manager_makes_is_any_unmanaged_data(entries: tuple[str, ...]) -> None:
    refused = judge(UUID, contents(*entries))
    assert refused is not None and refused.rule == "volume/foreign-data"
    assert "which neither protokube nor kops makes" in refused.evidence


def test_an_identity_file_outweighs_what_looks_like_etcd_manager() -> None:
    assert judge(UUID, contents("k8s.io/", *ETCD_MANAGER, identity=MINE)) is None
