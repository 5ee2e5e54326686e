"""Lists of names that the control plane's components know: admission plugins, controllers and the like.

Each name has a letter for 1.20.2 and one for 1.36.2: `y` it is known, `.` it isn't. Admission plugins and controllers
are those that `--help` lists; since 1.28 controllers have longer names, and their old ones are still taken.
Texts, so that they cost nothing to import.
"""

ADMISSION = """
AlwaysAdmit=yy AlwaysDeny=yy AlwaysPullImages=yy CertificateApproval=yy CertificateSigning=yy
CertificateSubjectRestriction=yy ClusterTrustBundleAttest=.y DefaultIngressClass=yy DefaultStorageClass=yy
DefaultTolerationSeconds=yy DenyEscalatingExec=y. DenyExecOnPrivileged=y. DenyServiceExternalIPs=.y EventRateLimit=yy
ExtendedResourceToleration=yy ImagePolicyWebhook=yy JobValidation=.y LimitPodHardAntiAffinityTopology=yy
LimitRanger=yy MutatingAdmissionPolicy=.y MutatingAdmissionWebhook=yy NamespaceAutoProvision=yy NamespaceExists=yy
NamespaceLifecycle=yy NodeDeclaredFeatureValidator=.y NodeRestriction=yy OwnerReferencesPermissionEnforcement=yy
PersistentVolumeClaimResize=yy PersistentVolumeLabel=y. PodGroupProtection=.y PodGroupWorkloadExists=.y
PodNodeSelector=yy PodResizeValidator=.y PodSecurity=.y PodSecurityPolicy=y. PodTolerationRestriction=yy
PodTopologyLabels=.y Priority=yy ResourceQuota=yy RuntimeClass=yy SecurityContextDeny=y. ServiceAccount=yy
StorageObjectInUseProtection=yy TaintNodesByCondition=yy ValidatingAdmissionPolicy=.y ValidatingAdmissionWebhook=yy
"""

CONTROLLERS = """
attachdetach=yy bootstrap-signer-controller=.y bootstrapsigner=yy certificatesigningrequest-approving-controller=.y
certificatesigningrequest-cleaner-controller=.y certificatesigningrequest-signing-controller=.y
cloud-node-lifecycle=yy cloud-node-lifecycle-controller=.y clusterrole-aggregation=yy
clusterrole-aggregation-controller=.y cronjob=yy cronjob-controller=.y csrapproving=yy csrcleaner=yy csrsigning=yy
daemonset=yy daemonset-controller=.y deployment=yy deployment-controller=.y device-taint-eviction-controller=.y
disruption=yy disruption-controller=.y endpoint=yy endpoints-controller=.y endpointslice=yy
endpointslice-controller=.y endpointslice-mirroring-controller=.y endpointslicemirroring=yy ephemeral-volume=yy
ephemeral-volume-controller=.y garbage-collector-controller=.y garbagecollector=yy
horizontal-pod-autoscaler-controller=.y horizontalpodautoscaling=yy job=yy job-controller=.y
kube-apiserver-serving-clustertrustbundle-publisher-controller=.y legacy-serviceaccount-token-cleaner-controller=.y
namespace=yy namespace-controller=.y node-ipam-controller=.y node-lifecycle-controller=.y node-route-controller=.y
nodeipam=yy nodelifecycle=yy persistentvolume-attach-detach-controller=.y persistentvolume-binder=yy
persistentvolume-binder-controller=.y persistentvolume-expander=yy persistentvolume-expander-controller=.y
persistentvolume-protection-controller=.y persistentvolumeclaim-protection-controller=.y
pod-garbage-collector-controller=.y podcertificaterequest-cleaner-controller=.y podgc=yy
podgroup-protection-controller=.y pv-protection=yy pvc-protection=yy replicaset=yy replicaset-controller=.y
replicationcontroller=yy replicationcontroller-controller=.y resourceclaim-controller=.y
resourcepoolstatusrequest-controller=.y resourcequota=yy resourcequota-controller=.y root-ca-cert-publisher=yy
root-ca-certificate-publisher-controller=.y route=yy selinux-warning-controller=.y service=yy
service-ca-certificate-publisher-controller=.y service-cidr-controller=.y service-lb-controller=.y serviceaccount=yy
serviceaccount-controller=.y serviceaccount-token=yy serviceaccount-token-controller=.y statefulset=yy
statefulset-controller=.y storage-version-migrator-controller=.y storageversion-garbage-collector-controller=.y
taint-eviction-controller=.y token-cleaner-controller=.y tokencleaner=yy ttl=yy ttl-after-finished=yy
ttl-after-finished-controller=.y ttl-controller=.y validatingadmissionpolicy-status-controller=.y
volumeattributesclass-protection-controller=.y
"""

LISTS = {
    "admission": ADMISSION,
    "controllers": CONTROLLERS,
    "auditVersions": "audit.k8s.io/v1=yy audit.k8s.io/v1beta1=y. audit.k8s.io/v1alpha1=y.",
    "locks": "leases=yy endpoints=y. configmaps=y. endpointsleases=y. configmapsleases=y.",
    "mediaTypes": "application/json=yy application/yaml=yy application/vnd.kubernetes.protobuf=yy",
    "signingAlgs": "RS256=yy RS384=yy RS512=yy ES256=yy ES384=yy ES512=yy PS256=yy PS384=yy PS512=yy",
    "addressTypes": "Hostname=yy InternalDNS=yy InternalIP=yy ExternalDNS=yy ExternalIP=yy",
    "localModes": "ClusterCIDR=yy NodeCIDR=yy BridgeInterface=.y InterfaceNamePrefix=.y",
    "proxyModes": "iptables=yy ipvs=yy nftables=.y userspace=y.",
}
"""The lists by the name that a table's rules refer to."""
