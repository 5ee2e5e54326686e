"""Every flag and every field of both versions: a legal value renders where the version knows it, the nearest illegal
one is refused, and what the other version doesn't know is refused there."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from msgspec.structs import replace

from protokube.core.component.model import Layer
from protokube.core.component.schema import Field, Version, parse_version
from protokube.core.controlplane.layers import layer_faults
from protokube.core.controlplane.model import ControlPlaneSettings, EtcdEndpoint, NodeOfControlPlane
from protokube.core.controlplane.render import Rendered, render
from protokube.core.controlplane.schemas import API_SERVER_FILES, component_schema, file_schema
from protokube.core.model import Fault
from tests.lab.component_edges import EDGES, FILES, LEGAL, PATH
from tests.lab.component_facts import COMPONENTS, VERSIONS, facts
from tests.lab.kubelet_edges import Edge

NODE = NodeOfControlPlane("node-a", ("10.0.0.1",), (EtcdEndpoint("main", "https://127.0.0.1:4001"),))


def version_of(text: str) -> Version:
    parsed = parse_version(text)
    assert not isinstance(parsed, Fault)
    return parsed


def rendered(component: str, version: str, *layers: dict[str, Any]) -> Rendered | tuple[Fault, ...]:
    given = ControlPlaneSettings()
    return render(component, given, NODE, version_of(version), [Layer("layer", layer) for layer in layers])


def nested(name: str, value: object) -> dict[str, Any]:
    for part in reversed(name.split(".")):
        value = {part: value}
    assert isinstance(value, dict)
    return value


def file_of(outcome: Rendered, name: str, default: str | None = None) -> str:
    """The text of the one file of a name, which is named by a flag as well."""
    found = [(path, text) for path, text in outcome.files.items() if path.rpartition("/")[2].startswith(f"{name}-")]
    if not found and default is not None:
        return default
    [(path, text)] = found
    assert any(flag.endswith(f"={path}") for flag in outcome.flags)
    return text


def configurable(component: str) -> list[Field]:
    fields = component_schema(component).fields.values()
    return [field for field in fields if "[]" not in field.name and not field.owned]


def edge_of(component: str, field: Field) -> Edge | None:
    found = EDGES.get((component, field.name)) or EDGES.get(("*", field.name))
    return PATH if found is None and "form=path" in field.rules else found


def legal(component: str, field: Field, version: str) -> Any:
    edge = edge_of(component, field)
    if edge is not None:
        old = version == VERSIONS[0]
        return [*(edge.old if old else edge.new), *edge.both][-1]
    return field.kind.split("|")[-1] if "|" in field.kind else LEGAL[field.kind]


def with_gate(field: Field, layer: dict[str, Any]) -> dict[str, Any]:
    gated = any(rule.startswith("gate=") for rule in field.rules)
    return {**layer, "featureGates": {"AllAlpha": True}} if gated else layer


def ids(component: str, version: str, field: Field) -> Any:
    return pytest.param(component, version, field, id=f"{component}-{version}-{field.name}")


SWEEP = [ids(c, version, field) for c in COMPONENTS for version in VERSIONS for field in configurable(c)]


@pytest.mark.parametrize("component", COMPONENTS)
def test_the_table_has_each_flag_and_field_and_no_other(component: str) -> None:
    schema = component_schema(component)
    named = {f"--{field.flag}": field for field in schema.fields.values() if field.flag}
    known = facts(component)
    assert named.keys() == {one.name for one in known if one.name.startswith("--")}
    fields = {one.name: one for one in known if not one.name.startswith("--")}
    in_files = {field.name for field in schema.fields.values() if "c" in field.places}
    lists = {name.split("[]")[0] for name in fields if "[]" in name and name.startswith("logging.vmodule")}
    assert in_files == {name for name in fields if not name.startswith(tuple(f"{one}[]" for one in lists))}
    for one in known:
        field = named[one.name] if one.name.startswith("--") else schema.fields.get(one.name)
        if field is None:
            continue
        if one.name in fields or "c" not in field.places:
            assert field.places == one.letters, one


@pytest.mark.parametrize(("component", "version", "field"), SWEEP)
def test_a_legal_value_renders_where_the_version_knows_the_field(component: str, version: str, field: Field) -> None:
    value = legal(component, field, version)
    outcome = rendered(component, version, with_gate(field, nested(field.name, value)))
    letter = field.places[VERSIONS.index(version)]
    if letter == ".":
        assert isinstance(outcome, tuple)
        assert any(f"{component} {version} doesn't know it " in fault.message for fault in outcome), outcome
        return
    assert isinstance(outcome, Rendered), outcome
    if letter == "c":
        text = file_of(outcome, "config")
        tree = yaml.safe_load(text)
        for part in field.name.split("."):
            tree = tree[part]
    else:
        assert any(flag.startswith(f"--{field.flag}=") for flag in outcome.flags), outcome.flags


def illegal() -> list[Any]:
    found = []
    for component in COMPONENTS:
        for field in configurable(component):
            edge = edge_of(component, field)
            for column, version in enumerate(VERSIONS):
                if edge is not None and field.places[column] != ".":
                    values = (*edge.neither, *(edge.new if column == 0 else edge.old))
                    name = f"{component}-{version}-{field.name}"
                    found += [pytest.param(component, version, field, one, id=f"{name}-{one}") for one in values]
    return found


@pytest.mark.parametrize(("component", "version", "field", "value"), illegal())
def test_the_nearest_illegal_value_is_refused(component: str, version: str, field: Field, value: object) -> None:
    outcome = rendered(component, version, with_gate(field, nested(field.name, value)))
    assert isinstance(outcome, tuple)
    assert all(fault.place.startswith(f"layer.{field.name}") for fault in outcome), outcome
    assert any(" is wrong; " in fault.message or "doesn't know it" in fault.message for fault in outcome), outcome


@pytest.mark.parametrize("component", COMPONENTS)
def test_every_rule_has_its_edges(component: str) -> None:
    for field in configurable(component):
        if any(not rule.startswith("gate=") for rule in field.rules) or "|" in field.kind:
            assert edge_of(component, field) is not None, field.name
    named = {name for where, name in EDGES if where == component}
    assert named <= component_schema(component).fields.keys()


@pytest.mark.parametrize("component", COMPONENTS)
@pytest.mark.parametrize("version", VERSIONS)
def test_all_of_a_versions_fields_at_once(component: str, version: str) -> None:
    layers = [
        with_gate(field, nested(field.name, legal(component, field, version)))
        for field in configurable(component)
        if field.places[VERSIONS.index(version)] != "."
    ]
    outcome = rendered(component, version, *layers)
    assert isinstance(outcome, Rendered), outcome
    assert outcome == rendered(component, version, *layers)
    assert list(outcome.flags) == sorted(outcome.flags)
    known = {one.name for one in facts(component) if one.letters[VERSIONS.index(version)] != "."}
    assert {flag.partition("=")[0] for flag in outcome.flags} <= known


@pytest.mark.parametrize("component", COMPONENTS)
def test_what_protokube_owns_is_refused(component: str) -> None:
    for field in component_schema(component).fields.values():
        if field.owned:
            faults = layer_faults(component, Layer("layer", nested(field.name, "x")))
            assert faults == (Fault(f"layer.{field.name}", f"can't be configured here: {field.hint}"),)


@pytest.mark.parametrize(
    ("component", "values", "version", "fault"),
    [
        ("kube-apiserver", {"securePrt": 1}, "1.36.2", "the nearest known name is securePort"),
        ("kube-apiserver", {"audit-log-maxage": 1}, "1.36.2", "did you mean auditLogMaxAge?"),
        ("kube-apiserver", {"cloudProvider": "aws"}, "1.36.2", "see an external cloud controller manager"),
        ("kube-apiserver", {"cloudProvider": "aws"}, "1.33.0", "doesn't know it any more"),
        ("kube-apiserver", {"logtostderr": True}, "1.26.0", "kube-apiserver 1.26.0 doesn't know it any more"),
        ("kube-apiserver", {"requestheaderUidHeaders": ["a"]}, "1.31.9", "doesn't know it yet"),
        ("kube-apiserver", {"etcdServers": ["x"]}, "1.36.2", "protokube names its etcd"),
        ("kube-apiserver", {"featureGates": {"NoSuch": True}}, "1.36.2", "'NoSuch' is wrong"),
        ("kube-apiserver", {"featureGates": {"DryRun": True}}, "1.36.2", "'DryRun' is wrong"),
        ("kube-apiserver", {"image": "x"}, "1.36.2", "images follow kubernetesVersion"),
        ("kube-controller-manager", {"podEvictionTimeout": "5m"}, "1.27.1", "taint-based eviction is always on"),
        ("kube-controller-manager", {"controllers": ["*", "-nosuch"]}, "1.36.2", "'-nosuch' is wrong"),
        ("kube-scheduler", {"leaderElectLeaseDuration": "5s"}, "1.36.2", "did you mean leaderElection.lease"),
        ("kube-scheduler", {"policyConfigFile": "/x"}, "1.20.2", "can't be configured here: see profiles"),
        ("kube-proxy", {"proxyMode": "ipvs"}, "1.36.2", "it is mode today"),
        ("kube-proxy", {"mode": "nftables"}, "1.20.2", "'nftables' is wrong; expected iptables or ipvs or userspace"),
        ("kube-proxy", {"conntrackMaxPerCore": 1}, "1.36.2", "did you mean conntrack.maxPerCore?"),
    ],
)  # fmt: skip
def test_what_is_refused_says_where_it_went(component: str, values: dict[str, Any], version: str, fault: str) -> None:
    outcome = rendered(component, version, values)
    assert isinstance(outcome, tuple)
    [said] = outcome
    assert fault in said.message


@pytest.mark.parametrize(
    ("component", "values", "version"),
    [
        ("kube-apiserver", {"logtostderr": True}, "1.25.16"),
        ("kube-apiserver", {"cloudProvider": "external"}, "1.32.0"),
        ("kube-apiserver", {"requestheaderUidHeaders": ["a"]}, "1.32.0"),
        ("kube-controller-manager", {"podEvictionTimeout": "5m"}, "1.26.0"),
    ],
)
def test_the_table_knows_between_its_versions_what_came_and_went_when(
    component: str, values: dict[str, Any], version: str
) -> None:
    outcome = rendered(component, version, values)
    assert isinstance(outcome, Rendered), outcome
    assert not any("is not known" in note for note in outcome.notes)


def test_a_newer_version_is_rendered_as_the_newest_with_a_note() -> None:
    outcome = rendered("kube-scheduler", "1.37.1")
    assert isinstance(outcome, Rendered)
    [note] = outcome.notes
    assert note == "kube-scheduler 1.37.1 is newer than 1.36.2, the newest one known; rendered as for that"


@pytest.mark.parametrize(("key", "case"), [(key, case) for key, cases in FILES.items() for case in cases])
def test_the_files_of_the_api_server(key: str, case: Any) -> None:
    outcome = rendered("kube-apiserver", case.version, {key: case.value})
    if case.fault is not None:
        assert isinstance(outcome, tuple)
        assert case.fault in str(outcome[0])
        return
    assert isinstance(outcome, Rendered), outcome
    text = yaml.safe_load(file_of(outcome, key))
    assert text.pop("apiVersion") == case.api
    assert text.pop("kind") == file_schema(key).component
    assert case.value.items() <= text.items()


def test_each_file_has_its_cases() -> None:
    assert FILES.keys() == set(API_SERVER_FILES)


def test_layers_lie_over_one_another() -> None:
    low = {"eventTTL": "2h", "featureGates": {"AllAlpha": False}, "auditPolicy": {"rules": [{"level": "Metadata"}]}}
    high = {"eventTTL": "3h", "featureGates": {"AllBeta": True}, "auditPolicy": {"omitManagedFields": True}}
    outcome = rendered("kube-apiserver", "1.36.2", low, high)
    assert isinstance(outcome, Rendered)
    assert "--event-ttl=3h0m0s" in outcome.flags
    assert "--feature-gates=AllAlpha=false,AllBeta=true" in outcome.flags
    policy = yaml.safe_load(file_of(outcome, "auditPolicy"))
    assert (policy["rules"], policy["omitManagedFields"]) == ([{"level": "Metadata"}], True)


def test_defaults_give_way_and_node_restriction_stays() -> None:
    outcome = rendered(
        "kube-apiserver", "1.36.2", {"securePort": 443, "enableAdmissionPlugins": ["AlwaysPullImages"]}
    )
    assert isinstance(outcome, Rendered)
    assert {"--secure-port=443", "--enable-admission-plugins=AlwaysPullImages,NodeRestriction"} <= set(outcome.flags)
    ours = "--kubelet-certificate-authority=/var/lib/protokube/pki/apiserver-kubelet-client.d/current/ca.crt"
    assert ours in outcome.flags
    other = rendered("kube-apiserver", "1.36.2", {"kubeletCertificateAuthority": "/etc/kubelets/ca.crt"})
    assert isinstance(other, Rendered)
    assert "--kubelet-certificate-authority=/etc/kubelets/ca.crt" in other.flags and ours not in other.flags
    off = rendered("kube-apiserver", "1.36.2", {"disableAdmissionPlugins": ["NodeRestriction"]})
    assert isinstance(off, Rendered)
    assert not any(flag.startswith("--enable-admission") for flag in off.flags)


@pytest.mark.parametrize(
    ("version", "values", "limited"),
    [
        ("1.31.9", {}, False),
        ("1.32.0", {}, True),
        ("1.36.2", {"anonymousAuth": True}, False),
        ("1.36.2", {"oidcIssuerURL": "https://a.example", "oidcClientID": "x"}, False),
        ("1.36.2", {"authenticationConfig": {"anonymous": {"enabled": True}}}, False),
    ],
)
def test_the_anonymous_see_health_paths_alone_where_the_version_can(
    version: str, values: dict[str, Any], limited: bool
) -> None:
    outcome = rendered("kube-apiserver", version, values)
    assert isinstance(outcome, Rendered), outcome
    text = file_of(outcome, "authenticationConfig", "{}")
    paths = [each["path"] for each in (yaml.safe_load(text).get("anonymous") or {}).get("conditions", [])]
    assert paths == (["/livez", "/readyz", "/healthz"] if limited else [])


@pytest.mark.parametrize(
    ("values", "place"),
    [
        ({"bindAddress": "10.0.0.1"}, "bindAddress"),
        ({"bindAddress": "127.0.0.1"}, "bindAddress"),
        ({"anonymousAuth": False}, "anonymousAuth"),
        ({"authenticationConfig": {"anonymous": {"enabled": False}}}, "authenticationConfig.anonymous.enabled"),
        (
            {"authenticationConfig": {"anonymous": {"enabled": True, "conditions": [{"path": "/livez"}]}}},
            "authenticationConfig.anonymous.conditions",
        ),
    ],
)
def test_what_closes_the_api_server_to_probes_is_refused(values: dict[str, Any], place: str) -> None:
    outcome = rendered("kube-apiserver", "1.36.2", values)
    assert isinstance(outcome, tuple)
    assert [(one.place, "ask for the API server's health" in one.message) for one in outcome] == [
        (f"layer.{place}", True)
    ]


@pytest.mark.parametrize("address", ["0.0.0.0", "::"])
def test_the_api_server_may_listen_at_every_address(address: str) -> None:
    paths = [{"path": path} for path in ("/livez", "/readyz", "/healthz", "/version")]
    closed = {"authenticationConfig": {"anonymous": {"enabled": True, "conditions": paths}}}
    assert isinstance(rendered("kube-apiserver", "1.36.2", {"bindAddress": address, **closed}), Rendered)


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        (
            {"authenticationConfig": {"jwt": []}, "oidcClientID": "x"},
            "layer.oidcClientID: can't be set beside authenticationConfig; say it there",
        ),
        (
            {"authenticationConfig": {"anonymous": {"enabled": True}}, "anonymousAuth": True},
            "layer.anonymousAuth: can't be set beside authenticationConfig.anonymous; say it there",
        ),
        (
            {"authorizationConfig": {"authorizers": []}, "authorizationMode": ["RBAC"]},
            "layer.authorizationMode: can't be set beside authorizationConfig; say it there",
        ),
    ],
)
def test_what_excludes_one_another_is_refused(values: dict[str, Any], fault: str) -> None:
    assert rendered("kube-apiserver", "1.36.2", values) == (Fault(*fault.split(": ", 1)),)


def test_events_have_their_own_etcd_and_plain_etcd_no_certificate() -> None:
    node = replace(NODE, etcd=(EtcdEndpoint("main", "http://127.0.0.1:4001"), EtcdEndpoint("events", "http://e:1")))
    outcome = render("kube-apiserver", ControlPlaneSettings(), node, (1, 36, 2), [])
    assert isinstance(outcome, Rendered)
    assert "--etcd-servers-overrides=/events#http://e:1" in outcome.flags
    assert not any(flag.startswith(("--etcd-ca", "--etcd-cert", "--etcd-key")) for flag in outcome.flags)


@pytest.mark.parametrize(
    ("values", "flag"),
    [
        ({"auditWebhookBatchThrottleQPS": 3.14}, "--audit-webhook-batch-throttle-qps=3.14"),
        ({"auditLogMaxAge": 30}, "--audit-log-maxage=30"),
        ({"logLevel": 2}, "--v=2"),
        ({"logLevel": 0}, None),
        ({"authorizationWebhookCacheAuthorizedTTL": "100s"}, "--authorization-webhook-cache-authorized-ttl=1m40s"),
    ],
)
def test_vectors_of_the_api_servers_flags(values: dict[str, Any], flag: str | None) -> None:
    outcome = rendered("kube-apiserver", "1.36.2", values)
    assert isinstance(outcome, Rendered)
    assert flag in outcome.flags if flag else not any(each.startswith("--v=") for each in outcome.flags)


@pytest.mark.parametrize(
    ("values", "flag"),
    [
        ({"attachDetachReconcileSyncPeriod": "1m"}, "--attach-detach-reconcile-sync-period=1m0s"),
        ({"terminatedPodGCThreshold": 1500}, "--terminated-pod-gc-threshold=1500"),
        ({"leaderElection": {"leaderElectLeaseDuration": "30s"}}, "--leader-elect-lease-duration=30s"),
        ({"nodeMonitorGracePeriod": "40s"}, "--node-monitor-grace-period=40s"),
    ],
)
def test_vectors_of_the_controller_managers_flags(values: dict[str, Any], flag: str) -> None:
    outcome = rendered("kube-controller-manager", "1.36.2", values)
    assert isinstance(outcome, Rendered)
    assert flag in outcome.flags
