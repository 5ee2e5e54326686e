"""Every flag and every configuration field of kubelet, one line each: the only list of them there is.

Taken from the `--help` of kubelet 1.20.2 and 1.36.2, from KubeletConfiguration
(kubelet.config.k8s.io/v1beta1) of the same versions, and from what they check at their start
(pkg/kubelet/apis/config/validation, and the parsers of the values). It is one string, so that it costs nothing to
import; core/component/schema.py explains the columns, and core/component/rules.py the rules among the marks.

Columns: name, kind, flag ("-": none), where 1.20.2 and 1.36.2 have it (one letter each), marks and rules, # hint.
"""

TABLE = """
enableServer bool enable-server bb
staticPodPath string pod-manifest-path bb own # it is protokube's --manifest-dir
podLogsDir string - .c form=path
syncFrequency duration sync-frequency bb zero
fileCheckFrequency duration file-check-frequency bb zero
httpCheckFrequency duration http-check-frequency bb zero
staticPodURL string manifest-url bb
staticPodURLHeader headers manifest-url-header bb
address ip address bb
port int32 port bb zero 1..65535
readOnlyPort int32 read-only-port bb 0..65535
tlsCertFile string tls-cert-file bb
tlsPrivateKeyFile string tls-private-key-file bb
tlsCipherSuites strings tls-cipher-suites ll values=@suites
tlsCurvePreferences int32s - .c unique values=@curves
tlsMinVersion VersionTLS10|VersionTLS11|VersionTLS12|VersionTLS13 tls-min-version bb
rotateCertificates bool rotate-certificates bb
serverTLSBootstrap bool rotate-server-certificates bb
authentication.x509.clientCAFile string client-ca-file bb
authentication.webhook.enabled bool authentication-token-webhook bb
authentication.webhook.cacheTTL duration authentication-token-webhook-cache-ttl bb zero
authentication.anonymous.enabled bool anonymous-auth bb
authorization.mode AlwaysAllow|Webhook authorization-mode bb
authorization.webhook.cacheAuthorizedTTL duration authorization-webhook-cache-authorized-ttl bb zero
authorization.webhook.cacheUnauthorizedTTL duration authorization-webhook-cache-unauthorized-ttl bb zero
registryPullQPS int32 registry-qps bb 0..
registryBurst int32 registry-burst bb zero 0..
imagePullCredentialsVerificationPolicy string - .c values=@pullPolicies
preloadedImagesVerificationAllowlist strings - .c form=images
eventRecordQPS int32 event-qps bb 0..
eventBurst int32 event-burst bb zero 0..
enableDebuggingHandlers bool enable-debugging-handlers bb
enableContentionProfiling bool contention-profiling bb
healthzPort int32 healthz-port bb 0..65535
healthzBindAddress ip healthz-bind-address bb
oomScoreAdj int32 oom-score-adj bb -1000..1000
clusterDomain string cluster-domain bb
clusterDNS ips cluster-dns bb
streamingConnectionIdleTimeout duration streaming-connection-idle-timeout bb zero
nodeStatusUpdateFrequency duration node-status-update-frequency bb zero
nodeStatusReportFrequency duration - cc zero
nodeLeaseDurationSeconds int32 - cc zero 1..
imageMinimumGCAge duration minimum-image-ttl-duration bb zero new:0..
imageMaximumGCAge duration - .c 0..
imageGCHighThresholdPercent int32 image-gc-high-threshold bb 0..100
imageGCLowThresholdPercent int32 image-gc-low-threshold bb 0..100
volumeStatsAggPeriod duration volume-stats-agg-period bb zero
kubeletCgroups string kubelet-cgroups bb
systemCgroups string system-cgroups bb
cgroupRoot string cgroup-root bb
cgroupsPerQOS bool cgroups-per-qos bb
cgroupDriver cgroupfs|systemd cgroup-driver bb
cpuManagerPolicy none|static cpu-manager-policy bb
singleProcessOOMKill bool - .c
cpuManagerPolicyOptions map cpu-manager-policy-options .b keys=@cpuOptions form=bool
cpuManagerReconcilePeriod duration cpu-manager-reconcile-period bb zero
memoryManagerPolicy None|Static memory-manager-policy .b
topologyManagerPolicy none|best-effort|restricted|single-numa-node topology-manager-policy bb
topologyManagerScope container|pod topology-manager-scope bb
topologyManagerPolicyOptions map topology-manager-policy-options .b keys=@topologyOptions
qosReserved percents qos-reserved bb keys=memory
runtimeRequestTimeout duration runtime-request-timeout bb zero
hairpinMode promiscuous-bridge|hairpin-veth|none hairpin-mode bb
maxPods int32 max-pods bb zero 0..
podCIDR string pod-cidr bb
podPidsLimit int64 pod-max-pids bb
resolvConf string resolv-conf bb empty old:zero
runOnce bool runonce bb new:only=false
cpuCFSQuota bool cpu-cfs-quota bb
cpuCFSQuotaPeriod duration cpu-cfs-quota-period bb old:1us..1s new:1ms..1s old:gate=CustomCPUCFSQuotaPeriod/100ms
nodeStatusMaxImages int32 node-status-max-images bb -1..
maxOpenFiles int64 max-open-files bb zero 0..
contentType string kube-api-content-type bb
kubeAPIQPS int32 kube-api-qps bb 0..
kubeAPIBurst int32 kube-api-burst bb zero 0..
serializeImagePulls bool serialize-image-pulls bb
maxParallelImagePulls int32 - .c 1..
evictionHard thresholds eviction-hard bb keys=@signals >0..|0%..100%
evictionSoft thresholds eviction-soft bb keys=@signals >0..|0%..100%
evictionSoftGracePeriod periods eviction-soft-grace-period bb keys=@signals 0..
evictionPressureTransitionPeriod duration eviction-pressure-transition-period bb zero
evictionMaxPodGracePeriod int32 eviction-max-pod-grace-period bb
evictionMinimumReclaim reclaims eviction-minimum-reclaim bb keys=@signals 0..|>0%..100%
mergeDefaultEvictionSettings bool - .c
podsPerCore int32 pods-per-core bb 0..
enableControllerAttachDetach bool enable-controller-attach-detach bb
protectKernelDefaults bool protect-kernel-defaults bb
makeIPTablesUtilChains bool make-iptables-util-chains bb
iptablesMasqueradeBit int32 iptables-masquerade-bit bc 0..31
iptablesDropBit int32 iptables-drop-bit bc 0..31
featureGates gates feature-gates ll exact:keys=@gates
failSwapOn bool fail-swap-on bb
memorySwap.swapBehavior string - .c exact:values=LimitedSwap|NoSwap
containerLogMaxSize size container-log-max-size bb old:0..
containerLogMaxFiles int32 container-log-max-files bb 2..
containerLogMaxWorkers int32 - .c 1..
containerLogMonitorInterval duration - .c 3s..
configMapAndSecretChangeDetectionStrategy Get|Cache|Watch - cc
systemReserved quantities system-reserved bb keys=cpu|memory|ephemeral-storage|pid 0..
kubeReserved quantities kube-reserved bb keys=cpu|memory|ephemeral-storage|pid 0..
reservedSystemCPUs string reserved-cpus bb form=cpus
showHiddenMetricsForVersion string - cc previous
systemReservedCgroup string system-reserved-cgroup bb
kubeReservedCgroup string kube-reserved-cgroup bb
enforceNodeAllocatable strings enforce-node-allocatable bb empty values=@enforcements new:unique alone=none
allowedUnsafeSysctls strings allowed-unsafe-sysctls bb form=sysctl
volumePluginDir string volume-plugin-dir bb
providerID string provider-id bl
kernelMemcgNotification bool kernel-memcg-notification bb
logging.format text|json logging-format bb
logging.sanitization bool experimental-logging-sanitization l. # no replacement
logging.flushFrequency duration - .c
logging.verbosity uint32 - .c 0..2147483647
logging.vmodule objects - .c
logging.vmodule[].filePattern string - .c form=pattern
logging.vmodule[].verbosity uint32 - .c 0..2147483647
logging.options.text.splitStream bool log-text-split-stream .b gate=LoggingAlphaOptions/false
logging.options.text.infoBufferSize quantity log-text-info-buffer-size .b gate=LoggingAlphaOptions/0
logging.options.json.splitStream bool log-json-split-stream .b gate=LoggingAlphaOptions/false
logging.options.json.infoBufferSize quantity log-json-info-buffer-size .b gate=LoggingAlphaOptions/0
enableSystemLogHandler bool - cc
enableSystemLogQuery bool - .c
shutdownGracePeriod duration - cc 0|1s.. old:gate=GracefulNodeShutdown/0s
shutdownGracePeriodCriticalPods duration - cc 0|1s.. old:gate=GracefulNodeShutdown/0s
shutdownGracePeriodByPodPriority objects - .c
shutdownGracePeriodByPodPriority[].priority int32 - .c
shutdownGracePeriodByPodPriority[].shutdownGracePeriodSeconds int64 - .c
crashLoopBackOff.maxContainerRestartPeriod duration - .c 1s..300s
reservedMemory reservedMemory reserved-memory .b
reservedMemory[].numaNode int32 - .c 0..
reservedMemory[].limits quantities - .c keys=memory|hugepages-* >0..
enableProfilingHandler bool - .c
enableDebugFlagsHandler bool - .c
seccompDefault bool seccomp-default .l
memoryThrottlingFactor float - .c >0..1
memoryReservationPolicy None|TieredReservation - .c gate=MemoryQoS/None
registerWithTaints taints register-with-taints fb
registerWithTaints[].key labelKey - fb
registerWithTaints[].value labelValue - fb optional
registerWithTaints[].effect NoSchedule|PreferNoSchedule|NoExecute - fb
registerNode bool register-node fb
tracing.endpoint string - .c form=endpoint
tracing.samplingRatePerMillion int32 - .c 0..1000000
localStorageCapacityIsolation bool local-storage-capacity-isolation .b
containerRuntimeEndpoint string container-runtime-endpoint fb
imageServiceEndpoint string image-service-endpoint fb
failCgroupV1 bool fail-cgroupv1 .l
userNamespaces.idsPerPod int64 - .c 65536..4294901760 step=65536
addDirHeader bool add-dir-header f. # kubelet logs to stderr; the journal keeps it
alsologtostderr bool alsologtostderr f. # kubelet logs to stderr; the journal keeps it
applicationMetricsCountLimit int64 application-metrics-count-limit dd
azureContainerRegistryConfig string azure-container-registry-config f. # see imageCredentialProviderConfig
bootIDFile string boot-id-file dd
bootstrapKubeconfig string bootstrap-kubeconfig ff
certDir string cert-dir ff
chaosChance float chaos-chance d. # no replacement
cloudConfig string cloud-config d. # cloud providers left kubelet; see cloudProvider: external
cloudProvider string cloud-provider df
cniBinDir string cni-bin-dir f. # gone with dockershim; the container runtime sets CNI up
cniCacheDir string cni-cache-dir f. # gone with dockershim; the container runtime sets CNI up
cniConfDir string cni-conf-dir f. # gone with dockershim; the container runtime sets CNI up
config string config ff own # protokube writes the file it names
containerHints string container-hints dd
containerRuntime docker|remote container-runtime f. # no dockershim; see containerRuntimeEndpoint
containerd string containerd dd
containerdNamespace string containerd-namespace dd
docker string docker d. # no dockershim; see containerRuntimeEndpoint
dockerEndpoint string docker-endpoint f. # no dockershim; see containerRuntimeEndpoint
dockerEnvMetadataWhitelist string docker-env-metadata-whitelist d. # no dockershim; see containerRuntimeEndpoint
dockerOnly bool docker-only d. # no dockershim; see containerRuntimeEndpoint
dockerRoot string docker-root d. # no dockershim; see containerRuntimeEndpoint
dockerTLS bool docker-tls d. # no dockershim; see containerRuntimeEndpoint
dockerTLSCA string docker-tls-ca d. # no dockershim; see containerRuntimeEndpoint
dockerTLSCert string docker-tls-cert d. # no dockershim; see containerRuntimeEndpoint
dockerTLSKey string docker-tls-key d. # no dockershim; see containerRuntimeEndpoint
dynamicConfigDir string dynamic-config-dir f. # see configDir
enableCadvisorJSONEndpoints bool enable-cadvisor-json-endpoints d. # no replacement
enableLoadReader bool enable-load-reader dd
eventStorageAgeLimit string event-storage-age-limit dd
eventStorageEventLimit string event-storage-event-limit dd
exitOnLockContention bool exit-on-lock-contention ff
experimentalAllocatableIgnoreEviction bool experimental-allocatable-ignore-eviction dd
experimentalBootstrapKubeconfig string experimental-bootstrap-kubeconfig d. # use bootstrapKubeconfig
experimentalCheckNodeCapabilitiesBeforeMount bool experimental-check-node-capabilities-before-mount d.
experimentalKernelMemcgNotification bool experimental-kernel-memcg-notification d. # use kernelMemcgNotification
experimentalMounterPath string experimental-mounter-path dd
globalHousekeepingInterval duration global-housekeeping-interval dd
help bool help ff own # kubelet would print its help and exit
hostnameOverride string hostname-override ff own # protokube sets the node's name
housekeepingInterval duration housekeeping-interval ff
imageCredentialProviderBinDir string image-credential-provider-bin-dir ff
imageCredentialProviderConfig string image-credential-provider-config ff
imagePullProgressDeadline duration image-pull-progress-deadline f. # no dockershim; see runtimeRequestTimeout
keepTerminatedPodVolumes bool keep-terminated-pod-volumes d. # no replacement
kubeconfig string kubeconfig ff own # protokube sets it once the file is there
lockFile string lock-file ff
logBacktraceAt string log-backtrace-at f. form=trace # kubelet logs to stderr; the journal keeps it
logCadvisorUsage bool log-cadvisor-usage dd
logDir string log-dir f. # kubelet logs to stderr; the journal keeps it
logFile string log-file f. # kubelet logs to stderr; the journal keeps it
logFileMaxSize uint64 log-file-max-size f. # kubelet logs to stderr; the journal keeps it
logFlushFrequency duration log-flush-frequency ff
logtostderr bool logtostderr f. # kubelet logs to stderr; the journal keeps it
machineIDFile string machine-id-file dd
masterServiceNamespace string master-service-namespace d. # no replacement
maximumDeadContainers int32 maximum-dead-containers dd
maximumDeadContainersPerContainer int32 maximum-dead-containers-per-container dd
minimumContainerTTLDuration duration minimum-container-ttl-duration dd 0..
networkPlugin cni|kubenet network-plugin f. # gone with dockershim; the container runtime sets CNI up
networkPluginMTU int32 network-plugin-mtu f. # gone with dockershim; the container runtime sets CNI up
nodeIP string node-ip ff form=addresses
nodeLabels labels node-labels ff
nonMasqueradeCIDR string non-masquerade-cidr d. # gone with dockershim; the container runtime sets CNI up
oneOutput bool one-output f. # kubelet logs to stderr; the journal keeps it
podInfraContainerImage string pod-infra-container-image f. # the pause image is set in the container runtime
reallyCrashForTesting bool really-crash-for-testing d. # no replacement
redirectContainerStreaming bool redirect-container-streaming d. # no dockershim; see containerRuntimeEndpoint
registerSchedulable bool register-schedulable d. # use registerWithTaints
rootDir string root-dir ff
runtimeCgroups string runtime-cgroups ff
seccompProfileRoot string seccomp-profile-root d. # profiles live in seccomp below rootDir
skipHeaders bool skip-headers f. # kubelet logs to stderr; the journal keeps it
skipLogHeaders bool skip-log-headers f. # kubelet logs to stderr; the journal keeps it
stderrthreshold string stderrthreshold f. form=severity # kubelet logs to stderr; the journal keeps it
storageDriverBufferDuration duration storage-driver-buffer-duration dd
storageDriverDB string storage-driver-db dd
storageDriverHost string storage-driver-host dd
storageDriverPassword string storage-driver-password dd
storageDriverSecure bool storage-driver-secure dd
storageDriverTable string storage-driver-table dd
storageDriverUser string storage-driver-user dd
logLevel int32 v ff unset=0 new:0..
version bool version ff own # kubelet would print its version and exit
vmodule string vmodule ff form=vmodule
configDir string config-dir .f
maxHousekeepingInterval duration max-housekeeping-interval .f
"""
