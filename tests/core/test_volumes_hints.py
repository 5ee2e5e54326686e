"""What people are told of volumes that are passed over: those of others, of other zones and of other clusters."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from protokube.core.steps import InUseElsewhere
from protokube.core.volumes.actions import AttachVolume
from protokube.core.volumes.hints import MOST_CLUSTERS, MOST_VOLUMES
from protokube.core.volumes.model import CloudVolume
from tests.core.states import planned, state, volume


def hints(*volumes: CloudVolume) -> list[str]:
    """The hints about volumes, without kubelet's."""
    made = planned(state(volumes=volumes, disks={}))
    return [hint for hint in made.hints if not hint.startswith(("kubelet", "no kubelet", "standby"))]


def unmanaged(id_: str, *clusters: str, **more: Any) -> CloudVolume:
    """A volume with an etcd tag whose cluster tags name these clusters, the first in kops's older spelling."""
    given = volume(id_, **more)
    tags = {key: value for key, value in given.tags.items() if key != "KubernetesCluster"}
    tags |= {f"kubernetes.io/cluster/{name}": "owned" for name in clusters[1:]}
    return replace(given, tags=tags | ({"KubernetesCluster": clusters[0]} if clusters and clusters[0] else {}))


def test_a_volume_of_another_zone_is_told_with_both_zones() -> None:
    assert hints(volume(zone="z2")) == ["vol-1: zone z2, this node is in z1"]


def test_a_volume_of_another_zone_is_told_with_its_holder_and_after_the_free_ones() -> None:
    given = (volume("vol-1", "a/a,b", zone="z2", holder="n7"), volume("vol-2", "b/a,b", zone="z3"))
    assert hints(*given) == [
        "vol-2: zone z3, this node is in z1",
        "vol-1 is in use by n7: zone z2, this node is in z1",
    ]


def test_every_volume_in_use_elsewhere_is_told_with_its_holder() -> None:
    given = (
        volume("vol-1", "a/a,b,c,d", holder="n1"),
        volume("vol-2", "b/a,b,c,d", holder="n2"),
        volume("vol-3", "c/a,b,c,d", holder="n3", zone="z3"),
        volume("vol-4", "d/a,b,c,d"),
    )
    assert planned(state(volumes=given)).in_use_elsewhere == [
        InUseElsewhere("vol-2", "n2", "z1"),
        InUseElsewhere("vol-3", "n3", "z3"),
    ]


def test_a_refused_volume_is_not_told_twice() -> None:
    """Two with one member, in two zones: they are refused, with their reason."""
    assert hints(volume("vol-1"), volume("vol-2", zone="z2")) == []


def test_other_clusters_are_named_with_their_volumes() -> None:
    one = unmanaged("vol-1", "C.example.com")
    assert hints(one) == ["1 volume with an etcd tag belongs to other clusters: 'C.example.com' (vol-1)"]
    several = (
        one,
        unmanaged("vol-2", "b"),
        unmanaged("vol-3", "b"),
        unmanaged("vol-4", "", "new"),
        unmanaged("vol-5"),
    )
    assert hints(*several) == [
        "5 volumes with etcd tags belong to other clusters: 'C.example.com' (vol-1), 'b' (2 volumes), 'new' (vol-4), "
        "no cluster (vol-5)"
    ]


def test_a_volume_without_an_etcd_tag_is_not_told() -> None:
    given = volume()
    assert hints(replace(given, tags={})) == hints(replace(given, tags={"KubernetesCluster": "b"})) == []


def test_however_many_there_are_the_hints_stay_short() -> None:
    given = (
        *(unmanaged(f"vol-f{number}", f"c{number:03}") for number in range(500)),
        *(volume(f"vol-z{number}", f"m{number}/m{number}", zone="z2") for number in range(100)),
        volume(),
    )
    *zones, more, clusters = hints(*given)
    assert len(zones) == MOST_VOLUMES and more == f"{100 - MOST_VOLUMES} more volumes are in other zones than z1"
    assert clusters.startswith("500 volumes") and clusters.endswith(f"'c004' (vol-f4), {500 - MOST_CLUSTERS} more")
    assert clusters.count("(") == MOST_CLUSTERS


def test_hints_change_nothing() -> None:
    made = planned(state(volumes=(volume(), unmanaged("vol-2", "b"), volume("vol-3", "b/a,b", zone="z2")), disks={}))
    assert [step.action for step in made.steps if isinstance(step.action, AttachVolume)] == [AttachVolume("vol-1")]
    assert (made.refusals, made.unknown) == ([], [])
