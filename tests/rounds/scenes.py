"""Scenes to explore: where they begin, who lives in them, and how they must end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache

from msgspec import Struct

from protokube.core.etcd.model import EtcdPeerMember
from tests.rounds.etcd import EtcdData
from tests.rounds.explore import Exploration
from tests.rounds.process import Process, node_config
from tests.rounds.state import Scene
from tests.rounds.test_bootstrap_rounds import replaced, url
from tests.rounds.test_laws import adopted, end, fresh, grown, moved, rebooted, slow
from tests.rounds.world import MANIFESTS, Node, World


class Beginning(Struct, frozen=True):
    """A scene to explore. `make` gives its world, `nodes` who lives in it; `at_rest` judges its end.

    Nothing runs before it is explored: threads of a reconcile would not survive the fork of a worker.
    """

    name: str
    make: Callable[[], World]
    nodes: Callable[[], Sequence[str]]
    at_rest: Callable[[Scene], str]

    def explore(self) -> Exploration:
        return Exploration(self.make(), node_config(), self.nodes(), self.at_rest)


Scenario = Callable[[], tuple[World, Node]]

_STATE = "- name: ETCD_INITIAL_CLUSTER_STATE\n      value: "


def _counted(world: World, node: Node) -> dict[str, object]:
    """What counts in the end. `new` and `existing` are the same for an etcd that has its data, so they are one.

    What a write that was cut off has left beside its file doesn't count: nobody reads it, and the next write of that
    file replaces it, which may never be wanted.
    """
    found = end(_without_beginnings(world), node)
    return {part: _alike(repr(_sorted(value))) for part, value in found.items()}


def _sorted(value: object) -> object:
    """Without the order in which things came to be, such as mounts."""
    return dict(sorted(value.items())) if isinstance(value, Mapping) else value


def _without_beginnings(world: World) -> World:
    """The world without the beginnings of files that writes on volumes have left."""
    for volume in world.volumes.values():
        if volume.filesystem is not None:
            files = volume.filesystem.files
            volume.filesystem.files = {path: files[path] for path in files if not path.endswith(".protokube-new")}
    return world


def _alike(text: str) -> str:
    return text.replace(repr(_STATE)[1:-1] + "existing", repr(_STATE)[1:-1] + "new")


def _serving(scenario: Scenario) -> Beginning:
    @cache
    def served() -> tuple[dict[str, object], str, list[str]]:
        """How it ends undisturbed, on which node, with which etcd clusters."""
        world, node = scenario()
        Process(world, node).rounds()
        return _counted(world, node), node.name, sorted(_clusters(world))

    def at_rest(scene: Scene) -> str:
        wanted, name, clusters = served()
        found = _counted(scene.world, scene.world.nodes[name])
        other = [f"{part}: {found[part]}, expected {wanted[part]}" for part in wanted if found[part] != wanted[part]]
        return "; ".join(other) or _writes(scene, clusters)

    return Beginning(scenario.__name__, lambda: scenario()[0], lambda: [served()[1]], at_rest)


def _clusters(world: World) -> set[str]:
    keys = {
        tag.rpartition("/")[2] for volume in world.volumes.values() for tag in volume.tags if "k8s.io/etcd/" in tag
    }
    return {"etcd" if key == "main" else f"etcd-{key}" for key in keys}


def bare() -> tuple[World, Node]:
    world = World()
    world.volume("vol-m", "a/a")
    return world, world.node("n1")


def late() -> tuple[World, Node]:
    world = World(attach_looks=2, stale_looks=2, appear_looks=2, tool_looks=2)
    world.volume("vol-m", "a/a")
    return world, world.node("n1")


def restarted() -> tuple[World, Node]:
    world, node = bare()
    Process(world, node).rounds()
    world.reboot(node)
    return world, node


def larger() -> tuple[World, Node]:
    world, node = restarted()
    world.volumes["vol-m"].size *= 4
    return world, node


def handed_on() -> tuple[World, Node]:
    world, node = bare()
    Process(world, node).rounds()
    world.power_off(node)
    world.detach(world.volumes["vol-m"])
    return world, world.node("n2")


def _writes(scene: Scene, clusters: Sequence[str]) -> str:
    silent = [cluster for cluster in clusters if not scene.world.etcd.write(cluster, "at rest")]
    return f"no write is acknowledged by {silent}" if silent else ""


def _only_events(name: str) -> Callable[[Scene], str]:
    """The volume for main is refused; the other one serves."""

    def at_rest(scene: Scene) -> str:
        links = set(scene.world.links(scene.world.nodes[name]))
        wanted = {f"{MANIFESTS}/etcd-events.manifest"}
        return f"links {links}, expected {wanted}" if links != wanted else _writes(scene, ["etcd-events"])

    return at_rest


def _foreign() -> World:
    world, _ = fresh()
    world.volumes["vol-m"].evidence = "an xfs superblock"
    return world


def _vanished() -> World:
    """A member's data directory is gone, and so is what the cloud remembered."""
    world, node = fresh()
    Process(world, node).rounds()
    world.reboot(node)
    volume = world.volumes["vol-m"]
    assert volume.filesystem is not None
    for path in [one for one in volume.filesystem.files if one.startswith("var/etcd/data/")]:
        del volume.filesystem.files[path]
    volume.filesystem.etcd.clear()
    volume.tags = {key: value for key, value in volume.tags.items() if "protokube" not in key}
    return world


