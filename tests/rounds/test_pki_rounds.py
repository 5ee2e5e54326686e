"""Masters come to one PKI without an API server, and a store in trouble stops nothing that runs."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from protokube.core.model import Unknown
from protokube.core.pki.document import Document, parse_document
from protokube.core.pki.model import Certificate
from protokube.core.pki.rotation import rotate
from protokube.core.static_pod import manifest_env
from protokube.core.steps import Step
from protokube.observe.later import FOLLOW_EVERY
from protokube.pki.authorities import change
from protokube.pki.x509 import make_authority
from protokube.reconcile import Cause
from protokube.report.model import Report
from tests.rounds.process import Process, node_config, settled, survive
from tests.rounds.world import CLUSTER, Node, World

OBJECT = f"{CLUSTER}/pki/v1.json"
CONFIG = node_config(etcd_tls="auto", store_shared=True)


def masters(world: World, count: int = 3) -> list[Node]:
    names = ",".join("abc"[:count])
    for me in "abc"[:count]:
        world.volume(f"vol-m{me}", f"{me}/{names}")
        world.volume(f"vol-e{me}", f"{me}/{names}", "events")
    return [world.node(f"n{number}") for number in range(count)]


def at_rest(world: World, processes: list[Process]) -> list[Report]:
    """Rounds in turns until nothing is done any more."""
    for _ in range(60):
        reports = [process.round() for process in processes]
        world.etcd.tick()
        if not any(report.steps or report.in_flight for report in reports):
            return reports
        if not any(report.steps for report in reports):
            world.age(61)
    raise AssertionError([(report.steps, report.left) for report in reports])


def document(world: World) -> Document:
    found = parse_document(world.store.contents[OBJECT][-1], CLUSTER)
    assert isinstance(found, Document)
    return found


def rules(report: Report) -> set[str]:
    return {one.rule for one in report.left.refusals}


def schemes(world: World) -> set[str]:
    return {manifest_env(one.text)["ETCD_LISTEN_PEER_URLS"].partition(":")[0] for one in world.etcd.running.values()}


def one_pki(world: World, nodes: list[Node]) -> None:
    """Every certificate is of the one PKI's authorities, which were made once."""
    assert len(world.store.contents[OBJECT]) == 1
    authorities = document(world).authorities
    for node in nodes:
        for certificate in node.certificates.values():
            assert isinstance(certificate, Certificate)
            assert certificate.issuer == authorities[certificate.wanted.authority].active.id
    assert not world.etcd.violations


@pytest.mark.parametrize("seed", range(200))
def test_three_masters_that_start_at_once_on_an_empty_store_make_one_pki(seed: int) -> None:
    """Their actions are interleaved one by one; they are killed, and the store fails, lags and loses answers."""
    pick = random.Random(seed)
    world = World()
    nodes = masters(world)
    processes = {node.name: Process(world, node, CONFIG) for node in nodes}
    lives: dict[str, Iterator[Step]] = {name: process.steps() for name, process in processes.items()}
    world.store.trouble = lambda _call: pick.choice((None, None, "down", "lost", "conflict", "old"))
    for _ in range(90):
        node = pick.choice(nodes)
        if pick.random() < 0.05:
            processes[node.name] = Process(world, node, CONFIG)
            lives[node.name] = processes[node.name].steps()
        elif next(lives[node.name], None) is None:
            lives[node.name] = processes[node.name].steps()
        if pick.random() < 0.3:
            world.etcd.tick()
    world.store.trouble = lambda _call: None
    at_rest(world, list(processes.values()))
    one_pki(world, nodes)
    assert schemes(world) == {"https"} and len(world.etcd.running) == 6
    assert world.etcd.write("etcd", "hello") and world.etcd.write("etcd-events", "hello")


def test_a_master_killed_at_any_action_ends_in_the_same_place() -> None:
    number, ended = 1, False
    while not ended:
        for when in ("before", "after"):
            world = World()
            (node,) = masters(world, 1)
            killed = Process(world, node, CONFIG, kill=(number, when))
            ended = survive(killed, killed.rounds)
            at_rest(world, [Process(world, node, CONFIG)])
            one_pki(world, [node])
            assert world.etcd.write("etcd", "hello")
        number += 1
    assert number > 15


