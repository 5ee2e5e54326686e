"""The installed kubelet, its machine, its settings, and the judgement of them."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct, field

from protokube.core.component.model import Layer
from protokube.core.model import Fault, Moment, Unknown
from protokube.core.node.model import Absent, FileState, NodeFacts
from protokube.core.steps import Findings
from protokube.core.volumes.model import Instance


class Machine(Struct, frozen=True):
    """The machine, as it describes itself; None is a fact that could not be read.

    `memory` in bytes; `cpus`: how many there are. `systemd`: it is PID 1. `cgroup_v2`: /sys/fs/cgroup is the unified
    hierarchy. `swap`: the devices and files that are in use as swap. `online_cpus` and `numa_nodes` by number.
    `nameservers`: those of /etc/resolv.conf; `uplink_nameservers`: those that systemd-resolved itself asks.
    """

    memory: int
    cpus: int
    systemd: bool = True
    cgroup_v2: bool | None = None
    swap: tuple[str, ...] | None = None
    online_cpus: frozenset[int] | None = None
    numa_nodes: frozenset[int] | None = None
    nameservers: tuple[str, ...] | None = None
    uplink_nameservers: tuple[str, ...] | None = None


class KubeletBinary(Struct, frozen=True, tag=True):
    """The installed kubelet: its version as it prints it, and the flags that its help lists."""

    version: str
    flags: frozenset[str]


class KubeletFacts(Struct, frozen=True):
    """The facts of kubelet and its machine. `binary` is None when no kubelet is installed."""

    binary: KubeletBinary | Unknown | None = None
    machine: Machine | None = None


class KubeletSettings(Struct, frozen=True):
    """The operator's settings for kubelet. Times are seconds.

    `unit` is None when no unit is to be started. Without `is_kubelet` it runs the pods in another way: then kubelet's
    files are nobody's business, and it is started without them. `gate_timeout` is how long it waits for volumes,
    counted from the program's start. `restarts_per_hour` is how often it is restarted within an hour since its files
    changed.
    `group_layers` are an instance group's, `node_layers` a node's. `faults` are the settings' faults: with any of
    them no file is rendered.
    With `control_plane` its certificates and its kubeconfig are made here: it talks to an API server of the control
    plane, at `api_port`. `api` is the URL of the API server that a node without a control plane joins.
    `cluster_dns`: the address and the domain of the cluster's DNS, where protokube makes one.
    """

    unit: str | None = "kubelet.service"
    is_kubelet: bool = True
    gate_timeout: float = 300.0
    restarts_per_hour: int = 6
    version: str | None = None
    layers: tuple[Layer, ...] = ()
    master_layers: tuple[Layer, ...] = ()
    group_layers: Mapping[str, tuple[Layer, ...]] = {}
    node_layers: Mapping[str, tuple[Layer, ...]] = {}
    node_labels: Mapping[str, str] = {}
    manifest_dir: str = "/etc/kubernetes/manifests"
    master: bool = False
    control_plane: bool = False
    api_port: int = 6443
    api: str | None = None
    cluster_dns: tuple[str, str] | None = None
    faults: tuple[Fault, ...] = ()


class KubeletNode(Struct, frozen=True):
    """The facts that kubelet is judged by: the moment, this machine, its files and unit, and the binary.

    `certificates` are the names of its certificates that stand on this node. `api_host` is the host of the API server
    that a kubelet of the control plane talks to. `serving_issued` is when the certificate of kubelet's own API was
    issued (seconds since the epoch); None where protokube issues none.
    """

    at: Moment
    instance: Instance | Unknown
    node: NodeFacts
    kubelet: KubeletFacts
    certificates: frozenset[str] | Unknown = frozenset()
    api_host: str = "127.0.0.1"
    serving_issued: float | None = None

    @property
    def held(self) -> frozenset[str]:
        """The certificates that are known to stand."""
        return frozenset() if isinstance(self.certificates, Unknown) else self.certificates

    def file(self, path: str) -> FileState:
        """The state of one of kubelet's files; absent where the node's files are unknown."""
        files = self.node.files
        return Absent() if isinstance(files, Unknown) else files.get(path, Absent())


class FileWanted(Struct, frozen=True):
    """A file to write, and why."""

    path: str
    text: str
    reason: str


class UnitWanted(Struct, frozen=True):
    """Start kubelet's unit, or restart it, and why. `warning`: although something is wrong."""

    unit: str
    reason: str
    restart: bool = False
    warning: bool = False


class KubeletAssessment(Struct, frozen=True):
    """kubelet's next steps: its files, then its unit."""

    files: tuple[FileWanted, ...] = ()
    unit: UnitWanted | None = None
    findings: Findings = field(default_factory=Findings)
