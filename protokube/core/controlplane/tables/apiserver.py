"""Every flag of kube-apiserver, one line each: from the flag sets of 1.20.2 and 1.36.2, and what they check.

Names are kops's where it has the flag, else the flag in camelCase. core/component/schema.py explains the columns, and
core/component/rules.py the rules. It is one string, so that it costs nothing to import.
"""

TABLE = """
addDirHeader bool add-dir-header f. until=1.26 # it logs to stderr
address ip address d. own until=1.24 # the insecure port is off
admissionControl strings admission-control dd values=@admission
admissionControlConfigFile string admission-control-config-file ff own # set admissionConfig
advertiseAddress ip advertise-address ff own # protokube sets the node's address
aggregatorRejectForwardingRedirect bool aggregator-reject-forwarding-redirect .f
allowMetricLabels map allow-metric-labels .f
allowMetricLabelsManifest string allow-metric-labels-manifest .f
allowPrivileged bool allow-privileged ff
alsologtostderr bool alsologtostderr f. until=1.26 # it logs to stderr
anonymousAuth bool anonymous-auth ff
apiAudiences strings api-audiences ff
apiserverCount int64 apiserver-count fd 1..
auditLogBatchBufferSize int64 audit-log-batch-buffer-size ff
auditLogBatchMaxSize int64 audit-log-batch-max-size ff
auditLogBatchMaxWait duration audit-log-batch-max-wait ff
auditLogBatchThrottleBurst int64 audit-log-batch-throttle-burst ff
auditLogBatchThrottleEnable bool audit-log-batch-throttle-enable ff
auditLogBatchThrottleQPS float audit-log-batch-throttle-qps ff
auditLogCompress bool audit-log-compress ff
auditLogFormat legacy|json audit-log-format ff
auditLogMaxAge int64 audit-log-maxage ff 0..
auditLogMaxBackups int64 audit-log-maxbackup ff 0..
auditLogMaxSize int64 audit-log-maxsize ff 0..
auditLogMode batch|blocking|blocking-strict audit-log-mode ff
auditLogPath string audit-log-path ff form=log
auditLogTruncateEnabled bool audit-log-truncate-enabled ff
auditLogTruncateMaxBatchSize int64 audit-log-truncate-max-batch-size ff
auditLogTruncateMaxEventSize int64 audit-log-truncate-max-event-size ff
auditLogVersion string audit-log-version ff values=@auditVersions
auditPolicyFile string audit-policy-file ff own # set auditPolicy
auditWebhookBatchBufferSize int64 audit-webhook-batch-buffer-size ff
auditWebhookBatchInitialBackoff duration audit-webhook-batch-initial-backoff dd
auditWebhookBatchMaxSize int64 audit-webhook-batch-max-size ff
auditWebhookBatchMaxWait duration audit-webhook-batch-max-wait ff
auditWebhookBatchThrottleBurst int64 audit-webhook-batch-throttle-burst ff
auditWebhookBatchThrottleEnable bool audit-webhook-batch-throttle-enable ff
auditWebhookBatchThrottleQPS float audit-webhook-batch-throttle-qps ff
auditWebhookConfigFile string audit-webhook-config-file ff form=path
auditWebhookInitialBackoff duration audit-webhook-initial-backoff ff
auditWebhookMode batch|blocking|blocking-strict audit-webhook-mode ff
auditWebhookTruncateEnabled bool audit-webhook-truncate-enabled ff
auditWebhookTruncateMaxBatchSize int64 audit-webhook-truncate-max-batch-size ff
auditWebhookTruncateMaxEventSize int64 audit-webhook-truncate-max-event-size ff
auditWebhookVersion string audit-webhook-version ff values=@auditVersions
authenticationConfigFile string authentication-config .f own since=1.29 # set authenticationConfig
authenticationTokenWebhookCacheTTL duration authentication-token-webhook-cache-ttl ff
authenticationTokenWebhookConfigFile string authentication-token-webhook-config-file ff form=path
authenticationTokenWebhookVersion v1beta1|v1 authentication-token-webhook-version ff
authorizationConfigFile string authorization-config .f own since=1.29 # set authorizationConfig
authorizationMode strings authorization-mode ff values=AlwaysAllow|AlwaysDeny|ABAC|Webhook|RBAC|Node unique
authorizationPolicyFile string authorization-policy-file ff form=path
authorizationWebhookCacheAuthorizedTTL duration authorization-webhook-cache-authorized-ttl ff
authorizationWebhookCacheUnauthorizedTTL duration authorization-webhook-cache-unauthorized-ttl ff
authorizationWebhookConfigFile string authorization-webhook-config-file ff form=path
authorizationWebhookVersion v1beta1|v1 authorization-webhook-version ff
bindAddress ip bind-address ff
certDir string cert-dir ff own # protokube issues the certificates
clientCAFile string client-ca-file ff own # protokube issues the certificate
cloudConfig string cloud-config f. until=1.33 # cloud providers left the API server
cloudProvider string cloud-provider f. until=1.33 # see an external cloud controller manager
cloudProviderGCEL7LBSrcCIDRs strings cloud-provider-gce-l7lb-src-cidrs f. form=cidr # see cloudProvider
cloudProviderGCELBSrcCIDRs strings cloud-provider-gce-lb-src-cidrs d. form=cidr # see cloudProvider
enableContentionProfiling bool contention-profiling ff
coordinatedLeadershipLeaseDuration duration coordinated-leadership-lease-duration .f
coordinatedLeadershipRenewDeadline duration coordinated-leadership-renew-deadline .f
coordinatedLeadershipRetryPeriod duration coordinated-leadership-retry-period .f
corsAllowedOrigins strings cors-allowed-origins ff
debugSocketPath string debug-socket-path .f form=path
defaultNotReadyTolerationSeconds int64 default-not-ready-toleration-seconds ff
defaultUnreachableTolerationSeconds int64 default-unreachable-toleration-seconds ff
defaultWatchCacheSize int64 default-watch-cache-size fd
deleteCollectionWorkers int64 delete-collection-workers ff
deserializationCacheSize int64 deserialization-cache-size d. # no replacement
disableAdmissionPlugins strings disable-admission-plugins ff values=@admission
disableHTTP2Serving bool disable-http2-serving .f
disabledMetrics strings disabled-metrics .f
egressSelectorConfigFile string egress-selector-config-file ff own # set egressSelectorConfig
emulatedVersion strings emulated-version .f
emulationForwardCompatible bool emulation-forward-compatible .f
enableAdmissionPlugins strings enable-admission-plugins ff values=@admission
enableAggregatorRouting bool enable-aggregator-routing ff
enableBootstrapTokenAuth bool enable-bootstrap-token-auth ff
enableGarbageCollector bool enable-garbage-collector ff
enableLogsHandler bool enable-logs-handler dd
enablePriorityAndFairness bool enable-priority-and-fairness ff
enableSwaggerUi bool enable-swagger-ui d. # no replacement
encryptionProviderConfig string encryption-provider-config ff form=path
encryptionProviderConfigAutomaticReload bool encryption-provider-config-automatic-reload .f
endpointReconcilerType string endpoint-reconciler-type ff values=master-count|lease|none
etcdCAFile string etcd-cafile ff own # protokube issues the certificate
etcdCertFile string etcd-certfile ff own # protokube issues the certificate
etcdCompactionInterval duration etcd-compaction-interval ff
etcdCountMetricPollPeriod duration etcd-count-metric-poll-period ff
etcdDBMetricPollInterval duration etcd-db-metric-poll-interval ff
etcdHealthcheckTimeout duration etcd-healthcheck-timeout ff
etcdKeyFile string etcd-keyfile ff own # protokube issues the certificate
etcdPrefix string etcd-prefix ff
etcdReadycheckTimeout duration etcd-readycheck-timeout .f
etcdServers strings etcd-servers ff own # protokube names its etcd
etcdServersOverrides strings etcd-servers-overrides ff own # protokube names its etcd for events
eventTTL duration event-ttl ff
experimentalEncryptionProviderConfig string experimental-encryption-provider-config d. # use encryptionProviderConfig
experimentalLoggingSanitization bool experimental-logging-sanitization f. # no replacement
externalHostname string external-hostname ff form=host
featureGates gates feature-gates ff exact:keys=@gates
goawayChance float goaway-chance ff 0..0.02
help bool help ff own # it would print its help and exit
http2MaxStreamsPerConnection int64 http2-max-streams-per-connection ff 0..
identityLeaseDurationSeconds int64 identity-lease-duration-seconds f. >0.. until=1.26 # no replacement
identityLeaseRenewIntervalSeconds int64 identity-lease-renew-interval-seconds f. >0.. until=1.26 # no replacement
insecureBindAddress ip insecure-bind-address d. own until=1.24 # the insecure port is off
insecurePort int64 insecure-port d. own until=1.24 # the insecure port is off
kubeletCertificateAuthority string kubelet-certificate-authority ff form=path
kubeletClientCertificate string kubelet-client-certificate ff own # protokube issues the certificate
kubeletClientKey string kubelet-client-key ff own # protokube issues the certificate
kubeletHttps bool kubelet-https d. # kubelet is always asked by HTTPS
kubeletPort uint64 kubelet-port dd 0..65535
kubeletPreferredAddressTypes strings kubelet-preferred-address-types ff values=@addressTypes
kubeletReadOnlyPort uint64 kubelet-read-only-port dd 0..65535
kubeletTimeout duration kubelet-timeout ff
kubernetesServiceNodePort int64 kubernetes-service-node-port ff 0..65535
leaseReuseDurationSeconds int64 lease-reuse-duration-seconds .f
livezGracePeriod duration livez-grace-period ff 0..
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
masterServiceNamespace string master-service-namespace d. until=1.27 # no replacement
maxConnectionBytesPerSec int64 max-connection-bytes-per-sec ff
maxMutatingRequestsInflight int64 max-mutating-requests-inflight ff 0..
maxRequestsInflight int64 max-requests-inflight ff 0..
minCompatibilityVersion strings min-compatibility-version .f
minRequestTimeout int64 min-request-timeout ff 0..
oidcCAFile string oidc-ca-file ff form=path
oidcClientID string oidc-client-id ff
oidcGroupsClaim string oidc-groups-claim ff
oidcGroupsPrefix string oidc-groups-prefix ff
oidcIssuerURL string oidc-issuer-url ff form=https
oidcRequiredClaim map oidc-required-claim ff
oidcSigningAlgs strings oidc-signing-algs ff values=@signingAlgs
oidcUsernameClaim string oidc-username-claim ff
oidcUsernamePrefix string oidc-username-prefix ff
oneOutput bool one-output f. until=1.26 # it logs to stderr
peerAdvertiseIP string peer-advertise-ip .f form=address
peerAdvertisePort string peer-advertise-port .f form=port
peerCAFile string peer-ca-file .f form=path
permitAddressSharing bool permit-address-sharing .f
permitPortSharing bool permit-port-sharing ff
port int64 port d. own until=1.24 # the insecure port is off
enableProfiling bool profiling ff
proxyClientCertFile string proxy-client-cert-file ff own # protokube issues the certificate
proxyClientKeyFile string proxy-client-key-file ff own # protokube issues the certificate
requestTimeout duration request-timeout ff 0..
requestheaderAllowedNames strings requestheader-allowed-names ff own # protokube issues the front proxy's certificate
requestheaderClientCAFile string requestheader-client-ca-file ff own # protokube issues the certificate
requestheaderExtraHeadersPrefix strings requestheader-extra-headers-prefix ff own # protokube sets it
requestheaderGroupHeaders strings requestheader-group-headers ff own # protokube sets it
requestheaderUidHeaders strings requestheader-uid-headers .f since=1.32
requestheaderUsernameHeaders strings requestheader-username-headers ff own # protokube sets it
runtimeConfig map runtime-config ff
runtimeConfigEmulationForwardCompatible bool runtime-config-emulation-forward-compatible .f
securePort int64 secure-port ff 1..65535
sendRetryAfterWhileNotReadyOnce bool send-retry-after-while-not-ready-once .f
serviceAccountAPIAudiences strings service-account-api-audiences d. # use apiAudiences
serviceAccountExtendTokenExpiration bool service-account-extend-token-expiration ff
serviceAccountIssuer strings service-account-issuer ff repeat old:most=1
serviceAccountJWKSURI string service-account-jwks-uri ff form=https
serviceAccountKeyFile strings service-account-key-file ff repeat own # protokube keeps the keys
serviceAccountLookup bool service-account-lookup ff
serviceAccountMaxTokenExpiration duration service-account-max-token-expiration ff 0|1h..1193046h28m16s
serviceAccountSigningEndpoint string service-account-signing-endpoint .f own # protokube keeps the keys
serviceAccountSigningKeyFile string service-account-signing-key-file ff own # protokube keeps the keys
serviceClusterIPRange string service-cluster-ip-range ff own # it is networking.serviceCIDR
serviceNodePortRange string service-node-port-range ff form=portRange
showHiddenMetricsForVersion string show-hidden-metrics-for-version ff previous
shutdownDelayDuration duration shutdown-delay-duration ff 0..
shutdownSendRetryAfter bool shutdown-send-retry-after .f
shutdownWatchTerminationGracePeriod duration shutdown-watch-termination-grace-period .f 0..
skipHeaders bool skip-headers f. until=1.26 # it logs to stderr
skipLogHeaders bool skip-log-headers f. until=1.26 # it logs to stderr
sshKeyFile string ssh-keyfile d. # no replacement
sshUser string ssh-user d. # no replacement
stderrthreshold string stderrthreshold f. form=severity until=1.26 # it logs to stderr
storageBackend string storage-backend ff values=etcd3
storageInitializationTimeout duration storage-initialization-timeout .f
storageMediaType string storage-media-type ff values=@mediaTypes
strictTransportSecurityDirectives strings strict-transport-security-directives .f form=hsts
targetRamMB int64 target-ram-mb d. 0.. # no replacement
tlsCertFile string tls-cert-file ff own # protokube issues the certificate
tlsCipherSuites strings tls-cipher-suites ff values=@suites
tlsCurvePreferences int32s tls-curve-preferences .f unique values=@curves
tlsMinVersion VersionTLS10|VersionTLS11|VersionTLS12|VersionTLS13 tls-min-version ff
tlsPrivateKeyFile string tls-private-key-file ff own # protokube issues the certificate
tlsSNICertKey strings tls-sni-cert-key ff repeat form=sniCertKey
tokenAuthFile string token-auth-file ff form=path
tracingConfigFile string tracing-config-file .f own # set tracingConfig
logLevel int32 v ff unset=0 0..
version string version ff own # it would print its version and exit
vmodule string vmodule ff form=vmodule
watchCache bool watch-cache ff
watchCacheSizes strings watch-cache-sizes ff form=cacheSize
"""
