"""Lists of names that kubelet knows: its feature gates, cipher suites and the like.

Each name has a letter for 1.20.2 and one for 1.36.2: `y` it is known, `.` it isn't; `t` and `f` mark a gate that is
locked to true or false. The gates are those that `--help` lists, and those that have graduated or are
deprecated, which it hides (pkg/features/kube_features.go and its kin). The suites and curves are Go's
(component-base/cli/flag).
Texts, so that they cost nothing to import; schema.py parses them when a kubelet is first rendered.
"""

GATES = """
APIListChunking=y. APIPriorityAndFairness=y. APIResponseCompression=yy APIServerIdentity=yy APIServerTracing=.t
APIServingWithRoutine=.y AdvancedAuditing=y. AggregatedDiscoveryRemoveBetaType=.t AllAlpha=yy AllBeta=yy
AllowDNSOnlyNodeCSR=.y AllowInsecureBackendProxy=y. AllowInsecureKubeletCertificateSigningRequests=.y
AllowOverwriteTerminationGracePeriodSeconds=.f AllowParsingUserUIDFromCertAuth=.y
AllowUnsafeMalformedObjectDeletion=.y AnonymousAuthConfigurableEndpoints=.t AnyVolumeDataSource=yt AppArmor=y.
AtomicFIFO=.y AttachVolumeLimit=t. AuthorizeNodeWithSelectors=.t AuthorizePodWebsocketUpgradeCreatePermission=.y
AuthorizeWithSelectors=.t BalanceAttachedNodeVolumes=y. BlockVolume=t. BoundServiceAccountTokenVolume=y.
BtreeWatchCache=.t CBORServingAndStorage=.y CPUManager=y. CPUManagerPolicyAlphaOptions=.y
CPUManagerPolicyBetaOptions=.y CPUManagerPolicyOptions=.t CRDObservedGenerationTracking=.y
CRDValidationRatcheting=.t CRIContainerLogRotation=y. CRIListStreaming=.y CSIBlockVolume=t. CSIDriverRegistry=t.
CSIInlineVolume=y. CSIMigration=y. CSIMigrationAWS=y. CSIMigrationAWSComplete=y. CSIMigrationAzureDisk=y.
CSIMigrationAzureDiskComplete=y. CSIMigrationAzureFile=y. CSIMigrationAzureFileComplete=y. CSIMigrationGCE=y.
CSIMigrationGCEComplete=y. CSIMigrationOpenStack=y. CSIMigrationOpenStackComplete=y. CSIMigrationvSphere=y.
CSIMigrationvSphereComplete=y. CSINodeInfo=t. CSIServiceAccountToken=y. CSIServiceAccountTokenSecrets=.t
CSIStorageCapacity=y. CSIVolumeFSGroupPolicy=y. CSIVolumeHealth=.y ChangeContainerStatusOnKubeletRestart=.y
ClearingNominatedNodeNameAfterBinding=.y ClientsAllowCARotation=.y ClientsAllowCBOR=.y ClientsAllowTLSCacheGC=.y
ClientsPreferCBOR=.y CloudControllerManagerWatchBasedRoutesReconciliation=.y CloudControllerManagerWebhook=.y
ClusterTrustBundle=.y ClusterTrustBundleProjection=.y ComponentFlagz=.y ComponentStatusz=.y
ConcurrentWatchObjectDecode=.y ConfigurableFSGroupPolicy=y. ConsistentListFromCache=.t ConstrainedImpersonation=.y
ContainerCheckpoint=.y ContainerRestartRules=.y ContainerStopSignals=.y ContextualLogging=.y
ControllerManagerReleaseLeaderElectionLockOnExit=.y CoordinatedLeaderElection=.y CronJobControllerV2=y.
CrossNamespaceVolumeDataSource=.y CustomCPUCFSQuotaPeriod=yy CustomResourceFieldSelectors=.t DRAAdminAccess=.t
DRAConsumableCapacity=.y DRADeviceBindingConditions=.y DRADeviceTaintRules=.y DRADeviceTaints=.y
DRAExtendedResource=.y DRAListTypeAttributes=.y DRANodeAllocatableResources=.y DRAPartitionableDevices=.y
DRAPrioritizedList=.y DRAResourceClaimDeviceStatus=.y DRAResourceClaimGranularStatusAuthorization=.y
DRAResourcePoolStatus=.y DRASchedulerFilterTimeout=.y DRAWorkloadResourceClaims=.y DeclarativeValidation=.y
DeclarativeValidationBeta=.y DeclarativeValidationTakeover=.y DefaultPodTopologySpread=y.
DeploymentReplicaSetTerminatingReplicas=.y DetectCacheInconsistency=.y DevicePlugins=y.
DisableAcceleratorUsageMetrics=y. DisableAllocatorDualWrite=.t DisableCPUQuotaWithExclusiveCPUs=.y
DisableNodeKubeProxyVersion=.y DownwardAPIHugePages=y. DryRun=y. DynamicKubeletConfig=y.
DynamicResourceAllocation=.t EfficientWatchResumption=y. EndpointSlice=y. EndpointSliceNodeName=y.
EndpointSliceProxying=y. EndpointSliceTerminatingCondition=y. EnvFiles=.y EphemeralContainers=y. EvenPodsSpread=t.
EventedPLEG=.y ExecProbeTimeout=yt ExpandCSIVolumes=y. ExpandInUsePersistentVolumes=y. ExpandPersistentVolumes=y.
ExperimentalHostUserNamespaceDefaulting=y. ExtendWebSocketsToKubelet=.y ExternalPolicyForExternalIP=t.
ExternalServiceAccountTokenSigner=.y GangScheduling=.y GenericEphemeralVolume=y. GenericWorkload=.y
GitRepoVolumeDriver=.y GracefulNodeShutdown=yy GracefulNodeShutdownBasedOnPodPriority=.y HPAConfigurableTolerance=.y
HPAContainerMetrics=y. HPAScaleToZero=yy HonorPVReclaimPolicy=.t HostnameOverride=.y HugePageStorageMediumSize=y.
HyperVContainer=y. IPv6DualStack=y. ImageMaximumGCAge=.t ImageVolume=.t ImageVolumeWithDigest=.y
ImmutableEphemeralVolumes=y. InOrderInformers=.y InOrderInformersBatchProcess=.y
InPlacePodLevelResourcesVerticalScaling=.y InPlacePodVerticalScaling=.t InPlacePodVerticalScalingAllocatedStatus=.y
InPlacePodVerticalScalingExclusiveCPUs=.y InPlacePodVerticalScalingExclusiveMemory=.y
InPlacePodVerticalScalingInitContainers=.y InformerResourceVersion=.y JobBackoffLimitPerIndex=.t JobManagedBy=.t
JobPodReplacementPolicy=.t JobSuccessPolicy=.t KMSv1=.y KubeletCgroupDriverFromCRI=.t KubeletCrashLoopBackOffMax=.y
KubeletCredentialProviders=y. KubeletEnsureSecretPulledImages=.y KubeletFineGrainedAuthz=.t
KubeletInUserNamespace=.y KubeletPSI=.y KubeletPodResources=y. KubeletPodResourcesDynamicResources=.y
KubeletPodResourcesGet=.y KubeletPodResourcesListUseActivePods=.y KubeletRegistrationGetOnExistsOnly=.y
KubeletSeparateDiskGC=.y KubeletServiceAccountTokenForCredentialProviders=.y KubeletTracing=.t
LegacyNodeRoleBehavior=y. ListFromCacheSnapshot=.y LocalStorageCapacityIsolation=y.
LocalStorageCapacityIsolationFSQuotaMonitoring=yy LogarithmicScaleDown=.t LoggingAlphaOptions=.y
LoggingBetaOptions=.y ManifestBasedAdmissionControlConfig=.y MatchLabelKeysInPodAffinity=.t
MatchLabelKeysInPodTopologySpread=.y MatchLabelKeysInPodTopologySpreadSelectorMerge=.y MaxUnavailableStatefulSet=.y
MemoryQoS=.y MixedProtocolLBService=y. MultiCIDRServiceAllocator=.t MutableCSINodeAllocatableCount=.y
MutablePVNodeAffinity=.y MutablePodResourcesForSuspendedJobs=.y MutableSchedulingDirectivesForSuspendedJobs=.y
MutatingAdmissionPolicy=.y NFTablesProxyMode=.t NativeHistograms=.y NodeDeclaredFeatures=.y
NodeDisruptionExclusion=y. NodeInclusionPolicyInPodTopologySpread=.t NodeLease=t. NodeLogQuery=.y NodeSwap=.t
NominatedNodeNameForExpectation=.y NonPreemptingPriority=y. OpenAPIEnums=.y OpportunisticBatching=.y
OrderedNamespaceDeletion=.t PLEGOnDemandRelist=.y PersistentVolumeClaimUnusedSinceTime=.y
PodAndContainerStatsFromCRI=.y PodCertificateRequest=.y PodDeletionCost=.y PodDisruptionBudget=y.
PodLevelResourceManagers=.y PodLevelResources=.y PodLifecycleSleepAction=.t PodLifecycleSleepActionAllowZero=.t
PodLogsQuerySplitStreams=.y PodObservedGenerationTracking=.t PodOverhead=y. PodReadyToStartContainersCondition=.y
PodSchedulingReadiness=.t PodTopologyLabelsAdmission=.y PodsAPI=.y PortForwardWebsockets=.y
PreferSameTrafficDistribution=.t PreventStaticPodAPIReferences=.y ProcMountType=yy QOSReserved=yy
RecoverVolumeExpansionFailure=.t RecursiveReadOnlyMounts=.t ReduceDefaultCrashLoopBackOffDecay=.y
RelaxedDNSSearchValidation=.t RelaxedEnvironmentVariableValidation=.t RelaxedServiceNameValidation=.y
ReloadKubeletClientCAFile=.y ReloadKubeletServerCertificateFile=.y RemainingItemCount=y. RemoteRequestHeaderUID=.y
RemoveSelfLink=y. ResilientWatchCacheInitialization=.t ResourceHealthStatus=.y ResourceHealthStatusMessage=.y
RestartAllContainersOnContainerExits=.y RetryGenerateName=.t RootCAConfigMap=y. RotateKubeletClientCertificate=t.
RotateKubeletServerCertificate=yy RunAsGroup=y. RuntimeClass=t. RuntimeClassInImageCriApi=.y SCTPSupport=t.
SELinuxChangePolicy=.y SELinuxMount=.y SELinuxMountReadWriteOncePod=.y SchedulerAsyncAPICalls=.y
SchedulerAsyncPreemption=.y SchedulerPopFromBackoffQ=.y SchedulerQueueingHints=.t SelectorIndex=t.
SeparateCacheWatchRPC=.y SeparateTaintEvictionController=.t ServerSideApply=y. ServiceAccountIssuerDiscovery=y.
ServiceAccountNodeAudienceRestriction=.y ServiceAccountTokenJTI=.t ServiceAccountTokenNodeBinding=.t
ServiceAccountTokenNodeBindingValidation=.t ServiceAccountTokenPodNodeInfo=.t ServiceAppProtocol=t.
ServiceLBNodePortControl=y. ServiceNodeExclusion=y. ServiceTopology=y. SetHostnameAsFQDN=y. ShardedListAndWatch=.y
SidecarContainers=.t SizeBasedListCostEstimate=.y SizeMemoryBackedVolumes=y. StaleControllerConsistencyDaemonSet=.y
StaleControllerConsistencyJob=.y StaleControllerConsistencyReplicaSet=.y StaleControllerConsistencyStatefulSet=.y
StartupProbe=t. StatefulSetSemanticRevisionComparison=.y StorageCapacityScoring=.y StorageNamespaceIndex=.y
StorageObjectInUseProtection=y. StorageVersionAPI=yy StorageVersionHash=yy StorageVersionMigrator=.y
StreamingCollectionEncodingToJSON=.t StreamingCollectionEncodingToProtobuf=.t StreamingProxyRedirects=y.
StrictIPCIDRValidation=.y StructuredAuthenticationConfiguration=.t
StructuredAuthenticationConfigurationEgressSelector=.y StructuredAuthenticationConfigurationJWKSMetrics=.y
SupplementalGroupsPolicy=.t SupportNodePidsLimit=t. SupportPodPidsLimit=t. Sysctls=y. SystemdWatchdog=.t
TTLAfterFinished=y. TaintTolerationComparisonOperators=.y TokenRequest=t. TokenRequestProjection=t.
TokenRequestServiceAccountUIDValidation=.y TopologyAwareWorkloadScheduling=.y TopologyManager=y.
TopologyManagerPolicyAlphaOptions=.y TopologyManagerPolicyBetaOptions=.y TopologyManagerPolicyOptions=.t
TranslateStreamCloseWebsocketRequests=.y UnauthenticatedHTTP2DOSMitigation=.y UnknownVersionInteroperabilityProxy=.y
UnlockWhileProcessingFIFO=.y UserNamespacesHostNetworkSupport=.y UserNamespacesSupport=.y ValidateProxyRedirects=y.
VolumeAttributesClass=.t VolumeLimitScaling=.y VolumePVCDataSource=t. VolumeSnapshotDataSource=t. VolumeSubpath=y.
WarningHeaders=y. WatchBookmark=t. WatchCacheInitializationPostStartHook=.y WatchList=.y WatchListClient=.y
WinDSR=yt WinOverlay=yt WindowsCPUAndMemoryAffinity=.y WindowsEndpointSliceProxying=y. WindowsGMSA=t.
WindowsGracefulNodeShutdown=.y WindowsHostNetwork=.y WindowsRunAsUserName=t. WorkloadAwarePreemption=.y
WorkloadWithJob=.y
"""

