//! The parts of an estimate, one by one.

use flyball_engine::vertical::{
    ContainerHistory, ContainerId, ContainerPolicy, EstimatorSettings, HalfLives, Recommender,
    RecommenderSettings, Resource, Resources, VerticalPolicy, VerticalRules, clamp_amount, confidence,
    cpu_from_cores, humanize_memory, integer_cpu, round_up, round_up_to_scale, scale_amount, stretch,
    with_margin,
};
use serde_json::{Value, json};

use crate::Case;
use crate::histograms::histogram;
use crate::json::{at, flag, float, list, number, resource, resources, seconds, text, whole};

pub(crate) fn check(case: &Case) -> Result<(), String> {
    let (input, expected) = (&case.input, &case.expected);
    let int = |name: &str| whole(&input[name]).unwrap_or(0);
    match case.kind.as_str() {
        "percentile_estimator" => {
            let value = histogram(&input["options"], &input["ops"]).percentile(float(&input["percentile"]));
            case.near("value", value, float(&expected["value"]))
        }
        "confidence_multiplier" => confidence_multiplier(case),
        "margin" => {
            let fraction = float(&input["fraction"]);
            amounts(case, |name| with_margin(int(name), fraction))
        }
        "min_resource" => {
            case.same("value", Some(int("value").max(int("minimum"))), whole(&expected["value"]))
        }
        "pod_minimum" => pod_minimum(case),
        "controlled_resources" => controlled(case),
        "recommendation_order" => order(case),
        "format_resources" => format(case),
        "humanize_memory" => {
            case.same("text", humanize_memory(int("bytes")).as_str(), text(&expected["text"]))
        }
        "round_up_to_scale" => {
            let rounded = round_up_to_scale(int("value"), int("scale"));
            case.same("error", rounded.is_none(), flag(&expected["error"]))?;
            case.same("value", Some(rounded.unwrap_or(int("value"))), whole(&expected["value"]))
        }
        "cpu_from_cores" => {
            case.same("cpu_m", Some(cpu_from_cores(float(&input["cores"]))), whole(&expected["cpu_m"]))
        }
        "scale_amount" => {
            let scaled = scale_amount(int("amount"), float(&input["factor"]));
            case.same("amount", Some(scaled), whole(&expected["amount"]))
        }
        "clamp_amount" => {
            case.same("amount", Some(clamp_amount(float(&input["amount"]))), whole(&expected["amount"]))
        }
        "integer_cpu" => case.same("cpu_m", Some(integer_cpu(int("cpu_m"))), whole(&expected["cpu_m"])),
        other => Err(format!("unknown kind {other}")),
    }
}

/// Compares both base amounts, as far as they are expected, after `change` of the input field of that name.
fn amounts(case: &Case, change: impl Fn(&str) -> i64) -> Result<(), String> {
    for (input, expected) in [("base_cpu_m", "cpu_m"), ("base_memory", "memory")] {
        if let Some(amount) = whole(&case.expected[expected]) {
            case.same(expected, change(input), amount)?;
        }
    }
    Ok(())
}

fn confidence_multiplier(case: &Case) -> Result<(), String> {
    let input = &case.input;
    let mut history = ContainerHistory::new(at(&json!(0)), HalfLives::default());
    for time in list(&input["cpu_sample_times_s"]) {
        history.add_cpu(at(time), 1000);
    }
    let confidence = confidence(&history, seconds(&input["confidence_interval_s"]));
    if let Some(expected) = case.expected["confidence"].as_f64() {
        case.near("confidence", confidence, expected)?;
    }
    let exponent = float(&input["exponent"]) as i32;
    amounts(case, |name| {
        stretch(whole(&input[name]).unwrap_or(0), confidence, float(&input["multiplier"]), exponent)
    })
}

fn pod_minimum(case: &Case) -> Result<(), String> {
    let input = &case.input;
    let settings = EstimatorSettings {
        pod_min_cpu_millis: float(&input["pod_min_cpu_m"]),
        pod_min_memory_mb: float(&input["pod_min_memory_mb"]),
        ..EstimatorSettings::default()
    };
    let containers = number(&input["containers"]);
    let at_least = |resource, estimate: &Value| {
        whole(estimate).map(|estimate| estimate.max(settings.container_minimum(resource, containers)))
    };
    let got = Resources::new(
        at_least(Resource::Cpu, &input["estimate_cpu_m"]),
        at_least(Resource::Memory, &input["estimate_memory"]),
    );
    case.same("minimum", got, resources(&case.expected))
}

fn controlled(case: &Case) -> Result<(), String> {
    let controlled = list(&case.input["controlled"]).iter().map(resource).collect();
    let policy = ContainerPolicy { controlled, ..ContainerPolicy::default() };
    let kept = policy.controlled_of(resources(&case.input["estimate"]));
    let names: Vec<&str> = kept.iter().map(|(resource, _)| resource.as_str()).collect();
    case.same("present", json!(names), case.expected["present"].clone())
}

fn order(case: &Case) -> Result<(), String> {
    let mut recommender = Recommender::new(RecommenderSettings::default());
    for name in list(&case.input["names"]) {
        let id = ContainerId::new("pod", text(name));
        recommender.cpu_used(&id, at(&json!(0)), 100).map_err(|_| "refused")?;
    }
    let recommended = recommender.recommend(&VerticalPolicy::default(), &VerticalRules::upstream());
    let names: Vec<&str> = recommended.iter().map(|one| one.container.as_str()).collect();
    case.same("order", json!(names), case.expected["order"].clone())
}

fn format(case: &Case) -> Result<(), String> {
    let input = &case.input;
    let scale = |name: &str| whole(&input[name]).unwrap_or(1);
    let rounded = round_up(resources(input), scale("round_cpu_m"), scale("round_memory"));
    case.same("cpu_m", rounded.cpu_millis, whole(&case.expected["cpu_m"]))?;
    let bytes = rounded.memory_bytes.unwrap_or(0);
    let memory = if flag(&input["humanize"]) { json!(humanize_memory(bytes)) } else { json!(bytes) };
    // A humanized zero is still a number.
    case.same(
        "memory",
        memory.to_string().replace('"', ""),
        case.expected["memory"].to_string().replace('"', ""),
    )
}