def test_a_converged_round_makes_no_call_to_the_store() -> None:
    world = World()
    nodes = masters(world)
    processes = [Process(world, node, CONFIG) for node in nodes]
    at_rest(world, processes)
    world.store.calls.clear()
    assert all(process.round().converged for process in processes)
    assert world.store.calls == []


def test_a_dry_run_says_what_would_be_issued_and_makes_nothing() -> None:
    world = World()
    (node,) = masters(world, 1)
    report = Process(world, node, CONFIG).dry_run()
    kinds = [one.step.action.kind for one in report.steps]
    assert kinds.count("make-authorities") == 1 and kinds.count("issue-certificate") == 5
    assert kinds.index("make-authorities") < kinds.index("issue-certificate") < kinds.index("link")
    assert world.store.contents == {} and node.certificates == {}


@pytest.mark.parametrize("trouble", ["down", "conflict"])
def test_nothing_is_made_while_the_store_is_in_trouble_and_all_goes_on_after(trouble: str) -> None:
    world = World()
    (node,) = masters(world, 1)
    process = Process(world, node, CONFIG)
    world.store.trouble = lambda call: trouble if trouble == "down" or call == "put" else None
    for _ in range(6):
        report = process.round()
        world.etcd.tick()
    if trouble == "down":
        assert "store/unreadable" in rules(report) and not report.converged
    assert world.store.contents == {} and not node.certificates and not world.etcd.running
    world.store.trouble = lambda _call: None
    at_rest(world, [process])
    one_pki(world, [node])


def test_a_store_that_lost_its_authorities_gets_no_new_ones_and_etcd_runs_on() -> None:
    world = World()
    nodes = masters(world)
    processes = [Process(world, node, CONFIG) for node in nodes]
    at_rest(world, processes)
    del world.store.contents[OBJECT]
    nodes[0].certificates.pop("etcd-client")
    for _ in range(3):
        report = processes[0].round()
        world.etcd.tick()
    assert "pki/authority-missing" in rules(report)
    assert world.store.contents == {} and len(world.etcd.running) == 6
    assert all(other.round().converged for other in processes[1:])


def test_a_new_master_makes_no_second_pki_beside_a_cluster_that_ran() -> None:
    """Its store is another one than the others', by a wrong option or a share that isn't mounted."""
    world = World()
    nodes = masters(world)
    processes = [Process(world, node, CONFIG) for node in nodes]
    at_rest(world, processes)
    world.store.contents.clear()
    nodes[1].certificates.clear()
    for name in ("vol-mb", "vol-eb"):
        world.volumes[name].filesystem = None
    world.reboot(nodes[1])
    late = Process(world, nodes[1], CONFIG)
    for _ in range(8):
        report = late.round()
        world.etcd.tick()
    assert world.store.contents == {} and not nodes[1].certificates
    assert not report.converged


def test_nothing_is_issued_before_the_clock_is_in_sync() -> None:
    world = World()
    (node,) = masters(world, 1)
    node.clock_in_sync = False
    process = Process(world, node, CONFIG)
    for _ in range(6):
        report = process.round()
        world.etcd.tick()
    assert "pki/time" in rules(report) and world.store.contents == {} and not node.certificates
    assert report.in_flight  # `--once` waits for the clock
    node.clock_in_sync = True
    at_rest(world, [process])
    one_pki(world, [node])


def test_an_operator_may_answer_for_the_clock() -> None:
    world = World()
    (node,) = masters(world, 1)
    node.clock_in_sync = False
    process = Process(world, node, node_config(etcd_tls="on", trust_clock=True))
    at_rest(world, [process])
    one_pki(world, [node])
    assert process.reads["authorities"] and not process.reads["clock"]


def test_a_cluster_that_runs_without_tls_stays_so_and_so_does_who_joins_it() -> None:
    world = World()
    nodes = masters(world)
    at_rest(world, [Process(world, node, node_config(etcd_tls="off")) for node in nodes])
    before = {key: one.text for key, one in world.etcd.running.items()}
    config = node_config(etcd_tls="auto", store_shared=True)
    processes = [Process(world, node, config) for node in nodes]
    reports = at_rest(world, processes)
    assert {key: one.text for key, one in world.etcd.running.items()} == before
    assert world.store.calls == [] and not any(node.certificates for node in nodes)
    assert all(report.converged for report in reports)


