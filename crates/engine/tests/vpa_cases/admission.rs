//! What a new pod gets.

use std::time::Duration;

use flyball_engine::vertical::{
    ContainerFacts, ContainerPolicy, ContainerRecommendation, ContainerResources, LimitRanges, More, NewPod,
    PatchOperation, PatchValue, Resources, StartupBoost, VerticalPolicy, VerticalRules, admission_patch,
    container_resources,
};
use serde_json::Value;

use crate::Case;
use crate::json::{container, flag, resources, text, values, whole};

pub(crate) fn check(case: &Case) -> Result<(), String> {
    match case.kind.as_str() {
        "container_resources" => {
            let input = &case.input;
            let target = (!input["target"].is_null()).then(|| resources(&input["target"]));
            let (got, _) = container_resources(
                &container(&input["container"]),
                target.as_ref(),
                values(&input["controlled_values"]),
                &resources(&input["default_limit"]),
                flag(&input["add_all"]),
            );
            case.same("requests", got.requests, resources(&case.expected["requests"]))?;
            case.same("limits", got.limits, resources(&case.expected["limits"]))
        }
        "startup_boost" => match boosted(&case.input) {
            Err(error) => case.same("error", error.as_str(), text(&case.expected["error"])),
            Ok(patch) => compare(case, &patch),
        },
        other => Err(format!("unknown kind {other}")),
    }
}

/// The patch of a pod with one container.
fn boosted(input: &Value) -> Result<Vec<PatchOperation>, String> {
    let millis = |name: &str| Resources::new(whole(&input[name]), None);
    let spec =
        ContainerResources { requests: millis("original_request_m"), limits: millis("original_limit_m") };
    let boost = &input["boost"];
    let factor = whole(&boost["factor"]).and_then(|factor| i32::try_from(factor).ok());
    let more =
        More::new(text(&boost["type"]), factor, whole(&boost["quantity_m"])).map_err(|e| e.to_string())?;
    let policy = ContainerPolicy {
        off: text(&input["container_mode"]) == "Off",
        values: values(&input["controlled_values"]),
        startup_boost: Some(StartupBoost { more, duration: Duration::ZERO }),
        ..ContainerPolicy::default()
    };
    let policy = VerticalPolicy { other_containers: policy, ..VerticalPolicy::default() };
    let rules = VerticalRules {
        startup_boost: flag(&input["feature_enabled"]),
        max_allowed_cpu_boost_millis: whole(&input["max_allowed_cpu_boost_m"]),
        ..VerticalRules::upstream()
    };
    let mut one = ContainerRecommendation::new("container");
    one.target = millis("recommended_request_m");
    let recommended = if one.target.is_empty() { vec![] } else { vec![one] };
    let containers = [ContainerFacts::new("container", spec)];
    let pod = NewPod { containers: &containers, has_annotations: true };
    Ok(admission_patch(&"vpa".into(), pod, &recommended, &policy, &LimitRanges::default(), &rules))
}

fn compare(case: &Case, patch: &[PatchOperation]) -> Result<(), String> {
    let found = |path: &str| {
        let operation = patch.iter().find(|operation| operation.path == path)?;
        match &operation.value {
            PatchValue::Text(text) => Some(text.as_str()),
            PatchValue::Object(_) => None,
        }
    };
    let millis = |path: &str| found(path).map(parse_millis);
    let request = millis("/spec/containers/0/resources/requests/cpu");
    let limit = millis("/spec/containers/0/resources/limits/cpu");
    let annotation = found("/metadata/annotations/vpaCpuStartupBoost~1container");
    let expected = &case.expected;
    if flag(&expected["no_patch"]) {
        return case.same("patch", (request, limit, annotation), (None, None, None));
    }
    case.same("request_m", request, whole(&expected["request_m"]))?;
    case.same("limit_m", limit, whole(&expected["limit_m"]))?;
    case.same("annotation", annotation, expected["annotation"].as_str())
}

fn parse_millis(quantity: &str) -> i64 {
    match quantity.strip_suffix('m') {
        Some(millis) => millis.parse().expect("millicores"),
        None => 1000 * quantity.parse::<i64>().expect("cores"),
    }
}
