"""What the machine has to say: what is worked out from it, and what kubelet would refuse on it."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from protokube.core.component.model import Layer
from protokube.core.kubelet.defaults import UPLINK_RESOLV_CONF
from protokube.core.kubelet.machine import numbers_of, ranges_of
from protokube.core.kubelet.model import Machine
from protokube.core.kubelet.render import KubeletFiles, KubeletInput, render
from tests.lab.kubelet_standin import parse_config

CALM = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a busy machine is no fault

PLAIN = Machine(
    8 << 30,
    4,
    cgroup_v2=True,
    swap=(),
    online_cpus=frozenset(range(4)),
    numa_nodes=frozenset({0}),
    nameservers=("10.0.0.2",),
)
UNKNOWN = Machine(8 << 30, 4)


def outcome(machine: Machine, version: str | None = "1.36.2", **values: object) -> KubeletFiles | tuple[str, ...]:
    layers = (Layer("kubelet", values),)
    result = render(KubeletInput(version, layers, {}, "node-a", kubeconfig_present=True, machine=machine))
    return result if isinstance(result, KubeletFiles) else tuple(map(str, result))


def fault(machine: Machine, version: str = "1.36.2", **values: object) -> str:
    result = outcome(machine, version, **values)
    assert isinstance(result, tuple), result
    [said] = result
    return said


MEMORY = [{"numaNode": 1, "limits": {"memory": "1Gi"}}]
REFUSED = [
    ({"cgroup_v2": False}, "1.36.2", {}, "kubelet.failCgroupV1: kubelet 1.36.2 exits on a machine with cgroup v1"),
    ({"cgroup_v2": False}, "1.35.0", {}, "kubelet.failCgroupV1: kubelet 1.35.0 exits"),
    ({"cgroup_v2": False}, "1.34.9", {"failCgroupV1": True}, "kubelet.failCgroupV1: kubelet 1.34.9 exits"),
    ({"cgroup_v2": False}, "1.34.9", {"singleProcessOOMKill": False}, "kubelet.singleProcessOOMKill: False is wrong"),
    ({"cgroup_v2": False}, "1.34.9", {"memorySwap": {"swapBehavior": "LimitedSwap"}},
     "kubelet.memorySwap.swapBehavior: 'LimitedSwap' needs cgroup v2"),
    ({"swap": ("/dev/sda2", "/swapfile")}, "1.20.2", {},
     "kubelet.failSwapOn: kubelet exits while swap is on (/dev/sda2, /swapfile); turn it off (swapoff), or"),
    ({"swap": ("/dev/zram0",)}, "1.36.2", {"failSwapOn": True}, "kubelet.failSwapOn: kubelet exits while swap is on"),
    ({}, "1.36.2", {"reservedSystemCPUs": "0-1,4,6-7"},
     "kubelet.reservedSystemCPUs: this machine has no CPU 4, 6, 7 (expected some of 0-3)"),
    ({"online_cpus": frozenset({0, 2, 3})}, "1.20.2", {"reservedSystemCPUs": "1"},
     "kubelet.reservedSystemCPUs: this machine has no CPU 1 (expected some of 0,2-3)"),
    ({}, "1.36.2", {"reservedMemory": MEMORY, "memoryManagerPolicy": "Static"},
     "kubelet.reservedMemory: this machine has no NUMA node 1 (expected some of 0)"),
]  # fmt: skip


@pytest.mark.parametrize(("facts", "version", "values", "said"), REFUSED)
def test_what_kubelet_refuses_on_this_machine_is_foretold(
    facts: dict[str, object], version: str, values: dict[str, object], said: str
) -> None:
    assert fault(replace(PLAIN, **facts), version, **values).startswith(said)


@pytest.mark.parametrize(("facts", "version", "values", "said"), REFUSED)
def test_a_fact_that_could_not_be_read_refuses_nothing(
    facts: dict[str, object], version: str, values: dict[str, object], said: str
) -> None:
    assert isinstance(outcome(UNKNOWN, version, **values), KubeletFiles)


@pytest.mark.parametrize(
    ("facts", "version", "values"),
    [
        ({"cgroup_v2": False}, "1.36.2", {"failCgroupV1": False}),
        ({"cgroup_v2": False}, "1.34.9", {}),
        ({"cgroup_v2": False}, "1.20.2", {}),
        ({}, "1.36.2", {"failCgroupV1": True, "singleProcessOOMKill": False}),
        ({"swap": ("/dev/sda2",)}, "1.20.2", {"failSwapOn": False}),
        ({}, "1.36.2", {"reservedSystemCPUs": "0-3"}),
        ({"numa_nodes": frozenset({0, 1})}, "1.36.2", {"reservedMemory": MEMORY, "memoryManagerPolicy": "Static"}),
        ({}, "1.36.2", {"reservedMemory": MEMORY}),
    ],
)
def test_what_kubelet_takes_on_this_machine_is_rendered(
    facts: dict[str, object], version: str, values: dict[str, object]
) -> None:
    assert isinstance(outcome(replace(PLAIN, **facts), version, **values), KubeletFiles)


def test_a_kubelet_that_is_not_there_yet_refuses_nothing_and_the_notes_say_what_it_may_refuse() -> None:
    files = outcome(replace(PLAIN, cgroup_v2=False, swap=("/dev/sda2",)), None)
    assert isinstance(files, KubeletFiles)
    assert [note.split(":")[0] for note in files.notes if note.startswith("kubelet.")] == [
        "kubelet.failCgroupV1",
        "kubelet.failSwapOn",
    ]


@pytest.mark.parametrize(
    ("stub", "uplink", "derived"),
    [
        (("127.0.0.53",), ("10.0.0.2",), True),
        (("127.0.0.53",), ("10.0.0.2", "fd00::2"), True),
        (("127.0.0.54", "::1"), ("10.0.0.2",), True),
        (("127.0.0.53",), (), True),  # DHCP has yet to bring one: the file is the right one all along
        (("127.0.0.53",), ("10.0.0.2", "127.0.0.1"), False),
        (("127.0.0.53",), None, False),
        (("10.0.0.2",), ("10.0.0.3",), False),
        (("127.0.0.53", "10.0.0.2"), ("10.0.0.3",), False),
        ((), ("10.0.0.2",), False),
        (None, ("10.0.0.2",), False),
    ],
)
@pytest.mark.parametrize("version", ["1.20.2", "1.36.2"])
def test_pods_get_the_name_servers_behind_a_stub(
    version: str, stub: tuple[str, ...] | None, uplink: tuple[str, ...] | None, derived: bool
) -> None:
    files = outcome(replace(PLAIN, nameservers=stub, uplink_nameservers=uplink), version)
    assert isinstance(files, KubeletFiles)
    wanted = UPLINK_RESOLV_CONF if derived else None
    assert parse_config(files.config_file, version).get("resolvConf") == wanted
    assert any(note.startswith(f"resolvConf: {UPLINK_RESOLV_CONF} (") for note in files.notes) == derived


@pytest.mark.parametrize("own", ["/etc/resolv.kubelet", ""])
def test_a_configured_resolv_conf_stays(own: str) -> None:
    stub = replace(PLAIN, nameservers=("127.0.0.53",), uplink_nameservers=("10.0.0.2",))
    files = outcome(stub, resolvConf=own)
    assert isinstance(files, KubeletFiles)
    assert parse_config(files.config_file, "1.36.2")["resolvConf"] == own


@CALM
@given(st.frozensets(st.integers(0, 99)))
def test_a_list_of_numbers_reads_back(numbers: frozenset[int]) -> None:
    assert frozenset(numbers_of(ranges_of(numbers))) == numbers


@pytest.mark.parametrize("text", ["a", "1-", "-", "1,,2", "1 2"])
def test_what_is_no_list_of_numbers_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        numbers_of(text)
