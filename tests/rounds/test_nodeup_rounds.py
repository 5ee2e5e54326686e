"""Whole runs of nodeup on a machine in memory: killed at every effect, in any order, with any configuration."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from nodeup.rounds import dry_run
from nodeup.sources import Source, shipped_units
from protokube.core.node.protokube_config import protokube_config
from protokube.core.node.settings import read_settings
from tests.lab.nodeup_tree import Killed, Kills
from tests.rounds.nodeup_world import World, observer, run

CONFIG: dict[str, Any] = {
    "cluster": "dev.example.com",
    "role": "control-plane",
    "packages": ["jq"],
    "assets": [{"path": "/usr/local/bin/kubelet", "sha256": "a" * 64, "urls": ["https://x.example/kubelet"]}],
    "units": [
        {
            "name": "extra.service",
            "content": "[Service]\nExecStart=/x\n[Install]\nWantedBy=multi-user.target\n",
            "enabled": True,
        }
    ],
    "files": [{"path": "/etc/motd", "content": "x", "mode": "0600"}],
    "sysctls": {"vm.max_map_count": 1048576},
}


def source(config: dict[str, Any]) -> Source:
    read, faults = read_settings(yaml.safe_dump(config), "node.yaml")
    text, more = protokube_config(read)
    assert not faults and not more
    return Source(read, text, shipped_units())


def prepared(config: dict[str, Any]) -> World:
    world = World()
    account = run(source(config), world).account
    assert account.converged, account.left
    return world


def test_a_bare_machine_is_prepared_in_one_run_and_a_second_one_changes_nothing() -> None:
    world = prepared(CONFIG)
    assert world.active.keys() == {"containerd.service", "protokube.service", "extra.service"}
    assert world.hostname.startswith("node-") and not world.swap
    assert world.sysctls["net.bridge.bridge-nf-call-iptables"] == "1"
    assert max(world.calls.index(one) for one in world.calls if "start" not in one) < world.calls.index(
        "start protokube.service"
    )
    before = len(world.calls)
    again = run(source(CONFIG), world).account
    assert again.converged and not again.steps and len(world.calls) == before


@pytest.mark.parametrize("after", [False, True])
def test_killed_at_every_effect_the_end_is_the_same(after: bool) -> None:
    whole = prepared(CONFIG)
    for at in range(len(whole.calls)):
        world = World()
        with pytest.raises(Killed):
            run(source(CONFIG), world, Kills(at, after=after).effect)
        assert run(source(CONFIG), world).account.converged
        assert world.end() == whole.end(), at


def test_a_dry_run_foretells_the_run() -> None:
    """As far as it can be known: containerd's file depends on the version that apt installs."""
    world = World()
    foretold = {
        one.step.action.describe() for one in dry_run(observer(source(CONFIG), world), world.now).account.steps
    }
    assert not world.calls
    done = {one.step.action.describe() for one in run(source(CONFIG), world).account.steps}
    assert foretold <= done
    unknown_yet = ("/etc/containerd/", "/etc/crictl.yaml", "containerd.service", "systemd-time-wait-sync.service")
    assert [one for one in done - foretold if not any(name in one for name in unknown_yet)] == []
    assert "start containerd.service" in foretold and "start protokube.service" in foretold


def test_a_changed_configuration_restarts_what_reads_it_and_no_more() -> None:
    world = prepared(CONFIG)
    before = len(world.calls)
    run(source({**CONFIG, "protokube": {"interval": 30}}), world)
    assert [one for one in world.calls[before:] if one.startswith("start")] == ["start protokube.service"]


names = st.sampled_from(["jq", "curl", "nfs-common"])
configurations = st.fixed_dictionaries(
    {"cluster": st.just("dev.example.com"), "role": st.sampled_from(["control-plane", "worker"])},
    optional={
        "packages": st.lists(names, unique=True),
        "modules": st.lists(st.sampled_from(["nf_conntrack", "ip-vs"]), unique=True),
        "sysctls": st.dictionaries(
            st.sampled_from(["vm.swappiness", "net/core/somaxconn", "kernel.panic"]), st.integers(0, 9)
        ),
        "hostname": st.sampled_from(["auto", "keep", "node-a"]),
        "files": st.lists(
            st.fixed_dictionaries({"path": st.sampled_from(["/etc/a", "/etc/b"]), "content": st.text(max_size=5)}),
            unique_by=lambda file: file["path"],
        ),
        "protokube": st.sampled_from([{}, {"interval": 5}, {"kubelet": {"failSwapOn": False}}]),
    },
)


@given(configurations, st.integers(0, 40), st.booleans())
@settings(max_examples=60, deadline=None)
def test_any_configuration_ends_and_killed_anywhere_it_ends_the_same(
    config: dict[str, Any], at: int, after: bool
) -> None:
    given_, world = source(config), World(swap=[])
    whole = World(swap=[])
    assert run(given_, whole).account.converged
    with suppress(Killed):
        run(given_, world, Kills(at, after=after).effect)
    account = run(given_, world).account
    assert account.converged and world.end() == whole.end()
    assert not run(given_, world).account.steps


def test_every_action_of_a_pass_stands_alone(tmp_path: Path) -> None:
    """Law 1: one action of a plan is enough to go on; none leans on another of its pass."""
    whole = prepared(CONFIG)
    world = World()
    for _ in range(200):
        one = Kills(0, after=True)
        try:
            account = run(source(CONFIG), world, one.effect).account
        except Killed:
            continue
        assert account.converged
        break
    assert world.end() == whole.end()
