"""What is rendered for a node: golden files, derived values, names, versions, and everything that is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from protokube.core.component.layers import Setting
from protokube.core.component.model import Layer
from protokube.core.component.place import place_settings
from protokube.core.component.schema import choose_version, flags_of_help, parse_version
from protokube.core.kubelet.defaults import kube_cpu, kube_memory, nominal_memory, system_memory
from protokube.core.kubelet.labels import label_faults, node_name_fault
from protokube.core.kubelet.model import Machine
from protokube.core.kubelet.render import KubeletFiles, KubeletInput, layer_faults, render
from protokube.core.kubelet.schema import kubelet_schema
from protokube.core.kubelet.text import args_file, config_file
from protokube.core.model import GIB, MIB, Fault
from tests.lab.kubelet_standin import parse_config

CALM = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a busy machine is no fault

GOLDEN = Path(__file__).parent / "golden"

MASTER = KubeletInput(
    version="1.36.2",
    layers=(
        Layer(
            "kubelet",
            {
                "clusterDomain": "cluster.local",
                "clusterDNS": ["100.64.0.10"],
                "evictionHard": "memory.available<100Mi,nodefs.available<10%",
                "logLevel": 2,
                "nodeLabels": {"example.com/rack": "r2"},
                "authentication": {"anonymous": {"enabled": False}, "webhook": {"enabled": True}},
                "authorization": {"mode": "Webhook"},
                "readOnlyPort": 0,
            },
        ),
        Layer("masterKubelet", {"maxPods": 60, "evictionHard": {"memory.available": "200Mi"}}),
        Layer("instanceGroups.masters.kubelet", {"registerNode": True, "nodeStatusUpdateFrequency": "10s"}),
    ),
    node_labels={"example.com/rack": "r1", "example.com/row": "7"},
    node_name="ip-10-0-0-1.ec2.internal",
    node_ips=("10.0.0.1", "fd00::1"),
    provider_id="aws:///eu-west-1a/i-0123456789abcdef0",
    master=True,
    kubeconfig_present=True,
    machine=Machine(memory=7_953_000_000, cpus=2),
)


def rendered(given: KubeletInput) -> KubeletFiles:
    files = render(given)
    assert isinstance(files, KubeletFiles), files
    return files


def faults_of(given: KubeletInput) -> list[str]:
    faults = render(given)
    assert isinstance(faults, tuple)
    return [str(fault) for fault in faults]


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("master-1.36.2", MASTER),
        ("master-1.20.2", replace(MASTER, version="1.20.2")),
        ("standalone-1.36.2", replace(MASTER, version=None, kubeconfig_present=False)),
        ("bare-node", KubeletInput("v1.28.3", (), {}, "node-a", kubeconfig_present=True)),
    ],
)
def test_golden_files(name: str, given: KubeletInput) -> None:
    """WRITE_GOLDEN=write rewrites the files; look at the difference before you commit it."""
    files = rendered(given)
    notes = "".join(f"# {note}\n" for note in files.notes)
    text = f"{files.args_file}---\n{files.config_file}---\n{notes}"
    golden = GOLDEN / f"kubelet-{name}.txt"
    if os.environ.get("WRITE_GOLDEN") == "write":
        golden.write_text(text)
    assert text == golden.read_text()


# --- where things land -----------------------------------------------------------------------------------


def test_what_moved_from_flag_to_file_lands_where_the_version_wants_it() -> None:
    layers = (Layer("kubelet", {"registerNode": False, "containerRuntimeEndpoint": "unix:///run/c.sock"}),)
    old = rendered(replace(MASTER, version="1.20.2", layers=layers))
    new = rendered(replace(MASTER, version="1.36.2", layers=layers))
    assert {"--register-node=false", "--container-runtime-endpoint=unix:///run/c.sock"} < set(old.flags)
    assert "registerNode" not in old.config_file
    assert "registerNode: false\n" in new.config_file
    assert 'containerRuntimeEndpoint: "unix:///run/c.sock"\n' in new.config_file
    assert not any("register-node" in flag for flag in new.flags)


def test_a_flag_that_is_gone_is_refused_with_where_it_went() -> None:
    layers = (Layer("masterKubelet", {"networkPlugin": "cni"}), Layer("kubelet", {"registerSchedulable": False}))
    assert faults_of(replace(MASTER, layers=layers)) == [
        "masterKubelet.networkPlugin: kubelet 1.36.2 doesn't know it any more; 1.20.2 did (gone with dockershim; "
        "the container runtime sets CNI up)",
        "kubelet.registerSchedulable: kubelet 1.36.2 doesn't know it any more; 1.20.2 did (use registerWithTaints)",
    ]


def test_a_field_that_is_too_new_is_refused() -> None:
    layers = (Layer("kubelet", {"seccompDefault": True}),)
    assert faults_of(replace(MASTER, version="1.20.2", layers=layers)) == [
        "kubelet.seccompDefault: kubelet 1.20.2 doesn't know it yet; 1.36.2 does"
    ]


def test_a_zero_that_no_version_can_say_is_refused() -> None:
    layers = (Layer("kubelet", {"nodeStatusReportFrequency": "0s"}),)
    [fault] = faults_of(replace(MASTER, layers=layers))
    assert fault.startswith("kubelet.nodeStatusReportFrequency: '0s' can't be said: kubelet reads it as its default")


def between(values: dict[str, object], flags: set[str] | None, version: str = "1.28.3") -> KubeletInput:
    known = None if flags is None else frozenset(flags | {"config", "kubeconfig", "hostname-override"})
    return replace(MASTER, version=version, layers=(Layer("kubelet", values),), known_flags=known, machine=None,
                   master=False, node_ips=(), node_labels={})  # fmt: skip


@pytest.mark.parametrize(
    ("values", "flags", "flag", "in_file", "note"),
    [
        ({"maxPods": 5}, {"max-pods"}, None, "maxPods: 5", ""),
        ({"maxPods": 5}, None, None, "maxPods: 5", ""),
        ({"registerNode": True}, {"register-node"}, "--register-node=true", None, ""),
        ({"registerNode": True}, None, "--register-node=true", None, ""),
        ({"registerNode": True}, set(), None, "registerNode: true", "only kubelet 1.36.2 is known to have it"),
        ({"seccompDefault": True}, {"seccomp-default"}, "--seccomp-default=true", None, ""),
        ({"seccompDefault": True}, None, None, "seccompDefault: true", "only kubelet 1.36.2"),
        ({"podLogsDir": "/x"}, set(), None, 'podLogsDir: "/x"', "only kubelet 1.36.2"),
        ({"networkPlugin": "cni"}, {"network-plugin"}, "--network-plugin=cni", None, ""),
        ({"networkPlugin": "cni"}, None, "--network-plugin=cni", None, "only kubelet 1.20.2"),
        ({"configDir": "/x"}, {"config-dir"}, "--config-dir=/x", None, ""),
        ({"reservedMemory": [{"numaNode": 1, "limits": {"memory": "1Gi", "hugepages-2Mi": "4Mi"}}]},
         {"reserved-memory"}, "--reserved-memory=1:hugepages-2Mi=4Mi,memory=1Gi", None, ""),
        ({"registerWithTaints": ["a=b:NoSchedule", "c:NoExecute"]}, {"register-with-taints"},
         "--register-with-taints=a=b:NoSchedule,c=:NoExecute", None, ""),
    ],
)  # fmt: skip
def test_between_the_known_versions_help_decides(
    values: dict[str, object], flags: set[str] | None, flag: str | None, in_file: str | None, note: str
) -> None:
    files = rendered(between(values, flags))
    [name] = values
    assert [each for each in files.flags if each == flag] == ([flag] if flag else [])
    assert (in_file is None) == (name not in files.config_file)
    assert in_file is None or in_file in files.config_file
    about = [each for each in files.notes if each.startswith(f"{name}:")]
    assert (len(about), note in " ".join(about)) == (1 if note else 0, True)


def test_a_flag_that_the_installed_kubelet_does_not_list_is_refused() -> None:
    for version in ("1.20.4", "1.28.3"):
        [fault] = faults_of(between({"networkPlugin": "cni"}, set(), version))
        assert fault.startswith("kubelet.networkPlugin: the installed kubelet's --help doesn't list --network-plugin")


def test_a_broken_taint_is_a_fault_also_where_taints_are_a_flag() -> None:
    layers = (Layer("kubelet", {"registerWithTaints": [{"key": "a"}, {"key": "b", "effect": ""}]}),)
    first, second = faults_of(replace(MASTER, version="1.20.2", layers=layers))
    assert first.startswith("kubelet.registerWithTaints[0]: {'key': 'a'} is wrong; expected effect as well")
    assert second.startswith("kubelet.registerWithTaints[1]: ")
    assert second.endswith("expected effect as well")


def test_a_comma_that_would_split_a_flags_value_is_refused() -> None:
    option: dict[str, object] = {"topologyManagerPolicyOptions": {"prefer-closest-numa-nodes": "b,c"}}
    [fault] = faults_of(between(option, {"topology-manager-policy-options"}))
    assert "can't be given as --topology-manager-policy-options: it holds a comma" in fault
    placed = place_settings(kubelet_schema(), (1, 20, 2), {"nodeLabels": Setting({"a=b": "c"}, "here")}, None)
    [broken] = placed.faults
    assert "can't be given as --node-labels: a key holds '='" in broken.message


def test_newer_than_the_newest_known_is_rendered_as_that_with_a_note() -> None:
    newer, newest = rendered(replace(MASTER, version="1.37.0")), rendered(MASTER)
    assert (newer.flags, newer.config_file) == (newest.flags, newest.config_file)
    assert newer.notes[0] == "kubelet 1.37.0 is newer than 1.36.2, the newest one known; rendered as for that"


def test_no_version_renders_for_the_newest_with_a_note() -> None:
    assumed = rendered(replace(MASTER, version=None))
    assert assumed.flags == rendered(MASTER).flags
    assert assumed.notes[0] == "no kubelet and no kubernetesVersion: rendered for 1.36.2, the newest one known"


# --- standalone ------------------------------------------------------------------------------------------


def test_without_a_kubeconfig_kubelet_runs_standalone_and_lets_nobody_in() -> None:
    layers = (
        Layer(
            "kubelet",
            {
                "authentication": {
                    "anonymous": {"enabled": True},
                    "webhook": {"enabled": True},
                    "x509": {"clientCAFile": "/srv/kubernetes/ca.crt"},
                },
                "authorization": {"mode": "Webhook"},
            },
        ),
    )
    files = rendered(replace(MASTER, kubeconfig_present=False, layers=layers))
    tree = parse_config(files.config_file, "1.36.2")
    assert not any(flag.startswith("--kubeconfig") for flag in files.flags)
    assert tree["authentication"] == {"anonymous": {"enabled": False}, "webhook": {"enabled": False}}
    assert tree["authorization"] == {"mode": "AlwaysAllow"}
    assert any("kubelet runs standalone" in note for note in files.notes)


def test_with_a_bootstrap_kubeconfig_kubelet_fetches_its_own() -> None:
    layers = (Layer("kubelet", {"bootstrapKubeconfig": "/var/lib/kubelet/bootstrap"}),)
    files = rendered(replace(MASTER, kubeconfig_present=False, layers=layers))
    assert "--kubeconfig=/var/lib/kubelet/kubeconfig" in files.flags
    assert "--bootstrap-kubeconfig=/var/lib/kubelet/bootstrap" in files.flags
    assert not any("standalone" in note for note in files.notes)


# --- derived ---------------------------------------------------------------------------------------------


def test_configured_values_are_never_derived() -> None:
    layers = (
        Layer(
            "kubelet",
            {
                "cgroupDriver": "cgroupfs",
                "kubeReserved": {"cpu": "1"},
                "systemReserved": {},
                "nodeIP": "10.9.9.9",
                "providerID": "x",
                "registerWithTaints": [],
            },
        ),
    )
    files = rendered(replace(MASTER, layers=layers))
    tree = parse_config(files.config_file, "1.36.2")
    assert (tree["cgroupDriver"], tree["kubeReserved"], tree["providerID"]) == ("cgroupfs", {"cpu": "1"}, "x")
    assert "--node-ip=10.9.9.9" in files.flags
    assert tree.keys().isdisjoint({"systemReserved", "registerWithTaints"})
    assert files.notes == ()


@pytest.mark.parametrize(
    ("version", "cloud", "addresses", "expected"),
    [
        ("1.36.2", "", ("10.0.0.1", "10.0.0.2", "fd00::1"), "10.0.0.1,fd00::1"),
        ("1.36.2", "external", ("10.0.0.1", "fd00::1"), "10.0.0.1"),
        ("1.20.2", "", ("10.0.0.1", "fd00::1"), "10.0.0.1"),
        ("1.36.2", "", ("fd00::1",), "fd00::1"),
    ],
)
def test_node_ip(version: str, cloud: str, addresses: tuple[str, ...], expected: str) -> None:
    layers = (Layer("kubelet", {"cloudProvider": cloud}),)
    files = rendered(replace(MASTER, version=version, node_ips=addresses, layers=layers))
    assert f"--node-ip={expected}" in files.flags


@pytest.mark.parametrize(("version", "role"), [("1.23.9", "master"), ("1.24.0", "control-plane")])
def test_the_roles_taint_has_the_name_of_its_time(version: str, role: str) -> None:
    files = rendered(replace(MASTER, version=version, layers=()))
    taint = f"node-role.kubernetes.io/{role}"
    assert f"--register-with-taints={taint}=:NoSchedule" in files.flags
    assert not any("taint" in flag for flag in rendered(replace(MASTER, master=False)).flags)


@CALM
@given(st.integers(2**28, 2**42), st.integers(-(2**22), 2**22))
def test_reserved_memory_does_not_change_from_boot_to_boot(nominal: int, jitter: int) -> None:
    """A machine reports 1 to 6 % less than the nominal size, and never quite the same."""
    size = nominal_memory(nominal)
    one, other = size * 97 // 100, size * 97 // 100 + jitter
    assert nominal_memory(one) == nominal_memory(other) == size


@CALM
@given(st.integers(2**28, 2**42), st.integers(1, 512))
def test_reservations_are_sane(memory: int, cpus: int) -> None:
    size = nominal_memory(memory)
    assert memory <= size <= memory * 3 // 2 + 1
    assert nominal_memory(size) == size
    assert 0 < kube_memory(size) + system_memory(size) <= size // 2
    assert kube_memory(size) % MIB == 0
    assert 60 <= kube_cpu(cpus) < cpus * 1000 // 10
    assert kube_cpu(cpus) <= kube_cpu(cpus + 1)


@pytest.mark.parametrize(
    ("gib", "mib"), [(1, 256), (2, 512), (4, 1024), (8, 1843), (16, 2662), (32, 3645), (128, 9543), (256, 12165)]
)
def test_kubes_memory_is_gkes_formula(gib: int, mib: int) -> None:
    assert kube_memory(gib * GIB) // MIB == mib


# --- names and labels ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a", "node-a", "ip-10-0-0-1.ec2.internal", "1", "a" * 63])
def test_names_that_the_api_takes(name: str) -> None:
    assert node_name_fault(name) is None


@pytest.mark.parametrize("name", ["", "Node", "a_b", "-a", "a-", "a..b", ".a", "a.", "a" * 64, "a b", "ä", "a\n"])
def test_names_that_the_api_refuses(name: str) -> None:
    fault = node_name_fault(name)
    assert fault is not None
    assert repr(name) in fault.message
    assert faults_of(replace(MASTER, node_name=name)) == [str(fault)]


@pytest.mark.parametrize(
    "key",
    [
        "rack",
        "example.com/rack",
        "kubernetes.io/hostname",
        "topology.kubernetes.io/zone",
        "node.kubernetes.io/instance-type",
        "node.kubernetes.io/anything",
        "a.node.kubernetes.io/x",
        "kubelet.kubernetes.io/x",
        "notkubernetes.io/x",
    ],
)
def test_labels_that_kubelet_may_give_itself(key: str) -> None:
    assert list(label_faults({key: "Value_1"}, "nodeLabels")) == []


@pytest.mark.parametrize(
    "key",
    [
        "node-role.kubernetes.io/master",
        "node-role.kubernetes.io/control-plane",
        "kubernetes.io/role",
        "node-restriction.kubernetes.io/x",
        "k8s.io/x",
        "x.k8s.io/y",
        "kops.k8s.io/instancegroup",
    ],
)
def test_labels_that_kubelet_refuses_to_give_itself(key: str) -> None:
    [fault] = faults_of(replace(MASTER, node_labels={key: "1"}))
    assert fault.startswith(f"nodeLabels: kubelet refuses to give itself the label '{key}'")
    [fault] = faults_of(replace(MASTER, layers=(Layer("masterKubelet", {"nodeLabels": {key: ""}}),)))
    assert fault.startswith("masterKubelet.nodeLabels: kubelet refuses")


@pytest.mark.parametrize(
    ("key", "value"),
    [("a b", ""), ("/a", ""), ("a/b/c", ""), ("A.com/b", ""), ("a/", ""), ("a" * 64, ""), ("a", "b c"), ("a", "b-"),
     ("a", "x" * 64)],
)  # fmt: skip
def test_labels_that_are_none(key: str, value: str) -> None:
    [fault] = label_faults({key: value}, "nodeLabels")
    assert repr(value or key) in fault.message


def test_a_layer_is_judged_without_a_node() -> None:
    layer = Layer("instanceGroups.gpu.kubelet", {"maxPods": "5", "nodeLabels": {"k8s.io/x": "", "a b": ""}, "v": 2})
    assert [fault.place.removeprefix("instanceGroups.gpu.kubelet.") for fault in layer_faults(layer)] == [
        "maxPods",
        "v",
        "nodeLabels",
        "nodeLabels",
    ]
    assert layer_faults(Layer("kubelet", {"networkPlugin": "cni", "seccompDefault": True})) == ()


def test_node_labels_lie_beneath_kubelets() -> None:
    assert "--node-labels=example.com/rack=r2,example.com/row=7" in rendered(MASTER).flags


# --- versions and --help ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("1.36.2", (1, 36, 2)),
        ("v1.36.2", (1, 36, 2)),
        ("Kubernetes v1.20.2\n", (1, 20, 2)),
        ("v1.29.0-eks-5e0fdde", (1, 29, 0)),
        ("v1.28.4+k3s1", (1, 28, 4)),
        ("1.30.0-rc.1", (1, 30, 0)),
    ],
)
def test_versions_are_read(text: str, version: tuple[int, int, int]) -> None:
    assert parse_version(text) == version


@pytest.mark.parametrize("text", ["", "1.36", "latest", "1.36.x", "1.19.9", "0.9.0"])
def test_what_is_no_version_or_too_old_is_refused(text: str) -> None:
    fault = parse_version(text)
    assert isinstance(fault, Fault)
    assert (fault.place, repr(text) in fault.message) == ("kubernetesVersion", True)
    bad = replace(MASTER, version=text, node_name="X", layers=(Layer("kubelet", {"maxPods": "x"}),))
    assert [each.split(":")[0] for each in faults_of(bad)] == ["kubernetesVersion", "kubelet.maxPods", "node name"]


def test_the_configured_and_the_installed_version_must_agree() -> None:
    assert choose_version(None, None) is None
    assert choose_version("1.36.2", None) == "1.36.2"
    assert choose_version(None, "v1.36.2") == "v1.36.2"
    assert choose_version("1.36.2", "Kubernetes v1.36.2") == "Kubernetes v1.36.2"
    fault = choose_version("1.36.1", "Kubernetes v1.36.2")
    assert isinstance(fault, Fault)
    assert "'1.36.1' is configured, but the installed binary says 'Kubernetes v1.36.2'" in fault.message
    assert isinstance(choose_version("1.36", "1.36.2"), Fault)


def test_flags_of_help() -> None:
    text = """The kubelet is the primary "node agent".

