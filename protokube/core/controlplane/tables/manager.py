"""Every flag of kube-controller-manager, one line each: taken from the flag sets of 1.20.2 and 1.36.2.

It reads no configuration file. Names are kops's where it has the flag, else the flag in camelCase.
core/component/schema.py explains the columns.
"""

TABLE = """
addDirHeader bool add-dir-header f. until=1.26 # it logs to stderr
address ip address d. own until=1.24 # the insecure port is off
allocateNodeCIDRs bool allocate-node-cidrs ff
allowMetricLabels map allow-metric-labels .f
allowMetricLabelsManifest string allow-metric-labels-manifest .f
allowUntaggedCloud bool allow-untagged-cloud dd
alsologtostderr bool alsologtostderr f. until=1.26 # it logs to stderr
attachDetachReconcileSyncPeriod duration attach-detach-reconcile-sync-period ff
authenticationKubeconfig string authentication-kubeconfig ff own # protokube writes the kubeconfig
authenticationSkipLookup bool authentication-skip-lookup ff
authenticationTokenWebhookCacheTTL duration authentication-token-webhook-cache-ttl ff
authenticationTolerateLookupFailure bool authentication-tolerate-lookup-failure ff
authorizationAlwaysAllowPaths strings authorization-always-allow-paths ff
authorizationKubeconfig string authorization-kubeconfig ff own # protokube writes the kubeconfig
authorizationWebhookCacheAuthorizedTTL duration authorization-webhook-cache-authorized-ttl ff
authorizationWebhookCacheUnauthorizedTTL duration authorization-webhook-cache-unauthorized-ttl ff
bindAddress ip bind-address ff
certDir string cert-dir ff own # its certificate is made in memory
cidrAllocatorType string cidr-allocator-type ff
clientCAFile string client-ca-file ff own # protokube issues the certificate
cloudConfig string cloud-config ff form=path
cloudProvider string cloud-provider ff
cloudProviderGCELBSrcCIDRs strings cloud-provider-gce-lb-src-cidrs d. form=cidr # see cloudProvider
clusterCIDR string cluster-cidr ff own # it is networking.podCIDR
clusterName string cluster-name ff
clusterSigningCertFile string cluster-signing-cert-file ff own # protokube issues the certificate
clusterSigningDuration duration cluster-signing-duration ff
clusterSigningKeyFile string cluster-signing-key-file ff own # protokube issues the certificate
clusterSigningKubeApiserverClientCertFile string cluster-signing-kube-apiserver-client-cert-file ff form=path
clusterSigningKubeApiserverClientKeyFile string cluster-signing-kube-apiserver-client-key-file ff form=path
clusterSigningKubeletClientCertFile string cluster-signing-kubelet-client-cert-file ff form=path
clusterSigningKubeletClientKeyFile string cluster-signing-kubelet-client-key-file ff form=path
clusterSigningKubeletServingCertFile string cluster-signing-kubelet-serving-cert-file ff form=path
clusterSigningKubeletServingKeyFile string cluster-signing-kubelet-serving-key-file ff form=path
clusterSigningLegacyUnknownCertFile string cluster-signing-legacy-unknown-cert-file ff form=path
clusterSigningLegacyUnknownKeyFile string cluster-signing-legacy-unknown-key-file ff form=path
concurrentCronJobSyncs int32 concurrent-cron-job-syncs .f 1..
concurrentDaemonsetSyncs int32 concurrent-daemonset-syncs .f
concurrentDeploymentSyncs int32 concurrent-deployment-syncs ff
concurrentDeviceTaintEvictionSyncs int32 concurrent-device-taint-eviction-syncs .f
concurrentEndpointSyncs int32 concurrent-endpoint-syncs ff
concurrentEphemeralvolumeSyncs int32 concurrent-ephemeralvolume-syncs .f
concurrentGCSyncs int32 concurrent-gc-syncs ff
concurrentHorizontalPodAutoscalerSyncs int32 concurrent-horizontal-pod-autoscaler-syncs .f 1..
concurrentJobSyncs int32 concurrent-job-syncs .f
concurrentNamespaceSyncs int32 concurrent-namespace-syncs ff
concurrentRCSyncs int32 concurrent-rc-syncs .f
concurrentReplicasetSyncs int32 concurrent-replicaset-syncs ff
concurrentResourceQuotaSyncs int32 concurrent-resource-quota-syncs ff
concurrentResourceclaimSyncs int32 concurrent-resourceclaim-syncs .f
concurrentServiceEndpointSyncs int32 concurrent-service-endpoint-syncs ff 1..50
concurrentServiceSyncs int32 concurrent-service-syncs ff
concurrentServiceaccountTokenSyncs int32 concurrent-serviceaccount-token-syncs ff
concurrentStatefulsetSyncs int32 concurrent-statefulset-syncs ff
concurrentTTLAfterFinishedSyncs int32 concurrent-ttl-after-finished-syncs ff
concurrentValidatingAdmissionPolicyStatusSyncs int32 concurrent-validating-admission-policy-status-syncs .f
concurrentRcSyncs int32 concurrent_rc_syncs f. # use concurrentRCSyncs
configureCloudRoutes bool configure-cloud-routes ff
enableContentionProfiling bool contention-profiling ff
controllerShutdownTimeout duration controller-shutdown-timeout .f
controllerStartInterval duration controller-start-interval ff
controllers strings controllers ff values=@controllers
deletingPodsBurst int32 deleting-pods-burst d. # no replacement
deletingPodsQPS float deleting-pods-qps d. # no replacement
deploymentControllerSyncPeriod duration deployment-controller-sync-period f. # no replacement
disableAttachDetachReconcileSync bool disable-attach-detach-reconcile-sync ff
disableForceDetachOnTimeout bool disable-force-detach-on-timeout .f
disableHTTP2Serving bool disable-http2-serving .f
disabledMetrics strings disabled-metrics .f
emulatedVersion strings emulated-version .f
enableDynamicProvisioning bool enable-dynamic-provisioning ff
enableGarbageCollector bool enable-garbage-collector ff
enableHostPathProvisioner bool enable-hostpath-provisioner ff
enableLeaderMigration bool enable-leader-migration .f
enableTaintManager bool enable-taint-manager f. until=1.27 # taint-based eviction is always on
endpointUpdatesBatchPeriod duration endpoint-updates-batch-period ff
endpointsliceUpdatesBatchPeriod duration endpointslice-updates-batch-period ff
experimentalClusterSigningDuration duration experimental-cluster-signing-duration d. # use clusterSigningDuration
experimentalLoggingSanitization bool experimental-logging-sanitization f. # no replacement
externalCloudVolumePlugin string external-cloud-volume-plugin ff
featureGates gates feature-gates ff exact:keys=@gates
flexVolumePluginDir string flex-volume-plugin-dir ff form=path
help bool help ff own # it would print its help and exit
horizontalPodAutoscalerCPUInitializationPeriod duration horizontal-pod-autoscaler-cpu-initialization-period ff
horizontalPodAutoscalerDownscaleDelay duration horizontal-pod-autoscaler-downscale-delay d. until=1.31
horizontalPodAutoscalerDownscaleStabilization duration horizontal-pod-autoscaler-downscale-stabilization ff
horizontalPodAutoscalerInitialReadinessDelay duration horizontal-pod-autoscaler-initial-readiness-delay ff
horizontalPodAutoscalerSyncPeriod duration horizontal-pod-autoscaler-sync-period ff
horizontalPodAutoscalerTolerance float horizontal-pod-autoscaler-tolerance ff
horizontalPodAutoscalerUpscaleDelay duration horizontal-pod-autoscaler-upscale-delay d. until=1.31 # no replacement
horizontalPodAutoscalerUseRestClients bool horizontal-pod-autoscaler-use-rest-clients d. # no replacement
http2MaxStreamsPerConnection int64 http2-max-streams-per-connection ff 0..
kubeAPIBurst int32 kube-api-burst ff 0..
kubeAPIContentType string kube-api-content-type ff
kubeAPIQPS float kube-api-qps ff
kubeconfig string kubeconfig ff own # protokube writes the kubeconfig
largeClusterSizeThreshold int32 large-cluster-size-threshold ff
leaderElection.leaderElect bool leader-elect ff
leaderElection.leaderElectLeaseDuration duration leader-elect-lease-duration ff >0s..
leaderElection.leaderElectRenewDeadlineDuration duration leader-elect-renew-deadline ff >0s..
leaderElection.leaderElectResourceLock string leader-elect-resource-lock ff values=@locks
leaderElection.leaderElectResourceName string leader-elect-resource-name ff
leaderElection.leaderElectResourceNamespace string leader-elect-resource-namespace ff
leaderElection.leaderElectRetryPeriod duration leader-elect-retry-period ff >0s..
leaderMigrationConfig string leader-migration-config .f form=path
legacyServiceAccountTokenCleanUpPeriod duration legacy-service-account-token-clean-up-period .f
logBacktraceAt string log-backtrace-at f. form=trace until=1.26 # it logs to stderr
logDir string log-dir f. until=1.26 # it logs to stderr
logFile string log-file f. until=1.26 # it logs to stderr
logFileMaxSize uint64 log-file-max-size f. until=1.26 # it logs to stderr
logFlushFrequency duration log-flush-frequency ff
logJSONInfoBufferSize quantity log-json-info-buffer-size .f gate=LoggingAlphaOptions/0
logJSONSplitStream bool log-json-split-stream .f gate=LoggingAlphaOptions/false
logTextInfoBufferSize quantity log-text-info-buffer-size .f gate=LoggingAlphaOptions/0
logTextSplitStream bool log-text-split-stream .f gate=LoggingAlphaOptions/false
logFormat text|json logging-format ff
logtostderr bool logtostderr f. until=1.26 # it logs to stderr
master string master ff own # protokube writes the kubeconfig
maxEndpointsPerSlice int32 max-endpoints-per-slice ff 1..1000
minCompatibilityVersion strings min-compatibility-version .f
minResyncPeriod duration min-resync-period ff
mirroringConcurrentServiceEndpointSyncs int32 mirroring-concurrent-service-endpoint-syncs ff 1..50
mirroringEndpointsliceUpdatesBatchPeriod duration mirroring-endpointslice-updates-batch-period ff
mirroringMaxEndpointsPerSubset int32 mirroring-max-endpoints-per-subset ff 1..1000
namespaceSyncPeriod duration namespace-sync-period ff
nodeCIDRMaskSize int32 node-cidr-mask-size ff 0..128
nodeCIDRMaskSizeIPv4 int32 node-cidr-mask-size-ipv4 ff 0..32
nodeCIDRMaskSizeIPv6 int32 node-cidr-mask-size-ipv6 ff 0..128
nodeEvictionRate float node-eviction-rate ff
nodeMonitorGracePeriod duration node-monitor-grace-period ff new:>0s..
nodeMonitorPeriod duration node-monitor-period ff
nodeStartupGracePeriod duration node-startup-grace-period ff
nodeSyncPeriod duration node-sync-period dd
oneOutput bool one-output f. until=1.26 # it logs to stderr
permitAddressSharing bool permit-address-sharing .f
permitPortSharing bool permit-port-sharing ff
podEvictionTimeout duration pod-eviction-timeout f. until=1.27 # taint-based eviction is always on
port int64 port d. own until=1.24 # the insecure port is off
enableProfiling bool profiling ff
pvRecyclerIncrementTimeoutNFS int32 pv-recycler-increment-timeout-nfs ff
pvRecyclerMinimumTimeoutHostPath int32 pv-recycler-minimum-timeout-hostpath ff
pvRecyclerMinimumTimeoutNFS int32 pv-recycler-minimum-timeout-nfs ff
pvRecyclerPodTemplateFilepathHostPath string pv-recycler-pod-template-filepath-hostpath ff form=path
pvRecyclerPodTemplateFilepathNFS string pv-recycler-pod-template-filepath-nfs ff form=path
pvRecyclerTimeoutIncrementHostPath int32 pv-recycler-timeout-increment-hostpath ff
pvClaimBinderSyncPeriod duration pvclaimbinder-sync-period ff
registerRetryCount int32 register-retry-count d. # no replacement
requestheaderAllowedNames strings requestheader-allowed-names ff
requestheaderClientCAFile string requestheader-client-ca-file ff own # protokube issues the certificate
requestheaderExtraHeadersPrefix strings requestheader-extra-headers-prefix ff
requestheaderGroupHeaders strings requestheader-group-headers ff
requestheaderUidHeaders strings requestheader-uid-headers .f since=1.32
requestheaderUsernameHeaders strings requestheader-username-headers ff
resourceQuotaSyncPeriod duration resource-quota-sync-period ff
rootCAFile string root-ca-file ff own # protokube issues the certificate
routeReconciliationPeriod duration route-reconciliation-period ff
secondaryNodeEvictionRate float secondary-node-eviction-rate ff
securePort int64 secure-port ff 1..65535
serviceAccountPrivateKeyFile string service-account-private-key-file ff own # protokube keeps the keys
serviceClusterIPRange string service-cluster-ip-range ff own # it is networking.serviceCIDR
showHiddenMetricsForVersion string show-hidden-metrics-for-version ff previous
skipHeaders bool skip-headers f. until=1.26 # it logs to stderr
skipLogHeaders bool skip-log-headers f. until=1.26 # it logs to stderr
stderrthreshold string stderrthreshold f. form=severity until=1.26 # it logs to stderr
terminatedPodGCThreshold int32 terminated-pod-gc-threshold ff
tlsCertFile string tls-cert-file ff form=path
tlsCipherSuites strings tls-cipher-suites ff values=@suites
tlsCurvePreferences int32s tls-curve-preferences .f unique values=@curves
tlsMinVersion VersionTLS10|VersionTLS11|VersionTLS12|VersionTLS13 tls-min-version ff
tlsPrivateKeyFile string tls-private-key-file ff form=path
tlsSNICertKey strings tls-sni-cert-key ff repeat form=sniCertKey
unhealthyZoneThreshold float unhealthy-zone-threshold ff
unsupportedKubeAPIOverLocalhost bool unsupported-kube-api-over-localhost .f
useServiceAccountCredentials bool use-service-account-credentials ff
logLevel int32 v ff unset=0 0..
version string version ff own # it would print its version and exit
vmodule string vmodule ff form=vmodule
volumeHostAllowLocalLoopback bool volume-host-allow-local-loopback f. until=1.31 # no replacement
volumeHostCIDRDenylist strings volume-host-cidr-denylist f. until=1.31 # no replacement
"""
