"""The configuration of nodeup: every key, its default, and every fault at once."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from protokube.core.node.protokube_config import protokube_config
from protokube.core.node.settings import KEYS, ExtraFile, ExtraUnit, NodeupSettings, read_settings


def faults_of(text: str) -> list[str]:
    return [str(fault) for fault in read_settings(text, "node.yaml")[1]]


def test_a_cluster_is_all_that_a_worker_needs() -> None:
    read, faults = read_settings("cluster: dev.example.com\n", "node.yaml")
    assert not faults
    assert read == NodeupSettings("cluster: dev.example.com\n", "dev.example.com")
    assert (read.role, read.hostname, read.control_plane) == ("worker", "auto", False)


def test_every_key_is_read() -> None:
    text = """
cluster: dev.example.com
role: control-plane
kubernetesVersion: v1.36.2
files: [{path: /etc/motd, content: "hello\\n", mode: "0600"}]
units: [{name: extra.service, content: "[Install]\\nAlias=x.service\\n", enabled: true}, {name: other.timer}]
modules: [nf-conntrack]
sysctls: {vm.max_map_count: 1048576, net.ipv4.tcp_rmem: "4096 87380 6291456"}
packages: [jq, curl=7.88.1-10]
hostname: node-a
protokube: {interval: 30}
"""
    read, faults = read_settings(text, "node.yaml")
    assert not faults
    assert read.control_plane and read.kubernetes_version == "1.36.2"
    assert read.files == (ExtraFile("/etc/motd", "hello\n", 0o600),)
    assert read.units == (ExtraUnit("extra.service", "[Install]\nAlias=x.service\n", True), ExtraUnit("other.timer"))
    assert read.modules == ("nf-conntrack",)
    assert read.sysctls == {"vm.max_map_count": "1048576", "net.ipv4.tcp_rmem": "4096 87380 6291456"}
    assert read.packages == ("jq", "curl=7.88.1-10") and read.hostname == "node-a"
    assert read.protokube is not None and read.protokube.plain() == {"interval": 30}


def test_all_faults_are_found_at_once_each_with_its_line() -> None:
    found = faults_of(
        """role: master
kubernetesVersion: "1.36"
module: [overlay]
files: [{path: etc/motd, content: a}, {path: /proc/x, content: 5}, {path: /a/../b, content: a, mode: 644}]
units: [{name: kubelet.service, enabled: true}, {name: nonsense}, {name: a.service, enabled: 1}]
modules: ["x y"]
sysctls: {VM: 1, vm.swappiness: [1]}
packages: ["--force"]
hostname: Node_A
"""
    )
    for expected in (
        "node.yaml:1 cluster: is required",
        "node.yaml:1 role: 'master' where control-plane or worker was expected",
        "node.yaml:2 kubernetesVersion: '1.36' where a version such as 1.36.2 was expected",
        "node.yaml:3 module: unknown key 'module': did you mean 'modules'?",
        "node.yaml:4 files[0].path: 'etc/motd' where an absolute path",
        "node.yaml:4 files[1].path: '/proc/x' where",
        "node.yaml:4 files[1].content: 5 where a string (put it in quotes) was expected",
        "node.yaml:4 files[2].path: '/a/../b' where",
        "node.yaml:4 files[2].mode: a mode without quotes is a number to YAML: put it in quotes: ",
        "node.yaml:5 units[0]: protokube starts kubelet",
        "node.yaml:5 units[1].name: 'nonsense' where a unit's name",
        "node.yaml:5 units[2].enabled: 1 where true or false was expected",
        "node.yaml:6 modules[0]: 'x y' where the name of a kernel module was expected",
        "node.yaml:7 sysctls.VM: 'VM' where a sysctl",
        "node.yaml:7 sysctls.vm.swappiness: a list where a number",
        "node.yaml:8 packages[0]: '--force' where the name of a Debian package",
        "node.yaml:9 hostname: 'Node_A' where auto, keep, or a host name",
    ):
        assert [line for line in found if line.startswith(expected)], (expected, found)
    assert len(found) == 17


def test_a_fault_shows_the_beginning_of_a_long_text() -> None:
    (fault,) = faults_of(f"cluster: a.example\nrole: {'x' * 5000}\n")
    assert fault == f"node.yaml:2 role: '{'x' * 100}'… (5000 characters) where control-plane or worker was expected"


def test_a_configuration_that_is_far_too_deep_is_a_fault() -> None:
    (fault,) = faults_of("cluster: a.example\nprotokube: " + "{a: " * 900 + "1" + "}" * 900)
    assert fault == "node.yaml:2: not valid YAML: more than 100 levels deep"


def test_a_file_and_an_asset_for_one_path_would_take_turns() -> None:
    text = f"""cluster: a.example
