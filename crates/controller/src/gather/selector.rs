//! Kubernetes' label selectors over an object's labels.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

/// Whether every requirement of `selector` holds. An empty selector matches everything.
pub(crate) fn matches(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    let pairs = selector.match_labels.iter().flatten().all(|(name, value)| labels.get(name) == Some(value));
    pairs
        && selector.match_expressions.iter().flatten().all(|requirement| {
            let value = labels.get(&requirement.key);
            let listed = value.is_some_and(|value| requirement.values.iter().flatten().any(|v| v == value));
            match requirement.operator.as_str() {
                "In" => listed,
                "NotIn" => !listed,
                "Exists" => value.is_some(),
                "DoesNotExist" => value.is_none(),
                _ => false,
            }
        })
}

/// Whether plain `key=value` pairs, such as a Service's selector, all hold. No pairs select nothing, as in a Service.
pub(crate) fn matches_pairs(pairs: &BTreeMap<String, String>, labels: &BTreeMap<String, String>) -> bool {
    !pairs.is_empty() && pairs.iter().all(|(name, value)| labels.get(name) == Some(value))
}
