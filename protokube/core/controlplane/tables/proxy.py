"""Every flag and field of kube-proxy, one line each: taken from 1.20.2 and 1.36.2, and from what they check.

Fields are those of KubeProxyConfiguration (kubeproxy.config.k8s.io/v1alpha1). A flag that has no effect beside a
configuration file stands with its field (letter c), or is not to be configured. core/component/schema.py explains the
columns.
"""

TABLE = """
featureGates gates feature-gates cc exact:keys=@gates
bindAddress ip bind-address cc
healthzBindAddress string healthz-bind-address cc form=hostport
metricsBindAddress string metrics-bind-address cc form=hostport
bindAddressHardFail bool bind-address-hard-fail cc
enableProfiling bool profiling cc
clusterCIDR string cluster-cidr cc own # it is networking.podCIDR
hostnameOverride string hostname-override cc own # protokube sets the node's name
clientConnection.kubeconfig string kubeconfig cc own # protokube writes the kubeconfig
clientConnection.acceptContentTypes string - cc
clientConnection.contentType string kube-api-content-type cc
clientConnection.qps float kube-api-qps cc
clientConnection.burst int32 kube-api-burst cc 0..
iptables.masqueradeBit int32 iptables-masquerade-bit cc 0..31
iptables.masqueradeAll bool masquerade-all cc
iptables.syncPeriod duration iptables-sync-period cc zero >0s..
iptables.minSyncPeriod duration iptables-min-sync-period cc zero 0..
ipvs.syncPeriod duration ipvs-sync-period cc zero >0s..
ipvs.minSyncPeriod duration ipvs-min-sync-period cc 0..
ipvs.scheduler string ipvs-scheduler cc
ipvs.excludeCIDRs strings ipvs-exclude-cidrs cc form=cidr
ipvs.strictARP bool ipvs-strict-arp cc
ipvs.tcpTimeout duration ipvs-tcp-timeout cc 0..
ipvs.tcpFinTimeout duration ipvs-tcpfin-timeout cc 0..
ipvs.udpTimeout duration ipvs-udp-timeout cc 0..
oomScoreAdj int32 oom-score-adj cc -1000..1000
mode string proxy-mode cc values=@proxyModes
portRange string proxy-port-range cc form=portRangeOrNone
udpIdleTimeout duration udp-timeout c. zero >0s.. # gone with the userspace proxy
conntrack.maxPerCore int32 conntrack-max-per-core cc 0..
conntrack.min int32 conntrack-min cc 0..
conntrack.tcpEstablishedTimeout duration conntrack-tcp-timeout-established cc 0..
conntrack.tcpCloseWaitTimeout duration conntrack-tcp-timeout-close-wait cc 0..
configSyncPeriod duration config-sync-period cc zero >0s..
nodePortAddresses strings nodeport-addresses cc old:form=cidr new:form=nodePorts
winkernel.networkName string - cc own # the node runs Linux
winkernel.sourceVip string - cc own # the node runs Linux
winkernel.enableDSR bool - cc own # the node runs Linux
showHiddenMetricsForVersion string show-hidden-metrics-for-version cc previous
detectLocalMode string detect-local-mode cc values=@localModes
logging.format text|json logging-format .c
logging.flushFrequency duration - .c own # it is logFlushFrequency
logging.verbosity uint32 - .c own # it is logLevel
logging.vmodule objects - .c own # it is vmodule
logging.options.text.splitStream bool log-text-split-stream .c gate=LoggingAlphaOptions/false
logging.options.text.infoBufferSize quantity log-text-info-buffer-size .c gate=LoggingAlphaOptions/0
logging.options.json.splitStream bool log-json-split-stream .c gate=LoggingAlphaOptions/false
logging.options.json.infoBufferSize quantity log-json-info-buffer-size .c gate=LoggingAlphaOptions/0
iptables.localhostNodePorts bool iptables-localhost-nodeports .c
nftables.masqueradeBit int32 - .c 0..31
nftables.masqueradeAll bool - .c
nftables.syncPeriod duration - .c zero >0s..
nftables.minSyncPeriod duration - .c zero 0..
winkernel.rootHnsEndpointName string - .c own # the node runs Linux
winkernel.forwardHealthCheckVip bool - .c own # the node runs Linux
detectLocal.bridgeInterface string pod-bridge-interface .c
detectLocal.interfaceNamePrefix string pod-interface-name-prefix .c
conntrack.tcpBeLiberal bool conntrack-tcp-be-liberal .c
conntrack.udpTimeout duration conntrack-udp-timeout .c 0..
conntrack.udpStreamTimeout duration conntrack-udp-timeout-stream .c 0..
windowsRunAsService bool - .c own # the node runs Linux
addDirHeader bool add-dir-header f. until=1.26 # it logs to stderr
alsologtostderr bool alsologtostderr f. until=1.26 # it logs to stderr
bootIDFile string boot-id-file .f own # it has no effect on kube-proxy
cleanup bool cleanup ff own # it would clean up and exit
cleanupIPVS bool cleanup-ipvs d. own # it would clean up and exit
config string config ff own # protokube writes the file it names
healthzPort int32 healthz-port dd own # see healthzBindAddress
help bool help ff own # it would print its help and exit
initOnly bool init-only .f own # it would exit
logBacktraceAt string log-backtrace-at f. form=trace until=1.26 # it logs to stderr
logDir string log-dir f. until=1.26 # it logs to stderr
logFile string log-file f. until=1.26 # it logs to stderr
logFileMaxSize uint64 log-file-max-size f. until=1.26 # it logs to stderr
logFlushFrequency duration log-flush-frequency ff
logtostderr bool logtostderr f. until=1.26 # it logs to stderr
machineIDFile string machine-id-file .f own # it has no effect on kube-proxy
master string master ff own # protokube writes the kubeconfig
metricsPort int32 metrics-port dd own # see metricsBindAddress
oneOutput bool one-output f. until=1.26 # it logs to stderr
skipHeaders bool skip-headers f. until=1.26 # it logs to stderr
skipLogHeaders bool skip-log-headers f. until=1.26 # it logs to stderr
stderrthreshold string stderrthreshold f. form=severity until=1.26 # it logs to stderr
logLevel int32 v ff unset=0 0..
version string version ff own # it would print its version and exit
vmodule string vmodule ff form=vmodule
writeConfigTo string write-config-to ff own # it would write its configuration and exit
"""