assets: [{{path: /usr/local/bin/tool, sha256: {"a" * 64}, urls: ['https://a.example/tool']}}]
files: [{{path: /usr/local/bin/tool, content: x}}]
"""
    assert faults_of(text) == ["node.yaml:3 files: /usr/local/bin/tool is the path of an asset as well"]


@pytest.mark.parametrize(
    "text",
    [
        "files: [{path: /etc/x, content: a}, {path: /etc/x, content: b}]",
        "units: [{name: x.service}, {name: x.service}]",
        "units: [{name: x.service}]\nfiles: [{path: /etc/systemd/system/x.service, content: a}]",
    ],
)
def test_a_path_has_one_writer(text: str) -> None:
    assert [fault.endswith(" is listed twice") for fault in faults_of(f"cluster: c\n{text}\n")] == [True]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "files: [{path: /etc/x/y, content: a}, {path: /etc/x, content: b}]",
            "/etc/x/y lies in /etc/x, which is a file",
        ),
        (
            "files: [{path: /etc/systemd/system, content: a}]\nunits: [{name: x.service}]",
            "x.service lies in /etc/systemd",
        ),
        ('units: [{name: x.service, enabled: true, content: "[Service]"}]', "it can't be enabled"),
        ('units: [{name: x.service, enabled: true, content: "[Install]\\nWantedBy=\\n"}]', "it can't be enabled"),
    ],
)
def test_what_can_t_be_on_one_machine_is_a_fault(text: str, said: str) -> None:
    faults = faults_of(f"cluster: c\n{text}\n")
    assert len(faults) == 1 and said in faults[0]


@pytest.mark.parametrize("key", ["WantedBy", "RequiredBy", "Alias"])
def test_a_unit_that_says_where_it_is_installed_can_be_enabled(key: str) -> None:
    text = f'units: [{{name: x.service, enabled: true, content: "[Install]\\n{key}=multi-user.target\\n"}}]'
    assert faults_of(f"cluster: c\n{text}\n") == []


scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["path", "content", "mode", "name", "enabled", "urls", "x"]), inner, max_size=3
        )
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=5), values, max_size=6) | values)
@settings(max_examples=200, deadline=None)
def test_whatever_stands_in_the_file_is_read_or_told(document: object) -> None:
    """A fault names its line; nothing else comes of bad input."""
    read, faults = read_settings(yaml.safe_dump(document, allow_unicode=True), "node.yaml")
    assert all(fault.place.startswith("node.yaml:") and fault.message for fault in faults)
    if not faults:
        assert read.cluster and not protokube_config(read)[1]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("files: [{path: /x, content: x, mode: 0644}]", 'put it in quotes: "0644"'),
        ("files: [{path: /x, content: x, mode: 755}]", 'put it in quotes: "0755"'),
        (f"hostname: {'a' * 60}.example", "a host name in lower case, of 64 at most"),
        ("files: !!timestamp x", "'x' is no timestamp"),
        ("files: !!bool x", "'x' is no bool"),
        (f"files: {'9' * 5000}", "not valid YAML"),
        (f"files: 0x{'f' * 5000}", "a number of 20000 bits"),
    ],
)
def test_what_yaml_takes_for_something_else_is_a_fault(text: str, fault: str) -> None:
    _, faults = read_settings(f"cluster: dev.example.com\n{text}\n", "node.yaml")
    assert len(faults) == 1 and fault in str(faults[0]), faults
