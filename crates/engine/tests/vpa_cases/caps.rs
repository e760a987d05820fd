//! Policies, LimitRanges and limits.

use flyball_engine::vertical::{
    ContainerResources, LimitRange, LimitRanges, PodShare, Resources, VerticalPolicy, VerticalRules, fit_pod,
    for_pod, for_status, proportional_limit,
};
use serde_json::{Value, json};

use crate::Case;
use crate::json::{
    containers, limit_range, list, policy, recommendation, recommendations, resource, resources, targets,
    text, whole,
};

pub(crate) fn check(case: &Case) -> Result<(), String> {
    match case.kind.as_str() {
        "policy_cap" => policy_cap(case),
        "integer_cpu_vpa" => integer_cpu(case),
        "pod_cap" => pod_cap(case),
        "pod_limit_range" => pod_limit_range(case),
        "limit_range_merge" => limit_range_merge(case),
        "proportional_limit" => limit(case),
        other => Err(format!("unknown kind {other}")),
    }
}

fn policy_cap(case: &Case) -> Result<(), String> {
    let vertical = VerticalPolicy { other_containers: policy(&case.input), ..VerticalPolicy::default() };
    let rules = VerticalRules {
        max_allowed: resources(&case.input["global_max_allowed"]),
        ..VerticalRules::upstream()
    };
    let capped = for_status(recommendation("container", &case.input["recommendation"]), &vertical, &rules);
    same(case, &capped, &case.expected)
}

/// Compares the parts that are expected.
fn same(
    case: &Case,
    got: &flyball_engine::vertical::ContainerRecommendation,
    expected: &Value,
) -> Result<(), String> {
    let parts = [
        ("target", got.target),
        ("lower_bound", got.lower_bound),
        ("upper_bound", got.upper_bound),
        ("uncapped_target", got.uncapped_target),
    ];
    let listed = parts.into_iter().filter(|(name, _)| !expected[*name].is_null());
    for (name, got) in listed {
        case.same(name, got, resources(&expected[name]))?;
    }
    Ok(())
}

fn integer_cpu(case: &Case) -> Result<(), String> {
    let integer_cpu =
        list(&case.input["annotated_containers"]).iter().map(|name| text(name).into()).collect();
    let vertical = VerticalPolicy { integer_cpu, ..VerticalPolicy::default() };
    for (name, cpu) in case.input["target_cpu_m"].as_object().into_iter().flatten() {
        let one = targets(&json!({ name: { "cpu_m": cpu } })).remove(0);
        let rounded = for_status(one, &vertical, &VerticalRules::upstream());
        case.same(name, rounded.target.cpu_millis, whole(&case.expected["target_cpu_m"][name]))?;
    }
    Ok(())
}

fn pod_cap(case: &Case) -> Result<(), String> {
    let input = &case.input;
    let other_containers = policy(&input["default_policy"]);
    let mut vertical = VerticalPolicy { other_containers, ..VerticalPolicy::default() };
    for (name, own) in input["policies"].as_object().into_iter().flatten() {
        vertical.containers.insert(name.as_str().into(), policy(own));
    }
    let range = |field: &str| (!input[field].is_null()).then(|| limit_range(&input[field]));
    let ranges = LimitRanges { container: range("container_limit_range"), pod: range("pod_limit_range") };
    let (recommended, containers) =
        (recommendations(&input["recommendations"]), containers(&input["containers"]));
    let capped = for_pod(&recommended, &containers, &vertical, &ranges, &VerticalRules::upstream());
    let expected = list(&case.expected["recommendations"]);
    case.same("containers", capped.len(), expected.len())?;
    for expected in expected {
        let name = text(&expected["name"]);
        let one = capped.iter().find(|one| one.container == *name).ok_or(format!("no {name}"))?;
        same(case, one, expected)?;
    }
    let noted = capped.iter().filter_map(|one| {
        let notes: Vec<String> = one.steps.iter().filter_map(|step| step.annotation()).collect();
        (!notes.is_empty()).then(|| (one.container.to_string(), json!(notes)))
    });
    case.same("annotations", Value::Object(noted.collect()), case.expected["annotations"].clone())
}

fn pod_limit_range(case: &Case) -> Result<(), String> {
    let input = &case.input;
    let kind = resource(&input["resource"]);
    let amount = |value: &Value| {
        let mut amounts = Resources::default();
        amounts.set(kind, whole(value));
        amounts
    };
    let range = LimitRange {
        min: amount(&input["min"]),
        max: amount(&input["max"]),
        default_limit: amount(&input["default"]),
    };
    let own = |name: &str| {
        let found = list(&input["containers"]).iter().find(|container| text(&container["name"]) == name)?;
        Some(ContainerResources { requests: amount(&found["request"]), limits: amount(&found["limit"]) })
    };
    let targets = list(&input["targets"]);
    let mut in_pod: Vec<_> = targets.iter().filter(|target| own(text(&target["name"])).is_some()).collect();
    let share = |target: &&Value| PodShare {
        own: own(text(&target["name"])).unwrap_or_default(),
        amount: whole(&target["value"]).unwrap_or(0),
    };
    let mut shares: Vec<PodShare> = in_pod.iter().map(share).collect();
    fit_pod(kind, &range, &mut shares);
    let mut fitted: Vec<(&str, i64)> = Vec::new();
    for target in targets {
        let name = text(&target["name"]);
        let amount = match in_pod.iter().position(|one| text(&one["name"]) == name) {
            Some(index) => {
                in_pod.remove(index);
                shares.remove(index).amount
            }
            None => whole(&target["value"]).unwrap_or(0),
        };
        fitted.push((name, amount));
    }
    let expected = list(&case.expected["targets"]).iter();
    let expected =
        expected.map(|target| (text(&target["name"]), whole(&target["value"]).unwrap_or(0))).collect();
    case.same("targets", fitted, expected)
}

fn limit_range_merge(case: &Case) -> Result<(), String> {
    let input = &case.input;
    let own = |item: &&Value| item["namespace"] == input["namespace"] && item["type"] == input["type"];
    let merged = LimitRange::merge(list(&input["items"]).iter().filter(own).map(limit_range));
    let expected = &case.expected["item"];
    case.same("item", merged, (!expected.is_null()).then(|| limit_range(expected)))
}

fn limit(case: &Case) -> Result<(), String> {
    let input = &case.input;
    let kind = resource(&input["resource"]);
    let amount = |name: &str| {
        let mut amounts = Resources::default();
        amounts.set(kind, whole(&input[name]));
        amounts
    };
    let original =
        ContainerResources { requests: amount("original_request"), limits: amount("original_limit") };
    let recommended = whole(&input["recommended_request"]).unwrap_or(0);
    let (limit, note) = proportional_limit(kind, &original, recommended, &amount("default_limit"));
    case.same("limit", limit, whole(&case.expected["limit"]))?;
    case.same("note", Some(note.is_some()), case.expected["note"].as_bool())
}
