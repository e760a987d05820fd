//! What `kubectl get` shows of each kind, in one table: the columns of the originals, in their order.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceColumnDefinition;

/// Heading, type, JSON path, and whether the column is shown only with `-o wide`.
type Column = (&'static str, &'static str, &'static str, bool);

const SCALED_OBJECT: &[Column] = &[
    ("ScaleTargetKind", "string", ".status.scaleTargetKind", false),
    ("ScaleTargetName", "string", ".spec.scaleTargetRef.name", false),
    ("Min", "integer", ".spec.minReplicaCount", false),
    ("Max", "integer", ".spec.maxReplicaCount", false),
    ("Ready", "string", r#".status.conditions[?(@.type=="Ready")].status"#, false),
    ("Active", "string", r#".status.conditions[?(@.type=="Active")].status"#, false),
    ("Fallback", "string", r#".status.conditions[?(@.type=="Fallback")].status"#, false),
    ("Paused", "string", r#".status.conditions[?(@.type=="Paused")].status"#, false),
    ("Triggers", "string", ".status.triggersTypes", false),
    ("Authentications", "string", ".status.authenticationsTypes", false),
    ("Age", "date", ".metadata.creationTimestamp", false),
];

const SCALED_JOB: &[Column] = &[
    ("Min", "integer", ".spec.minReplicaCount", false),
    ("Max", "integer", ".spec.maxReplicaCount", false),
    ("Ready", "string", r#".status.conditions[?(@.type=="Ready")].status"#, false),
    ("Active", "string", r#".status.conditions[?(@.type=="Active")].status"#, false),
    ("Paused", "string", r#".status.conditions[?(@.type=="Paused")].status"#, false),
    ("Triggers", "string", ".status.triggersTypes", false),
    ("Authentications", "string", ".status.authenticationsTypes", false),
    ("Age", "date", ".metadata.creationTimestamp", false),
];

const TRIGGER_AUTHENTICATION: &[Column] = &[
    ("PodIdentity", "string", ".spec.podIdentity.provider", false),
    ("Secret", "string", ".spec.secretTargetRef[*].name", false),
    ("Env", "string", ".spec.env[*].name", false),
    ("VaultAddress", "string", ".spec.hashiCorpVault.address", false),
    ("ScaledObjects", "string", ".status.scaledobjects", true),
    ("ScaledJobs", "string", ".status.scaledjobs", true),
];

const CLUSTER_TRIGGER_AUTHENTICATION: &[Column] = &[
    ("PodIdentity", "string", ".spec.podIdentity.provider", false),
    ("Secret", "string", ".spec.secretTargetRef[*].name", false),
    ("Env", "string", ".spec.env[*].name", false),
    ("FilePath", "string", ".spec.filePath", false),
    ("VaultAddress", "string", ".spec.hashiCorpVault.address", false),
    ("ScaledObjects", "string", ".status.scaledobjects", true),
    ("ScaledJobs", "string", ".status.scaledjobs", true),
];

const VERTICAL_POD_AUTOSCALER: &[Column] = &[
    ("Mode", "string", ".spec.updatePolicy.updateMode", false),
    ("CPU", "string", ".status.recommendation.containerRecommendations[0].target.cpu", false),
    ("Mem", "string", ".status.recommendation.containerRecommendations[0].target.memory", false),
    ("Provided", "string", ".status.conditions[?(@.type=='RecommendationProvided')].status", false),
    ("Age", "date", ".metadata.creationTimestamp", false),
    ("MinReplicas", "integer", ".spec.updatePolicy.minReplicas", true),
    ("OOMSeconds", "integer", ".spec.updatePolicy.evictAfterOOMSeconds", true),
];

/// The columns of a kind; none for kinds whose originals have none, which then show name and age.
pub(super) fn of(kind: &str) -> Vec<CustomResourceColumnDefinition> {
    let columns = match kind {
        "ScaledObject" => SCALED_OBJECT,
        "ScaledJob" => SCALED_JOB,
        "TriggerAuthentication" => TRIGGER_AUTHENTICATION,
        "ClusterTriggerAuthentication" => CLUSTER_TRIGGER_AUTHENTICATION,
        "VerticalPodAutoscaler" => VERTICAL_POD_AUTOSCALER,
        _ => &[],
    };
    columns
        .iter()
        .map(|&(name, type_, json_path, wide)| CustomResourceColumnDefinition {
            name: name.to_owned(),
            type_: type_.to_owned(),
            json_path: json_path.to_owned(),
            priority: wide.then_some(1),
            ..Default::default()
        })
        .collect()
}
