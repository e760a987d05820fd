//! Who is changed, when and how.

use std::time::Duration;

use flyball_engine::vertical::{
    Attempts, ChangeRequirement, Configured, ContainerFacts, ContainerPolicy, ContainerRecommendation,
    ContainerResources, EvictionRequirement, Group, InPlace, Outside, PodFacts, Priority, Resize, Resizing,
    Resource, Resources, Termination, UpdateReason, VerticalPolicy, VerticalRules, accept, decide,
    has_lower_target, observed_containers, requirements_hold,
};
use flyball_engine::{Name, Time};
use serde_json::{Value, json};

use crate::Case;
use crate::json::{
    containers, flag, float, list, mode, number, recommendations, resource, resources, seconds, targets, text,
};

/// Late enough that "long ago" in the cases is still after the epoch.
const NOW: Time = Time::from_seconds(20_000_000_000);

pub(crate) fn check(case: &Case) -> Result<(), String> {
    let (input, expected) = (&case.input, &case.expected);
    match case.kind.as_str() {
        "update_priority" => update_priority(case),
        "priority_less" => {
            let [a, b] = ["a", "b"].map(|name| priority(&input[name]));
            case.same("a_less_b", b.cmp_urgency(&a).is_lt(), flag(&expected["a_less_b"]))?;
            case.same("b_less_a", a.cmp_urgency(&b).is_lt(), flag(&expected["b_less_a"]))
        }
        "priority_order" => {
            let mut pods: Vec<_> =
                list(&input["pods"]).iter().map(|pod| (priority(pod), text(&pod["name"]))).collect();
            pods.sort_by(|a, b| a.0.cmp_urgency(&b.0));
            let order: Vec<&str> = pods.into_iter().map(|(_, name)| name).collect();
            case.same("order", json!(order), expected["order"].clone())
        }
        "update_accept" => update_accept(case),
        "has_lower_target" => {
            let [last, new] = ["last_attempt", "new"].map(|name| attempt(&targets(&input[name])));
            case.same("lower", has_lower_target(&last, &new), flag(&expected["lower"]))
        }
        "infeasible_gate" => {
            let (last, current) = attempts(input);
            let attempts = Attempts { infeasible: last.as_deref(), current: &current };
            let queued = !attempts.would_fail(mode(&input["update_mode"]));
            case.same("queued", queued, flag(&expected["queued"]))
        }
        "eviction_requirements" => eviction_requirements(case),
        "eviction_budget" => eviction_budget(case),
        "in_place_decision" => in_place_decision(case),
        other => Err(format!("unknown kind {other}")),
    }
}

fn outside() -> Outside {
    Outside { container: "container".into(), resource: Resource::Cpu, request: None, bounds: (None, None) }
}

fn priority(value: &Value) -> Priority {
    Priority {
        outside: flag(&value["outside_recommended_range"]).then(outside),
        scale_up: flag(&value["scale_up"]),
        more_memory: false,
        resource_diff: float(&value["resource_diff"]),
    }
}

/// What was tried, or would be.
type Attempted = Vec<(Name, Resources)>;

fn attempt(recommended: &[ContainerRecommendation]) -> Attempted {
    recommended.iter().map(|one| (one.container.clone(), one.target)).collect()
}

/// `last_infeasible` and `current`, of one container.
fn attempts(input: &Value) -> (Option<Attempted>, Attempted) {
    let one = |value: &Value| vec![("container".into(), resources(value))];
    let last = &input["last_infeasible"];
    ((!last.is_null()).then(|| one(last)), one(&input["current"]))
}

fn update_priority(case: &Case) -> Result<(), String> {
    let mut pod = PodFacts::new("pod", containers(&case.input["containers"]));
    pod.observed = case.input["observed_containers_annotation"].as_str().and_then(observed_containers);
    let priority = Priority::of(&pod, &recommendations(&case.input["recommendations"]));
    let expected = &case.expected;
    case.near("resource_diff", priority.resource_diff, float(&expected["resource_diff"]))?;
    if let Some(outside) = expected["outside_recommended_range"].as_bool() {
        case.same("outside_recommended_range", priority.outside.is_some(), outside)?;
    }
    match expected["scale_up"].as_bool() {
        Some(scale_up) => case.same("scale_up", priority.scale_up, scale_up),
        None => Ok(()),
    }
}

fn update_accept(case: &Case) -> Result<(), String> {
    let input = &case.input;
    let rules = VerticalRules {
        pod_update_threshold: float(&input["min_change"]),
        lifetime_threshold: seconds(&input["lifetime_threshold_s"]),
        evict_after_oom: seconds(&input["evict_after_oom_s"]),
        ..VerticalRules::upstream()
    };
    let off = text(&input["container_mode"]) == "Off";
    let other_containers = ContainerPolicy { off, ..ContainerPolicy::default() };
    let policy = VerticalPolicy { other_containers, ..VerticalPolicy::default() };
    let mut container = ContainerFacts::new("container", ContainerResources::default());
    let last = &input["last_termination"];
    container.last_termination = (!last.is_null()).then(|| Termination {
        oom_killed: text(&last["reason"]) == "OOMKilled",
        ran_for: seconds(&last["ran_for_s"]),
    });
    let mut pod = PodFacts::new("pod", vec![container]);
    pod.started = input["pod_age_s"].as_f64().map(|age| NOW - Duration::from_secs_f64(age));
    pod.observed = input["container_listed_as_observed"]
        .as_bool()
        .map(|listed| if listed { vec!["container".into()] } else { Vec::new() });
    let accepted = accept(NOW, &pod, &priority(input), &policy, &rules).is_ok();
    case.same("accepted", accepted, flag(&case.expected["accepted"]))
}

