//! LimitRanges: default resources of new pods, and the bounds they must respect.
//!
//! Rules, messages and the annotation are those of Kubernetes' LimitRanger plugin
//! (`plugin/pkg/admission/limitranger/admission.go`): defaults are applied before webhooks see the pod, bounds are
//! checked after them and again on a resize. The first violated LimitRange refuses the pod and lists all its
//! violations.

use serde_json::{Value, json};

use crate::object::{self, at, ensure, items_mut, list, map, text};
use crate::quantity::Quantity;

const ANNOTATION: &str = "kubernetes.io/limit-ranger";

/// Applies the namespace's default resources to a new pod.
pub(crate) fn apply_defaults(ranges: &[Value], pod: &mut Value) {
    for range in ranges {
        let mut filled = Vec::new();
        for limits in of_type(range, "Container") {
            for (key, what) in [("containers", "container"), ("initContainers", "init container")] {
                for container in items_mut(ensure(pod, "spec"), key) {
                    fill_in_container(limits, what, container, &mut filled);
                }
            }
        }
        if !filled.is_empty() {
            let note = format!("LimitRanger plugin set: {}", filled.join("; "));
            let annotations = ensure(ensure(pod, "metadata"), "annotations");
            annotations[ANNOTATION] = note.into();
        }
    }
}

fn fill_in_container(limits: &Value, what: &str, container: &mut Value, filled: &mut Vec<String>) {
    let name = object::text(container, "name").to_owned();
    for (key, word, defaults) in [("requests", "request", "defaultRequest"), ("limits", "limit", "default")] {
        let mut names = Vec::new();
        for (resource, amount) in map(limits, defaults).into_iter().flatten() {
            let amounts = ensure(ensure(container, "resources"), key);
            if amounts.get(resource).is_none_or(Value::is_null) {
                amounts[resource] = amount.clone();
                names.push(resource.as_str());
            }
        }
        if !names.is_empty() {
            names.sort_unstable();
            filled.push(format!("{} {word} for {what} {name}", names.join(", ")));
        }
    }
}

/// Returns the violations of the first LimitRange that the pod violates.
pub(crate) fn violation(ranges: &[Value], pod: &Value) -> Option<String> {
    ranges.iter().find_map(|range| {
        let mut problems = Vec::new();
        for limits in of_type(range, "Container") {
            let containers = list(pod, "spec.containers").iter().chain(list(pod, "spec.initContainers"));
            for container in containers {
                check(limits, "Container", &container["resources"], &mut problems);
            }
        }
        for limits in of_type(range, "Pod") {
            check(limits, "Pod", &totals(pod), &mut problems);
        }
        problems.dedup();
        match problems.as_slice() {
            [] => None,
            [one] => Some(one.clone()),
            several => Some(format!("[{}]", several.join(", "))),
        }
    })
}

fn of_type<'a>(range: &'a Value, kind: &'static str) -> impl Iterator<Item = &'a Value> {
    list(range, "spec.limits").iter().filter(move |limits| text(limits, "type") == kind)
}

fn check(limits: &Value, kind: &str, resources: &Value, problems: &mut Vec<String>) {
    let amount = |key: &str, resource: &str| at(resources, key)?.get(resource).and_then(quantity);
    let bounds = |key: &str| {
        let bounds = map(limits, key).into_iter().flatten();
        bounds.filter_map(|(resource, bound)| Some((resource.as_str(), quantity(bound)?))).collect::<Vec<_>>()
    };
    for (resource, min) in bounds("min") {
        let what = format!("minimum {resource} usage per {kind} is {min}");
        match (amount("requests", resource), amount("limits", resource)) {
            (None, _) => problems.push(format!("{what}.  No request is specified")),
            (Some(request), _) if request < min => problems.push(format!("{what}, but request is {request}")),
            (_, Some(limit)) if limit < min => problems.push(format!("{what}, but limit is {limit}")),
            _ => {}
        }
    }
    for (resource, max) in bounds("max") {
        let what = format!("maximum {resource} usage per {kind} is {max}");
        match (amount("limits", resource), amount("requests", resource)) {
            (None, _) => problems.push(format!("{what}.  No limit is specified")),
            (Some(limit), _) if limit > max => problems.push(format!("{what}, but limit is {limit}")),
            (_, Some(request)) if request > max => problems.push(format!("{what}, but request is {request}")),
            _ => {}
        }
    }
    for (resource, most) in bounds("maxLimitRequestRatio") {
        let what = format!("{resource} max limit to request ratio per {kind} is {most}");
        let set = |key: &str| amount(key, resource).filter(|amount| !amount.is_zero());
        match (set("requests"), set("limits")) {
            (None, _) => problems.push(format!("{what}, but no request is specified or request is 0")),
            (_, None) => problems.push(format!("{what}, but no limit is specified or limit is 0")),
            (Some(request), Some(limit)) => {
                let ratio = limit.as_f64() / request.as_f64();
                if ratio > most.as_f64() {
                    problems.push(format!("{what}, but provided ratio is {ratio:.6}"));
                }
            }
        }
    }
}

