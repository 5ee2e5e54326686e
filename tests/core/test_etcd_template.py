"""etcd's manifests: golden texts, the form of a v1 Pod, probes by version, faults in templates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from protokube.core.etcd.model import DEFAULT_IMAGE, EtcdTemplate
from protokube.core.etcd.template import check_pod, has_livez, parse_template, render_manifest
from protokube.core.static_pod import manifest_env
from protokube.core.volumes.model import EtcdMember
from tests.rounds.process import templates

GOLDEN = Path(__file__).parent / "golden"
SHIPPED = Path(__file__).parents[2] / "templates" / "etcd"
POD = (SHIPPED / "manifest.yaml").read_text()
MEMBER = EtcdMember("main", "a", ("a", "b", "c"))


def render(key: str = "main", member: EtcdMember = MEMBER, **changes: Any) -> str:
    values: dict[str, Any] = {
        "mount_point": "/mnt/master-vol-1", "dns_suffix": ".internal.c.example.com", "image": DEFAULT_IMAGE,
        "state": "new", "hosts": True,
    }  # fmt: skip
    return render_manifest(templates()[key], member, **(values | changes))


def container(text: str) -> dict[str, Any]:
    found = yaml.safe_load(text)["spec"]["containers"][0]
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("etcd-main-new", render()),
        ("etcd-events-existing", render("events", EtcdMember("events", "b", ("b",)), state="existing", hosts=False)),
        ("etcd-main-old-image", render(image="registry.k8s.io/etcd:3.5.9-0")),
        ("etcd-main-tls", render(tls=True)),
        ("etcd-events-tls-old-image", render("events", image="registry.k8s.io/etcd:3.4.23-0", hosts=False, tls=True)),
        ("etcd-main-joining", render(state="existing", initial_cluster="etcd-a=http://x:2380,etcd-b=http://y:2380")),
    ],
)
def test_golden(name: str, text: str) -> None:
    """Every byte counts: kubelet restarts etcd when its manifest changes."""
    assert text == (GOLDEN / f"{name}.manifest").read_text()


@pytest.mark.parametrize("hosts", [True, False])
@pytest.mark.parametrize("image", [DEFAULT_IMAGE, "registry.k8s.io/etcd:3.5.9-0", "example.com/etcd@sha256:00"])
@pytest.mark.parametrize("key", ["main", "events"])
def test_it_is_a_valid_pod(key: str, image: str, hosts: bool) -> None:
    pod = yaml.safe_load(render(key, EtcdMember(key, "a", ("a",)), image=image, hosts=hosts))
    assert (pod["apiVersion"], pod["kind"], pod["metadata"]["namespace"]) == ("v1", "Pod", "kube-system")
    spec = pod["spec"]
    assert spec["hostNetwork"] is True
    assert (spec["priorityClassName"], spec["priority"]) == ("system-node-critical", 2000001000)
    (one,) = spec["containers"]
    assert (one["name"], one["command"], one["image"]) == ("etcd-container", ["etcd"], image)
    for port in one["ports"]:
        assert type(port["containerPort"]) is int and port["containerPort"] == port["hostPort"]
        assert len(port["name"]) <= 15
    assert all(type(item["value"]) is str for item in one["env"])
    assert {mount["name"] for mount in one["volumeMounts"]} == {volume["name"] for volume in spec["volumes"]}
    assert ("hosts" in {volume["name"] for volume in spec["volumes"]}) == hosts
    kinds = {volume["name"]: volume["hostPath"]["type"] for volume in spec["volumes"]}
    assert kinds["data"] == "Directory" and kinds.get("hosts", "File") == "File"
    for probe in ("livenessProbe", "startupProbe"):
        handlers = one[probe].keys() & {"httpGet", "tcpSocket", "exec"}
        assert len(handlers) == 1
        assert type(one[probe][handlers.pop()]["port"]) is int
    assert one["startupProbe"]["periodSeconds"] * one["startupProbe"]["failureThreshold"] >= 600
    assert "$" not in render(key, EtcdMember(key, "a", ("a",)))


def test_the_environment_names_member_cluster_and_addresses() -> None:
    env = manifest_env(render())
    assert env["ETCD_NAME"] == "etcd-a"
    assert env["ETCD_DATA_DIR"] == "/var/etcd/data"
    assert env["ETCD_INITIAL_CLUSTER_TOKEN"] == "etcd-cluster-token-etcd"
    assert env["ETCD_INITIAL_CLUSTER_STATE"] == "new"
    assert env["ETCD_INITIAL_CLUSTER"] == ",".join(
        f"etcd-{me}=http://etcd-{me}.internal.c.example.com:2380" for me in "abc"
    )
    assert env["ETCD_LISTEN_CLIENT_URLS"] == "http://127.0.0.1:4001"
    assert env["ETCD_LISTEN_PEER_URLS"] == "http://0.0.0.0:2380"
    assert manifest_env(render("events", EtcdMember("events", "a", ("a",))))["ETCD_NAME"] == "etcd-events-a"


@pytest.mark.parametrize(
    ("image", "livez"),
    [
        ("r/etcd:3.6.0-0", True), ("r/etcd:v3.6.6", True), ("r/etcd:4.0.0", True), ("r/etcd:3.10.1", True),
        ("r/etcd:3.5.11-0", True), ("r/etcd:3.5.10-0", False), ("r/etcd:3.4.29", True), ("r/etcd:3.4.28", False),
        ("r/etcd:3.3.99", False), ("r/etcd:2.2.1", False), ("r/etcd:latest", False), ("r/etcd", False),
        ("r:5000/etcd", False), ("r/etcd@sha256:1234", False),
    ],
)  # fmt: skip
def test_livez_where_the_image_has_it(image: str, livez: bool) -> None:
    assert has_livez(image) == livez
    probe = container(render(image=image))["livenessProbe"]
    assert ("httpGet" in probe, "tcpSocket" in probe) == (livez, not livez)
    assert "/health" not in render(image=image)


@settings(deadline=None)  # a busy machine is no fault
@given(st.text(min_size=1))
def test_a_value_never_changes_the_structure(value: str) -> None:
    try:
        yaml.safe_load(yaml.safe_dump(value))
    except yaml.YAMLError:
        return  # characters that no YAML can hold
    pod = yaml.safe_load(render(mount_point=value))
    assert pod.keys() == yaml.safe_load(render()).keys()
    assert pod["spec"]["volumes"][0]["hostPath"] == {"path": f"{value}/var/etcd/data", "type": "Directory"}


# --- templates ---


def faults(text: str) -> list[str]:
    return [str(fault) for fault in check_pod("manifest.yaml", text)]


def test_the_shipped_templates_are_right() -> None:
    assert faults(POD) == []
    for key in ("main", "events"):
        assert isinstance(
            parse_template(key, f"{key}.yaml", (SHIPPED / f"{key}.yaml").read_text(), POD), EtcdTemplate
        )


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("${pod_name}", "${podname}", "unknown placeholder ${podname}"),
        ("cpu: ${cpu_request}", "cpu: 1", "the placeholder ${cpu_request} is not used"),
        ("$if: hosts,", "$if: host,", "unknown condition 'host'"),
        ("kind: Pod", "kind: Deployment", "expected a v1 Pod"),
        ("hostNetwork: true", "hostNetwork: {", "manifest.yaml:"),
    ],
)
def test_a_wrong_pod_is_refused(old: str, new: str, why: str) -> None:
    assert old in POD
    assert any(why in fault for fault in faults(POD.replace(old, new)))


def test_all_faults_at_once() -> None:
    text = POD.replace("cpu: ${cpu_request}", "cpu: ${cpus}").replace("kind: Pod", "kind: Job")
    assert len(faults(text)) == 3


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"clientPort": "4001"}, "clientPort is '4001', expected a whole number"),
        ({"clientPort": True}, "clientPort is True"),
        ({"peerPort": 0}, "expected a port"),
        ({"peerPort": 65536}, "expected a port"),
        ({"dataDir": "/var/etcd"}, "expected a relative path"),
        ({"dataDir": "../etc"}, "expected a relative path"),
        ({"dataDir": "var//etcd"}, "expected a relative path"),
        ({"clusterName": "etcd-main"}, "clusterName is 'etcd-main', expected etcd"),
        ({"more": 1}, "unknown key 'more'"),
        ({"podName": None}, "podName is None, expected a text"),
    ],
)
def test_a_wrong_template_is_refused(change: dict[str, object], why: str) -> None:
    data = yaml.safe_load((SHIPPED / "main.yaml").read_text()) | change
    judged = parse_template("main", "main.yaml", yaml.safe_dump(data), POD)
    assert isinstance(judged, tuple) and any(why in str(fault) for fault in judged)


def test_a_template_that_is_no_mapping() -> None:
    for text in ("", "[]", "{"):
        assert isinstance(parse_template("main", "main.yaml", text, POD), tuple)


# --- TLS ---


@pytest.mark.parametrize("key", ["main", "events"])
def test_without_tls_nothing_of_it_is_in_the_manifest(key: str) -> None:
    text = render(key)
    assert "https" not in text and "pki" not in text and "CERT" not in text and "METRICS" not in text


def test_with_tls_every_url_but_that_of_metrics_is_secured_and_both_spellings_of_the_switch_are_set() -> None:
    env = manifest_env(render(tls=True))
    plain = {name for name, value in env.items() if "http://" in value}
    assert plain == {"ETCD_LISTEN_METRICS_URLS"} and env["ETCD_LISTEN_METRICS_URLS"] == "http://127.0.0.1:4101"
    assert env["ETCD_INITIAL_CLUSTER"].count("=https://") == 3
    assert env["ETCD_PEER_CERT_ALLOWED_HOSTNAME"] == "peers.etcd.internal.c.example.com"
    assert env["ETCD_CLIENT_CERT_AUTH"] == env["ETCD_PEER_CLIENT_CERT_AUTH"] == "true"
    switch = "PEER_SKIP_CLIENT_SAN_VERIFICATION"
    assert env[f"ETCD_{switch}"] == env[f"ETCD_EXPERIMENTAL_{switch}"] == "true"


def mounts(text: str) -> dict[str, tuple[str, bool]]:
    """Where a pod's volumes are mounted, by their path on the node, and whether read-only."""
    pod = yaml.safe_load(text)
    inside = {one["name"]: (one["mountPath"], one.get("readOnly", False)) for one in container(text)["volumeMounts"]}
    return {one["hostPath"]["path"]: inside[one["name"]] for one in pod["spec"]["volumes"]}


