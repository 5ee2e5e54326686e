"""The control plane's part of the configuration file: read, layered, and every fault at its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from protokube.config.load import read
from protokube.core.controlplane.model import ControlPlaneSettings, Images, Networking
from protokube.core.controlplane.node import api_port


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
""",
    )
    assert not found.faults
    assert found.version == "1.36.2"
    assert found.networking == Networking("10.1.0.0/16", "10.2.0.0/16", "cluster.local", "10.2.0.10")
    assert found.images == Images("mirror.example/k8s", {"kube-proxy": "mine:1"})
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
