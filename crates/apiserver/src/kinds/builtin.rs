//! The rows of the kinds that Kubernetes itself has and this server stores.
//!
//! Names, short names, categories and subresources are those of `kubectl api-resources` on Kubernetes 1.37. Kinds
//! that nothing here acts on (DaemonSets, RBAC, …) are stored, so that manifests which contain them apply.

use std::sync::Arc;

use super::{Conversion, Kind, Registry, Sub, group_version};
use Sub::{Binding, Eviction, Finalize, Log, Proxy, Resize, Scale, Status};

struct Row {
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    plural: &'static str,
    namespaced: bool,
    short: &'static [&'static str],
    all: bool,
    subs: &'static [Sub],
}

const fn namespaced(gv: [&'static str; 2], kind: &'static str, plural: &'static str) -> Row {
    Row { group: gv[0], version: gv[1], kind, plural, namespaced: true, short: &[], all: false, subs: &[] }
}

const fn cluster(gv: [&'static str; 2], kind: &'static str, plural: &'static str) -> Row {
    Row { namespaced: false, ..namespaced(gv, kind, plural) }
}

impl Row {
    const fn short(self, short: &'static [&'static str]) -> Self {
        Self { short, ..self }
    }
    const fn all(self) -> Self {
        Self { all: true, ..self }
    }
    const fn subs(self, subs: &'static [Sub]) -> Self {
        Self { subs, ..self }
    }
}

const CORE: [&str; 2] = ["", "v1"];
const APPS: [&str; 2] = ["apps", "v1"];
const BATCH: [&str; 2] = ["batch", "v1"];
const RBAC: [&str; 2] = ["rbac.authorization.k8s.io", "v1"];
const ADMISSION: [&str; 2] = ["admissionregistration.k8s.io", "v1"];
const AUTHENTICATION: [&str; 2] = ["authentication.k8s.io", "v1"];
const AUTHORIZATION: [&str; 2] = ["authorization.k8s.io", "v1"];
const NETWORKING: [&str; 2] = ["networking.k8s.io", "v1"];

const ROWS: &[Row] = &[
    namespaced(CORE, "ConfigMap", "configmaps").short(&["cm"]),
    namespaced(CORE, "Endpoints", "endpoints").short(&["ep"]),
    namespaced(CORE, "Event", "events").short(&["ev"]),
    namespaced(CORE, "LimitRange", "limitranges").short(&["limits"]),
    cluster(CORE, "Namespace", "namespaces").short(&["ns"]).subs(&[Finalize, Status]),
    cluster(CORE, "Node", "nodes").short(&["no"]).subs(&[Proxy, Status]),
    namespaced(CORE, "PersistentVolumeClaim", "persistentvolumeclaims").short(&["pvc"]).subs(&[Status]),
    cluster(CORE, "PersistentVolume", "persistentvolumes").short(&["pv"]).subs(&[Status]),
    namespaced(CORE, "Pod", "pods").short(&["po"]).all().subs(&[Binding, Eviction, Log, Resize, Status]),
    namespaced(CORE, "PodTemplate", "podtemplates"),
    namespaced(CORE, "ReplicationController", "replicationcontrollers")
        .short(&["rc"])
        .all()
        .subs(&[Scale, Status]),
    namespaced(CORE, "ResourceQuota", "resourcequotas").short(&["quota"]).subs(&[Status]),
    namespaced(CORE, "Secret", "secrets"),
    namespaced(CORE, "ServiceAccount", "serviceaccounts").short(&["sa"]),
    namespaced(CORE, "Service", "services").short(&["svc"]).all().subs(&[Status]),
    namespaced(APPS, "ControllerRevision", "controllerrevisions"),
    namespaced(APPS, "DaemonSet", "daemonsets").short(&["ds"]).all().subs(&[Status]),
    namespaced(APPS, "Deployment", "deployments").short(&["deploy"]).all().subs(&[Scale, Status]),
    namespaced(APPS, "ReplicaSet", "replicasets").short(&["rs"]).all().subs(&[Scale, Status]),
    namespaced(APPS, "StatefulSet", "statefulsets").short(&["sts"]).all().subs(&[Scale, Status]),
    namespaced(["events.k8s.io", "v1"], "Event", "events").short(&["ev"]),
    cluster(AUTHENTICATION, "SelfSubjectReview", "selfsubjectreviews"),
    namespaced(AUTHORIZATION, "LocalSubjectAccessReview", "localsubjectaccessreviews"),
    cluster(AUTHORIZATION, "SelfSubjectAccessReview", "selfsubjectaccessreviews"),
    cluster(AUTHORIZATION, "SelfSubjectRulesReview", "selfsubjectrulesreviews"),
    cluster(AUTHORIZATION, "SubjectAccessReview", "subjectaccessreviews"),
    namespaced(["autoscaling", "v2"], "HorizontalPodAutoscaler", "horizontalpodautoscalers")
        .short(&["hpa"])
        .all()
        .subs(&[Status]),
    namespaced(["autoscaling", "v1"], "HorizontalPodAutoscaler", "horizontalpodautoscalers")
        .short(&["hpa"])
        .all()
        .subs(&[Status]),
    namespaced(BATCH, "CronJob", "cronjobs").short(&["cj"]).all().subs(&[Status]),
    namespaced(BATCH, "Job", "jobs").all().subs(&[Status]),
    cluster(["certificates.k8s.io", "v1"], "CertificateSigningRequest", "certificatesigningrequests")
        .short(&["csr"])
        .subs(&[Status]),
    namespaced(NETWORKING, "Ingress", "ingresses").short(&["ing"]).subs(&[Status]),
    cluster(NETWORKING, "IngressClass", "ingressclasses"),
    namespaced(NETWORKING, "NetworkPolicy", "networkpolicies").short(&["netpol"]),
    namespaced(["policy", "v1"], "PodDisruptionBudget", "poddisruptionbudgets")
        .short(&["pdb"])
        .subs(&[Status]),
    cluster(RBAC, "ClusterRoleBinding", "clusterrolebindings"),
    cluster(RBAC, "ClusterRole", "clusterroles"),
    namespaced(RBAC, "RoleBinding", "rolebindings"),
    namespaced(RBAC, "Role", "roles"),
    cluster(["storage.k8s.io", "v1"], "StorageClass", "storageclasses").short(&["sc"]),
    cluster(ADMISSION, "MutatingWebhookConfiguration", "mutatingwebhookconfigurations"),
    cluster(ADMISSION, "ValidatingWebhookConfiguration", "validatingwebhookconfigurations"),
    cluster(["apiextensions.k8s.io", "v1"], "CustomResourceDefinition", "customresourcedefinitions")
        .short(&["crd", "crds"])
        .subs(&[Status]),
    cluster(["scheduling.k8s.io", "v1"], "PriorityClass", "priorityclasses").short(&["pc"]),
    namespaced(["coordination.k8s.io", "v1"], "Lease", "leases"),
    namespaced(["discovery.k8s.io", "v1"], "EndpointSlice", "endpointslices"),
];

/// The registry at start, before any CRD.
pub(crate) fn registry() -> Registry {
    Registry { kinds: ROWS.iter().map(|row| Arc::new(kind(row))).collect() }
}

fn kind(row: &Row) -> Kind {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let (conversion, storage_group, stored) = match (row.group, row.version, row.kind) {
        ("autoscaling", "v1", _) => {
            (Conversion::HorizontalPodAutoscalerV1, "autoscaling", "autoscaling/v2".into())
        }
        ("events.k8s.io", "v1", "Event") => (Conversion::EventV1, "core", "v1".into()),
        ("", ..) => (Conversion::ApiVersion, "core", "v1".into()),
        (group, version, _) => (Conversion::ApiVersion, group, group_version(group, version)),
    };
    Kind {
        group: row.group.into(),
        version: row.version.into(),
        kind: row.kind.into(),
        plural: row.plural.into(),
        singular: row.kind.to_lowercase(),
        namespaced: row.namespaced,
        storage: format!("{storage_group}/{}", row.plural).into(),
        stored_api_version: stored,
        conversion,
        subresources: row.subs.to_vec(),
        short_names: owned(row.short),
        categories: if row.all { owned(&["all"]) } else { Vec::new() },
        review: row.kind.ends_with("Review"),
        custom: None,
    }
}
