"""Which API server is spoken to, and as whom."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
import yaml

from protokube.agent.http.kubeconfig import find_config, in_cluster, read_kubeconfig
from protokube.errors import ConfigError


def write(path: Path, user: dict[str, Any], cluster: dict[str, Any] | None = None) -> Path:
    tree = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
        "clusters": [{"name": "k", "cluster": cluster or {"server": "https://10.0.0.1:6443/"}}],
        "users": [{"name": "u", "user": user}],
    }
    path.write_text(yaml.safe_dump(tree))
    return path


def test_files_are_found_beside_it_and_data_in_it(tmp_path: Path) -> None:
    data = base64.b64encode(b"PEM").decode()
    cluster = {"server": "https://k:6443", "certificate-authority-data": data, "tls-server-name": "kubernetes"}
    user = {"client-certificate": "me.crt", "client-key": "/abs/me.key", "tokenFile": "token"}
    config = read_kubeconfig(write(tmp_path / "config", user, cluster))
    assert config.server == "https://k:6443" and config.server_name == "kubernetes"
    assert config.ca is not None and config.ca.read() == "PEM" and "PEM" not in repr(config.ca)
    assert config.certificate is not None and config.certificate.path == tmp_path / "me.crt"
    assert config.key is not None and config.key.path == Path("/abs/me.key")
    assert config.token_file == tmp_path / "token"


@pytest.mark.parametrize(
    ("user", "cluster", "said"),
    [
        ({"username": "x", "password": "y"}, None, "username isn't supported"),
        ({"client-certificate": "x"}, None, "go together"),
        ({"client-certificate-data": "%"}, None, "base64 of PEM"),
        ({"exec": {"command": "x"}}, None, "command and apiVersion"),
        ({}, {"server": "10.0.0.1"}, "https://HOST:PORT"),
        ({}, {"x": "y"}, "server: text was expected"),
    ],
)
def test_faults_are_said(user: dict[str, Any], cluster: dict[str, Any] | None, said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=said):
        read_kubeconfig(write(tmp_path / "config", user, cluster))


def test_a_pod_s_service_account_is_the_last_resort(tmp_path: Path) -> None:
    environment = {"HOME": str(tmp_path), "KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "443"}
    with pytest.raises(ConfigError, match="--kubeconfig: it is missing"):
        find_config(None, {"HOME": str(tmp_path)})
    (tmp_path / "token").write_text("t")
    config = in_cluster(environment, tmp_path)
    assert config.server == "https://[fd00::1]:443" and config.token_file == tmp_path / "token"
    (tmp_path / ".kube").mkdir()
    write(tmp_path / ".kube/config", {"token": "mine"})
    assert find_config(None, environment).token == "mine"
