"""Every flag and field of kube-scheduler, one line each: taken from 1.20.2 and 1.36.2, and from what they check.

Fields are those of KubeSchedulerConfiguration (kubescheduler.config.k8s.io), whose plugin sets schemas.py adds. A
flag that has no effect beside a configuration file stands with its field (letter c), or is not to be configured.
core/component/schema.py explains the columns.
"""

TABLE = """
parallelism int32 - cc 1..
leaderElection.leaderElect bool leader-elect cc
leaderElection.leaseDuration duration leader-elect-lease-duration cc zero >0s..
leaderElection.renewDeadline duration leader-elect-renew-deadline cc zero >0s..
leaderElection.retryPeriod duration leader-elect-retry-period cc zero >0s..
leaderElection.resourceLock string leader-elect-resource-lock cc values=@locks
leaderElection.resourceName string leader-elect-resource-name cc
leaderElection.resourceNamespace string leader-elect-resource-namespace cc
clientConnection.kubeconfig string kubeconfig cc own # protokube writes the kubeconfig
clientConnection.acceptContentTypes string - cc
clientConnection.contentType string kube-api-content-type cc
clientConnection.qps float kube-api-qps cc zero
clientConnection.burst int32 kube-api-burst cc zero 0..
healthzBindAddress string - c. own # the insecure port is off
metricsBindAddress string - c. own # the insecure port is off
enableProfiling bool profiling cc
enableContentionProfiling bool contention-profiling cc
percentageOfNodesToScore int32 - cc 0..100
podInitialBackoffSeconds int64 - cc 1..
podMaxBackoffSeconds int64 - cc 1..
profiles objects - cc
profiles[].schedulerName string - cc optional
profiles[].pluginConfig objects - cc optional
profiles[].pluginConfig[].name string - cc
profiles[].pluginConfig[].args tree - cc optional
extenders objects - cc
extenders[].urlPrefix string - cc
extenders[].filterVerb string - cc optional
extenders[].preemptVerb string - cc optional
extenders[].prioritizeVerb string - cc optional
extenders[].weight int64 - cc optional 0..
extenders[].bindVerb string - cc optional
extenders[].enableHTTPS bool - cc optional
extenders[].tlsConfig.insecure bool - cc optional
extenders[].tlsConfig.serverName string - cc optional
extenders[].tlsConfig.certFile string - cc optional
extenders[].tlsConfig.keyFile string - cc optional
extenders[].tlsConfig.caFile string - cc optional
extenders[].tlsConfig.certData string - cc optional
extenders[].tlsConfig.keyData string - cc optional
extenders[].tlsConfig.caData string - cc optional
extenders[].httpTimeout duration - cc optional
extenders[].nodeCacheCapable bool - cc optional
extenders[].managedResources objects - cc optional
extenders[].managedResources[].name string - cc
extenders[].managedResources[].ignoredByScheduler bool - cc optional
extenders[].ignorable bool - cc optional
profiles[].percentageOfNodesToScore int32 - .c optional 0..100
delayCacheUntilActive bool - .c
addDirHeader bool add-dir-header f. until=1.26 # it logs to stderr
address ip address d. own until=1.23 # the insecure port is off
algorithmProvider string algorithm-provider d. own until=1.23 # see profiles
allowMetricLabels map allow-metric-labels .f
allowMetricLabelsManifest string allow-metric-labels-manifest .f
alsologtostderr bool alsologtostderr f. until=1.26 # it logs to stderr
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
clientCAFile string client-ca-file ff own # protokube issues the certificate
config string config ff own # protokube writes the file it names
disableHTTP2Serving bool disable-http2-serving .f
disabledMetrics strings disabled-metrics .f
emulatedVersion strings emulated-version .f
experimentalLoggingSanitization bool experimental-logging-sanitization f. # no replacement
featureGates gates feature-gates ff exact:keys=@gates
hardPodAffinitySymmetricWeight int32 hard-pod-affinity-symmetric-weight d. own until=1.23 # see pluginConfig
help bool help ff own # it would print its help and exit
http2MaxStreamsPerConnection int64 http2-max-streams-per-connection ff 0..
lockObjectName string lock-object-name d. own until=1.28 # see leaderElection.resourceName
lockObjectNamespace string lock-object-namespace d. own until=1.28 # see leaderElection.resourceNamespace
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
minCompatibilityVersion strings min-compatibility-version .f
oneOutput bool one-output f. until=1.26 # it logs to stderr
permitAddressSharing bool permit-address-sharing .f
permitPortSharing bool permit-port-sharing ff
podMaxInUnschedulablePodsDuration duration pod-max-in-unschedulable-pods-duration .d
policyConfigFile string policy-config-file d. own until=1.23 # see profiles
policyConfigmap string policy-configmap d. own until=1.23 # see profiles
policyConfigmapNamespace string policy-configmap-namespace d. own until=1.23 # see profiles
port int64 port d. own until=1.23 # the insecure port is off
requestheaderAllowedNames strings requestheader-allowed-names ff
requestheaderClientCAFile string requestheader-client-ca-file ff own # protokube issues the certificate
requestheaderExtraHeadersPrefix strings requestheader-extra-headers-prefix ff
requestheaderGroupHeaders strings requestheader-group-headers ff
requestheaderUidHeaders strings requestheader-uid-headers .f since=1.32
requestheaderUsernameHeaders strings requestheader-username-headers ff
schedulerName string scheduler-name d. own until=1.23 # see profiles[].schedulerName
securePort int64 secure-port ff 1..65535
showHiddenMetricsForVersion string show-hidden-metrics-for-version ff previous
skipHeaders bool skip-headers f. until=1.26 # it logs to stderr
skipLogHeaders bool skip-log-headers f. until=1.26 # it logs to stderr
stderrthreshold string stderrthreshold f. form=severity until=1.26 # it logs to stderr
tlsCertFile string tls-cert-file ff form=path
tlsCipherSuites strings tls-cipher-suites ff values=@suites
tlsCurvePreferences int32s tls-curve-preferences .f unique values=@curves
tlsMinVersion VersionTLS10|VersionTLS11|VersionTLS12|VersionTLS13 tls-min-version ff
tlsPrivateKeyFile string tls-private-key-file ff form=path
tlsSNICertKey strings tls-sni-cert-key ff repeat form=sniCertKey
unsupportedKubeAPIOverLocalhost bool unsupported-kube-api-over-localhost .f
useLegacyPolicyConfig bool use-legacy-policy-config d. own until=1.23 # see profiles
logLevel int32 v ff unset=0 0..
version string version ff own # it would print its version and exit
vmodule string vmodule ff form=vmodule
writeConfigTo string write-config-to ff own # it would write its configuration and exit
"""