def test_probes_ask_a_port_that_wants_no_certificate() -> None:
    one = container(render(tls=True))
    assert one["livenessProbe"]["httpGet"]["port"] == 4101 and one["startupProbe"]["tcpSocket"]["port"] == 4001


def test_a_pod_sees_its_own_two_certificates_and_no_other_key_of_the_node() -> None:
    """The directory that holds the link is mounted: a link that is exchanged there is seen inside, and one that was
    mounted itself is not."""
    text, pki = render(tls=True), "/var/lib/protokube/pki"
    seen = {path: mount for path, mount in mounts(text).items() if path.startswith(pki)}
    assert seen == {
        f"{pki}/etcd-{which}-main.d": (f"{pki}/etcd-{which}-main.d", True) for which in ("server", "peer")
    }
    files = [value for value in manifest_env(text).values() if value.startswith(pki)]
    assert len(files) == 6 and all(value.rpartition("/current/")[0] in seen for value in files)


def test_an_operator_s_template_may_know_no_tls_and_then_needs_no_port_for_metrics() -> None:
    lines = POD.replace("${scheme}", "http").replace("${probe_port}", "${client_port}").splitlines()
    plain = "\n".join(line for line in lines[: lines.index("    - $if: tls")] if "$if: tls" not in line)
    assert check_pod("m", plain) == ()
    text = (SHIPPED / "main.yaml").read_text().replace("metricsPort: 4101\n", "")
    template = parse_template("main", "main.yaml", text, plain)
    assert isinstance(template, EtcdTemplate) and not template.supports_tls
    (fault,) = parse_template("main", "main.yaml", text, POD)  # type: ignore[misc]
    assert "metricsPort is None, expected a whole number" in str(fault)


