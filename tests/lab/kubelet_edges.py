"""Where kubelet's own checks of single values end: what each known version still takes, and the nearest it refuses.

Read from pkg/kubelet/apis/config/validation and the parsers of values of 1.20.2 and of the newest release; those of
1.20.2 were tried on a kubelet of that version. Written apart from protokube's table: the two check each other.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class Edge(NamedTuple):
    """Values of one field by who takes them."""

    both: tuple[Any, ...] = ()
    neither: tuple[Any, ...] = ()
    old: tuple[Any, ...] = ()  # 1.20.2 alone
    new: tuple[Any, ...] = ()  # 1.36.2 alone


def _range(low: int, high: int | None = None) -> Edge:
    return Edge((low,), (low - 1,)) if high is None else Edge((low, high), (low - 1, high + 1))


_SIGNALS = Edge(
    ({"memory.available": "100Mi"}, {"nodefs.available": "10%"}, {"pid.available": "1"}, {"imagefs.available": "0%"}),
    ({"memory.available": "0"}, {"memory.available": "-1Mi"}, {"nodefs.available": "101%"}, {"nodefs.free": "1Gi"}),
    new=({"containerfs.available": "1Gi"},),
)
_RESERVED = Edge(
    ({"cpu": "100m", "memory": "1Gi", "ephemeral-storage": "1Gi", "pid": "1000"}, {"cpu": "0"}),
    ({"storage": "1Gi"}, {"hugepages-2Mi": "2Mi"}, {"cpu": "-1m"}, {"memory": "-1Mi"}),
)
_NONE = ({"nosuch-option": "true"},)

EDGES: dict[str, Edge] = {
    "port": _range(1, 65535),
    "readOnlyPort": _range(0, 65535),
    "healthzPort": _range(0, 65535),
    "tlsMinVersion": Edge(("VersionTLS10", "VersionTLS13"), ("VersionTLS09", "TLS12")),
    "tlsCipherSuites": Edge(
        (
            ["TLS_AES_128_GCM_SHA256"],
            ["TLS_RSA_WITH_RC4_128_SHA", "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305"],
            ["TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256"],
        ),
        (["TLS_AES_128_GCM_SHA257"], ["TLS_AES_128_GCM_SHA256", "tls_aes_128_gcm_sha256"]),
    ),
    "tlsCurvePreferences": Edge(([23, 24, 25, 29], [4588]), ([29, 29], [0], [30], [65536])),
    "authorization.mode": Edge(("AlwaysAllow", "Webhook"), ("RBAC",)),
    "registryPullQPS": _range(0),
    "registryBurst": Edge((1,), (-1,)),
    "imagePullCredentialsVerificationPolicy": Edge(
        ("NeverVerify", "NeverVerifyPreloadedImages", "NeverVerifyAllowlistedImages", "AlwaysVerify"), ("Always",)
    ),
    "preloadedImagesVerificationAllowlist": Edge(
        (["registry.k8s.io/pause"], ["quay.io/*", "quay.io/team/app"]),
        (["*"], ["/*"], ["a*"], ["a/*/b"], ["a/"], [" a"]),
    ),
    "eventRecordQPS": _range(0),
    "eventBurst": Edge((1,), (-1,)),
    "oomScoreAdj": _range(-1000, 1000),
    "nodeLeaseDurationSeconds": _range(1),
    "imageMinimumGCAge": Edge(("1ns",), old=("-1ns",)),
    "imageMaximumGCAge": Edge(("0s", "1ns"), ("-1ns",)),
    "imageGCHighThresholdPercent": _range(0, 100),
    "imageGCLowThresholdPercent": _range(0, 100),
    "cgroupDriver": Edge(("cgroupfs", "systemd"), ("Systemd",)),
    "cpuManagerPolicy": Edge(("none", "static"), ("None",)),
    "cpuManagerPolicyOptions": Edge(
        ({"full-pcpus-only": "true"}, {"align-by-socket": "0"}), (*_NONE, {"full-pcpus-only": "yes"})
    ),
    "memoryManagerPolicy": Edge(("None", "Static"), ("static",)),
    "topologyManagerPolicy": Edge(("none", "best-effort", "restricted", "single-numa-node"), ("strict",)),
    "topologyManagerScope": Edge(("container", "pod"), ("node",)),
    "topologyManagerPolicyOptions": Edge(
        ({"prefer-closest-numa-nodes": "true"}, {"max-allowable-numa-nodes": "16"}), _NONE
    ),
    "qosReserved": Edge(({"memory": "0%"}, {"memory": "100%"}), ({"memory": "101%"}, {"cpu": "50%"})),
    "hairpinMode": Edge(("promiscuous-bridge", "hairpin-veth", "none"), ("veth",)),
    "maxPods": Edge((1, 110), (-1,)),
    "runOnce": Edge((False,), old=(True,)),
    "cpuCFSQuotaPeriod": Edge(("1ms", "100ms", "1s"), ("0s", "999ns", "1s1ns", "2s"), old=("1us", "999us")),
    "nodeStatusMaxImages": _range(-1),
    "maxOpenFiles": Edge((1,), (-1,)),
    "kubeAPIQPS": _range(0),
    "kubeAPIBurst": Edge((1,), (-1,)),
    "maxParallelImagePulls": _range(1),
    "evictionHard": _SIGNALS,
    "evictionSoft": _SIGNALS,
    "evictionSoftGracePeriod": Edge(
        ({"memory.available": "0s"}, {"pid.available": "1m"}),
        ({"memory.available": "-1s"}, {"memory.free": "1s"}),
        new=({"containerfs.inodesFree": "1s"},),
    ),
    "evictionMinimumReclaim": Edge(
        ({"memory.available": "0"}, {"nodefs.available": "1%"}),
        ({"memory.available": "-1"}, {"nodefs.available": "0%"}, {"nodefs": "1%"}),
        new=({"containerfs.available": "1Gi"},),
    ),
    "podsPerCore": _range(0),
    "iptablesMasqueradeBit": _range(0, 31),
    "iptablesDropBit": _range(0, 31),
    "featureGates": Edge(
        ({"AllAlpha": False, "AllBeta": True}, {"GracefulNodeShutdown": True}),
        ({"NoSuchGate": True}, {"AllAlpah": False}, {"allAlpha": True}, {"ExecProbeTimeuot": True}),
        old=(
            {"DynamicKubeletConfig": False},
            {"SupportPodPidsLimit": True},
            {"NodeLease": True},
            {"ExecProbeTimeout": False},
        ),
        new=({"NodeSwap": True}, {"KubeletInUserNamespace": True}, {"GitRepoVolumeDriver": True}),
    ),
    "memorySwap.swapBehavior": Edge(("LimitedSwap", "NoSwap"), ("UnlimitedSwap", "limitedSwap")),
    "containerLogMaxSize": Edge(("0", "10Mi"), new=("-1",)),
    "containerLogMaxFiles": Edge((2,), (1, 0, -1)),
    "containerLogMaxWorkers": _range(1),
    "containerLogMonitorInterval": Edge(("3s",), ("2999ms", "0s", "-3s")),
    "configMapAndSecretChangeDetectionStrategy": Edge(("Get", "Cache", "Watch"), ("watch",)),
    "systemReserved": _RESERVED,
    "kubeReserved": _RESERVED,
    "reservedSystemCPUs": Edge(("0", "0-3,6"), ("0-", "-1", "0,", "a", "0-1-2", "0;1", "1 - 2")),
    "showHiddenMetricsForVersion": Edge((), ("1.18", "1.20", "1.36", "1.35.0", "1"), old=("1.19",), new=("1.35",)),
    "enforceNodeAllocatable": Edge(
        ([], ["none"], ["pods"], ["pods", "system-reserved", "kube-reserved"]),
        (["none", "pods"], ["pod"]),
        old=(["pods", "pods"],),
        new=(["pods", "system-reserved-compressible"],),
    ),
    "allowedUnsafeSysctls": Edge(
        (["net.*"], ["kernel.shm*", "kernel.msgmax", "kernel.sem"], ["net.ipv4.ip_forward"], ["fs.mqueue.msg_max"]),
        (["kernel.*"], ["vm.swappiness"], ["net"], ["kernel.semaphore"], ["net.*.x"], ["*"], ["net.-a"]),
    ),
    "logging.format": Edge(("text", "json"), ("xml",)),
    "logging.verbosity": Edge((0, 2**31 - 1), (2**31,)),
    "logging.vmodule": Edge(
        ([{"filePattern": "a*", "verbosity": 2**31 - 1}],),
        ([{"filePattern": "a=b", "verbosity": 1}], [{"filePattern": "a", "verbosity": 2**31}]),
    ),
    "shutdownGracePeriod": Edge(("0s", "1s"), ("999ms", "-1s", "1ns")),
    "shutdownGracePeriodCriticalPods": Edge(("0s", "1s"), ("999ms", "-1s", "1ns")),
    "crashLoopBackOff.maxContainerRestartPeriod": Edge(("1s", "300s"), ("999ms", "300s1ms", "0s")),
    "reservedMemory": Edge(
        ([{"numaNode": 0, "limits": {"memory": "1Gi", "hugepages-2Mi": "2Mi"}}],),
        (
            [{"numaNode": 0, "limits": {"cpu": "1"}}],
            [{"numaNode": 0, "limits": {"memory": "0"}}],
            [{"numaNode": -1, "limits": {"memory": "1"}}],
        ),
    ),
    "memoryThrottlingFactor": Edge((0.001, 1.0), (0, -0.1, 1.001)),
    "memoryReservationPolicy": Edge(("None", "TieredReservation"), ("Tiered",)),
    "registerWithTaints": Edge((["a=b:NoSchedule"], ["a:NoExecute"]), (["a=b:Never"], ["a b=c:NoSchedule"])),
    "tracing.endpoint": Edge(
        ("localhost:4317", "dns://host:1", "unix:///run/otel.sock", "unix-abstract://x"), ("http://localhost:4317",)
    ),
    "tracing.samplingRatePerMillion": _range(0, 1_000_000),
    "userNamespaces.idsPerPod": Edge((65536, 131072), (65535, 65537, 0, 2**32)),
    "podLogsDir": Edge(("/var/log/pods", "/a b"), ("var/log", "/var//log", "/var/../log", "/var/log/", "/var/läg")),
    "containerRuntime": Edge(("docker", "remote"), ("rkt",)),
    "networkPlugin": Edge(("cni", "kubenet"), ("bridge",)),
    "minimumContainerTTLDuration": Edge(("0s",), ("-1ns",)),
    "nodeIP": Edge(
        ("10.0.0.1", "fd00::1", "10.0.0.1,fd00::1"),
        ("10.0.0.1,10.0.0.2", "10.0.0.1,fd00::1,fd00::2", "fd00::1,fd00::2"),
    ),
    "logLevel": Edge((0, 9), old=(-1,)),
    "logBacktraceAt": Edge(("kubelet.go:12",), ("kubelet:12", "kubelet.go:0", "kubelet.go")),
    "stderrthreshold": Edge(("WARNING", "fatal", "2"), ("NOTICE",)),
    "vmodule": Edge(("a=1", "kube*=2,b=3"), ("a", "a=b", "=1")),
}
