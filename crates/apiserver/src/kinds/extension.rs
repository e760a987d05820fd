//! Kinds that extend the API: CustomResourceDefinitions and webhook configurations.

mod definition;

pub(crate) use definition::COLUMNS_MAX;
use k8s_openapi::api::admissionregistration::v1 as admission;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1;

use super::row::{Generation, Row, Sub, cluster_scoped};
use crate::cells::{NAME, column};
use crate::object::{list, name, text};

const ADMISSION: [&str; 2] = ["admissionregistration.k8s.io", "v1"];

pub(crate) const CUSTOM_RESOURCE_DEFINITION: Row = Row {
    short_names: &["crd", "crds"],
    subresources: &[Sub::Status],
    columns: const { &[NAME, column("Group"), column("Scope"), column("Versions"), column("Created At")] },
    cells: |object, _| {
        let served = list(object, "spec.versions").iter().filter(|version| version["served"] == true);
        let versions: Vec<&str> = served.map(|version| text(version, "name")).collect();
        vec![
            name(object).into(),
            text(object, "spec.group").into(),
            text(object, "spec.scope").into(),
            versions.join(",").into(),
            text(object, "metadata.creationTimestamp").into(),
        ]
    },
    defaults: definition::defaults,
    validate: |object, problems| problems.extend(definition::validate(object)),
    validate_update: |current, object, _, problems| {
        for path in ["spec.group", "spec.scope", "spec.names.plural", "spec.names.kind"] {
            problems.immutable(current, object, path);
        }
    },
    ..cluster_scoped::<v1::CustomResourceDefinition>(
        ["apiextensions.k8s.io", "v1"],
        "CustomResourceDefinition",
        "customresourcedefinitions",
    )
};

pub(crate) const MUTATING_WEBHOOK_CONFIGURATION: Row = Row {
    generation: Generation::Always,
    ..cluster_scoped::<admission::MutatingWebhookConfiguration>(
        ADMISSION,
        "MutatingWebhookConfiguration",
        "mutatingwebhookconfigurations",
    )
};

pub(crate) const VALIDATING_WEBHOOK_CONFIGURATION: Row = Row {
    generation: Generation::Always,
    ..cluster_scoped::<admission::ValidatingWebhookConfiguration>(
        ADMISSION,
        "ValidatingWebhookConfiguration",
        "validatingwebhookconfigurations",
    )
};