def test_a_template_that_begins_with_tls_and_forgets_a_part_is_refused() -> None:
    faults = check_pod("m", POD.replace("${peers_name}", "x").replace("${probe_port}", "${client_port}"))
    assert [str(one) for one in faults] == [
        "m: the placeholder ${peers_name} is not used, and $if: tls is",
        "m: the placeholder ${probe_port} is not used, and $if: tls is",
    ]


def test_an_operator_s_template_may_mount_the_directory_of_all_certificates() -> None:
    shared = POD.replace("${server_mount}", "${pki}").replace("${peer_mount}", "${pki}")
    assert check_pod("m", shared) == ()
    (fault,) = check_pod("m", POD.replace("${peer_mount}", "/elsewhere"))
    assert str(fault) == "m: the placeholder ${peer_mount} is not used, and $if: tls is"


# --- clients on other nodes ---


@pytest.mark.parametrize(("address", "spelled"), [("10.0.0.1", "10.0.0.1"), ("fd00::1", "[fd00::1]")])
def test_clients_come_to_the_node_s_address_beside_127_0_0_1(address: str, spelled: str) -> None:
    text = render(tls=True, clients=address)
    assert manifest_env(text)["ETCD_LISTEN_CLIENT_URLS"] == f"https://127.0.0.1:4001,https://{spelled}:4001"
    assert text.count("ETCD_LISTEN_CLIENT_URLS") == 1


def test_a_template_that_forgets_the_node_s_address_is_refused() -> None:
    faults = check_pod("m", POD.replace("${node_address}", "0.0.0.0"))
    assert [str(one) for one in faults] == [
        "m: the placeholder ${node_address} is not used, and $if: node-clients is"
    ]