/// Returns the pod's total resources: the sum of its containers, or those of an init container where that is more.
fn totals(pod: &Value) -> Value {
    let mut totals = json!({});
    let stays = |container: &&Value| text(container, "restartPolicy") == "Always";
    let (sidecars, init): (Vec<&Value>, Vec<&Value>) =
        list(pod, "spec.initContainers").iter().partition(stays);
    let together: Vec<&Value> = list(pod, "spec.containers").iter().chain(sidecars).collect();
    for key in ["requests", "limits"] {
        let amounts = |container: &Value| -> Vec<(String, Quantity)> {
            let amounts = map(&container["resources"], key).into_iter().flatten();
            amounts.filter_map(|(resource, value)| Some((resource.clone(), quantity(value)?))).collect()
        };
        let mut sums: std::collections::BTreeMap<String, Quantity> = std::collections::BTreeMap::new();
        for (resource, amount) in together.iter().flat_map(|container| amounts(container)) {
            sums.entry(resource).and_modify(|sum| *sum = sum.plus(amount)).or_insert(amount);
        }
        for (resource, amount) in init.iter().flat_map(|container| amounts(container)) {
            sums.entry(resource)
                .and_modify(|sum| *sum = if amount > *sum { amount } else { *sum })
                .or_insert(amount);
        }
        for (resource, sum) in sums {
            ensure(&mut totals, key)[resource] = sum.to_string().into();
        }
    }
    totals
}

fn quantity(value: &Value) -> Option<Quantity> {
    Quantity::parse(value.as_str()?).ok()
}

/// Applies the defaults of a LimitRange itself (`SetDefaults_LimitRangeItem`): default limits default to the
/// maximum, default requests to the default limit, or else to the minimum.
pub(crate) fn apply_range_defaults(range: &mut Value) {
    for limits in items_mut(ensure(range, "spec"), "limits") {
        if text(limits, "type") != "Container" {
            continue;
        }
        for (from, to) in [("max", "default"), ("default", "defaultRequest"), ("min", "defaultRequest")] {
            for (resource, amount) in map(limits, from).cloned().into_iter().flatten() {
                object::default(ensure(limits, to), &resource, amount);
            }
        }
    }
}

