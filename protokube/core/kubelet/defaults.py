"""Values that follow from the machine and its role where nothing is configured, each with its reason.

They must not change from boot to boot, since a changed value restarts kubelet. A machine reports its nominal memory
less the part of firmware and kernel, which differs a little with every kernel. So sizes are rounded up to a coarse
grid of nominal sizes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from protokube.core.component.schema import Version
from protokube.core.kubelet.model import Machine
from protokube.core.model import GIB, MIB

UPLINK_RESOLV_CONF = "/run/systemd/resolve/resolv.conf"
"""Where systemd-resolved keeps the name servers that it asks (systemd-resolved.service(8))."""

# GKE's reservation for kubelet and the container runtime: a share of each slice of the memory
# (docs.cloud.google.com/kubernetes-engine/docs/concepts/plan-node-sizes). Without one, pods can starve kubelet of
# memory.
_MEMORY_SLICES = ((4 * GIB, 25), (4 * GIB, 20), (8 * GIB, 10), (112 * GIB, 6))
_MEMORY_REST = 2
_CPU_SLICES = ((1, 60), (1, 10), (2, 5))
_CPU_REST_PER_FOUR = 10


class Derived(NamedTuple):
    """A field's value where nothing is configured, and the reason for it."""

    name: str
    value: object
    reason: str


def of_machine(machine: Machine) -> Iterator[Derived]:
    """Derive cgroupDriver, kubeReserved, systemReserved and resolvConf."""
    # kubelet's own default is cgroupfs. Two managers of one cgroup tree make a node unstable under pressure
    # (kubernetes.io, "Container Runtimes").
    if machine.systemd:
        yield Derived("cgroupDriver", "systemd", "systemd manages this machine's cgroups")
    memory, cpus = nominal_memory(machine.memory), max(machine.cpus, 1)
    size = f"{memory / GIB:g} GiB of memory and {cpus} CPU{'s' if cpus > 1 else ''}"
    kube = {"cpu": f"{kube_cpu(cpus)}m", "memory": f"{kube_memory(memory) // MIB}Mi"}
    yield Derived("kubeReserved", kube, f"kubelet's and the container runtime's share of {size}")
    system = {"cpu": f"{min(50 + 5 * cpus, 200)}m", "memory": f"{system_memory(memory) // MIB}Mi"}
    yield Derived("systemReserved", system, f"the operating system's share of {size}")
    if _stub_only(machine):
        yield Derived(
            "resolvConf", UPLINK_RESOLV_CONF, "/etc/resolv.conf is systemd-resolved's stub, which no pod can reach"
        )


def _stub_only(machine: Machine) -> bool:
    """Whether the machine's name servers are all loopback addresses, so that pods need those behind systemd-resolved.

    A pod's loopback is its own. CoreDNS, which forwards to the node's name servers, would ask itself for ever.
    """
    stub, uplink = machine.nameservers, machine.uplink_nameservers
    if not stub or uplink is None:
        return False
    return all(map(_is_loopback, stub)) and not any(map(_is_loopback, uplink))


def _is_loopback(address: str) -> bool:
    return address.startswith("127.") or address == "::1"


def of_identity(client: str, serving: str) -> Iterator[Derived]:
    """Derive what kubelet's own API shows and trusts, from the directories of its two certificates."""
    yield Derived("tlsCertFile", f"{serving}/tls.crt", "the certificate that was issued here")
    yield Derived("tlsPrivateKeyFile", f"{serving}/tls.key", "the certificate that was issued here")
    yield Derived("authentication.x509.clientCAFile", f"{client}/ca.crt", "the API server shows a certificate")


def of_joining(ca: str) -> Iterator[Derived]:
    """Derive how kubelet comes by certificates, and whom it trusts, on a node that has no authority."""
    yield Derived("rotateCertificates", True, "it renews its certificate itself")
    yield Derived("serverTLSBootstrap", True, "the control plane approves the certificate of its own API")
    yield Derived("authentication.x509.clientCAFile", ca, "the API server shows a certificate")


def of_cluster(dns: str, domain: str) -> Iterator[Derived]:
    """Derive where pods ask for names: the address of the cluster's DNS, and its domain."""
    yield Derived("clusterDNS", [dns], "the address of the cluster's DNS among its services")
    yield Derived("clusterDomain", domain, "the cluster's domain")


def of_node(
    node_ips: Sequence[str], provider_id: str | None, master: bool, cloud_provider: bool, version: Version
) -> Iterator[Derived]:
    """Derive nodeIP, providerID and the role's taints."""
    if node_ips:
        yield Derived(
            "nodeIP",
            _node_ip(node_ips, dual=version >= (1, 23, 0) and not cloud_provider),
            "the node's internal address",
        )
    # An external cloud controller finds the node's machine by it.
    if provider_id:
        yield Derived("providerID", provider_id, "the cloud's name for this machine")
    if master:
        role = "control-plane" if version >= (1, 24, 0) else "master"
        taint = {"key": f"node-role.kubernetes.io/{role}", "effect": "NoSchedule"}
        yield Derived("registerWithTaints", [taint], "ordinary pods stay away from a control-plane node")


def _node_ip(addresses: Sequence[str], dual: bool) -> str:
    """The first address; where kubelet allows it (1.23, no cloud provider), with the first of the other family."""
    first = addresses[0]
    other = next((address for address in addresses if (":" in address) != (":" in first)), None)
    return f"{first},{other}" if dual and other else first


def nominal_memory(memory: int) -> int:
    """Round bytes up to 1, 1.5, 2, 3, 4, 6, 8, 12, … GiB (below 1 GiB: 256, 384, 512, 768 MiB)."""
    power = 256 * MIB
    while power < memory:
        power *= 2
    return power * 3 // 4 if memory <= power * 3 // 4 and power > 256 * MIB else power


def kube_memory(memory: int) -> int:
    """Bytes to keep for kubelet and the container runtime, in whole MiB."""
    kept = 0
    for size, percent in _MEMORY_SLICES:
        part = min(memory, size)
        kept += part * percent // 100
        memory -= part
    return (kept + memory * _MEMORY_REST // 100) // MIB * MIB


def system_memory(memory: int) -> int:
    """Bytes to keep for the operating system: 1/32 of the memory, between 64 MiB and 1 GiB."""
    return min(max(memory // 32, 64 * MIB), GIB) // MIB * MIB


def kube_cpu(cpus: int) -> int:
    """Thousandths of a CPU to keep for kubelet and the container runtime: GKE's 6 %, 1 %, 0.5 %, 0.25 %."""
    kept = 0
    for count, each in _CPU_SLICES:
        part = min(cpus, count)
        kept += part * each
        cpus -= part
    return kept + -(-cpus // 4) * _CPU_REST_PER_FOUR
