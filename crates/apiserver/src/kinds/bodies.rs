//! Bodies of subresources that have their own kinds; only their schemas are used.

use k8s_openapi::api::{autoscaling, core, policy};

use super::row::{Row, namespaced};

pub(super) const BODIES: [Row; 3] = [
    namespaced::<autoscaling::v1::Scale>(["autoscaling", "v1"], "Scale", ""),
    namespaced::<policy::v1::Eviction>(["policy", "v1"], "Eviction", ""),
    namespaced::<core::v1::Binding>(["", "v1"], "Binding", ""),
];
