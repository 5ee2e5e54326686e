"""The control plane's part of the configuration file: read, layered, and every fault at its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from protokube.config.load import read
from protokube.core.controlplane.model import ControlPlaneSettings, Images, Networking
from protokube.core.controlplane.names import API_SERVER
from protokube.core.controlplane.node import api_port
from protokube.core.kubelet.files import kubelet_files
from protokube.core.kubelet.model import KubeletFacts, KubeletNode, Machine
from protokube.core.kubelet.render import KubeletFiles
from protokube.core.model import GIB, Moment
from protokube.core.node.model import NodeFacts
from protokube.core.volumes.model import Instance


def settings_of(tmp_path: Path, text: str) -> ControlPlaneSettings:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    found, faults = read(["--config", str(path), "--root", str(tmp_path)], {})
    assert not faults, faults
    assert found.node.components is not None
    return found.node.components


def test_everything_is_read(tmp_path: Path) -> None:
    found = settings_of(
        tmp_path,
        """
kubernetesVersion: 1.36.2
networking: {podCIDR: 10.1.0.0/16, serviceCIDR: 10.2.0.0/16, clusterDNS: 10.2.0.10}
images: {registry: mirror.example/k8s/, overrides: {kube-proxy: "mine:1"}}
kubeAPIServer: {securePort: 443}
kubeProxy: {mode: nftables}
instanceGroups: {odd: {kubeAPIServer: {eventTTL: 2h}, kubelet: {maxPods: 5}}}
nodes: {n1: {kubeAPIServer: {eventTTL: 3h}, kubelet: {maxPods: 6}}}
""",
    )
    assert not found.faults
    assert found.version == "1.36.2"
    assert found.networking == Networking("10.1.0.0/16", "10.2.0.0/16", "cluster.local", "10.2.0.10")
    assert found.images == Images("mirror.example/k8s", {"kube-proxy": "mine:1"})
    layers = [found.layers_for(API_SERVER, *where) for where in (("odd", "n1"), ("odd", "n2"), (None, "n3"))]
    assert [[*layer.values.values()] for each in layers for layer in each] == [
        [443], ["2h"], ["3h"],
        [443], ["2h"],
        [443],
    ]  # fmt: skip
    assert (api_port(found), api_port(ControlPlaneSettings())) == (443, 6443)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("kubeAPIServer: {securePrt: 1}", "kubeAPIServer.securePrt: kube-apiserver has no such field or flag"),
        ("kubeProxy: x", "a mapping of kube-proxy's settings"),
        ("networking: {podCidr: 10.0.0.0/8}", "unknown key 'podCidr'; known are"),
        ("networking: {podCIDR: 10.0.0.0/8}", "networking.serviceCIDR: 10.96.0.0/12 overlaps podCIDR"),
        (
            "instanceGroups: {a: {kubeAPIServer: {securePort: 443}}}",
            "a.kubeAPIServer.securePort: is one for all API servers",
        ),
        ("images: {overrides: {etcd: x}}", "'etcd' is no component"),
        ("nodes: {n1: {kubeAPIServer: {securePort: 443}}}", "nodes.n1.kubeAPIServer.securePort: is one for all"),
        ("nodes: {n1: {kubeScheduler: {parallelism: 0}}}", "nodes.n1.kubeScheduler.parallelism"),
        ("instanceGroups: {a: {kubeScheduler: {parallelism: 0}}}", "instanceGroups.a.kubeScheduler.parallelism"),
    ],
)
def test_faults_stop_the_control_plane_alone(tmp_path: Path, text: str, fault: str) -> None:
    found = settings_of(tmp_path, text)
    assert any(fault in str(one) for one in found.faults), found.faults


def test_the_api_has_one_port_everywhere(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("kubeAPIServer: {securePort: 8443}")
    found, faults = read(["--config", str(path), "--root", str(tmp_path)], {})
    assert not faults and found.node.kubelet.api_port == 8443


def test_a_nodes_kubelet_has_a_layer_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    groups = "instanceGroups: {odd: {kubelet: {maxPods: 6}}}\nnodes: {n1: {kubelet: {maxPods: 7}}}\n"
    path.write_text("kubernetesVersion: 1.36.2\nkubelet: {maxPods: 5}\n" + groups)
    found, faults = read(["--config", str(path), "--root", str(tmp_path)], {})
    assert not faults
    kubelet = KubeletFacts(None, Machine(8 * GIB, 2))
    for name, wanted in (("n1", 7), ("n2", 6)):
        instance = Instance("i", name, "z1", "c.example.com", ("10.0.0.1",), instance_group="odd")
        facts = KubeletNode(Moment(0.0, 0.0), instance, NodeFacts({}), kubelet)
        files = kubelet_files(found.node.kubelet, facts, instance)
        assert isinstance(files, KubeletFiles) and f"maxPods: {wanted}\n" in files.config_file