Flags:
      --address ip                       The IP address for the Kubelet --not-this (default 0.0.0.0)
                                         --nor-this is a line of the text
      --log_dir string                   If non-empty, write log files in this directory
  -h, --help                             help for kubelet
  -v, --v Level                          number for the log level verbosity
      --version version[=true]           Print version information and quit
"""
    assert flags_of_help(text) == {"address", "log-dir", "help", "v", "version"}


# --- texts -----------------------------------------------------------------------------------------------


def test_the_args_file_quotes_only_what_needs_it() -> None:
    text = args_file(["--v=2", "--node-labels=a=b,c=", "--x=a b", "--y='\"", r"--z=\$`%"])
    assert text.split("\n")[1:] == [
        r"""DAEMON_ARGS="--v=2 --node-labels=a=b,c= '--x=a b' '--y=\\'\"' '--z=\\\\\$\`%'" """.rstrip(),
        "",
    ]
    assert args_file([]).endswith('\nDAEMON_ARGS=""\n')


def test_the_config_file_quotes_text_and_odd_keys() -> None:
    tree = {"b": [{"y": "no", "x": []}, {"a": {}}], "a": {"no": 1e-7, "m.n": [1, 2]}, "c": 'ä"\\'}
    assert config_file(tree).split("\n")[3:] == [
        "a:",
        '  "m.n":',
        "    - 1",
        "    - 2",
        '  "no": 0.0000001',
        "b:",
        "  - x: []",
        '    "y": "no"',
        "  - a: {}",
        'c: "ä\\"\\\\"',
        "",
    ]


def test_nothing_costly_is_imported_for_rendering() -> None:
    code = (
        "import sys; from protokube.core.kubelet.render import *\n"
        "render(KubeletInput('1.36.2', (), {}, 'a', machine=Machine(8 << 30, 4)))\n"
        "print({'yaml', 'difflib', 'ipaddress'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "set()\n"
