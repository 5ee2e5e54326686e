"""A plaintext cluster moves to TLS, and authorities are replaced, while etcd serves; whoever is killed in between."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from protokube.core.disks.identity import Identity, parse_identity
from protokube.core.disks.paths import IDENTITY_PATH
from protokube.core.pki.model import Certificate
from protokube.core.static_pod import manifest_env
from protokube.pki.authorities import make_first
from protokube.reconcile import Cause
from tests.rounds.etcd import certificate_of
from tests.rounds.process import Process, interleave, later, node_config, settled, survive
from tests.rounds.test_pki_rounds import document, masters, replace_authority, rules, schemes
from tests.rounds.world import CLUSTER, Node, World

PLAIN, ON = node_config(etcd_tls="off"), node_config(etcd_tls="on", store_shared=True)
AUTHORITIES = ("kubernetes", "front-proxy", "etcd-clients", "etcd-peers-events", "etcd-peers-main")
MANIFEST = "k8s.io/manifests/etcd.manifest"


def three(world: World, *, events: bool = True) -> list[Node]:
    """Nodes with three members of main, and of events."""
    nodes = masters(world)
    if not events:
        world.volumes = {name: one for name, one in world.volumes.items() if name.startswith("vol-m")}
    return nodes


def plaintext(count: int = 3, *, authorities: bool = True, events: bool = True) -> tuple[World, list[Node]]:
    """A plaintext cluster that serves, and authorities that an operator has made."""
    world = World()
    nodes = three(world, events=events) if count == 3 else masters(world, count)
    settled(world, [Process(world, node, PLAIN) for node in nodes])
    assert schemes(world) == {"http"} and world.etcd.write("etcd", "before")
    if authorities:
        make_first(world.store, CLUSTER, AUTHORITIES, world.clock())
    return world, nodes


def secured(*, events: bool = True) -> tuple[World, list[Node]]:
    """A cluster with TLS that serves."""
    world = World()
    nodes = three(world, events=events)
    settled(world, [Process(world, node, ON) for node in nodes])
    assert schemes(world) == {"https"} and world.etcd.write("etcd", "before")
    return world, nodes


def serves(world: World, members: int = 6) -> None:
    assert world.etcd.write("etcd", "still") and (members == 3 or world.etcd.write("etcd-events", "still"))
    assert len(world.etcd.running) == members and not world.etcd.violations


def moved(world: World, members: int = 6) -> None:
    serves(world, members)
    assert schemes(world) == {"https"}
    for one in world.etcd.running.values():
        for listed in one.data.members.values():
            assert all(url.startswith("https:") for url in (*listed.peer_urls, *listed.client_urls))


def identity(world: World, volume: str) -> Identity:
    filesystem = world.volumes[volume].filesystem
    assert filesystem is not None
    found = parse_identity(filesystem.files[IDENTITY_PATH][0] or "")
    assert isinstance(found, Identity)
    return found


@pytest.mark.parametrize("count", [1, 3])
def test_a_plaintext_cluster_moves_to_tls_one_member_at_a_time(count: int) -> None:
    world, nodes = plaintext(count)
    processes = [Process(world, node, ON) for node in nodes]
    reports = settled(world, processes)
    moved(world, 2 * count)
    assert all(report.converged for report in reports)
    assert all(identity(world, volume).tls for volume in world.volumes)
    for process in processes:
        process.reads.clear()
        process.effects.clear()
        world.store.calls.clear()
        assert process.round().converged and process.effects == [] and world.store.calls == []
        assert process.reads["served"] == process.reads["members"] == 0


def test_nothing_is_asked_of_a_plaintext_cluster_that_isn_t_to_move() -> None:
    world, nodes = plaintext()
    process = Process(world, nodes[0], node_config(etcd_tls="auto", store_shared=True))
    assert process.round().converged
    assert process.reads["served"] == process.reads["members"] == 0 and not nodes[0].certificates


def test_without_authorities_an_operator_is_asked_for_them_and_etcd_runs_on() -> None:
    world, nodes = plaintext(authorities=False)
    processes = [Process(world, node, ON) for node in nodes]
    report = settled(world, processes)[0]
    assert "pki/authority-missing" in rules(report) and schemes(world) == {"http"}
    serves(world)
    make_first(world.store, CLUSTER, AUTHORITIES, world.clock())
    settled(world, processes)
    moved(world)


def test_a_dry_run_shows_the_way_of_the_first_member() -> None:
    world, nodes = plaintext(1)
    report = Process(world, nodes[0], ON).dry_run()
    kinds = [one.step.action.kind for one in report.steps]
    assert kinds.count("issue-certificate") == 5 and kinds.count("update-member") == 2
    assert kinds.index("issue-certificate") < kinds.index("update-member") < kinds.index("write-file")
    assert schemes(world) == {"http"} and not nodes[0].certificates


@pytest.mark.parametrize("seed", range(20))
def test_members_move_in_any_order_of_their_nodes_actions(seed: int) -> None:
    world, nodes = plaintext()
    settled(world, interleave(world, nodes, ON, seed, 150))
    moved(world)


@pytest.mark.parametrize("power", [False, True])
@pytest.mark.parametrize("who", range(3))
def test_a_node_killed_at_any_action_ends_in_the_same_place(who: int, power: bool) -> None:
    number, survived = 1, 0
    while survived < 2:
        for when in ("before", "after"):
            world, nodes = plaintext(events=False)
            others = [Process(world, node, ON) for node in nodes if node is not nodes[who]]
            killed = Process(world, nodes[who], ON, kill=(number, when))

            def go_on(world: World = world, others: list[Process] = others, killed: Process = killed) -> None:
                for _ in range(12):
                    for process in (*others, killed):
                        process.round()
                    world.etcd.tick()

            survived += survive(killed, go_on)
            if power and killed.dead:
                world.reboot(nodes[who])
                world.etcd.tick()
                # The power may fail between another member's new manifest and its restart: nobody can help that.
                world.etcd.violations = [one for one in world.etcd.violations if not one.endswith("are no quorum")]
            settled(world, [*others, Process(world, nodes[who], ON)])
            moved(world, 3)
        number += 1
    assert number > 6


def test_while_a_member_is_down_no_other_one_restarts() -> None:
    world, nodes = plaintext()
    gone = next(node for node in nodes if "vol-mc" in node.mounts.values())
    world.power_off(gone)
    processes = [Process(world, node, ON) for node in nodes if node is not gone]
    for _ in range(6):
        reports = [process.round() for process in processes]
        world.etcd.tick()
    assert schemes(world) == {"http"} and world.etcd.write("etcd", "on")
    told = " ".join(one.reason for report in reports for one in report.left.waiting)
    assert "etcd-c must answer first" in told


def test_a_learner_s_peer_url_is_never_changed() -> None:
    """etcd promotes it silently then (etcd-io/etcd 21694); so nothing moves while there is one."""
    world, nodes = plaintext()
    processes = [Process(world, node, ON) for node in nodes]
    assert world.etcd.member_add("etcd", "http://etcd-x.internal.c.example.com:2380")
    for _ in range(6):
        reports = [process.round() for process in processes]
        world.etcd.tick()
    assert {rule for report in reports for rule in rules(report)} == {"etcd/tls-mixed", "etcd/member-silent"}
    main = [one for one in world.etcd.running.values() if one.key.endswith("-etcd")]
    assert {one.secure for one in main} == {False}
    assert world.etcd.member_remove("etcd", "http://etcd-x.internal.c.example.com:2380")
    settled(world, processes)
    moved(world)


def test_a_member_with_tls_whose_manifest_is_gone_doesn_t_start_without() -> None:
    world, nodes = secured()
    for lost in ("vol-ma", "vol-eb"):
        filesystem = world.volumes[lost].filesystem
        assert filesystem is not None
        name = MANIFEST if lost.startswith("vol-m") else MANIFEST.replace("etcd.", "etcd-events.")
        del filesystem.files[name]
    for node in nodes[:2]:
        world.reboot(node)
    settled(world, [Process(world, node, node_config(etcd_tls="off")) for node in nodes])
    moved(world)


def test_peers_tell_that_a_member_ran_with_tls_where_its_own_files_are_gone() -> None:
    world, nodes = secured()
    filesystem = world.volumes["vol-ma"].filesystem
    assert filesystem is not None
    del filesystem.files[MANIFEST]
    plain = replace(identity(world, "vol-ma"), tls=False)
    filesystem.put(IDENTITY_PATH, plain.render(), world.clock())
    holder = next(node for node in nodes if "vol-ma" in node.mounts.values())
    world.reboot(holder)
    settled(world, [Process(world, node, node_config(etcd_tls="off")) for node in nodes])
    moved(world)


def test_an_old_manifest_without_tls_is_not_obeyed() -> None:
    world, nodes = plaintext()
    filesystem = world.volumes["vol-ma"].filesystem
    assert filesystem is not None
    old = filesystem.files[MANIFEST]
    settled(world, [Process(world, node, ON) for node in nodes])
    filesystem.files[MANIFEST] = old
    settled(world, [Process(world, node, PLAIN) for node in nodes])
    moved(world)


def follow(world: World, nodes: list[Node], authority: str, members: int = 6) -> None:
    """Every node follows a step of an authority's replacement, and restarts what must be restarted."""
    processes = [Process(world, node, ON) for node in nodes]
    settled(world, processes)
    stands = document(world).public().known[authority]
    for node in nodes:
        for held in node.certificates.values():
            assert isinstance(held, Certificate)
            if held.wanted.authority == authority:
                assert (held.issuer, set(held.trusted)) == (stands.id, set(stands.trusted))
    for one in world.etcd.running.values():
        trusted = manifest_env(one.text)["PROTOKUBE_TRUSTED"]
        peer = certificate_of(one.node, one.env["ETCD_PEER_CERT_FILE"])
        assert isinstance(peer, Certificate)
        assert all(id_[:12] in trusted for id_ in peer.trusted) and set(one.trusts) == set(peer.trusted)
    serves(world, members)


