"""Layers of configuration: how they are read, and how they lie over one another."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from protokube.core.component.flags import Duration, Quantity
from protokube.core.component.layers import Setting, Settings, merge
from protokube.core.component.layers import read_layer as read_layer_of
from protokube.core.component.model import Layer
from protokube.core.component.schema import nearest
from protokube.core.kubelet.schema import kubelet_schema
from protokube.core.model import Fault

CALM = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a busy machine is no fault


def read_layer(layer: Layer) -> tuple[Settings, tuple[Fault, ...]]:
    return read_layer_of(kubelet_schema(), layer)


def values_of(*layers: Mapping[str, object]) -> dict[str, object]:
    """The merged values, of layers without faults."""
    read = [read_layer(Layer("kubelet", layer)) for layer in layers]
    assert [faults for _, faults in read if faults] == []
    return {name: setting.value for name, setting in merge(each for each, _ in read).items()}


def faults_of(values: Mapping[str, object]) -> list[str]:
    return [str(fault) for fault in read_layer(Layer("masterKubelet", values))[1]]


# --- merging ---------------------------------------------------------------------------------------------

MAPS = st.dictionaries(st.sampled_from(["memory.available", "nodefs.available", "pid.available"]),
                       st.sampled_from(["1Mi", "2Gi", "10%"]))  # fmt: skip
GATES = ("CPUManager", "GracefulNodeShutdown")
LAYERS = st.fixed_dictionaries(
    {},
    optional={
        "maxPods": st.none() | st.integers(0, 9),
        "clusterDomain": st.none() | st.sampled_from(["", "a", "b"]),
        "clusterDNS": st.none() | st.lists(st.sampled_from(["10.0.0.1", "::1"])),
        "evictionHard": st.none() | MAPS | MAPS.map(lambda each: ",".join(f"{k}<{v}" for k, v in each.items())),
        "featureGates": st.none() | st.dictionaries(st.sampled_from(GATES), st.none() | st.booleans()),
        "authentication": st.none()
        | st.fixed_dictionaries({}, optional={"anonymous": st.fixed_dictionaries({"enabled": st.booleans()})}),
        "failSwapOn": st.none() | st.booleans(),
    },
)
SETTINGS = LAYERS.map(lambda values: read_layer(Layer("kubelet", values))[0])


@CALM
@given(SETTINGS, SETTINGS, SETTINGS)
def test_merging_is_associative(
    low: dict[str, Setting], middle: dict[str, Setting], high: dict[str, Setting]
) -> None:
    assert merge([merge([low, middle]), high]) == merge([low, merge([middle, high])]) == merge([low, middle, high])


@CALM
@given(SETTINGS)
def test_a_layer_over_itself_or_over_nothing_stays_what_it_is(layer: dict[str, Setting]) -> None:
    assert merge([layer, layer]) == merge([{}, layer]) == merge([layer, {}]) == layer


@CALM
@given(SETTINGS, SETTINGS)
def test_nothing_is_lost_and_the_upper_layer_wins(low: dict[str, Setting], high: dict[str, Setting]) -> None:
    merged = merge([low, high])
    assert merged.keys() == low.keys() | high.keys()
    for name, setting in merged.items():
        upper = high.get(name, low.get(name))
        assert upper is not None
        if isinstance(setting.value, Mapping):
            lower = low[name].value if name in low else {}
            assert isinstance(lower, Mapping)
            assert isinstance(upper.value, Mapping)
            assert setting.value == {**lower, **upper.value}
        else:
            assert setting == upper


@CALM
@given(LAYERS)
def test_null_says_nothing(values: dict[str, object]) -> None:
    nulls = dict.fromkeys(values)
    without = {name: value for name, value in values.items() if value is not None}
    assert values_of(values, nulls) == values_of(values) == values_of(without)


def test_null_inside_a_map_or_a_struct_does_not_erase() -> None:
    low = {"evictionHard": {"memory.available": "1Mi"}, "authentication": {"anonymous": {"enabled": False}}}
    high = {"evictionHard": {"memory.available": None}, "authentication": {"anonymous": None}}
    assert values_of(low, high) == values_of(low)


def test_empty_text_and_an_empty_list_hand_the_choice_back() -> None:
    low = {"clusterDomain": "cluster.local", "clusterDNS": ["10.0.0.10"]}
    assert values_of(low, {"clusterDomain": "", "clusterDNS": []}) == {"clusterDomain": "", "clusterDNS": []}


def test_a_map_written_as_text_merges_like_any_map() -> None:
    merged = values_of({"evictionHard": "memory.available<100Mi,nodefs.available<10%"},
                       {"evictionHard": {"memory.available": "200Mi"}})  # fmt: skip
    assert merged == {"evictionHard": {"memory.available": "200Mi", "nodefs.available": "10%"}}


def test_lists_are_replaced_and_not_joined() -> None:
    assert values_of({"clusterDNS": ["10.0.0.1"]}, {"clusterDNS": ["10.0.0.2"]}) == {"clusterDNS": ["10.0.0.2"]}


# --- shapes that are read --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "written", "value"),
    [
        ("syncFrequency", "1m", Duration(60 * 10**9)),
        ("clusterDNS", "10.0.0.10, fd00::a", ["10.0.0.10", "fd00::a"]),
        ("enforceNodeAllocatable", "pods,kube-reserved", ["pods", "kube-reserved"]),
        ("featureGates", {"CPUManager": "true", "QOSReserved": False}, {"CPUManager": True, "QOSReserved": False}),
        ("featureGates", "CPUManager=true,QOSReserved=false", {"CPUManager": True, "QOSReserved": False}),
        ("kubeReserved", {"cpu": 1, "memory": "1Gi", "pid": 0.5}, {"cpu": "1", "memory": "1Gi", "pid": "0.5"}),
        ("evictionSoftGracePeriod", {"memory.available": "90s"}, {"memory.available": Duration(90 * 10**9)}),
        ("staticPodURLHeader", {"a": "b", "c": ["d", "e"]}, {"a": ["b"], "c": ["d", "e"]}),
        ("logging", {"options": {"json": {"infoBufferSize": 1024}}}, Quantity("1024")),
        ("registerWithTaints", ["a=b:NoSchedule", {"key": "c", "effect": "NoExecute"}, "d:NoSchedule"],
         [{"key": "a", "value": "b", "effect": "NoSchedule"}, {"key": "c", "effect": "NoExecute"},
          {"key": "d", "effect": "NoSchedule"}]),
        ("registerWithTaints", "a=b:NoSchedule", [{"key": "a", "value": "b", "effect": "NoSchedule"}]),
        ("memoryThrottlingFactor", 1, 1.0),
    ],
)  # fmt: skip
def test_every_shape_is_read_into_one_form(name: str, written: object, value: object) -> None:
    assert list(values_of({name: written}).values()) == [value]


# --- what is refused -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        ({"clusterDomian": "x"}, "clusterDomian: kubelet has no such field or flag; the nearest known name is cl"),
        ({"zzz": 1}, "zzz: kubelet has no such field or flag"),
        ({"anonymousAuth": False}, "did you mean authentication.anonymous.enabled?"),
        ({"max-pods": 5}, "did you mean maxPods?"),
        ({"--max-pods": 5}, "did you mean maxPods?"),
        ({"eventQPS": 5}, "did you mean eventRecordQPS?"),
        ({5: 5}, "masterKubelet.5: kubelet has no such field"),
        ({"authentication": {"anonymus": {}}}, "masterKubelet.authentication.anonymus: kubelet has no such field"),
        ({"authentication": True}, "True is wrong; expected a map with anonymous, webhook, x509"),
        ({"maxPods": "60"}, "masterKubelet.maxPods: '60' is wrong; expected a whole number from -2147483648"),
        ({"maxPods": True}, "True is wrong; expected a whole number"),
        ({"maxPods": 2**31}, "2147483648 is wrong"),
        ({"maxPods": 1.5}, "1.5 is wrong"),
        ({"failSwapOn": "false"}, "'false' is wrong; expected true or false"),
        ({"failSwapOn": 0}, "0 is wrong; expected true or false"),
        ({"clusterDomain": True}, "True is wrong; expected text"),
        ({"clusterDomain": "a\nb"}, "expected text without line breaks"),
        ({"clusterDomain": "a\ufeffb"}, "expected text without line breaks"),
        ({"address": "10.0.0"}, "'10.0.0' is wrong; expected an IP address"),
        ({"clusterDNS": ["10.0.0.10", "dns"]}, "'dns' is wrong; expected an IP address"),
        ({"clusterDNS": 10}, "10 is wrong; expected a list"),
        ({"syncFrequency": 60}, "60 is wrong; expected a duration with its unit, like 1m30s"),
        ({"syncFrequency": "60"}, "'60' is no duration; expected one like 1m30s"),
        ({"containerLogMaxSize": "10MB"}, "'10MB' is no quantity; expected one like 100Mi"),
        ({"kubeReserved": {"memory": "1GiB"}}, "memory: '1GiB' is no quantity"),
        ({"kubeReserved": {"memory": True}}, "memory: True is wrong; expected a quantity"),
        ({"kubeReserved": "memory"}, "'memory' in 'memory' is wrong; expected key=value"),
        ({"kubeReserved": "cpu=1,cpu=2"}, "each key once"),
        ({"kubeReserved": ["cpu"]}, "['cpu'] is wrong; expected a map, or text like key=value"),
        ({"kubeReserved": {"": "1"}}, "expected a key that isn't empty"),
        ({"evictionHard": {"memory.avail": "1Mi"}}, "'memory.avail' is wrong; expected memory.available or"),
        ({"evictionHard": {"memory.available": "101%"}}, "'101%' is wrong; expected a percentage"),
        ({"evictionHard": "memory.available=1Mi"}, "expected key<value"),
        ({"qosReserved": {"memory": "1Gi"}}, "'1Gi' is wrong; expected a percentage like 10%"),
        ({"cgroupDriver": "Systemd"}, "'Systemd' is wrong; expected cgroupfs or systemd"),
        ({"featureGates": {"A": "yes"}}, "A: 'yes' is wrong; expected true or false"),
        ({"registerWithTaints": ["a=b"]}, "'a=b' is wrong; expected a taint like key=value:NoSchedule"),
        ({"registerWithTaints": ["a=b:Never"]}, "'Never' is wrong; expected NoSchedule or"),
        ({"registerWithTaints": [{"key": "a"}]}, "expected effect as well"),
        ({"registerWithTaints": ["a b=c:NoSchedule"]}, "[0].key: 'a b' is wrong; expected a key like rack"),
        ({"registerWithTaints": [{"key": "a", "value": "b,c", "effect": "NoExecute"}]}, "[0].value: 'b,c' is wrong"),
        ({"registerWithTaints": [5]}, "5 is wrong; expected a list of maps"),
        ({"registerWithTaints": {}}, "{} is wrong; expected a list"),
        ({"reservedMemory": [{"numaNode": 0, "limits": {}, "limit": {}}]}, "[0].limit: is unknown; expected limits,"),
        ({"reservedMemory": [{"numaNode": 0}]}, "expected limits as well"),
        ({"memoryThrottlingFactor": float("inf")}, "inf is wrong; expected a number"),
        ({"memoryThrottlingFactor": float("nan")}, "nan is wrong; expected a number"),
        ({"tlsCurvePreferences": ["x"]}, "'x' is wrong; expected a whole number"),
        ({"config": "/x"}, "masterKubelet.config: can't be configured here"),
        ({"kubeconfig": "/x"}, "can't be configured here"),
        ({"hostnameOverride": "x"}, "can't be configured here"),
        ({"staticPodPath": "/x"}, "can't be configured here"),
        ({"staticPodPath": None}, "can't be configured here"),
        ({"help": True}, "can't be configured here: kubelet would print its help and exit"),
        ({"version": True}, "can't be configured here"),
        ({"podManifestPath": "/x"}, "did you mean staticPodPath?"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_refused_with_its_place_value_and_what_was_expected(
    values: Mapping[str, object], fault: str
) -> None:
    [said] = faults_of(values)
    assert said.startswith("masterKubelet.")
    assert fault in said


@pytest.mark.parametrize(
    ("name", "lead"),
    [
        ("taints", "it is registerWithTaints today"),
        ("networkPluginName", "it is networkPlugin today"),
        ("volumePluginDirectory", "it is volumePluginDir today"),
        ("experimentalAllowedUnsafeSysctls", "it is allowedUnsafeSysctls today"),
        ("memorySwapBehavior", "it is memorySwap.swapBehavior today"),
        ("logFormat", "it is logging.format today"),
        ("clientCaFile", "did you mean authentication.x509.clientCAFile?"),
        ("authenticationTokenWebhookCacheTtl", "did you mean authentication.webhook.cacheTTL?"),
        ("authorizationMode", "did you mean authorization.mode?"),
        ("enableCadvisorJsonEndpoints", "did you mean enableCadvisorJSONEndpoints?"),
        ("kubeconfigPath", "protokube sets --kubeconfig once /var/lib/kubelet/kubeconfig is there"),
        ("requireKubeconfig", "kubelet has run standalone without a kubeconfig since 1.8"),
        ("apiServers", "the kubeconfig names the API server since 1.8"),
        ("allowPrivileged", "pods may be privileged since 1.15"),
        ("configureCbr0", "the container runtime sets CNI up"),
        ("reconcileCIDR", "the container runtime sets CNI up"),
        ("babysitDaemons", "systemd restarts what ends"),
        ("enableCustomMetrics", "no replacement"),
        ("nvidiaGPUs", "device plugins announce GPUs"),
        ("dockerDisableSharedPID", "see a pod's shareProcessNamespace"),
    ],
)
def test_each_of_kopss_names_leads_to_todays(name: str, lead: str) -> None:
    [said] = faults_of({name: "x"})
    assert said.startswith(f"masterKubelet.{name}: kubelet has no such field or flag; ")
    assert lead in said


KOPS = """
    anonymousAuth authenticationTokenWebhook authorizationMode bootstrapKubeconfig cgroupDriver cgroupRoot
    cloudProvider clusterDNS clusterDomain containerLogMaxFiles containerLogMaxSize cpuCFSQuota cpuCFSQuotaPeriod
    cpuManagerPolicy enableDebuggingHandlers enforceNodeAllocatable eventBurst eventQPS evictionHard
    evictionMaxPodGracePeriod evictionMinimumReclaim evictionPressureTransitionPeriod evictionSoft
    evictionSoftGracePeriod failSwapOn featureGates hairpinMode hostnameOverride housekeepingInterval
    imageGCHighThresholdPercent imageGCLowThresholdPercent imagePullProgressDeadline kernelMemcgNotification
    kubeReserved kubeReservedCgroup kubeletCgroups logLevel maxPods networkPluginMTU nodeLabels
    nodeStatusUpdateFrequency nonMasqueradeCIDR podCIDR podInfraContainerImage podManifestPath podPidsLimit
    protectKernelDefaults readOnlyPort registerNode registerSchedulable registryBurst registryPullQPS resolvConf
    rootDir rotateCertificates runtimeCgroups runtimeRequestTimeout seccompProfileRoot serializeImagePulls
    shutdownGracePeriod shutdownGracePeriodCriticalPods streamingConnectionIdleTimeout systemCgroups systemReserved
    systemReservedCgroup tlsCertFile tlsCipherSuites tlsMinVersion tlsPrivateKeyFile topologyManagerPolicy
    volumeStatsAggPeriod allowedUnsafeSysctls
"""


def test_all_other_names_of_kopss_are_fields_or_lead_to_one() -> None:
    """After kops's KubeletConfigSpec (pkg/apis/kops/v1alpha2/componentconfig.go)."""
    schema = kubelet_schema()
    unled = [
        name for name in KOPS.split() if name not in schema.fields and "did you mean" not in nearest(schema, name)
    ]
    assert unled == []


def test_all_faults_come_at_once() -> None:
    said = faults_of({"maxPods": "1", "zzz": 1, "authentication": {"anonymous": {"enabled": 1}}, "failSwapOn": True})
    assert len(said) == 3
