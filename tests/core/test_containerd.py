"""containerd's files: which version gets which, and what is refused."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

from protokube.core.located import parse
from protokube.core.model import Fault, Rejected
from protokube.core.node.containerd import (
    CONFIG,
    CRICTL,
    PAUSE_IMAGE,
    SERVICE,
    ContainerdSettings,
    config_toml,
    containerd_files,
    hosts_toml,
)
from protokube.core.node.containerd_settings import read_containerd
from protokube.core.node.machine import MachineFacts, Running, TreeFacts
from protokube.core.node.model import File, FileState, UnitState
from protokube.core.node.needs import NodeupFacts, needs
from protokube.core.node.settings import read_settings
from protokube.core.node.wanted import wanted


def config(version: str) -> dict[str, Any]:
    text = config_toml("example.com/pause:1", version)
    assert isinstance(text, str), text
    return tomllib.loads(text)


@pytest.mark.parametrize("version", ["1.6.20~ds1", "v1.7.24", "1.7.0", "1.6.20~ds1-1+deb12u3"])
def test_containerd_1_gets_version_2(version: str) -> None:
    read = config(version)
    assert read["version"] == 2
    cri = read["plugins"]["io.containerd.grpc.v1.cri"]
    assert cri["sandbox_image"] == "example.com/pause:1"
    assert cri["cni"] == {"bin_dir": "/opt/cni/bin"}
    assert cri["containerd"]["runtimes"]["runc"]["options"] == {"SystemdCgroup": True}


@pytest.mark.parametrize(
    ("version", "cni"),
    [
        ("2.0.5", {"bin_dir": "/opt/cni/bin"}),
        ("2.1.9+unknown", {"bin_dirs": ["/opt/cni/bin", "/usr/lib/cni"]}),
        ("v2.3.1", {"bin_dirs": ["/opt/cni/bin", "/usr/lib/cni"]}),
    ],
)
def test_containerd_2_gets_version_3(version: str, cni: dict[str, object]) -> None:
    read = config(version)
    assert read["version"] == 3
    assert read["plugins"]["io.containerd.cri.v1.images"]["pinned_images"] == {"sandbox": "example.com/pause:1"}
    assert read["plugins"]["io.containerd.cri.v1.runtime"]["cni"] == cni


@pytest.mark.parametrize("version", ["1.5.9", "1.8.0", "3.0.0", "0.2", "", "unknown"])
def test_an_unknown_version_is_refused_with_what_to_do(version: str) -> None:
    refused = config_toml(PAUSE_IMAGE, version)
    assert isinstance(refused, Rejected) and refused.rule == "containerd/version"
    assert f"version {version!r} is not known here (expected 1.6, 1.7 or 2.x); install" in refused.evidence


def test_one_that_is_not_installed_is_said_to_be_so() -> None:
    refused = containerd_files(ContainerdSettings(), None)
    assert isinstance(refused, Rejected) and "not installed; add `containerd` to packages" in refused.evidence


def test_only_its_own_file_restarts_containerd() -> None:
    files = containerd_files(ContainerdSettings(mirrors={"*": ("https://all.example",)}), "1.7.24")
    assert not isinstance(files, Rejected)
    assert {file.path: file.restarts for file in files} == {
        CONFIG: SERVICE,
        "/etc/containerd/certs.d/_default/hosts.toml": None,
        CRICTL: None,
    }


def test_a_mirror_comes_before_the_registry_itself() -> None:
    read = tomllib.loads(hosts_toml("docker.io", ["https://a.example", "https://harbor.example/v2/hub"]))
    assert read["server"] == "https://registry-1.docker.io"
    assert list(read["host"]) == ["https://a.example", "https://harbor.example/v2/hub"]
    assert read["host"]["https://a.example"] == {"capabilities": ["pull", "resolve"]}
    assert read["host"]["https://harbor.example/v2/hub"]["override_path"] is True
    assert tomllib.loads(hosts_toml("quay.io:443", ["http://b"]))["server"] == "https://quay.io:443"
    assert "server" not in tomllib.loads(hosts_toml("*", ["http://b"]))


def read(text: str) -> tuple[ContainerdSettings, list[str]]:
    document, found = parse(text, "node.yaml")
    faults: list[Fault] = list(found)
    return read_containerd(document, faults), [str(fault) for fault in faults]


def test_the_settings_are_read() -> None:
    settings, faults = read(
        "pauseImage: example.com/pause:9\nregistryMirrors: {docker.io: ['https://a/'], '*': ['http://b:5000']}\n"
    )
    assert faults == []
    assert settings == ContainerdSettings(
        "example.com/pause:9", {"docker.io": ("https://a",), "*": ("http://b:5000",)}
    )
    assert read_containerd(None, []) == ContainerdSettings(PAUSE_IMAGE)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("pauseImagee: a", "unknown key 'pauseImagee': did you mean 'pauseImage'?"),
        ('pauseImage: "a\\"b"', "an image such as registry.k8s.io/pause"),
        ("pauseImage: 3.10", "a string (put it in quotes)"),
        ("registryMirrors: []", "a mapping of registries"),
        ("registryMirrors: {docker.io: https://a}", "a list of URLs"),
        ("registryMirrors: {docker.io: []}", "a list of URLs"),
        ("registryMirrors: {'../etc': ['https://a']}", "'../etc' where a registry's host was expected"),
        ("registryMirrors: {https://docker.io: ['https://a']}", "where a registry's host was expected"),
        ("registryMirrors: {docker.io: ['mirror.example']}", "a mirror's URL"),
        ("registryMirrors: {docker.io: ['https://u:p@mirror.example']}", "without user or query"),
        ("registryMirrors: {docker.io: ['https://a\"]']}", "a mirror's URL"),
        ("registryMirrors: {docker.io: ['https://a:70000']}", "a mirror's URL"),
    ],
)
def test_what_is_wrong_is_named(text: str, fault: str) -> None:
    settings, faults = read(text)
    assert len(faults) == 1 and fault in faults[0] and faults[0].startswith("node.yaml:1 "), faults
    assert settings.pause_image == PAUSE_IMAGE and not any(settings.mirrors.values())


def running(config_written: float, mirrors_written: float) -> list[str]:
    """What a machine needs whose containerd was started at 100, when its files were written then."""
    settings, _ = read_settings(
        "cluster: a.example\ncontainerd: {registryMirrors: {docker.io: ['https://m.example']}}\n", "node.yaml"
    )
    machine = MachineFacts(
        packages={"containerd": "1.6.20~ds1-1"},
        programs={"containerd": "/usr/bin/containerd"},
        packaged_units={SERVICE: f"/usr/lib/systemd/system/{SERVICE}"},
        containerd="1.6.20~ds1-1",
        running=Running(),
    )
    units = dict.fromkeys(("protokube.service", "kubelet.service", "nodeup.service"), "")
    judged = wanted(settings, machine, units, "")
    judged.packages, judged.modules, judged.sysctls, judged.enabled, judged.disabled = {}, {}, {}, [], []
    judged.links, judged.hostname, judged.swap_off = [], None, None
    written = {CONFIG: config_written, "/etc/containerd/certs.d/docker.io/hosts.toml": mirrors_written}
    files: dict[str, FileState] = {
        file.path: File(file.content, file.mode, int(written.get(file.path, 1.0) * 1e9)) for file in judged.files
    }
    assert set(written) <= set(files)
    states = {unit: UnitState("loaded", "active", "running", 100.0) for unit in judged.units}
    plan = needs(judged, NodeupFacts(machine, TreeFacts(files, states)))
    return [step.action.describe() for step in plan.steps]


def test_a_changed_configuration_restarts_it_and_a_changed_mirror_does_not() -> None:
    assert running(config_written=50.0, mirrors_written=50.0) == []
    assert running(config_written=50.0, mirrors_written=150.0) == []
    assert running(config_written=150.0, mirrors_written=50.0) == [f"restart {SERVICE}"]
