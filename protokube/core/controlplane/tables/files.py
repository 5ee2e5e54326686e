"""The files beside its flags that kube-apiserver reads, one table each: every field, from 1.36.2's types.

`since=` tells from which version on there is such a file. What 1.20.2 has of them is the same, but for the few fields
that its column lacks. core/component/schema.py explains the columns.
"""

AUTHENTICATION = """
jwt objects - .c since=1.29
jwt[].issuer.url string - .c form=https
jwt[].issuer.discoveryURL string - .c optional form=https
jwt[].issuer.certificateAuthority text - .c optional
jwt[].issuer.audiences strings - .c
jwt[].issuer.audienceMatchPolicy string - .c optional values=MatchAny
jwt[].issuer.egressSelectorType controlplane|cluster - .c optional
jwt[].claimValidationRules objects - .c optional
jwt[].claimValidationRules[].claim string - .c optional
jwt[].claimValidationRules[].requiredValue string - .c optional
jwt[].claimValidationRules[].expression text - .c optional
jwt[].claimValidationRules[].message string - .c optional
jwt[].claimMappings.username.claim string - .c optional
jwt[].claimMappings.username.prefix string - .c optional
jwt[].claimMappings.username.expression text - .c optional
jwt[].claimMappings.groups.claim string - .c optional
jwt[].claimMappings.groups.prefix string - .c optional
jwt[].claimMappings.groups.expression text - .c optional
jwt[].claimMappings.uid.claim string - .c optional
jwt[].claimMappings.uid.expression text - .c optional
jwt[].claimMappings.extra objects - .c optional
jwt[].claimMappings.extra[].key string - .c
jwt[].claimMappings.extra[].valueExpression text - .c
jwt[].userValidationRules objects - .c optional
jwt[].userValidationRules[].expression text - .c
jwt[].userValidationRules[].message string - .c optional
anonymous.enabled bool - .c since=1.32
anonymous.conditions objects - .c since=1.32
anonymous.conditions[].path string - .c form=urlPath
"""

AUTHORIZATION = """
authorizers objects - .c since=1.29
authorizers[].type Node|RBAC|ABAC|Webhook - .c
authorizers[].name string - .c form=subdomain
authorizers[].webhook.authorizedTTL duration - .c optional 0..
authorizers[].webhook.cacheAuthorizedRequests bool - .c optional
authorizers[].webhook.unauthorizedTTL duration - .c optional 0..
authorizers[].webhook.cacheUnauthorizedRequests bool - .c optional
authorizers[].webhook.timeout duration - .c >0s..30s
authorizers[].webhook.subjectAccessReviewVersion v1|v1beta1 - .c
authorizers[].webhook.matchConditionSubjectAccessReviewVersion string - .c values=v1
authorizers[].webhook.failurePolicy NoOpinion|Deny - .c
authorizers[].webhook.connectionInfo.type InClusterConfig|KubeConfigFile - .c
authorizers[].webhook.connectionInfo.kubeConfigFile string - .c optional form=path
authorizers[].webhook.matchConditions objects - .c optional
authorizers[].webhook.matchConditions[].expression text - .c
"""

ADMISSION_CONTROL = """
plugins objects - cc
plugins[].name string - cc values=@admission
plugins[].path string - cc optional form=path
plugins[].configuration tree - cc optional
"""

EGRESS = """
egressSelections objects - cc
egressSelections[].name controlplane|etcd|cluster|master - cc
egressSelections[].connection.proxyProtocol GRPC|HTTPConnect|Direct - cc
egressSelections[].connection.transport.tcp.url string - cc
egressSelections[].connection.transport.tcp.tlsConfig.caBundle string - cc optional form=path
egressSelections[].connection.transport.tcp.tlsConfig.clientKey string - cc optional form=path
egressSelections[].connection.transport.tcp.tlsConfig.clientCert string - cc optional form=path
egressSelections[].connection.transport.tcp.tlsConfig.tlsServerName string - .c optional
egressSelections[].connection.transport.uds.udsName string - cc form=path
"""

TRACING = """
endpoint string - .c since=1.22 form=endpoint
samplingRatePerMillion int32 - .c since=1.22 0..1000000
"""

AUDIT = """
omitManagedFields bool - .c since=1.23
omitStages strings - cc values=@stages
rules objects - cc
rules[].level None|Metadata|Request|RequestResponse - cc
rules[].users strings - cc optional
rules[].userGroups strings - cc optional
rules[].verbs strings - cc optional
rules[].resources objects - cc optional
rules[].resources[].group string - cc optional
rules[].resources[].resources strings - cc optional
rules[].resources[].resourceNames strings - cc optional
rules[].namespaces strings - cc optional
rules[].nonResourceURLs strings - cc optional form=urlPattern
rules[].omitStages strings - cc optional values=@stages
rules[].omitManagedFields bool - .c optional
"""

STAGES = "RequestReceived=yy ResponseStarted=yy ResponseComplete=yy Panic=yy"
