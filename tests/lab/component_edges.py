"""Where the control plane's own checks of single values end, and legal values of each kind.

Read from the options' validation of 1.20.2 and of the newest release, apart from protokube's tables: the two check
each other.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from tests.lab.kubelet_edges import EDGES as KUBELET_EDGES
from tests.lab.kubelet_edges import Edge

LEGAL: dict[str, Any] = {
    "bool": True,
    "float": 0.25,
    "string": "some-text",
    "ip": "10.0.0.1",
    "duration": "1m30s",
    "quantity": "4Ki",
    "strings": ["one", "two"],
    "int32": 7,
    "int64": 8,
    "uint32": 9,
    "uint64": 10,
    "map": {"b": "2", "a": "1"},
    "gates": {"AllAlpha": True},
    "tree": {"a": {"b": [1, "x"]}},
}


def _from(low: int) -> Edge:
    return Edge((low,), (low - 1,))


def _range(low: int, high: int) -> Edge:
    return Edge((low, high), (low - 1, high + 1))


def _words(*words: str) -> Edge:
    return Edge(words, ("nosuch",))


PATH = Edge(("/etc/kubernetes/some-file",), ("some-file", "/a/../b"))
"""Of every field that names a file which the operator keeps."""
_MORE_THAN_NO_TIME = Edge(("1ns", "15s"), ("0s", "-1s"))
_NO_LESS_THAN_NO_TIME = Edge(("0s", "15s"), ("-1s",))
_LEASE = Edge(("10001ms", "60s"), ("0s", "-1s", "10s"))
_RENEW = Edge(("2401ms", "14s"), ("0s", "2400ms", "15s"))
_RETRY = Edge(("1ns", "8s"), ("0s", "-1s", "9s"))
_SYNC = Edge(("1s", "1m"), ("0s", "-1s", "999ms"))
_MIN_SYNC = Edge(("1ns", "30s"), ("-1s", "31s"))
_LOCK = Edge(("leases",), ("nosuch",), old=("endpoints", "configmaps", "endpointsleases", "configmapsleases"))
_AUDIT_VERSION = Edge(("audit.k8s.io/v1",), ("v1",), old=("audit.k8s.io/v1beta1",))
_ADMISSION = Edge(
    (["AlwaysPullImages", "EventRateLimit"],), (["NoSuch"],), old=(["PodSecurityPolicy"],), new=(["PodSecurity"],)
)
_CIDRS = Edge((["10.0.0.0/8"], ["fd00::/64", "192.0.2.0/24"]), (["10.0.0.0/33"], ["10.0.0.1"]))
_HOSTPORT = Edge(("0.0.0.0:10256", "[::]:1"), ("10256", "0.0.0.0:0", "0.0.0.0:65536", "localhost:10256"))
_PREVIOUS = Edge(neither=("1.18", "x"), old=("1.19",), new=("1.35",))

EDGES: dict[tuple[str, str], Edge] = {
    ("*", "featureGates"): Edge(
        ({"AllAlpha": True},), ({"NoSuch": True},), old=({"DryRun": False},), new=({"WatchList": True},)
    ),
    ("*", "cloudProviderGCELBSrcCIDRs"): _CIDRS,
    ("*", "cloudProviderGCEL7LBSrcCIDRs"): _CIDRS,
    ("*", "logLevel"): Edge((0, 2), (-1,)),
    ("*", "vmodule"): KUBELET_EDGES["vmodule"],
    ("*", "logFormat"): _words("text", "json"),
    ("*", "logBacktraceAt"): KUBELET_EDGES["logBacktraceAt"],
    ("*", "stderrthreshold"): KUBELET_EDGES["stderrthreshold"],
    ("*", "tlsCipherSuites"): KUBELET_EDGES["tlsCipherSuites"],
    ("*", "tlsMinVersion"): KUBELET_EDGES["tlsMinVersion"],
    ("*", "tlsCurvePreferences"): KUBELET_EDGES["tlsCurvePreferences"],
    ("*", "tlsSNICertKey"): Edge((["/a.crt,/a.key"], ["/a.crt,/a.key:*.example.com,b"]), (["/a.crt"], ["a,b"])),
    ("*", "showHiddenMetricsForVersion"): _PREVIOUS,
    ("*", "securePort"): _range(1, 65535),
    ("*", "http2MaxStreamsPerConnection"): _from(0),
    ("*", "kubeAPIBurst"): _from(0),
    ("*", "logging.format"): _words("text", "json"),
    ("*", "clientConnection.burst"): Edge((1,), (-1,)),
    # --- kube-apiserver
    ("kube-apiserver", "bindAddress"): Edge(("0.0.0.0", "::"), ("10.0.0.1", "localhost")),
    ("kube-apiserver", "storageBackend"): _words("etcd3"),
    ("kube-apiserver", "storageMediaType"): _words("application/json", "application/vnd.kubernetes.protobuf"),
    ("kube-apiserver", "authorizationMode"): Edge((["Node", "RBAC"], ["Webhook"]), (["Nodes"], ["RBAC", "RBAC"])),
    ("kube-apiserver", "enableAdmissionPlugins"): _ADMISSION,
    ("kube-apiserver", "disableAdmissionPlugins"): _ADMISSION,
    ("kube-apiserver", "admissionControl"): _ADMISSION,
    ("kube-apiserver", "auditLogMode"): _words("batch", "blocking", "blocking-strict"),
    ("kube-apiserver", "auditWebhookMode"): _words("batch", "blocking", "blocking-strict"),
    ("kube-apiserver", "auditLogFormat"): _words("legacy", "json"),
    ("kube-apiserver", "auditLogVersion"): _AUDIT_VERSION,
    ("kube-apiserver", "auditWebhookVersion"): _AUDIT_VERSION,
    ("kube-apiserver", "auditLogMaxAge"): _from(0),
    ("kube-apiserver", "auditLogMaxBackups"): _from(0),
    ("kube-apiserver", "auditLogMaxSize"): _from(0),
    ("kube-apiserver", "auditLogPath"): Edge(("-", "/var/log/audit/audit.log"), ("audit.log",)),
    ("kube-apiserver", "authenticationTokenWebhookVersion"): _words("v1beta1", "v1"),
    ("kube-apiserver", "authorizationWebhookVersion"): _words("v1beta1", "v1"),
    ("kube-apiserver", "endpointReconcilerType"): _words("master-count", "lease", "none"),
    ("kube-apiserver", "apiserverCount"): _from(1),
    ("kube-apiserver", "goawayChance"): Edge((0.0, 0.02), (-0.01, 0.03)),
    ("kube-apiserver", "kubeletPreferredAddressTypes"): Edge((["Hostname", "ExternalDNS"],), (["IP"],)),
    ("kube-apiserver", "kubernetesServiceNodePort"): _range(0, 65535),
    ("kube-apiserver", "kubeletPort"): _range(0, 65535),
    ("kube-apiserver", "kubeletReadOnlyPort"): _range(0, 65535),
    ("kube-apiserver", "livezGracePeriod"): _NO_LESS_THAN_NO_TIME,
    ("kube-apiserver", "shutdownDelayDuration"): _NO_LESS_THAN_NO_TIME,
    ("kube-apiserver", "shutdownWatchTerminationGracePeriod"): _NO_LESS_THAN_NO_TIME,
    ("kube-apiserver", "requestTimeout"): _NO_LESS_THAN_NO_TIME,
    ("kube-apiserver", "maxRequestsInflight"): _from(0),
    ("kube-apiserver", "maxMutatingRequestsInflight"): _from(0),
    ("kube-apiserver", "minRequestTimeout"): _from(0),
    ("kube-apiserver", "targetRamMB"): _from(0),
    ("kube-apiserver", "identityLeaseDurationSeconds"): _from(1),
    ("kube-apiserver", "identityLeaseRenewIntervalSeconds"): _from(1),
    ("kube-apiserver", "oidcSigningAlgs"): Edge((["RS256", "PS512"],), (["HS256"],)),
    ("kube-apiserver", "oidcIssuerURL"): Edge(("https://issuer.example/x",), ("http://issuer.example", "issuer")),
    ("kube-apiserver", "serviceAccountJWKSURI"): Edge(("https://a.example/keys",), ("http://a.example/keys",)),
    ("kube-apiserver", "serviceAccountIssuer"): Edge((["https://a.example"],), new=(["https://b", "https://a"],)),
    ("kube-apiserver", "serviceAccountMaxTokenExpiration"): Edge(
        ("0s", "1h", "1193046h28m16s"), ("59m59s", "1193046h28m17s")
    ),
    ("kube-apiserver", "serviceNodePortRange"): Edge(("30000-32767", "30000+100"), ("0-100000", "x")),
    ("kube-apiserver", "watchCacheSizes"): Edge((["pods#100", "events.events.k8s.io#0"],), (["pods"], ["pods#-1"])),
    ("kube-apiserver", "externalHostname"): Edge(("api.example.com",), ("https://api",)),
    ("kube-apiserver", "peerAdvertiseIP"): Edge(("10.0.0.1", "fd00::1"), ("node-a",)),
    ("kube-apiserver", "peerAdvertisePort"): Edge(("1", "65535"), ("0", "65536")),
    ("kube-apiserver", "strictTransportSecurityDirectives"): Edge(
        (["max-age=31536000", "includeSubDomains", "preload"],), (["max-age"], ["nosuch"])
    ),
    # --- kube-controller-manager
    ("kube-controller-manager", "controllers"): Edge(
        (["*", "-ttl", "tokencleaner"],), (["nosuch"], ["-*"]), new=(["*", "-ttl-controller"],)
    ),
    ("kube-controller-manager", "maxEndpointsPerSlice"): _range(1, 1000),
    ("kube-controller-manager", "mirroringConcurrentServiceEndpointSyncs"): _range(1, 50),
    ("kube-controller-manager", "mirroringMaxEndpointsPerSubset"): _range(1, 1000),
    ("kube-controller-manager", "concurrentServiceEndpointSyncs"): _range(1, 50),
    ("kube-controller-manager", "nodeCIDRMaskSize"): _range(0, 128),
    ("kube-controller-manager", "nodeCIDRMaskSizeIPv4"): _range(0, 32),
    ("kube-controller-manager", "nodeCIDRMaskSizeIPv6"): _range(0, 128),
    ("kube-controller-manager", "nodeMonitorGracePeriod"): Edge(("40s",), old=("0s",)),
    ("kube-controller-manager", "concurrentHorizontalPodAutoscalerSyncs"): _from(1),
    ("kube-controller-manager", "concurrentCronJobSyncs"): _from(1),
    ("kube-controller-manager", "leaderElection.leaderElectLeaseDuration"): _LEASE,
    ("kube-controller-manager", "leaderElection.leaderElectRenewDeadlineDuration"): _RENEW,
    ("kube-controller-manager", "leaderElection.leaderElectRetryPeriod"): _RETRY,
    ("kube-controller-manager", "leaderElection.leaderElectResourceLock"): _LOCK,
    # --- kube-scheduler
    ("kube-scheduler", "parallelism"): _from(1),
    ("kube-scheduler", "percentageOfNodesToScore"): _range(0, 100),
    ("kube-scheduler", "podInitialBackoffSeconds"): _range(1, 10),
    ("kube-scheduler", "podMaxBackoffSeconds"): Edge((1, 20), (0,)),
    ("kube-scheduler", "leaderElection.leaseDuration"): _LEASE,
    ("kube-scheduler", "leaderElection.renewDeadline"): _RENEW,
    ("kube-scheduler", "leaderElection.retryPeriod"): _RETRY,
    ("kube-scheduler", "leaderElection.resourceLock"): _LOCK,
    ("kube-scheduler", "profiles"): Edge(
        (
            [{"schedulerName": "a", "plugins": {"score": {"enabled": [{"name": "ImageLocality", "weight": 2}]}}}],
            [{"pluginConfig": [{"name": "InterPodAffinity", "args": {"hardPodAffinityWeight": 5}}]}],
        ),
        (
            [{"plugins": {"score": {"enabled": [{"weight": 2}]}}}],
            [{"plugins": {"score": {"enabled": [{"name": "a", "weight": -1}]}}}],
        ),
        new=([{"plugins": {"multiPoint": {"enabled": [{"name": "Coscheduling"}]}}}],),
    ),
    ("kube-scheduler", "extenders"): Edge(
        ([{"urlPrefix": "https://a", "tlsConfig": {"insecure": False}, "managedResources": [{"name": "a/b"}]}],),
        ([{"filterVerb": "x"}], [{"urlPrefix": "https://a", "weight": -1}]),
    ),
    # --- kube-proxy
    ("kube-proxy", "mode"): Edge(("iptables", "ipvs"), ("nosuch",), old=("userspace",), new=("nftables",)),
    ("kube-proxy", "healthzBindAddress"): _HOSTPORT,
    ("kube-proxy", "metricsBindAddress"): _HOSTPORT,
    ("kube-proxy", "iptables.masqueradeBit"): _range(0, 31),
    ("kube-proxy", "nftables.masqueradeBit"): _range(0, 31),
    ("kube-proxy", "iptables.syncPeriod"): _SYNC,
    ("kube-proxy", "iptables.minSyncPeriod"): _MIN_SYNC,
    ("kube-proxy", "nftables.syncPeriod"): _SYNC,
    ("kube-proxy", "nftables.minSyncPeriod"): _MIN_SYNC,
    ("kube-proxy", "ipvs.syncPeriod"): Edge(("1ns", "1m"), ("0s", "-1s")),
    ("kube-proxy", "ipvs.minSyncPeriod"): Edge(("0s", "30s"), ("-1s", "31s")),
    ("kube-proxy", "ipvs.tcpTimeout"): _NO_LESS_THAN_NO_TIME,
    ("kube-proxy", "ipvs.tcpFinTimeout"): _NO_LESS_THAN_NO_TIME,
    ("kube-proxy", "ipvs.udpTimeout"): _NO_LESS_THAN_NO_TIME,
    ("kube-proxy", "ipvs.excludeCIDRs"): _CIDRS,
    ("kube-proxy", "oomScoreAdj"): _range(-1000, 1000),
    ("kube-proxy", "conntrack.maxPerCore"): _from(0),
    ("kube-proxy", "conntrack.min"): _from(0),
    ("kube-proxy", "conntrack.tcpEstablishedTimeout"): _NO_LESS_THAN_NO_TIME,
    ("kube-proxy", "conntrack.tcpCloseWaitTimeout"): _NO_LESS_THAN_NO_TIME,
    ("kube-proxy", "conntrack.udpTimeout"): _NO_LESS_THAN_NO_TIME,
    ("kube-proxy", "conntrack.udpStreamTimeout"): _NO_LESS_THAN_NO_TIME,
    ("kube-proxy", "configSyncPeriod"): _MORE_THAN_NO_TIME,
    ("kube-proxy", "udpIdleTimeout"): _MORE_THAN_NO_TIME,
    ("kube-proxy", "portRange"): Edge(("0-0", "30000-32767"), ("x-y",)),
    ("kube-proxy", "nodePortAddresses"): Edge((["10.0.0.0/8"],), (["10.0.0.0/33"], ["nosuch"]), new=(["primary"],)),
    ("kube-proxy", "detectLocalMode"): Edge(("ClusterCIDR", "NodeCIDR"), ("nosuch",), new=("BridgeInterface",)),
}
"""(component, or * for all) and field → who takes which value. A later value is taken as the legal one of a sweep."""


class Case(NamedTuple):
    """A file of kube-apiserver for one version: the API version that it is written in, or what is wrong with it."""

    version: str
    value: Any
    api: str | None = None
    fault: str | None = None


_JWT = {
    "issuer": {"url": "https://issuer.example", "audiences": ["kubernetes"]},
    "claimMappings": {
        "username": {"claim": "sub", "prefix": "oidc:"},
        "extra": [{"key": "a/b", "valueExpression": "c"}],
    },
}
_WEBHOOK = {
    "type": "Webhook",
    "name": "hook",
    "webhook": {
        "timeout": "3s",
        "subjectAccessReviewVersion": "v1",
        "matchConditionSubjectAccessReviewVersion": "v1",
        "failurePolicy": "Deny",
        "connectionInfo": {"type": "KubeConfigFile", "kubeConfigFile": "/etc/kubernetes/hook"},
    },
}
_SLOW_WEBHOOK = {**_WEBHOOK, "webhook": {**_WEBHOOK["webhook"], "timeout": "31s"}}  # type: ignore[dict-item]

FILES: dict[str, tuple[Case, ...]] = {
    "authenticationConfig": (
        Case("1.29.1", {"jwt": [_JWT]}, "apiserver.config.k8s.io/v1alpha1"),
        Case("1.31.1", {"jwt": [_JWT]}, "apiserver.config.k8s.io/v1beta1"),
        Case("1.36.2", {"jwt": [_JWT]}, "apiserver.config.k8s.io/v1"),
        Case("1.28.1", {"jwt": [_JWT]}, fault="doesn't know it yet"),
        Case("1.36.2", {"jwt": [{"issuer": {"url": "http://x", "audiences": ["a"]}}]}, fault="expected an https URL"),
        Case("1.36.2", {"jwt": [{"issuer": {"url": "https://x"}}]}, fault="expected audiences as well"),
        Case("1.36.2", {"jwts": []}, fault="the nearest known name is jwt"),
    ),
    "authorizationConfig": (
        Case("1.30.0", {"authorizers": [{"type": "RBAC", "name": "rbac"}]}, "apiserver.config.k8s.io/v1beta1"),
        Case("1.36.2", {"authorizers": [_WEBHOOK]}, "apiserver.config.k8s.io/v1"),
        Case("1.36.2", {"authorizers": [_SLOW_WEBHOOK]}, fault="31s is wrong"),
        Case("1.20.2", {"authorizers": [_WEBHOOK]}, fault="doesn't know it yet"),
    ),
    "admissionConfig": (
        Case(
            "1.20.2",
            {"plugins": [{"name": "EventRateLimit", "configuration": {"limits": [{"type": "Server", "qps": 5}]}}]},
            "apiserver.config.k8s.io/v1",
        ),
        Case("1.20.2", {"plugins": [{"name": "PodSecurity", "path": "/x"}]}, fault="'PodSecurity' is wrong"),
        Case("1.36.2", {"plugins": "x"}, fault="expected a list"),
    ),
    "egressSelectorConfig": (
        Case(
            "1.36.2",
            {
                "egressSelections": [
                    {
                        "name": "cluster",
                        "connection": {"proxyProtocol": "GRPC", "transport": {"uds": {"udsName": "/run/a.sock"}}},
                    }
                ]
            },
            "apiserver.config.k8s.io/v1beta1",
        ),
        Case("1.36.2", {"egressSelections": [{"name": "nosuch"}]}, fault="'nosuch' is wrong"),
    ),
    "tracingConfig": (
        Case("1.36.2", {"samplingRatePerMillion": 100}, "apiserver.config.k8s.io/v1"),
        Case("1.30.0", {"samplingRatePerMillion": 100}, "apiserver.config.k8s.io/v1beta1"),
        Case("1.36.2", {"samplingRatePerMillion": 1000001}, fault="1000001 is wrong"),
        Case("1.20.2", {"samplingRatePerMillion": 100}, fault="doesn't know it yet"),
    ),
    "auditPolicy": (
        Case(
            "1.20.2",
            {"rules": [{"level": "None", "nonResourceURLs": ["/healthz*"]}, {"level": "Metadata"}]},
            "audit.k8s.io/v1",
        ),
        Case("1.36.2", {"omitStages": ["RequestReceived"], "rules": [{"level": "Request"}]}, "audit.k8s.io/v1"),
        Case("1.36.2", {"rules": [{"level": "All"}]}, fault="'All' is wrong"),
        Case("1.36.2", {"omitStages": ["Received"]}, fault="'Received' is wrong"),
        Case("1.20.2", {"rules": [{"level": "None", "omitManagedFields": True}]}, fault="doesn't know it yet"),
        Case("1.36.2", "a policy", fault="expected a map with the file's fields"),
    ),
}
