//! PodDisruptionBudgets; [`crate::verbs::evict`] enforces them.

use k8s_openapi::api::policy::v1;
use serde_json::Value;

use super::row::{Row, Sub, namespaced};
use crate::cells::{AGE, NAME, age, column, number, unquoted};
use crate::object::{at, integer, name};
use crate::problems::{Problems, number_or_percent};

pub(crate) const POD_DISRUPTION_BUDGET: Row = Row {
    short_names: &["pdb"],
    subresources: &[Sub::Status],
    columns: const {
        &[NAME, column("Min Available"), column("Max Unavailable"), number("Allowed Disruptions"), AGE]
    },
    cells: |object, now| {
        let shown = |path: &str| at(object, path).map_or_else(|| "N/A".to_owned(), unquoted).into();
        let allowed = integer(object, "status.disruptionsAllowed").unwrap_or(0).into();
        vec![
            name(object).into(),
            shown("spec.minAvailable"),
            shown("spec.maxUnavailable"),
            allowed,
            age(object, now),
        ]
    },
    validate: budget,
    ..namespaced::<v1::PodDisruptionBudget>(["policy", "v1"], "PodDisruptionBudget", "poddisruptionbudgets")
};

fn budget(object: &Value, problems: &mut Problems) {
    let (minimum, maximum) = (at(object, "spec.minAvailable"), at(object, "spec.maxUnavailable"));
    if minimum.is_some() && maximum.is_some() {
        let detail = "minAvailable and maxUnavailable cannot be both set";
        problems.invalid("spec", &object["spec"], detail);
    }
    for key in ["minAvailable", "maxUnavailable"] {
        number_or_percent(&object["spec"], "spec", key, problems);
    }
}