def test_a_cluster_with_tls_never_goes_back() -> None:
    world = World()
    nodes = masters(world)
    at_rest(world, [Process(world, node, CONFIG) for node in nodes])
    reports = at_rest(world, [Process(world, node, node_config(etcd_tls="off")) for node in nodes])
    assert schemes(world) == {"https"} and all(report.converged for report in reports)


def test_auto_means_without_tls_where_no_store_is_shared() -> None:
    world = World()
    (node,) = masters(world, 1)
    at_rest(world, [Process(world, node, node_config(etcd_tls="auto"))])
    assert schemes(world) == {"http"} and world.store.calls == []


def test_a_volume_that_moves_to_a_new_machine_gets_new_certificates_there() -> None:
    world = World()
    nodes = masters(world)
    at_rest(world, [Process(world, node, CONFIG) for node in nodes])
    old = nodes[2]
    world.power_off(old)
    for volume in world.held(old):
        world.detach(volume)
    new = world.node("n9")
    processes = [Process(world, node, CONFIG) for node in (*nodes[:2], new)]
    at_rest(world, processes)
    assert len(new.certificates) == 5
    one_pki(world, [*nodes[:2], new])
    assert {one.node.name for one in world.etcd.running.values()} == {"n0", "n1", "n9"}


def test_a_certificate_that_can_t_be_read_is_not_issued_again() -> None:
    world = World()
    (node,) = masters(world, 1)
    process = Process(world, node, CONFIG)
    at_rest(world, [process])
    node.certificates["etcd-client"] = Unknown("an error of the disk")
    report = process.round()
    assert not report.steps and [one.subject for one in report.left.unknown] == ["certificate etcd-client"]


def replace_authority(world: World, name: str) -> None:
    """An operator takes the next step of an authority's replacement, on some node."""
    change(world.store, CLUSTER, lambda known: rotate(known, name, lambda: make_authority(name, world.clock())))


@pytest.mark.parametrize("cause", ["signal", "restart", "hour"])
def test_a_node_follows_every_step_of_an_authority_s_replacement(cause: str) -> None:
    world = World()
    (node,) = masters(world, 1)
    process = Process(world, node, CONFIG)
    at_rest(world, [process])
    for stage in ("bundle", "reissue", "steady"):
        replace_authority(world, "etcd-peers-main")
        assert not process.round().steps, "the store isn't asked in every round"
        if cause == "restart":
            process = Process(world, node, CONFIG)
        elif cause == "hour":
            process.observer.started -= FOLLOW_EVERY + 1
        process.round(Cause.PERSON if cause == "signal" else Cause.CLOCK)
        authority = document(world).public().known["etcd-peers-main"]
        certificate = node.certificates["etcd-peer-main"]
        assert isinstance(certificate, Certificate) and authority.stage.value == stage
        assert (certificate.issuer, certificate.trusted) == (authority.id, authority.trusted)
        assert settled(world, [process])[0].converged
    assert not world.etcd.violations


def test_a_step_that_a_killed_daemon_had_half_done_is_gone_on_with() -> None:
    for number in (1, 2):
        for when in ("before", "after"):
            world = World()
            (node,) = masters(world, 1)
            at_rest(world, [Process(world, node, CONFIG)])
            replace_authority(world, "etcd-clients")
            killed = Process(world, node, CONFIG, kill=(number, when))
            assert not survive(killed, killed.rounds)
            process = Process(world, node, CONFIG)
            at_rest(world, [process])
            authority = document(world).public().known["etcd-clients"]
            for name in ("etcd-client", "etcd-server-main", "etcd-server-events"):
                certificate = node.certificates[name]
                assert isinstance(certificate, Certificate) and certificate.trusted == authority.trusted


def test_a_store_that_is_down_when_nothing_is_to_be_issued_is_no_trouble() -> None:
    world = World()
    (node,) = masters(world, 1)
    at_rest(world, [Process(world, node, CONFIG)])
    world.store.trouble = lambda _call: "down"
    restarted = Process(world, node, CONFIG)
    assert restarted.round().converged
    assert world.store.calls[-1] == "get"