def kept_by_kops() -> tuple[World, Node]:
    """A volume of kops's, with the data of its member."""
    world, node = adopted()
    filesystem, member = world.volumes["vol-m"].filesystem, EtcdPeerMember("etcd-a", (url("a"),), ())
    assert filesystem is not None
    filesystem.etcd["var/etcd/data"] = EtcdData("kops", url("a"), {url("a"): member})
    return world, node


def _clone() -> World:
    """A volume made from a snapshot of another member's, which is gone."""
    world, node = fresh()
    Process(world, node).rounds()
    world.reboot(node)
    clone, world.volumes["vol-m"].holder = world.volume("vol-m2", "a/a"), None
    clone.filesystem = world.volumes.pop("vol-m").filesystem
    return world


def _replaced() -> World:
    return replaced()[0]


def _nothing_new(scene: Scene) -> str:
    """Of three members one is off, and one has a blank volume: no quorum may come of it."""
    return "a write is acknowledged" if scene.world.etcd.write("etcd", "must not pass") else ""


def _single() -> World:
    """One member, two machines."""
    world = World(attach_looks=0, appear_looks=0, tool_looks=0)
    world.volume("vol-m", "a/a", pristine=True)
    world.volume("vol-e", "a/a", "events", pristine=True)
    world.node("n1")
    world.node("n2")
    return world


def _double(stale_looks: int = 0) -> World:
    """Two members, two machines."""
    world = World(attach_looks=0, appear_looks=0, tool_looks=0, stale_looks=stale_looks)
    for member in "ab":
        world.volume(f"vol-m{member}", f"{member}/a,b", pristine=True)
    world.node("n1")
    world.node("n2")
    return world


def _shared(scene: Scene) -> str:
    """Each volume is on one machine, no machine has two of one etcd cluster, and all that is held serves."""
    world = scene.world
    free = [volume.id for volume in world.volumes.values() if volume.holder is None]
    if free:
        return f"nobody has {free}"
    for node in world.nodes.values():
        if len(world.links(node)) != len(world.held(node)):
            return f"{node.name} has {len(world.held(node))} volumes and {len(world.links(node))} links"
    return _writes(scene, sorted(_clusters(world)))


def alone() -> list[Beginning]:
    """Scenes of one node."""
    return [
        *map(_serving, (bare, late, restarted, larger, kept_by_kops, handed_on)),
        Beginning("foreign", _foreign, lambda: ["n1"], _only_events("n1")),
        Beginning("clone", _clone, lambda: ["n1"], _only_events("n1")),
        Beginning("vanished", _vanished, lambda: ["n1"], _only_events("n1")),
        Beginning("replaced", _replaced, lambda: [replaced()[1]["b"].node.name], _nothing_new),
    ]


def beside() -> list[Beginning]:
    """Scenes of one node whose volumes are made ready side by side."""
    return [*map(_serving, (fresh, slow, rebooted, grown, moved))]


def racing() -> list[Beginning]:
    """Scenes of two nodes that race."""
    return [
        Beginning("one member, two nodes", _single, lambda: ["n1", "n2"], _shared),
        Beginning("two members, two nodes", _double, lambda: ["n1", "n2"], _shared),
        Beginning("two members, late answers", lambda: _double(stale_looks=2), lambda: ["n1", "n2"], _shared),
    ]
