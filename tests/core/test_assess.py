"""The composition of the judgements: every concern judges a snapshot once, and says what is wanted next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from protokube.core import assess as composed
from protokube.core.assess import Wanted, assess
from protokube.core.disks.identity import Identity
from protokube.core.disks.model import Mounted
from protokube.core.etcd import assess as etcd
from protokube.core.history import History
from protokube.core.kubelet.paths import KUBECONFIG_PATH
from protokube.core.model import Unknown
from protokube.core.observed import Observed
from protokube.core.plan import plan
from protokube.core.volumes.model import AttachState, Peer
from protokube.observe import observer
from tests.core.states import (
    CLUSTER,
    FORMATTED,
    TARGET,
    UUID,
    VOLUME,
    changed,
    config_of,
    contents,
    mounted,
    state,
    volume,
)  # fmt: skip
from tests.rounds.process import Process, node_config
from tests.rounds.world import World

CONCERNS = ("assess_volumes", "assess_disks", "assess_etcd", "assess_dns", "assess_kubelet")
ONCE = Counter([*CONCERNS, "gate", "mounted_members"])


class Judgements:
    """The snapshots that were judged, and the judges that were called for each."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.snapshots: list[Observed] = []
        self.calls: list[Counter[str]] = []
        self._patch = monkeypatch
        judge = composed.assess

        def assess(config: Any, observed: Observed, history: History) -> composed.Assessment:
            self.snapshots.append(observed)
            self.calls.append(Counter())
            return judge(config, observed, history)

        monkeypatch.setattr(composed, "assess", assess)
        monkeypatch.setattr(observer, "assess", assess)
        for name in (*CONCERNS, "gate"):
            self._count(composed, name)
        self._count(etcd, "mounted_members")

    def _count(self, module: Any, name: str) -> None:
        call: Callable[..., object] = getattr(module, name)

        def counted(*args: object) -> object:
            self.calls[-1][name] += 1
            return call(*args)

        self._patch.setattr(module, name, counted)

    def assert_once(self) -> None:
        """Every snapshot was judged, by each concern exactly once."""
        assert self.calls and self.calls == [ONCE] * len(self.calls)


@pytest.fixture
def judgements(monkeypatch: pytest.MonkeyPatch) -> Judgements:
    return Judgements(monkeypatch)


def bare_node() -> tuple[World, Process]:
    world = World()
    world.volume("vol-m", "a/a")
    world.volume("vol-e", "a/a", "events")
    return world, Process(world, world.node("n1"))


def test_every_concern_judges_a_snapshot_once(judgements: Judgements) -> None:
    """On the whole way from a bare node to a converged one, and in a dry run."""
    _, process = bare_node()
    assert process.dry_run().steps
    judgements.assert_once()
    assert process.rounds().converged
    judgements.assert_once()


def test_no_snapshot_is_judged_twice(judgements: Judgements) -> None:
    _, process = bare_node()
    process.rounds()
    snapshots = judgements.snapshots
    twice = [number for number, one in enumerate(snapshots) if one in snapshots[:number]]
    assert twice == [], f"of {len(snapshots)} snapshots"


def test_a_converged_node_is_judged_once_for_each_wave_of_reads(judgements: Judgements) -> None:
    """What stands by itself, disks, contents, names."""
    _, process = bare_node()
    process.rounds()
    before = len(judgements.snapshots)
    assert process.round().converged
    assert len(judgements.snapshots) - before <= 4


def test_planning_judges_nothing(judgements: Judgements) -> None:
    judged = composed.assess(config_of(), state(), History())
    assert plan(judged).steps
    judgements.assert_once()


def test_on_a_worker_only_kubelet_is_judged(judgements: Judgements) -> None:
    world = World()
    process = Process(world, world.node("n1"), node_config(master=False))
    process.rounds()
    assert judgements.calls == [Counter(["assess_kubelet"])] * len(judgements.calls)


@pytest.mark.parametrize(("unknown", "planned"), [("instance", set()), ("volumes", {"write-file"})])
def test_while_the_cloud_is_silent_only_kubelet_is_judged(unknown: str, planned: set[str]) -> None:
    judged = assess(config_of(), changed(state(), **{unknown: Unknown("throttled")}), History())
    assert (judged.volumes, judged.disks, judged.etcd, judged.dns) == (None, None, None, None)
    assert [(one.subject, one.reason) for one in judged.findings.unknown] == [(unknown, "throttled")]
    assert {step.action.kind for step in plan(judged).steps} == planned


# --- what is wanted next --------------------------------------------------------------------------------

DATA_DIRECTORY = f"{TARGET}/var/etcd/data"


def wanted(observed: Observed, **config: Any) -> Wanted:
    return assess(config_of(**config), observed, History()).wanted


def test_the_disks_of_complete_attachments_are_wanted() -> None:
    assert [one.id for one in wanted(state()).disks] == [VOLUME]
    for phase in (AttachState.ATTACHING, AttachState.DETACHING, AttachState.BUSY, AttachState.UNCONFIRMED):
        assert wanted(state(volumes=(volume(holder="n1", state=phase),))).disks == ()
    assert [one.id for one in wanted(state(mounts=Unknown("not read yet"))).disks] == [VOLUME]


def test_the_contents_of_what_is_mounted_are_wanted() -> None:
    assert wanted(state()).contents == {}
    assert wanted(state(Mounted(), mounts=(mounted(),))).contents == {VOLUME: TARGET}
    assert wanted(state(Mounted(), mounts=Unknown("hangs"))).contents == {}


def test_the_data_directories_of_mounted_members_are_watched() -> None:
    known = {VOLUME: contents(identity=Identity(CLUSTER, "main", "a", VOLUME, UUID))}
    observed = state(Mounted(), tags=FORMATTED, mounts=(mounted(),), contents=known)
    assert wanted(observed).directories == (DATA_DIRECTORY,)
    assert wanted(state(Mounted(), mounts=(mounted(),), contents={VOLUME: Unknown("hangs")})).directories == ()


def test_the_peers_of_a_member_that_never_started_are_asked_and_its_names_read() -> None:
    given = (
        volume(spec="a/a,b", holder="n1", tags=FORMATTED),
        volume("vol-2", "b/a,b", holder="n2"),
    )
    peers = (Peer("n1", ("10.0.0.1",)), Peer("n2", ("10.0.0.2",)))
    facts: dict[str, Any] = {"volumes": given, "peers": peers, "mounts": (mounted(),)}
    fresh = state(Mounted(), **facts, contents={VOLUME: contents()})
    assert wanted(fresh).questions == {"main": {"http://10.0.0.2:2380": "b"}}
    names = {f"etcd-{me}.internal.{CLUSTER}" for me in "ab"}
    assert names <= wanted(fresh, dns="route53").names and wanted(fresh).names == frozenset()
    data = contents("k8s.io/", "var/", "var/etcd/", "var/etcd/data/", "var/etcd/data/member/")
    both = {"https://10.0.0.2:2380": "b", "http://10.0.0.2:2380": "b"}
    assert wanted(state(Mounted(), **facts, contents={VOLUME: data})).questions == {"main": both}, "no manifest"


@pytest.mark.parametrize("master", [True, False])
def test_the_kubeconfig_is_watched_where_a_unit_is_started(master: bool) -> None:
    assert wanted(state(), master=master).kubeconfig == KUBECONFIG_PATH
    assert wanted(state(), master=master, kubelet_unit=None).kubeconfig is None
    assert wanted(state(volumes=Unknown("throttled")), master=master).kubeconfig == KUBECONFIG_PATH