@pytest.mark.parametrize("authority", ["etcd-peers-main", "etcd-clients"])
def test_members_restart_one_by_one_when_authorities_change(authority: str) -> None:
    world, nodes = secured()
    before = {key: one.text for key, one in world.etcd.running.items()}
    changed = []
    for _ in ("bundle", "reissue", "steady"):
        replace_authority(world, authority)
        follow(world, nodes, authority)
        after = {key: one.text for key, one in world.etcd.running.items()}
        changed.append(sum(after[key] != before[key] for key in after))
        before = after
    concerned = 3 if authority == "etcd-peers-main" else 6
    assert changed == [concerned, 0, concerned], "who trusts both needs no restart when the other one issues"
    process = Process(world, nodes[0], ON)
    process.round(Cause.PERSON)
    process.reads.clear()
    assert process.round().converged and process.reads["served"] == 0


@pytest.mark.parametrize("power", [False, True])
def test_a_replacement_goes_on_wherever_a_node_was_killed(power: bool) -> None:
    number, survived = 1, False
    while not survived:
        world, nodes = secured(events=False)
        others = [Process(world, node, ON) for node in nodes[1:]]
        killed = Process(world, nodes[0], ON, kill=(number, ("before", "after")[number % 2]))

        def replaced(world: World = world, others: list[Process] = others, killed: Process = killed) -> None:
            for _ in range(3):
                replace_authority(world, "etcd-peers-main")
                for _ in range(9):
                    later(world)
                    for process in (killed, *others):
                        process.round(Cause.PERSON)
                    world.etcd.tick()

        survived = survive(killed, replaced)
        while not survived:
            if power:
                world.reboot(nodes[0])
            follow(world, nodes, "etcd-peers-main", 3)
            if document(world).public().known["etcd-peers-main"].stage.value == "steady":
                break
            replace_authority(world, "etcd-peers-main")
        number += 1
    assert number > 8


def test_authorities_are_followed_while_a_store_is_down_by_nobody_and_etcd_serves() -> None:
    world, nodes = secured()
    replace_authority(world, "etcd-peers-main")
    world.store.trouble = lambda _call: "down"
    processes = [Process(world, node, ON) for node in nodes]
    for _ in range(4):
        for process in processes:
            process.round(Cause.PERSON)
        world.etcd.tick()
    serves(world)
    world.store.trouble = lambda _call: None
    follow(world, nodes, "etcd-peers-main")


def test_no_member_restarts_while_another_one_is_down() -> None:
    world, nodes = secured()
    replace_authority(world, "etcd-clients")
    gone = next(node for node in nodes if "vol-mc" in node.mounts.values())
    processes = [Process(world, node, ON) for node in nodes if node is not gone]
    texts = {key: one.text for key, one in world.etcd.running.items() if key[0] != gone.name}
    world.power_off(gone)
    for _ in range(6):
        later(world)
        reports = [process.round(Cause.PERSON) for process in processes]
        world.etcd.tick()
    assert all(world.etcd.running[key].text == text for key, text in texts.items())
    told = " ".join(one.reason for report in reports for one in report.left.waiting)
    assert "etcd-c must answer first" in told and world.etcd.write("etcd", "on")
