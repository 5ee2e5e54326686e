"""Every flag and every configuration field of kubelet, one line each: the only list of them there is.

Taken from the `--help` of kubelet 1.20.2 and 1.36.2 and from KubeletConfiguration
(kubelet.config.k8s.io/v1beta1) of the same versions. It is one string, so that it costs nothing to import;
kubelet_fields.py reads it, and explains the columns, when a kubelet is rendered for the first time.

Columns: name, kind, flag ("-": none), where 1.20.2 and 1.36.2 have it (one letter each), marks, # hint.
"""

TABLE = """
enableServer bool enable-server bb
staticPodPath string pod-manifest-path bb own # it is protokube's --manifest-dir
podLogsDir string - .c
syncFrequency duration sync-frequency bb zero
fileCheckFrequency duration file-check-frequency bb zero
httpCheckFrequency duration http-check-frequency bb zero
staticPodURL string manifest-url bb
staticPodURLHeader headers manifest-url-header bb
address ip address bb
port int32 port bb zero
readOnlyPort int32 read-only-port bb
tlsCertFile string tls-cert-file bb
tlsPrivateKeyFile string tls-private-key-file bb
tlsCipherSuites strings tls-cipher-suites ll
tlsCurvePreferences int32s - .c
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
registryPullQPS int32 registry-qps bb
registryBurst int32 registry-burst bb zero
imagePullCredentialsVerificationPolicy string - .c
preloadedImagesVerificationAllowlist strings - .c
eventRecordQPS int32 event-qps bb
eventBurst int32 event-burst bb zero
enableDebuggingHandlers bool enable-debugging-handlers bb
enableContentionProfiling bool contention-profiling bb
healthzPort int32 healthz-port bb
healthzBindAddress ip healthz-bind-address bb
oomScoreAdj int32 oom-score-adj bb
clusterDomain string cluster-domain bb
clusterDNS ips cluster-dns bb
streamingConnectionIdleTimeout duration streaming-connection-idle-timeout bb zero
nodeStatusUpdateFrequency duration node-status-update-frequency bb zero
nodeStatusReportFrequency duration - cc zero
nodeLeaseDurationSeconds int32 - cc zero
imageMinimumGCAge duration minimum-image-ttl-duration bb zero
imageMaximumGCAge duration - .c
imageGCHighThresholdPercent int32 image-gc-high-threshold bb
imageGCLowThresholdPercent int32 image-gc-low-threshold bb
volumeStatsAggPeriod duration volume-stats-agg-period bb zero
kubeletCgroups string kubelet-cgroups bb
systemCgroups string system-cgroups bb
cgroupRoot string cgroup-root bb
cgroupsPerQOS bool cgroups-per-qos bb
cgroupDriver cgroupfs|systemd cgroup-driver bb
cpuManagerPolicy none|static cpu-manager-policy bb
singleProcessOOMKill bool - .c
cpuManagerPolicyOptions map cpu-manager-policy-options .b
cpuManagerReconcilePeriod duration cpu-manager-reconcile-period bb zero
memoryManagerPolicy None|Static memory-manager-policy .b
topologyManagerPolicy none|best-effort|restricted|single-numa-node topology-manager-policy bb
topologyManagerScope container|pod topology-manager-scope bb
topologyManagerPolicyOptions map topology-manager-policy-options .b
qosReserved percents qos-reserved bb
runtimeRequestTimeout duration runtime-request-timeout bb zero
hairpinMode promiscuous-bridge|hairpin-veth|none hairpin-mode bb
maxPods int32 max-pods bb zero
podCIDR string pod-cidr bb
podPidsLimit int64 pod-max-pids bb
resolvConf string resolv-conf bb empty,zero<
runOnce bool runonce bb
cpuCFSQuota bool cpu-cfs-quota bb
cpuCFSQuotaPeriod duration cpu-cfs-quota-period bb
nodeStatusMaxImages int32 node-status-max-images bb
maxOpenFiles int64 max-open-files bb zero
contentType string kube-api-content-type bb
kubeAPIQPS int32 kube-api-qps bb
kubeAPIBurst int32 kube-api-burst bb zero
serializeImagePulls bool serialize-image-pulls bb
maxParallelImagePulls int32 - .c
evictionHard thresholds eviction-hard bb
evictionSoft thresholds eviction-soft bb
evictionSoftGracePeriod periods eviction-soft-grace-period bb
evictionPressureTransitionPeriod duration eviction-pressure-transition-period bb zero
evictionMaxPodGracePeriod int32 eviction-max-pod-grace-period bb
evictionMinimumReclaim reclaims eviction-minimum-reclaim bb
mergeDefaultEvictionSettings bool - .c
podsPerCore int32 pods-per-core bb
enableControllerAttachDetach bool enable-controller-attach-detach bb
protectKernelDefaults bool protect-kernel-defaults bb
makeIPTablesUtilChains bool make-iptables-util-chains bb
iptablesMasqueradeBit int32 iptables-masquerade-bit bc
iptablesDropBit int32 iptables-drop-bit bc
featureGates gates feature-gates ll
failSwapOn bool fail-swap-on bb
memorySwap.swapBehavior string - .c
containerLogMaxSize size container-log-max-size bb
containerLogMaxFiles int32 container-log-max-files bb
containerLogMaxWorkers int32 - .c
containerLogMonitorInterval duration - .c
configMapAndSecretChangeDetectionStrategy Get|Cache|Watch - cc
systemReserved quantities system-reserved bb
kubeReserved quantities kube-reserved bb
reservedSystemCPUs string reserved-cpus bb
showHiddenMetricsForVersion string - cc
systemReservedCgroup string system-reserved-cgroup bb
kubeReservedCgroup string kube-reserved-cgroup bb
enforceNodeAllocatable strings enforce-node-allocatable bb empty
allowedUnsafeSysctls strings allowed-unsafe-sysctls bb
volumePluginDir string volume-plugin-dir bb
providerID string provider-id bl
kernelMemcgNotification bool kernel-memcg-notification bb
logging.format text|json logging-format bb
logging.sanitization bool experimental-logging-sanitization l. - # no replacement
logging.flushFrequency duration - .c
logging.verbosity uint32 - .c
logging.vmodule objects - .c
logging.vmodule[].filePattern string - .c
logging.vmodule[].verbosity uint32 - .c
logging.options.text.splitStream bool log-text-split-stream .b
logging.options.text.infoBufferSize quantity log-text-info-buffer-size .b
logging.options.json.splitStream bool log-json-split-stream .b
logging.options.json.infoBufferSize quantity log-json-info-buffer-size .b
enableSystemLogHandler bool - cc
enableSystemLogQuery bool - .c
shutdownGracePeriod duration - cc
shutdownGracePeriodCriticalPods duration - cc
shutdownGracePeriodByPodPriority objects - .c
shutdownGracePeriodByPodPriority[].priority int32 - .c
shutdownGracePeriodByPodPriority[].shutdownGracePeriodSeconds int64 - .c
crashLoopBackOff.maxContainerRestartPeriod duration - .c
reservedMemory objects reserved-memory .b
reservedMemory[].numaNode int32 - .c
reservedMemory[].limits quantities - .c
enableProfilingHandler bool - .c
enableDebugFlagsHandler bool - .c
seccompDefault bool seccomp-default .l
memoryThrottlingFactor float - .c
memoryReservationPolicy string - .c
registerWithTaints taints register-with-taints fb
registerWithTaints[].key labelKey - fb
registerWithTaints[].value labelValue - fb
registerWithTaints[].effect NoSchedule|PreferNoSchedule|NoExecute - fb
registerNode bool register-node fb
tracing.endpoint string - .c
tracing.samplingRatePerMillion int32 - .c
localStorageCapacityIsolation bool local-storage-capacity-isolation .b
containerRuntimeEndpoint string container-runtime-endpoint fb
imageServiceEndpoint string image-service-endpoint fb
failCgroupV1 bool fail-cgroupv1 .l
userNamespaces.idsPerPod int64 - .c
addDirHeader bool add-dir-header f. - # kubelet logs to stderr; the journal keeps it
alsologtostderr bool alsologtostderr f. - # kubelet logs to stderr; the journal keeps it
applicationMetricsCountLimit int64 application-metrics-count-limit dd
azureContainerRegistryConfig string azure-container-registry-config f. - # see imageCredentialProviderConfig
bootIDFile string boot-id-file dd
bootstrapKubeconfig string bootstrap-kubeconfig ff
certDir string cert-dir ff
chaosChance float chaos-chance d. - # no replacement
cloudConfig string cloud-config d. - # cloud providers left kubelet; see cloudProvider: external
cloudProvider string cloud-provider df
cniBinDir string cni-bin-dir f. - # gone with dockershim; the container runtime sets CNI up
cniCacheDir string cni-cache-dir f. - # gone with dockershim; the container runtime sets CNI up
cniConfDir string cni-conf-dir f. - # gone with dockershim; the container runtime sets CNI up
config string config ff own # protokube writes the file it names
containerHints string container-hints dd
containerRuntime string container-runtime f. - # no dockershim; see containerRuntimeEndpoint
containerd string containerd dd
containerdNamespace string containerd-namespace dd
docker string docker d. - # no dockershim; see containerRuntimeEndpoint
dockerEndpoint string docker-endpoint f. - # no dockershim; see containerRuntimeEndpoint
dockerEnvMetadataWhitelist string docker-env-metadata-whitelist d. - # no dockershim; see containerRuntimeEndpoint
dockerOnly bool docker-only d. - # no dockershim; see containerRuntimeEndpoint
dockerRoot string docker-root d. - # no dockershim; see containerRuntimeEndpoint
dockerTLS bool docker-tls d. - # no dockershim; see containerRuntimeEndpoint
dockerTLSCA string docker-tls-ca d. - # no dockershim; see containerRuntimeEndpoint
dockerTLSCert string docker-tls-cert d. - # no dockershim; see containerRuntimeEndpoint
dockerTLSKey string docker-tls-key d. - # no dockershim; see containerRuntimeEndpoint
dynamicConfigDir string dynamic-config-dir f. - # see configDir
enableCadvisorJSONEndpoints bool enable-cadvisor-json-endpoints d. - # no replacement
enableLoadReader bool enable-load-reader dd
eventStorageAgeLimit string event-storage-age-limit dd
eventStorageEventLimit string event-storage-event-limit dd
exitOnLockContention bool exit-on-lock-contention ff
experimentalAllocatableIgnoreEviction bool experimental-allocatable-ignore-eviction dd
experimentalBootstrapKubeconfig string experimental-bootstrap-kubeconfig d. - # use bootstrapKubeconfig
experimentalCheckNodeCapabilitiesBeforeMount bool experimental-check-node-capabilities-before-mount d.
experimentalKernelMemcgNotification bool experimental-kernel-memcg-notification d. - # use kernelMemcgNotification
experimentalMounterPath string experimental-mounter-path dd
globalHousekeepingInterval duration global-housekeeping-interval dd
help bool help ff own # kubelet would print its help and exit
hostnameOverride string hostname-override ff own # protokube sets the node's name
housekeepingInterval duration housekeeping-interval ff
imageCredentialProviderBinDir string image-credential-provider-bin-dir ff
imageCredentialProviderConfig string image-credential-provider-config ff
imagePullProgressDeadline duration image-pull-progress-deadline f. - # no dockershim; see runtimeRequestTimeout
keepTerminatedPodVolumes bool keep-terminated-pod-volumes d. - # no replacement
kubeconfig string kubeconfig ff own # protokube sets it once the file is there
lockFile string lock-file ff
logBacktraceAt string log-backtrace-at f. - # kubelet logs to stderr; the journal keeps it
logCadvisorUsage bool log-cadvisor-usage dd
logDir string log-dir f. - # kubelet logs to stderr; the journal keeps it
logFile string log-file f. - # kubelet logs to stderr; the journal keeps it
logFileMaxSize uint64 log-file-max-size f. - # kubelet logs to stderr; the journal keeps it
logFlushFrequency duration log-flush-frequency ff
logtostderr bool logtostderr f. - # kubelet logs to stderr; the journal keeps it
machineIDFile string machine-id-file dd
masterServiceNamespace string master-service-namespace d. - # no replacement
maximumDeadContainers int32 maximum-dead-containers dd
maximumDeadContainersPerContainer int32 maximum-dead-containers-per-container dd
minimumContainerTTLDuration duration minimum-container-ttl-duration dd
networkPlugin string network-plugin f. - # gone with dockershim; the container runtime sets CNI up
networkPluginMTU int32 network-plugin-mtu f. - # gone with dockershim; the container runtime sets CNI up
nodeIP string node-ip ff
nodeLabels labels node-labels ff
nonMasqueradeCIDR string non-masquerade-cidr d. - # gone with dockershim; the container runtime sets CNI up
oneOutput bool one-output f. - # kubelet logs to stderr; the journal keeps it
podInfraContainerImage string pod-infra-container-image f. - # the pause image is set in the container runtime
reallyCrashForTesting bool really-crash-for-testing d. - # no replacement
redirectContainerStreaming bool redirect-container-streaming d. - # no dockershim; see containerRuntimeEndpoint
registerSchedulable bool register-schedulable d. - # use registerWithTaints
rootDir string root-dir ff
runtimeCgroups string runtime-cgroups ff
seccompProfileRoot string seccomp-profile-root d. - # profiles live in seccomp below rootDir
skipHeaders bool skip-headers f. - # kubelet logs to stderr; the journal keeps it
skipLogHeaders bool skip-log-headers f. - # kubelet logs to stderr; the journal keeps it
stderrthreshold string stderrthreshold f. - # kubelet logs to stderr; the journal keeps it
storageDriverBufferDuration duration storage-driver-buffer-duration dd
storageDriverDB string storage-driver-db dd
storageDriverHost string storage-driver-host dd
storageDriverPassword string storage-driver-password dd
storageDriverSecure bool storage-driver-secure dd
storageDriverTable string storage-driver-table dd
storageDriverUser string storage-driver-user dd
logLevel int32 v ff unset=0
version bool version ff own # kubelet would print its version and exit
vmodule string vmodule ff
configDir string config-dir .f
maxHousekeepingInterval duration max-housekeeping-interval .f
"""