SUITES = """
TLS_AES_128_GCM_SHA256=yy TLS_AES_256_GCM_SHA384=yy TLS_CHACHA20_POLY1305_SHA256=yy
TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA=yy TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256=yy
TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256=yy TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA=yy
TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384=yy TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305=yy
TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256=yy TLS_ECDHE_ECDSA_WITH_RC4_128_SHA=yy
TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA=yy TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA=yy
TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256=yy TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256=yy
TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA=yy TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384=yy
TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305=yy TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256=yy
TLS_RSA_WITH_3DES_EDE_CBC_SHA=yy TLS_RSA_WITH_AES_128_CBC_SHA=yy TLS_RSA_WITH_AES_128_CBC_SHA256=yy
TLS_RSA_WITH_AES_128_GCM_SHA256=yy TLS_RSA_WITH_AES_256_CBC_SHA=yy TLS_RSA_WITH_AES_256_GCM_SHA384=yy
TLS_RSA_WITH_RC4_128_SHA=yy
"""

NAMES = {
    "gates": GATES,
    "suites": SUITES,
    "signals": """
memory.available=yy allocatableMemory.available=yy nodefs.available=yy nodefs.inodesFree=yy imagefs.available=yy
imagefs.inodesFree=yy containerfs.available=.y containerfs.inodesFree=.y pid.available=yy
""",
    "enforcements": """
none=yy pods=yy system-reserved=yy kube-reserved=yy system-reserved-compressible=.y kube-reserved-compressible=.y
""",
    "cpuOptions": """
full-pcpus-only=.y distribute-cpus-across-numa=.y align-by-socket=.y distribute-cpus-across-cores=.y
strict-cpu-reservation=.y prefer-align-cpus-by-uncorecache=.y
""",
    "curves": "23=.y 24=.y 25=.y 29=.y 4587=.y 4588=.y 4589=.y",
    "pullPolicies": """
NeverVerify=.y NeverVerifyPreloadedImages=.y NeverVerifyAllowlistedImages=.y AlwaysVerify=.y
""",
    "topologyOptions": "prefer-closest-numa-nodes=.y max-allowable-numa-nodes=.y",
}

