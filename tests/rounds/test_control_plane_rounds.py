"""The control plane comes up after its etcd and its certificates, changes one component at a time, and goes back."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest

from protokube.core.component.model import Layer
from protokube.core.controlplane.component import PATIENCE, SETTLED
from protokube.core.controlplane.names import API_SERVER, COMPONENTS, MANAGER, PROXY, SCHEDULER
from protokube.core.controlplane.paths import condemned_path, good_path, kubeconfig_path, pod_path
from protokube.core.difference import difference
from protokube.core.kubelet.join import CA_PATH
from protokube.core.kubelet.paths import KUBECONFIG_PATH
from protokube.core.node.actions import WriteFile
from protokube.core.node.model import File, Link, UnitState
from protokube.core.objects.model import ObjectKey
from protokube.core.settings import NodeConfig
from protokube.errors import ProviderError
from protokube.report.json import as_json
from protokube.report.model import Report
from tests.rounds.process import Process, node_config
from tests.rounds.world import Node, World

VERSION = "1.36.2"
Layers = Mapping[str, Mapping[str, object]]


def configured(layers: Layers | None = None, version: str | None = VERSION) -> NodeConfig:
    return node_config(
        control_plane=True,
        etcd_tls="auto",
        store_shared=True,
        kubernetes_version=version,
        component_layers={component: (Layer(component, values),) for component, values in (layers or {}).items()},
    )


def master(world: World, name: str = "n1") -> Node:
    world.volume("vol-m", "a/a")
    world.volume("vol-e", "a/a", "events")
    node = world.node(name)
    node.api_down = None
    world.objects[ObjectKey("v1", "Node", name)] = {"metadata": {"name": name, "labels": {}}}
    return node


def rounds(process: Process, most: int = 12) -> Report:
    """Reconciles until nothing is done, with etcd alive in between."""
    for _ in range(most):
        report = process.round()
        process.world.etcd.tick()
        if not report.steps:
            return report
    raise AssertionError([each.step.action.describe() for each in report.steps])


def linked(node: Node) -> set[str]:
    return {
        component
        for component in COMPONENTS
        if isinstance(node.files.get(f"/etc/kubernetes/manifests/{component}.manifest"), Link)
    }


def text(node: Node, path: str) -> str:
    state = node.files[path]
    assert isinstance(state, File) and state.text is not None
    return state.text


def converged_plane(world: World) -> tuple[Node, Process]:
    node = master(world)
    process = Process(world, node, configured())
    for _ in range(8):
        rounds(process)
        world.age(SETTLED + 1)
    assert linked(node) == set(COMPONENTS)
    return node, process


def kinds(report: Report) -> list[str]:
    return [each.step.action.subject for each in report.steps]


def rules(report: Report) -> set[str]:
    return {each.rule for each in report.left.refusals}


def test_pods_are_linked_when_etcd_is_healthy_and_certificates_are_there() -> None:
    world = World()
    node = master(world)
    node.ill = '{"health":"false"}'
    process = Process(world, node, configured())
    report = rounds(process)
    assert linked(node) == {PROXY}
    assert any("etcd main isn't healthy" in each.reason for each in report.left.waiting)
    assert any(each.reason.endswith(f"{API_SERVER} is started first") for each in report.left.waiting)
    node.ill = ""
    rounds(process)
    assert linked(node) == set(COMPONENTS)
    api = text(node, pod_path(API_SERVER))
    assert "--etcd-servers=https://127.0.0.1:4001" in api
    assert "--etcd-servers-overrides=/events#https://127.0.0.1:4002" in api
    assert not world.etcd.violations


def test_kubeconfigs_name_files_and_are_roots_alone() -> None:
    node, _ = converged_plane(World())
    for component in (MANAGER, SCHEDULER, PROXY):
        state = node.files[kubeconfig_path(component)]
        assert isinstance(state, File) and state.mode == 0o600 and state.text is not None
        assert "https://127.0.0.1:6443" in state.text and "-data" not in state.text
    assert kubeconfig_path(API_SERVER) not in node.files


def test_a_converged_plane_writes_nothing_and_asks_nothing() -> None:
    world = World()
    node, process = converged_plane(world)
    for component in COMPONENTS:
        assert text(node, good_path(component)) == text(node, pod_path(component))
    before = dict(node.files)
    process.reads.clear()
    report = process.round()
    assert not report.steps and report.left.converged, report.left
    assert node.files == before
    assert not {"health", "authorities"} & process.reads.keys()


def test_a_change_goes_through_one_component_at_a_time_the_api_server_first() -> None:
    world = World()
    node, _ = converged_plane(world)
    process = Process(world, node, configured({API_SERVER: {"logLevel": 2}, SCHEDULER: {"parallelism": 8}}))
    report = process.round()
    assert [each for each in kinds(report) if each.endswith(".manifest")] == [
        pod_path(API_SERVER),
        f"/etc/kubernetes/manifests/{API_SERVER}.manifest",
    ]
    written = [each.step.action for each in report.steps if isinstance(each.step.action, WriteFile)]
    before = written[0].before
    assert before is not None and "--v=2" not in before and "--v=2" in written[0].content
    assert "--v=2" in text(node, pod_path(API_SERVER))
    for _ in range(4):
        assert "parallelism" not in "".join(str(state) for state in node.files.values())
        world.age(SETTLED / 4 - 1)
        rounds(process)
    world.age(SETTLED)
    for _ in range(4):
        rounds(process)
        world.age(SETTLED + 1)
    report = rounds(process)
    assert report.left.converged, report.left
    config = [path for path in node.files if path.startswith("/etc/kubernetes/kube-scheduler/")]
    assert len(config) == 1, "the file that no pod names any more is gone"
    assert "parallelism: 8" in text(node, config[0])


def test_a_flag_that_kills_the_api_server_is_rolled_back_loudly() -> None:
    world = World()
    node, _ = converged_plane(world)
    good = text(node, pod_path(API_SERVER))
    node.bad_words = {"--v=9"}
    process = Process(world, node, configured({API_SERVER: {"logLevel": 9}}))
    report = rounds(process)
    assert "--v=9" in text(node, pod_path(API_SERVER)) and condemned_path(API_SERVER) not in node.files
    world.age(PATIENCE + 5)
    report = rounds(process)
    assert text(node, pod_path(API_SERVER)) == good
    assert "--v=9" in text(node, condemned_path(API_SERVER))
    assert rules(report) == {"control-plane/rolled-back"} and not report.left.converged
    # Another process knows as much, and the same pod is never tried again.
    for _ in range(3):
        world.age(PATIENCE + 5)
        assert not rounds(Process(world, node, process.config)).steps
    # A corrected configuration is.
    process = Process(world, node, configured({API_SERVER: {"logLevel": 4}}))
    for _ in range(3):
        report = rounds(process)
        world.age(SETTLED + 1)
    assert "--v=4" in text(node, good_path(API_SERVER)) and report.left.converged


def test_a_pod_that_kubelet_never_started_is_not_the_one_to_go_back_to() -> None:
    world = World()
    node, _ = converged_plane(world)
    good = text(node, good_path(API_SERVER))
    node.leftover = {API_SERVER}  # its container outlives kubelet, and answers
    node.unit = UnitState("loaded", "failed", "failed", started_at=world.clock() - 9000)
    process = Process(world, node, configured({API_SERVER: {"logLevel": 9}}))
    process.broken["start"] = ProviderError("kubelet.service failed")
    for _ in range(3):
        process.round()
        world.age(SETTLED + 1)
    assert "--v=9" in text(node, pod_path(API_SERVER)) and text(node, good_path(API_SERVER)) == good
    # kubelet is up again, and has to be up for a while: the old container answers until it is ended.
    del process.broken["start"]
    rounds(process)
    assert node.kubelet_runs and text(node, good_path(API_SERVER)) == good
    world.age(SETTLED + 1)
    rounds(process)
    assert "--v=9" in text(node, good_path(API_SERVER))


def test_after_a_rollback_the_others_do_not_go_ahead_of_the_api_server() -> None:
    world = World()
    node, _ = converged_plane(world)
    node.bad_words = {"kube-apiserver:v1.37"}
    process = Process(world, node, configured(version="1.37.1"))
    for _ in range(4):
        rounds(process)
        world.age(PATIENCE + 5)
    report = rounds(process)
    assert "control-plane/rolled-back" in rules(report)
    assert {one for one in COMPONENTS if ":v1.37" in text(node, pod_path(one))} == set()
    assert any("would be newer than the API server, which is 1.36.2" in one.reason for one in report.left.waiting)
    node.bad_words = set()
    del node.files[condemned_path(API_SERVER)]
    for _ in range(8):
        rounds(process)
        world.age(SETTLED + 1)
    assert {one for one in COMPONENTS if ":v1.37" in text(node, good_path(one))} == set(COMPONENTS)


def test_a_kubelet_newer_than_the_api_server_that_runs_is_told() -> None:
    world = World()
    node, _ = converged_plane(world)
    world.kubelet = "1.37.0"
    node.bad_words = {"kube-apiserver:v1.37"}
    process = Process(world, node, configured(version="1.37.1"))
    for _ in range(3):
        rounds(process)
        world.age(PATIENCE + 5)
    report = rounds(process)
    told = [one.evidence for one in report.left.refusals if one.rule == "control-plane/skew"]
    assert told == ["kubelet 1.37.0 would be newer than the API server, which is 1.36.2"]


@pytest.mark.parametrize("cause", ["etcd is ill", "kubelet is down", "the clock jumped by a year"])
def test_a_pod_is_not_condemned_for_what_others_do(cause: str) -> None:
    world = World()
    node, _ = converged_plane(world)
    node.bad_words = {"--v=9"}
    process = Process(world, node, configured({API_SERVER: {"logLevel": 9}}))
    rounds(process)
    if cause == "etcd is ill":
        node.ill = '{"health":"false"}'
    if cause == "kubelet is down":
        process.broken["unit"] = ProviderError("the bus is silent")
    world.age(PATIENCE + 5 if "year" not in cause else 365 * 86400)
    rounds(process)
    assert condemned_path(API_SERVER) not in node.files
    assert "--v=9" in text(node, pod_path(API_SERVER))


def planes(world: World, count: int = 2) -> tuple[list[Node], list[Process]]:
    """Nodes whose API servers run."""
    members = "abc"[:count]
    for member in members:
        world.volume(f"vol-m-{member}", f"{member}/{','.join(members)}")
        world.volume(f"vol-e-{member}", f"{member}/{','.join(members)}", "events")
    nodes = [world.node(f"n{number + 1}") for number in range(count)]
    for node in nodes:
        node.api_down = None
        world.objects[ObjectKey("v1", "Node", node.name)] = {"metadata": {"name": node.name, "labels": {}}}
    processes = [Process(world, node, configured()) for node in nodes]
    for _ in range(60):
        once(world, processes)
        if all(good_path(PROXY) in node.files for node in nodes):
            break
    assert all(linked(node) == set(COMPONENTS) for node in nodes)
    return nodes, processes


def once(world: World, processes: list[Process]) -> None:
    """A reconcile of each node; the next one is 15 s later."""
    for process in processes:
        process.round()
    world.etcd.tick()
    now = world.clock() + 15.0
    world.clock = lambda: now


def test_a_wrong_setting_stops_its_component_alone_and_leaves_the_running_pod() -> None:
    world = World()
    node, _ = converged_plane(world)
    before = text(node, pod_path(SCHEDULER))
    layers: Layers = {SCHEDULER: {"parallelizm": 8}, MANAGER: {"nodeMonitorPeriod": "6s"}}
    process = Process(world, node, configured(layers))
    report = rounds(process)
    assert rules(report) == {"control-plane/configuration"}
    assert "the nearest known name is parallelism" in report.left.refusals[0].evidence
    assert text(node, pod_path(SCHEDULER)) == before
    assert "--node-monitor-period=6s" in text(node, pod_path(MANAGER))


@pytest.mark.parametrize(
    ("version", "problem"),
    [("1.35.0", "never goes back"), ("1.38.0", "one minor version at a time; run 1.37 first"), ("1.37.1", None)],
)
def test_versions_go_up_one_minor_at_a_time(version: str, problem: str | None) -> None:
    world = World()
    node, _ = converged_plane(world)
    process = Process(world, node, configured(version=version))
    report = rounds(process)
    moved = f"kube-apiserver:v{version}" in text(node, pod_path(API_SERVER))
    assert moved == (problem is None)
    if problem is not None:
        assert rules(report) == {"control-plane/skew"}
        assert problem in report.left.refusals[0].evidence


def test_without_a_version_nothing_is_guessed() -> None:
    world = World()
    node = master(world)
    report = rounds(Process(world, node, configured(version=None)))
    assert rules(report) == {"control-plane/configuration"}
    assert not linked(node)


def test_a_standby_runs_the_proxy_alone_and_says_why() -> None:
    world = World()
    first = master(world)
    rounds(Process(world, first, configured()))
    standby = world.node("n2")
    process = Process(world, standby, configured())
    report = rounds(process)
    assert linked(standby) == {PROXY}
    assert "api.internal." in text(standby, kubeconfig_path(PROXY))
    assert any("no volume of etcd cluster main" in hint for hint in report.left.hints)
    assert standby.certificates.keys() >= {"proxy"} and "apiserver" not in standby.certificates


def test_a_dry_run_shows_what_changes_in_a_pod() -> None:
    world = World()
    node, _ = converged_plane(world)
    before = dict(node.files)
    report = Process(world, node, configured({API_SERVER: {"logLevel": 2}})).dry_run()
    [written] = [one.step.action for one in report.steps if one.step.action.subject == pod_path(API_SERVER)]
    assert isinstance(written, WriteFile) and written.before == text(node, pod_path(API_SERVER))
    told = json.loads(as_json(report))
    [step] = [one for one in told["steps"] if one["subject"] == pod_path(API_SERVER)]
    assert step["difference"] == ['+ - "--v=2"']
    assert node.files == before


def test_a_dry_run_shows_also_the_change_that_waits() -> None:
    world = World()
    node, _ = converged_plane(world)
    report = Process(world, node, configured({API_SERVER: {"logLevel": 2}, SCHEDULER: {"parallelism": 8}})).dry_run()
    [told] = [one for one in report.left.hints if one.startswith(f"{SCHEDULER} is to change: ")]
    assert told.endswith("; + parallelism: 8") and "--config=" in told
    assert not [one for one in report.left.hints if one.startswith((API_SERVER, MANAGER))]
    # Its files' own difference is shown when they are written.
    report = Process(world, node, configured({SCHEDULER: {"parallelism": 8}})).dry_run()
    written = [one.step.action for one in report.steps if isinstance(one.step.action, WriteFile)]
    [file] = [one for one in written if one.path.startswith("/etc/kubernetes/kube-scheduler/")]
    assert file.before is not None and [*difference(file.before, file.content)] == ["+ parallelism: 8"]


def test_killed_at_each_of_its_effects_it_ends_in_the_same_place() -> None:
    world = World()
    node = master(world)
    whole = Process(world, node, configured())
    for _ in range(8):
        rounds(whole)
        world.age(SETTLED + 1)
    wanted = {path for path, state in node.files.items() if isinstance(state, File)}
    for number in range(1, len(whole.effects) + 1, 3):
        world = World()
        node = master(world)
        killed = Process(world, node, configured(), kill=(number, "middle"))
        try:
            rounds(killed)
        except BaseException as error:  # noqa: BLE001 - the process is killed here
            assert type(error).__name__ == "Killed"
        again = Process(world, node, configured())
        for _ in range(8):
            report = rounds(again)
            world.age(SETTLED + 1)
        assert report.left.converged
        assert {path for path, state in node.files.items() if isinstance(state, File)} == wanted


def test_a_worker_runs_the_proxy_as_its_node_when_kubelet_has_a_certificate() -> None:
    world = World()
    node = world.node("w1")
    layers = {PROXY: (Layer("kubeProxy", {}),)}
    config = node_config(
        master=False, api="https://10.0.0.9:6443", kubernetes_version=VERSION, component_layers=layers
    )
    process = Process(world, node, config)
    report = rounds(process)
    assert not linked(node) and any("no certificate yet" in one.reason for one in report.left.waiting)
    node.files[KUBECONFIG_PATH] = File("kubelet's own", 0o600, int(world.clock() * 1e9))
    node.files[CA_PATH] = File("one authority", 0o644, int(world.clock() * 1e9))
    rounds(process)
    assert linked(node) == {PROXY} and node.kubelet_runs
    config_text = text(node, kubeconfig_path(PROXY))
    assert "https://10.0.0.9:6443" in config_text and "kubelet-client-current.pem" in config_text
    pod = text(node, pod_path(PROXY))
    assert "/var/lib/kubelet/pki" in pod and "/var/lib/protokube" not in pod
    for _ in range(3):
        world.age(SETTLED + 1)
        report = rounds(process)
    assert report.left.converged and text(node, good_path(PROXY)) == pod
    node.files[CA_PATH] = File("two authorities", 0o644, int(world.clock() * 1e9))
    rounds(process)
    assert text(node, pod_path(PROXY)) != pod, "it reads them at its start alone"
