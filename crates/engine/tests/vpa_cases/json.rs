//! The cases' JSON as the engine's types. What is absent is null.

use std::time::Duration;

use flyball_engine::Time;
use flyball_engine::vertical::{
    ContainerFacts, ContainerPolicy, ContainerRecommendation, ContainerResources, ControlledValues,
    LimitRange, Resource, Resources, UpdateMode,
};
use serde_json::Value;

/// Cases count seconds from their first sample, and some look back.
const START: i64 = 1_800_000_000;

pub(crate) fn at(seconds: &Value) -> Time {
    let seconds = (seconds.as_f64().expect("a time") * 1000.0).round() as i64;
    let absolute = if seconds > START * 500 { seconds } else { START * 1000 + seconds };
    Time::from_millis(u64::try_from(absolute).expect("after the epoch"))
}

pub(crate) fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

pub(crate) fn float(value: &Value) -> f64 {
    value.as_f64().unwrap_or_default()
}

/// A whole number, also when written as 25.0.
pub(crate) fn whole(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_f64().map(|float| float as i64))
}

pub(crate) fn number(value: &Value) -> u32 {
    whole(value).and_then(|whole| u32::try_from(whole).ok()).unwrap_or_default()
}

pub(crate) fn flag(value: &Value) -> bool {
    value.as_bool().unwrap_or_default()
}

pub(crate) fn seconds(value: &Value) -> Duration {
    Duration::from_secs_f64(float(value).max(0.0))
}

pub(crate) fn resource(name: &Value) -> Resource {
    if text(name) == "cpu" { Resource::Cpu } else { Resource::Memory }
}

/// `cpu_m` and `memory`; only the merge of LimitRanges counts `memory_milli`.
pub(crate) fn resources(value: &Value) -> Resources {
    let memory = whole(&value["memory"]).or_else(|| whole(&value["memory_milli"]));
    Resources::new(whole(&value["cpu_m"]), memory)
}

pub(crate) fn container(value: &Value) -> ContainerFacts {
    let pair = |requests: &str, limits: &str| ContainerResources {
        requests: resources(&value[requests]),
        limits: resources(&value[limits]),
    };
    let mut facts = ContainerFacts::new(text(&value["name"]), pair("requests", "limits"));
    let has_status = !value["status_requests"].is_null() || !value["status_limits"].is_null();
    facts.status = has_status.then(|| pair("status_requests", "status_limits"));
    facts
}

pub(crate) fn containers(value: &Value) -> Vec<ContainerFacts> {
    list(value).iter().map(container).collect()
}

pub(crate) fn recommendation(name: &str, value: &Value) -> ContainerRecommendation {
    let mut one = ContainerRecommendation::new(name);
    one.target = resources(&value["target"]);
    one.lower_bound = resources(&value["lower_bound"]);
    one.upper_bound = resources(&value["upper_bound"]);
    one.uncapped_target = resources(&value["uncapped_target"]);
    one
}

pub(crate) fn recommendations(value: &Value) -> Vec<ContainerRecommendation> {
    list(value).iter().map(|one| recommendation(text(&one["name"]), one)).collect()
}

/// `{container: targets}`.
pub(crate) fn targets(value: &Value) -> Vec<ContainerRecommendation> {
    let targets = value.as_object().into_iter().flatten();
    let one = |(name, target)| {
        let mut one = ContainerRecommendation::new(String::as_str(name));
        one.target = resources(target);
        one
    };
    targets.map(one).collect()
}

pub(crate) fn values(value: &Value) -> ControlledValues {
    match text(value) {
        "RequestsOnly" => ControlledValues::RequestsOnly,
        _ => ControlledValues::RequestsAndLimits,
    }
}

pub(crate) fn policy(value: &Value) -> ContainerPolicy {
    ContainerPolicy {
        off: text(&value["mode"]) == "Off",
        min_allowed: resources(&value["min_allowed"]),
        max_allowed: resources(&value["max_allowed"]),
        values: values(&value["controlled_values"]),
        ..ContainerPolicy::default()
    }
}

pub(crate) fn limit_range(value: &Value) -> LimitRange {
    LimitRange {
        min: resources(&value["min"]),
        max: resources(&value["max"]),
        default_limit: resources(&value["default"]),
    }
}

pub(crate) fn mode(value: &Value) -> UpdateMode {
    match text(value) {
        "Off" => UpdateMode::Off,
        "Initial" => UpdateMode::Initial,
        "InPlace" => UpdateMode::InPlace,
        "InPlaceOrRecreate" => UpdateMode::InPlaceOrRecreate,
        _ => UpdateMode::Recreate,
    }
}