# kops's names, today's and those of its first releases (its KubeletConfigSpec), where they differ from kubelet's.
# The flag that a name repeats is found without a line here. A value that is no field says what became of it.
FORMERLY = {
    "taints": "registerWithTaints",
    "networkPluginName": "networkPlugin",
    "volumePluginDirectory": "volumePluginDir",
    "experimentalAllowedUnsafeSysctls": "allowedUnsafeSysctls",
    "memorySwapBehavior": "memorySwap.swapBehavior",
    "logFormat": "logging.format",
    "kubeconfigPath": "protokube sets --kubeconfig once /var/lib/kubelet/kubeconfig is there",
    "requireKubeconfig": "kubelet has run standalone without a kubeconfig since 1.8; leave it out",
    "apiServers": "the kubeconfig names the API server since 1.8",
    "allowPrivileged": "pods may be privileged since 1.15; leave it out",
    "configureCbr0": "gone since 1.6; the container runtime sets CNI up",
    "reconcileCIDR": "gone since 1.6; the container runtime sets CNI up",
    "babysitDaemons": "gone since 1.7; systemd restarts what ends",
    "enableCustomMetrics": "gone since 1.11; no replacement",
    "nvidiaGPUs": "gone since 1.11; device plugins announce GPUs",
    "dockerDisableSharedPID": "gone since 1.12; see a pod's shareProcessNamespace",
}