/// Returns what is wrong with a LimitRange as (field, value, message) (`ValidateLimitRange`).
pub(crate) fn validate_range(range: &Value) -> Vec<(String, Value, String)> {
    let mut problems = Vec::new();
    for (index, limits) in list(range, "spec.limits").iter().enumerate() {
        let amount = |key: &str, resource: &str| at(limits, key)?.get(resource).and_then(quantity);
        let keys = ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"];
        let resources: std::collections::BTreeSet<&String> =
            keys.iter().filter_map(|key| map(limits, key)).flat_map(|amounts| amounts.keys()).collect();
        for resource in resources {
            let mut ordered = |low: &str, high: &str, field: &str, words: (&str, &str)| {
                let (Some(least), Some(most)) = (amount(low, resource), amount(high, resource)) else {
                    return;
                };
                if least > most {
                    let path = format!("spec.limits[{index}].{field}[{resource}]");
                    let why = format!("{} value {least} is greater than {} value {most}", words.0, words.1);
                    problems.push((path, least.to_string().into(), why));
                }
            };
            ordered("min", "max", "min", ("min", "max"));
            ordered("min", "defaultRequest", "defaultRequest", ("min", "default request"));
            ordered("defaultRequest", "max", "defaultRequest", ("default request", "max"));
            ordered("defaultRequest", "default", "defaultRequest", ("default request", "default limit"));
            ordered("min", "default", "default", ("min", "default"));
            ordered("default", "max", "default", ("default", "max"));
            if let Some(ratio) = amount("maxLimitRequestRatio", resource).filter(|ratio| ratio.as_f64() < 1.0)
            {
                let path = format!("spec.limits[{index}].maxLimitRequestRatio[{resource}]");
                problems.push((path, ratio.to_string().into(), format!("ratio {ratio} is less than 1")));
            }
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(limits: Value) -> Value {
        let mut range = json!({"spec": {"limits": [limits]}});
        apply_range_defaults(&mut range);
        range
    }

    fn pod(resources: &[Value]) -> Value {
        let containers: Vec<Value> = resources
            .iter()
            .enumerate()
            .map(|(index, resources)| json!({"name": format!("c{index}"), "resources": resources}))
            .collect();
        json!({"metadata": {"name": "p"}, "spec": {"containers": containers}})
    }

    #[test]
    fn a_pod_that_says_nothing_gets_the_defaults() {
        let range = range(json!({"type": "Container", "max": {"cpu": "1"}, "default": {"memory": "64Mi"},
            "defaultRequest": {"cpu": "100m"}}));
        let mut object =
            pod(&[json!({"limits": {"memory": "1Gi"}, "requests": {"memory": "1Gi"}}), json!({})]);
        apply_defaults(&[range], &mut object);
        assert_eq!(
            object["spec"]["containers"][0]["resources"],
            json!({"limits": {"memory": "1Gi", "cpu": "1"}, "requests": {"memory": "1Gi", "cpu": "100m"}})
        );
        assert_eq!(
            object["metadata"]["annotations"][ANNOTATION],
            "LimitRanger plugin set: cpu request for container c0; cpu limit for container c0; \
             cpu, memory request for container c1; cpu, memory limit for container c1"
        );
    }

    #[test]
    fn bounds_are_refused_in_kubernetes_words() {
        let check = |limits: Value, resources: &[Value], expected: Option<&str>| {
            assert_eq!(violation(&[range(limits)], &pod(resources)).as_deref(), expected, "{resources:?}");
        };
        let asks =
            |request: &str, limit: &str| json!({"requests": {"cpu": request}, "limits": {"cpu": limit}});
        let bounds = || json!({"type": "Container", "min": {"cpu": "100m"}, "max": {"cpu": "1"}});
        check(bounds(), &[asks("100m", "1")], None);
        check(
            bounds(),
            &[asks("99m", "1")],
            Some("minimum cpu usage per Container is 100m, but request is 99m"),
        );
        check(
            bounds(),
            &[asks("50m", "2"), json!({})],
            Some(
                "[minimum cpu usage per Container is 100m, but request is 50m, \
                 maximum cpu usage per Container is 1, but limit is 2, \
                 minimum cpu usage per Container is 100m.  No request is specified, \
                 maximum cpu usage per Container is 1.  No limit is specified]",
            ),
        );
        let ratio = || json!({"type": "Container", "maxLimitRequestRatio": {"cpu": "2"}});
        check(ratio(), &[asks("100m", "200m")], None);
        check(
            ratio(),
            &[asks("100m", "300m")],
            Some("cpu max limit to request ratio per Container is 2, but provided ratio is 3.000000"),
        );
        let whole = || json!({"type": "Pod", "max": {"cpu": "1"}});
        check(whole(), &[asks("100m", "500m"), asks("100m", "500m")], None);
        check(
            whole(),
            &[asks("100m", "500m"), asks("100m", "501m")],
            Some("maximum cpu usage per Pod is 1, but limit is 1001m"),
        );
    }

    #[test]
    fn a_range_that_contradicts_itself_is_told_so() {
        let found =
            validate_range(&range(json!({"type": "Container", "min": {"cpu": "2"}, "max": {"cpu": "1"},
            "maxLimitRequestRatio": {"memory": "500m"}})));
        let sentences: Vec<_> = found.iter().map(|(path, _, why)| format!("{path}: {why}")).collect();
        assert!(
            sentences.contains(&"spec.limits[0].min[cpu]: min value 2 is greater than max value 1".into())
        );
        assert!(
            sentences.contains(
                &"spec.limits[0].maxLimitRequestRatio[memory]: ratio 500m is less than 1".to_owned()
            )
        );
    }
}