fn eviction_requirements(case: &Case) -> Result<(), String> {
    let input = &case.input;
    let requirement = |value: &Value| EvictionRequirement {
        resources: list(&value["resources"]).iter().map(resource).collect(),
        change: match text(&value["change"]) {
            "TargetLowerThanRequests" => ChangeRequirement::TargetLowerThanRequests,
            _ => ChangeRequirement::TargetHigherThanRequests,
        },
    };
    let pod = PodFacts::new("pod", containers(&input["containers"]));
    let requirements: Vec<_> = list(&input["requirements"]).iter().map(requirement).collect();
    let admitted = input["requirements"].is_null()
        || requirements_hold(&pod, &targets(&input["targets"]), &requirements);
    case.same("admitted", admitted, flag(&case.expected["admitted"]))
}

fn resizing(status: &Value, since: Time) -> Option<Resize> {
    let state = match status.as_str()? {
        "Deferred" => Resizing::Deferred,
        "Infeasible" => Resizing::Infeasible,
        "InProgress" => Resizing::InProgress,
        "Error" => Resizing::Error,
        _ => Resizing::Unknown,
    };
    Some(Resize { state, since })
}

fn rules(input: &Value) -> VerticalRules {
    VerticalRules {
        min_replicas: number(&input["min_replicas"]),
        eviction_tolerance: float(&input["eviction_tolerance"]),
        in_place_skip_disruption_budget: flag(&input["skip_disruption_budget"]),
        ..VerticalRules::upstream()
    }
}

fn pod(value: &Value, index: usize) -> PodFacts {
    let mut pod = PodFacts::new(format!("pod-{index}"), Vec::new());
    pod.pending = text(&value["phase"]) == "Pending";
    pod.resize = resizing(&value["resize"], NOW);
    if flag(&value["boosted"]) {
        let original = ContainerResources::default();
        pod.boosted.push(flyball_engine::vertical::Boosted { container: "container".into(), original });
    }
    pod
}

fn eviction_budget(case: &Case) -> Result<(), String> {
    let input = &case.input;
    let policy = VerticalPolicy { mode: mode(&input["update_mode"]), ..VerticalPolicy::default() };
    let pods: Vec<PodFacts> =
        list(&input["pods"]).iter().enumerate().map(|(index, one)| pod(one, index)).collect();
    let configured = match text(&input["owner_kind"]) {
        "Job" => Configured::Live,
        _ => Configured::Replicas(number(&input["configured_replicas"])),
    };
    let group = Group::new(configured, &pods.iter().collect::<Vec<_>>(), &policy, &rules(input));
    let may = |group: &Result<Group, UpdateReason>, pod| {
        group.as_ref().is_ok_and(|group| group.may_evict(NOW, pod, &policy).is_ok())
    };
    let before: Vec<bool> = pods.iter().map(|pod| may(&group, pod)).collect();
    case.same("can_evict_before", json!(before), case.expected["can_evict_before"].clone())?;
    let mut group = group;
    let mut evict = |pod| {
        let evicted = may(&group, pod);
        if let (true, Ok(group)) = (evicted, &mut group) {
            group.disrupt(pod);
        }
        evicted
    };
    let evicted: Vec<bool> = pods.iter().map(&mut evict).collect();
    case.same("evict_in_order", json!(evicted), case.expected["evict_in_order"].clone())
}

fn in_place_decision(case: &Case) -> Result<(), String> {
    let input = &case.input;
    let (configured, running) = (number(&input["configured_replicas"]), number(&input["running_pods"]));
    let mut pods: Vec<PodFacts> = (0..running).map(|index| pod(&Value::Null, index as usize)).collect();
    let since = NOW - seconds(&input["seconds_since_first_seen_resizing"]);
    if let Some(first) = pods.first_mut() {
        first.resize = resizing(&input["resize_status"], since);
        first.pending = flag(&input["pending"]);
    }
    let policy = VerticalPolicy { mode: mode(&input["update_mode"]), ..VerticalPolicy::default() };
    let rules = rules(input);
    let group =
        Group::new(Configured::Replicas(configured), &pods.iter().collect::<Vec<_>>(), &policy, &rules);
    let (last, current) = attempts(input);
    let attempts = Attempts { infeasible: last.as_deref(), current: &current };
    let attempts = flag(&input["has_recommendation"]).then_some(attempts);
    let first = pods.first().ok_or("no pod")?;
    let group = group.as_ref().map_err(Clone::clone);
    let (decision, _) = decide(NOW, policy.mode, first, group, attempts, &rules);
    let decision = match decision {
        InPlace::Approved => "Approved",
        InPlace::Deferred => "Deferred",
        InPlace::Evict => "Evict",
        InPlace::Infeasible => "Infeasible",
        InPlace::InfeasibleCached => "InfeasibleCached",
    };
    case.same("decision", decision, text(&case.expected["decision"]))
}
