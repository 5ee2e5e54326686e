"""The static pods of the control plane, to the byte, and what must hold of each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from protokube.core.component.model import Layer
from protokube.core.component.schema import Version, parse_version
from protokube.core.controlplane.certificates import needed_by, trusted_by, wanted_certificates
from protokube.core.controlplane.images import dns_image
from protokube.core.controlplane.model import ControlPlaneSettings, EtcdEndpoint, Images, Networking
from protokube.core.controlplane.model import NodeOfControlPlane as Node
from protokube.core.controlplane.network import faults_of, first_service_address
from protokube.core.controlplane.pods import TRUSTED, health_url, pod
from protokube.core.controlplane.render import Rendered, render
from protokube.core.model import Fault
from protokube.core.pki.model import Certificate, CertificateWanted, Material
from protokube.core.volumes.model import Instance
from tests.lab.component_facts import COMPONENTS

GOLDEN = Path(__file__).parent / "golden"
NODE = Node(
    "node-a", ("10.0.0.1",), (EtcdEndpoint("main", "https://127.0.0.1:4001"), EtcdEndpoint("events", "https://127.0.0.1:4002"))
)  # fmt: skip
POD_VERSIONS = ("1.20.2", "1.32.0", "1.36.2")


def version_of(text: str) -> Version:
    parsed = parse_version(text)
    assert not isinstance(parsed, Fault)
    return parsed


def text_of(component: str, version: str = "1.36.2", trusted: str = "", **values: Any) -> str:
    layers = [Layer("layer", values)] if values else []
    rendered = render(component, ControlPlaneSettings(), NODE, version_of(version), layers)
    assert isinstance(rendered, Rendered), rendered
    return pod(rendered, version_of(version), Images(), trusted)


def container(component: str, version: str = "1.36.2", **values: Any) -> dict[str, Any]:
    [found] = yaml.safe_load(text_of(component, version, **values))["spec"]["containers"]
    assert isinstance(found, dict)
    return found


def volumes(component: str, **values: Any) -> dict[str, dict[str, Any]]:
    spec = yaml.safe_load(text_of(component, **values))["spec"]
    paths = {one["name"]: one["hostPath"] for one in spec["volumes"]}
    return {
        paths[one["name"]]["path"]: {**one, **paths[one["name"]]} for one in spec["containers"][0]["volumeMounts"]
    }


@pytest.mark.parametrize("component", COMPONENTS)
@pytest.mark.parametrize("version", POD_VERSIONS)
def test_golden_pods(component: str, version: str) -> None:
    assert text_of(component, version) == (GOLDEN / f"{component}-{version}.manifest").read_text(encoding="utf-8")


@pytest.mark.parametrize("component", COMPONENTS)
@pytest.mark.parametrize("version", POD_VERSIONS)
def test_a_pod_names_no_object_of_the_api_and_no_file(component: str, version: str) -> None:
    tree = yaml.safe_load(text_of(component, version))
    assert not {"serviceAccountName", "serviceAccount", "imagePullSecrets", "nodeName"} & tree["spec"].keys()
    for volume in tree["spec"]["volumes"]:
        assert volume.keys() == {"name", "hostPath"}
        lock = volume["hostPath"]["path"] == "/run/xtables.lock"
        assert volume["hostPath"]["type"] in (("FileOrCreate",) if lock else ("Directory", "DirectoryOrCreate"))
    for one in tree["spec"]["containers"]:
        assert not {"env", "envFrom"} & one.keys()


@pytest.mark.parametrize(
    ("component", "certificates"),
    [
        (
            "kube-apiserver",
            "apiserver apiserver-kubelet-client etcd-client front-proxy-client service-account",
        ),
        ("kube-controller-manager", "controller-manager front-proxy-trust service-account signing-authority"),
        ("kube-scheduler", "front-proxy-trust scheduler"),
        ("kube-proxy", "proxy"),
    ],
)
def test_a_pod_sees_its_own_certificates_and_no_other(component: str, certificates: str) -> None:
    below = {path: one for path, one in volumes(component).items() if path.startswith("/var/lib/protokube")}
    assert set(below) == {f"/var/lib/protokube/pki/{name}.d" for name in certificates.split()}
    assert all(one["readOnly"] and one["type"] == "Directory" for one in below.values())
    for argument in container(component)["command"]:
        path = argument.partition("=")[2]
        assert not path.startswith("/var/lib/protokube") or any(path.startswith(f"{one}/current/") for one in below)


@pytest.mark.parametrize(
    ("version", "overrides", "expected"),
    [
        ("1.20.2", {}, "registry.k8s.io/coredns:1.7.0"),
        ("1.21.0", {}, "registry.k8s.io/coredns/coredns:v1.8.6"),
        ("1.36.2", {}, "registry.k8s.io/coredns/coredns:v1.14.2"),
        ("1.40.0", {}, "registry.k8s.io/coredns/coredns:v1.14.2"),
        ("1.36.2", {"coredns": "example.com/dns:1"}, "example.com/dns:1"),
    ],
)
def test_the_image_of_the_clusters_dns_follows_the_version(
    version: str, overrides: dict[str, str], expected: str
) -> None:
    assert dns_image(Images(overrides=overrides), version_of(version)) == expected


@pytest.mark.parametrize("component", COMPONENTS)
def test_only_the_proxy_is_privileged(component: str) -> None:
    context = container(component)["securityContext"]
    if component == "kube-proxy":
        assert context == {"privileged": True}
        return
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert (context["allowPrivilegeEscalation"], context["readOnlyRootFilesystem"]) == (False, True)


def test_a_low_port_needs_the_right_to_bind_it() -> None:
    found = container("kube-apiserver", securePort=443)
    assert found["securityContext"]["capabilities"] == {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}
    assert {found[probe]["httpGet"]["port"] for probe in ("livenessProbe", "readinessProbe", "startupProbe")} == {443}


@pytest.mark.parametrize(
    ("component", "version", "live", "ready"),
    [
        ("kube-apiserver", "1.20.2", "/livez", "/readyz"),
        ("kube-controller-manager", "1.36.2", "/healthz", None),
        ("kube-scheduler", "1.31.9", "/healthz", None),
        ("kube-scheduler", "1.32.0", "/livez", "/readyz"),
        ("kube-proxy", "1.27.9", None, None),
        ("kube-proxy", "1.28.0", "/livez", None),
    ],
)
def test_probes(component: str, version: str, live: str | None, ready: str | None) -> None:
    found = container(component, version)

    def path(probe: str) -> str | None:
        return str(found[probe]["httpGet"]["path"]) if probe in found else None

    assert (path("livenessProbe"), path("startupProbe"), path("readinessProbe")) == (live, live, ready)


@pytest.mark.parametrize(
    ("component", "values", "host", "port"),
    [
        ("kube-scheduler", {"bindAddress": "10.0.0.1"}, "10.0.0.1", 10259),
        ("kube-apiserver", {"bindAddress": "0.0.0.0"}, "127.0.0.1", 6443),
        ("kube-controller-manager", {"securePort": 9999}, "127.0.0.1", 9999),
        ("kube-proxy", {"healthzBindAddress": "10.0.0.1:80"}, "10.0.0.1", 80),
        ("kube-proxy", {"healthzBindAddress": "[::]:10256"}, "127.0.0.1", 10256),
    ],
)
def test_a_component_is_asked_where_it_listens(component: str, values: dict[str, Any], host: str, port: int) -> None:
    get = container(component, **values)["livenessProbe"]["httpGet"]
    assert (get["host"], get["port"]) == (host, port)


def test_the_directories_of_files_that_an_operator_names_are_mounted() -> None:
    found = volumes(
        "kube-apiserver",
        auditLogPath="/var/log/kube/audit.log",
        oidcCAFile="/etc/oidc/ca.crt",
        oidcIssuerURL="https://a.example",
        tokenAuthFile="/etc/kubernetes/kube-apiserver/tokens",
        auditPolicy={"rules": []},
    )
    assert (found["/var/log/kube"]["readOnly"], found["/var/log/kube"]["type"]) == (False, "DirectoryOrCreate")
    assert (found["/etc/oidc"]["readOnly"], found["/etc/oidc"]["type"]) == (True, "Directory")
    assert "/etc/kubernetes/kube-apiserver" in found
    assert all(one["mountPath"] == one["path"] for one in found.values())


def test_what_is_read_at_the_start_alone_changes_the_pod() -> None:
    texts = {
        text_of("kube-scheduler"),
        text_of("kube-scheduler", parallelism=8),
        text_of("kube-scheduler", trusted="b"),
    }
    assert len(texts) == 3
    trusted = {yaml.safe_load(text)["metadata"]["annotations"][TRUSTED] for text in texts}
    assert len(trusted) == 2


@pytest.mark.parametrize(
    ("component", "values", "url"),
    [
        ("kube-apiserver", {}, "https://127.0.0.1:6443/livez"),
        ("kube-apiserver", {"bindAddress": "::", "securePort": 443}, "https://127.0.0.1:443/livez"),
        ("kube-scheduler", {"bindAddress": "fd00::1"}, "https://[fd00::1]:10259/healthz"),
        ("kube-scheduler", {}, "https://127.0.0.1:10259/healthz"),
        ("kube-proxy", {"healthzBindAddress": "[fd00::1]:1"}, "http://[fd00::1]:1/healthz"),
    ],
)
def test_where_protokube_asks_for_health(component: str, values: dict[str, Any], url: str) -> None:
    rendered = render(component, ControlPlaneSettings(), NODE, (1, 36, 2), [Layer("layer", values)])
    assert isinstance(rendered, Rendered)
    assert health_url(rendered) == url


def test_images_follow_the_version_and_may_be_overridden() -> None:
    rendered = render("kube-proxy", ControlPlaneSettings(), NODE, (1, 36, 2), [])
    assert isinstance(rendered, Rendered)
    images = Images("mirror.example/k8s", {"kube-scheduler": "x"})
    assert 'image: "mirror.example/k8s/kube-proxy:v1.36.2"' in pod(rendered, (1, 36, 2), images)
    assert 'image: "mine:1"' in pod(rendered, (1, 36, 2), Images(overrides={"kube-proxy": "mine:1"}))


# --- networks and certificates ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("networking", "fault"),
    [
        (Networking(), None),
        (Networking(pod_cidr="10.1.0.0/16,fd00:1::/64", service_cidr="10.2.0.0/16,fd00:2::/112", cluster_dns="10.2.0.10"), None),  # noqa: E501
        (Networking(pod_cidr="10.1.0.0/33"), "networking.podCIDR"),
        (Networking(pod_cidr="10.1.0.1/16"), "networking.podCIDR"),
        (Networking(pod_cidr="10.1.0.0/16,10.2.0.0/16"), "networking.podCIDR"),
        (Networking(service_cidr="10.0.0.0/8"), "networking.serviceCIDR"),
        (Networking(pod_cidr="10.96.1.0/24"), "networking.serviceCIDR"),
        (Networking(domain="Cluster.Local"), "networking.domain"),
        (Networking(cluster_dns="10.0.0.10"), "networking.clusterDNS"),
        (Networking(cluster_dns="dns"), "networking.clusterDNS"),
    ],
)  # fmt: skip
def test_networks(networking: Networking, fault: str | None) -> None:
    found = [one.place for one in faults_of(networking)]
    assert fault in found if fault else not found


def test_the_first_address_of_each_family_is_the_api_servers() -> None:
    assert first_service_address(Networking(service_cidr="10.96.0.0/12,fd00::/112")) == ("10.96.0.1", "fd00::1")


INSTANCE = Instance("i-1", "node-a", "zone-a", "dev.example.com", ("10.0.0.1",), ("203.0.113.7",))


def certificates(*, api_server: bool = True) -> dict[str, CertificateWanted]:
    names = ("api.internal.dev.example.com", "api.dev.example.com")
    return {one.name: one for one in wanted_certificates(INSTANCE, Networking(), names, api_server=api_server)}


def test_the_api_servers_certificate_has_every_name_that_it_is_called_by() -> None:
    found = certificates()["apiserver"]
    assert set(found.dns) == {
        "node-a",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
        "api.internal.dev.example.com",
        "api.dev.example.com",
        "localhost",
    }
    assert set(found.addresses) == {"127.0.0.1", "10.96.0.1", "10.0.0.1", "203.0.113.7"}
    assert (found.server, found.client) == (True, False)


def test_users_and_groups() -> None:
    found = certificates()
    users = {name: (one.common_name, one.organizations, one.authority) for name, one in found.items()}
    assert users["controller-manager"] == ("system:kube-controller-manager", (), "kubernetes")
    assert users["scheduler"] == ("system:kube-scheduler", (), "kubernetes")
    assert users["proxy"] == ("system:kube-proxy", (), "kubernetes")
    assert users["apiserver-kubelet-client"] == ("kube-apiserver-kubelet-client", (), "kubernetes")
    assert users["front-proxy-client"] == ("front-proxy-client", (), "front-proxy")
    assert found["service-account"].material is Material.TOKEN_KEYS
    assert found["signing-authority"].material is Material.AUTHORITY
    assert certificates(api_server=False).keys() == {"proxy"}


@pytest.mark.parametrize("component", COMPONENTS)
def test_no_component_needs_a_certificate_that_nobody_wants(component: str) -> None:
    assert needed_by(component, etcd_tls=True) <= certificates().keys() | {"etcd-client"}


@pytest.mark.parametrize("component", COMPONENTS)
def test_every_certificate_that_a_flag_names_is_needed(component: str) -> None:
    text = text_of(component)
    named = {name for name in (*certificates(), "etcd-client") if f"/pki/{name}/" in text}
    assert named <= needed_by(component, etcd_tls=True)


@pytest.mark.parametrize("name", ["service-account", "apiserver-kubelet-client"])
def test_new_keys_and_authorities_are_told_to_who_reads_them_once(name: str) -> None:
    wanted = certificates()[name]
    before = {name: Certificate(wanted, "1", 0, 1, "a", 1, ("a",))}
    after = {name: Certificate(wanted, "2", 0, 1, "b", 1, ("b", "a"))}
    assert trusted_by("kube-apiserver", before) != trusted_by("kube-apiserver", after)
    assert trusted_by("kube-scheduler", before) == trusted_by("kube-scheduler", after) == ""


def test_who_issues_is_no_matter_of_trust_but_for_tokens() -> None:
    found = certificates()

    def text(name: str, *trusted: str) -> str:
        return trusted_by("kube-apiserver", {name: Certificate(found[name], "1", 0, 1, trusted[0], 1, trusted)})

    assert text("apiserver-kubelet-client", "a", "b") == text("apiserver-kubelet-client", "b", "a")
    assert text("service-account", "a", "b") != text("service-account", "b", "a"), "the first one signs"
