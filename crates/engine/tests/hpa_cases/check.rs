//! One check for each kind of case.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use flyball_engine::{
    Behavior, ConditionType, CurrentMetric, Decision, Memory, Metric, MetricSource, MetricTarget, Metrics,
    Milli, Name, NoBehavior, Observation, PodGroup, PodValue, Policy, Reading, Reason, Rules, Sampled,
    Selector, Stage, Written, ZeroRule,
};
use serde_json::{Value, json};

use crate::case::{self, Case};
use crate::world::{self, NOW, World, target};

type Checked = Result<(), String>;

pub(crate) fn check(case: &Case) -> Checked {
    match case.kind.as_str() {
        "resource_utilization" => resource_utilization(case),
        "pods_metric" => pods_metric(case),
        "object_value" => total(case, "Object", true),
        "object_average" => total(case, "Object", false),
        "external_value" => total(case, "External", true),
        "external_average" => total(case, "External", false),
        "per_pod_usage" => per_pod_usage(case),
        "group_pods" => group_pods(case),
        "pod_requests" => pod_requests(case),
        "legacy_stabilize" => legacy_stabilize(case),
        "legacy_limits" => legacy_limits(case),
        "behavior_stabilize" => behavior_stabilize(case),
        "behavior_rate" => behavior_rate(case),
        "rule_limit" => rule_limit(case),
        "store_event" => store_event(case),
        "status_quantity" => status_quantity(case),
        "reconcile" => reconcile(case),
        other => Err(format!("unknown kind {other}")),
    }
}

fn same<T: PartialEq + Debug>(what: &str, found: T, expected: T) -> Checked {
    if found == expected { Ok(()) } else { Err(format!("{what}: found {found:?}, expected {expected:?}")) }
}

/// Compares one by one what the case expects; `found` must have an answer to everything.
fn same_fields(case: &Case, found: &Value) -> Checked {
    let expected = case.expected.as_object().ok_or("expected is not an object")?;
    for (field, expected) in expected {
        let found = found.get(field).ok_or_else(|| format!("nothing to compare `{field}` with"))?;
        same(field, found, expected)?;
    }
    Ok(())
}

fn error_of(decision: &Decision) -> Option<String> {
    decision.proposals.iter().find_map(|proposal| match &proposal.reason {
        Reason::MetricUnavailable(unavailable) => Some(unavailable.cause.to_string()),
        _ => None,
    })
}

/// Decides by one metric and compares its proposal.
fn metric(case: &Case, input: &case::Metric, policy: Policy, reading: Reading) -> Checked {
    let resource = input.resource.as_deref().unwrap_or("cpu");
    let replicas = input.current_replicas;
    // Without history, so that the proposal is all that is looked at.
    let mut world =
        World::new(policy, Memory::default(), (replicas, replicas), world::pods(&input.pods, resource));
    world.read("metric", reading);
    let decision = world.decide()?;
    if let Some(part) = case.expected.get("error_contains").and_then(Value::as_str) {
        let error = error_of(&decision).ok_or_else(|| format!("no error: {decision}"))?;
        return if error.contains(part) {
            Ok(())
        } else {
            Err(format!("found {error:?}, expected {part:?}"))
        };
    }
    let proposal = decision.proposals.first().ok_or("no proposal")?;
    let mut found = json!({ "replicas": proposal.replicas });
    match proposal.current {
        Some(CurrentMetric::Utilization { percent, average }) => {
            found["utilization_pct"] = percent.into();
            found["raw_average_milli"] = average.get().into();
        }
        Some(CurrentMetric::AverageValue(average)) => {
            found["average_milli"] = average.get().into();
            found["status_milli"] = average.get().into();
        }
        Some(CurrentMetric::Value(value)) => found["status_milli"] = value.get().into(),
        None => {}
    }
    same_fields(case, &found).map_err(|difference| format!("{difference}\n  {decision}"))
}

fn resource_utilization(case: &Case) -> Checked {
    let input: case::Metric = case.input()?;
    let container = input.container.as_deref();
    let source = world::source("Resource", input.resource.as_deref(), container);
    let wanted = MetricTarget::Utilization(input.target_utilization_pct);
    let policy = world::policy_of(source, wanted, any_size(input.tolerance))?;
    metric(case, &input, policy, world::per_pod(&input.metrics, container))
}

fn pods_metric(case: &Case) -> Checked {
    let input: case::Metric = case.input()?;
    let wanted = MetricTarget::AverageValue(Milli::new(input.target_average_milli));
    let policy = world::policy_of(world::source("Pods", None, None), wanted, any_size(input.tolerance))?;
    metric(case, &input, policy, world::per_pod(&input.metrics, None))
}

fn total(case: &Case, kind: &str, by_value: bool) -> Checked {
    let input: case::Metric = case.input()?;
    let amount = Milli::new(input.target_milli);
    let wanted = if by_value { MetricTarget::Value(amount) } else { MetricTarget::AverageValue(amount) };
    let policy = world::policy_of(world::source(kind, None, None), wanted, any_size(input.tolerance))?;
    metric(case, &input, policy, world::total(&input.values_milli))
}

/// The calculator is also asked about targets at zero, which the whole loop would leave alone.
fn any_size(tolerance: case::Tolerance) -> Rules {
    Rules { zero: ZeroRule::OneLoop, ..world::rules(tolerance) }
}

fn per_pod_usage(case: &Case) -> Checked {
    let input: case::PerPodUsage = case.input()?;
    let wanted = MetricTarget::AverageValue(Milli::new(1000));
    let tolerance = case::Tolerance { down: 0.1, up: 0.1 };
    let policy = world::policy_of(world::source("External", None, None), wanted, any_size(tolerance))?;
    let mut world =
        World::new(policy, Memory::default(), (input.status_replicas, input.status_replicas), Vec::new());
    world.read("metric", world::total(&[input.usage_milli]));
    let decision = world.decide()?;
    match decision.proposals.first().and_then(|proposal| proposal.current) {
        Some(CurrentMetric::AverageValue(average)) => {
            same_fields(case, &json!({ "status_milli": average.get() }))
        }
        other => Err(format!("found {other:?}")),
    }
}

fn group_pods(case: &Case) -> Checked {
    let input: case::GroupPods = case.input()?;
    let rules = Rules {
        cpu_initialization: Duration::from_secs(input.cpu_initialization_period_s),
        initial_readiness_delay: Duration::from_secs(input.initial_readiness_delay_s),
        ..Rules::hpa()
    };
    let Reading::PerPod { values, .. } = world::per_pod(&input.metrics, None) else {
        return Err("no values".into());
    };
    let sampled = |name: &Name| {
        let own: Option<&PodValue> = values.iter().find(|own| own.pod == *name);
        own.map(|own| Sampled { at: own.at, window: own.window, starting: own.starting })
    };
    let mut groups: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for pod in world::pods(&input.pods, &input.resource) {
        let group = match pod.group(NOW, input.resource == "cpu", sampled(&pod.name), &rules) {
            PodGroup::Ignored => "ignored",
            PodGroup::Unready | PodGroup::Starting => "unready",
            PodGroup::Missing => "missing",
            PodGroup::Ready => "ready",
        };
        groups.entry(group).or_default().push(pod.name.to_string());
    }
    let mut names = |group: &str| {
        let mut names = groups.remove(group).unwrap_or_default();
        names.sort();
        names
    };
    let ready_count = names("ready").len();
    let mut expected = case.expected.clone();
    for group in ["unready", "missing", "ignored"] {
        if let Some(list) = expected[group].as_array_mut() {
            list.sort_by_key(ToString::to_string);
        }
    }
    let found = json!({
        "ready_count": ready_count,
        "unready": names("unready"), "missing": names("missing"), "ignored": names("ignored"),
    });
    same("groups", found, expected)
}

fn pod_requests(case: &Case) -> Checked {
    let input: case::PodRequests = case.input()?;
    let (resource, container) =
        (Name::from(input.resource.as_str()), input.container.as_deref().map(Name::from));
    let requests: Result<BTreeMap<String, i64>, String> = input
        .pods
        .iter()
        .map(|own| {
            let mut pod = world::pod(own, &input.resource);
            if let Some(milli) = own.pod_level_request_milli.filter(|_| input.pod_level_resources_enabled) {
                pod.requests.pod.insert(resource.clone(), Milli::new(milli));
            }
            let request = pod.request(&resource, container.as_ref())?;
            Ok((own.name.clone(), request.get()))
        })
        .collect();
    match requests {
        Ok(requests) => same_fields(case, &json!({ "requests_milli": requests })),
        Err(error) => same_fields(case, &json!({ "error": error })),
    }
}

/// Wishes for `desired` replicas with this history, and looks at what becomes of it.
fn wish(
    input: &case::Wish,
    desired: u32,
    behavior: Option<Behavior>,
    rules: Rules,
) -> Result<(Decision, Memory), String> {
    let (min, max) = (input.min.unwrap_or(0), input.max.unwrap_or(i32::MAX.unsigned_abs()));
    let policy = Policy { behavior, ..world::policy_of_wish(min, max, rules)? };
    let memory = Memory {
        recommendations: Some(world::recommendations(&input.recommendations)),
        scale_ups: world::events(&input.scale_up_events),
        scale_downs: world::events(&input.scale_down_events),
        ..Memory::default()
    };
    let mut world = World::new(policy, memory, (input.current, input.current), Vec::new());
    world.read("metric", world::wish(desired));
    Ok((world.decide()?, world.memory()))
}

/// The replicas after a stage.
fn after(decision: &Decision, stage: Stage) -> u32 {
    let until = decision.steps.iter().take_while(|step| step.stage <= stage);
    until.last().map_or(decision.current, |step| step.to)
}

fn limit_reason(decision: &Decision) -> &'static str {
    let conditions = decision.hpa_conditions(Written::Nothing, None);
    let limited = conditions.iter().find(|c| c.condition_type == ConditionType::ScalingLimited);
    limited.map_or("", |condition| condition.reason)
}

/// The list of recommendations is the original's only under its own rule for zero, which wants a target that is not
/// there yet.
fn hpa_rules() -> Rules {
    Rules { zero: ZeroRule::Hpa { scale_to_zero: false }, ..Rules::hpa() }
}

fn legacy_stabilize(case: &Case) -> Checked {
    let input: case::Wish = case.input()?;
    let desired = input.desired.ok_or("no desired")?;
    let rules = Rules { downscale_stabilization: Duration::from_secs(input.window_s), ..hpa_rules() };
    // From the wish itself, since the original's function does not ask for the current replicas.
    let input = case::Wish { current: desired.max(1), ..input };
    let (decision, memory) = stabilized_by_hpa(&input, desired, None, rules)?;
    let log_length = memory.recommendations.map_or(0, |log| log.list().len());
    same_fields(case, &json!({ "stabilized": after(&decision, Stage::Stabilize), "log_length": log_length }))
}

fn behavior_stabilize(case: &Case) -> Checked {
    let input: case::Wish = case.input()?;
    let desired = input.desired.ok_or("no desired")?;
    let behavior = world::windows(input.scale_up_window_s, input.scale_down_window_s)?;
    let (decision, memory) = stabilized_by_hpa(&input, desired, Some(behavior), hpa_rules())?;
    let list = memory.recommendations.unwrap_or_default();
    let replicas: Vec<u32> = list.list().iter().map(|r| r.replicas).collect();
    let mut found =
        json!({ "stabilized": after(&decision, Stage::Stabilize), "recommendations_after": replicas });
    // Null is not asserted.
    if let (Some(expected), Some(found)) =
        (case.expected["recommendations_after"].as_array(), found["recommendations_after"].as_array_mut())
    {
        for (expected, found) in expected.iter().zip(found) {
            if expected.is_null() {
                *found = Value::Null;
            }
        }
    }
    if case.expected["recommendations_after"].is_null() {
        found["recommendations_after"] = Value::Null;
    }
    same_fields(case, &found)
}

/// As `wish`, with the list of recommendations kept as the original keeps it.
fn stabilized_by_hpa(
    input: &case::Wish,
    desired: u32,
    behavior: Option<Behavior>,
    rules: Rules,
) -> Result<(Decision, Memory), String> {
    let mut policy = world::policy_of_wish(0, i32::MAX.unsigned_abs(), rules)?;
    policy.rules.zero = rules.zero;
    policy.behavior = behavior;
    let recommendations = Some(world::recommendations(&input.recommendations));
    let memory = Memory { recommendations, ..Memory::default() };
    let mut world = World::new(policy, memory, (input.current, input.current), Vec::new());
    world.read("metric", world::wish(desired));
    Ok((world.decide()?, world.memory()))
}

fn legacy_limits(case: &Case) -> Checked {
    let input: case::Wish = case.input()?;
    let no_behavior = world::legacy(input.scale_up_limit_factor, input.scale_up_limit_minimum);
    let rules = Rules { no_behavior, ..hpa_rules() };
    let (decision, _) = wish(&input, input.desired.ok_or("no desired")?, None, rules)?;
    same_fields(case, &json!({ "replicas": decision.desired, "reason": limit_reason(&decision) }))
        .map_err(|difference| format!("{difference}\n  {decision}"))
}

/// The rules of one direction without a window: what they get is stabilized already.
fn unstabilized(rules: &case::Rules) -> Result<flyball_engine::ScalingRules, String> {
    let rules = world::scaling_rules(rules, true)?;
    flyball_engine::ScalingRules::new(Some(Duration::ZERO), rules.select(), rules.policies().to_vec(), None)
        .map_err(|e| e.to_string())
}

fn behavior_rate(case: &Case) -> Checked {
    let input: case::Wish = case.input()?;
    let (Some(up), Some(down)) = (&input.scale_up, &input.scale_down) else { return Err("no rules".into()) };
    let behavior = Behavior { scale_up: unstabilized(up)?, scale_down: unstabilized(down)? };
    let (decision, _) = wish(&input, input.desired.ok_or("no desired")?, Some(behavior), hpa_rules())?;
    same_fields(case, &json!({ "replicas": decision.desired, "reason": limit_reason(&decision) }))
        .map_err(|difference| format!("{difference}\n  {decision}"))
}

fn rule_limit(case: &Case) -> Checked {
    let input: case::Wish = case.input()?;
    let rules = unstabilized(input.rules.as_ref().ok_or("no rules")?)?;
    let behavior = Behavior { scale_up: rules.clone(), scale_down: rules };
    let desired = if input.direction == "up" { i32::MAX.unsigned_abs() } else { 0 };
    let (decision, _) = wish(&input, desired, Some(behavior), hpa_rules())?;
    same_fields(case, &json!({ "limit": decision.desired }))
}

fn store_event(case: &Case) -> Checked {
    let input: case::StoreEvent = case.input()?;
    let behavior = match &input.rules {
        Some(rules) => {
            let rules = world::scaling_rules(rules, true)?;
            Some(Behavior { scale_up: rules.clone(), scale_down: rules })
        }
        None => None,
    };
    let no_behavior = NoBehavior::Legacy { factor: 2.0, minimum: 4.0 };
    for up in [true, false] {
        let events = world::events(&input.events);
        let before = events.change_in(NOW, Duration::from_secs(input.query_period_s));
        let policy = world::policy_of_wish(0, 1000, Rules { no_behavior, ..hpa_rules() })?;
        let memory = Memory { scale_ups: events.clone(), scale_downs: events, ..Memory::default() };
        let mut world =
            World::new(Policy { behavior: behavior.clone(), ..policy }, memory, (100, 100), Vec::new());
        let to = if up { 100 + input.replica_change } else { 100 - input.replica_change };
        world.observe(Observation::Rescaled { target: target(), from: 100, to, error: None });
        let memory = world.memory();
        let stored = if up { memory.scale_ups } else { memory.scale_downs };
        let after: Vec<Value> =
            stored.list().iter().map(|e| json!({ "change": e.change, "outdated": e.outdated })).collect();
        same_fields(case, &json!({ "change_in_period_before": before, "events_after": after }))?;
    }
    Ok(())
}

fn status_quantity(case: &Case) -> Checked {
    let input: case::StatusQuantity = case.input()?;
    let source = MetricSource::Resource { resource: input.resource.as_str().into() };
    same_fields(case, &json!({ "value_milli": input.raw_milli, "format": source.quantity_format() }))
}

fn reconcile(case: &Case) -> Checked {
    let input: case::Reconcile = case.input()?;
    let gate = |name: &str| input.feature_gates.get(name).copied();
    let scale_to_zero = gate("HPAScaleToZero").unwrap_or(false);
    let mut policy = Policy::new(world::bounds(input.min, input.max)?, metrics(&input)?);
    policy.rules = Rules { zero: ZeroRule::Hpa { scale_to_zero }, ..world::rules(input.tolerance) };
    if let Some(behavior) = &input.behavior {
        let with_tolerance = gate("HPAConfigurableTolerance").unwrap_or(true);
        policy.behavior = Some(Behavior {
            scale_up: world::scaling_rules(&behavior.scale_up, with_tolerance)?,
            scale_down: world::scaling_rules(&behavior.scale_down, with_tolerance)?,
        });
    }
    let memory = Memory {
        recommendations: input.recommendations.as_deref().map(world::recommendations),
        scaled_to_zero: input.initial_conditions.get("ScaledToZero").map(|(status, _)| status == "True"),
        ..Memory::default()
    };
    let mut world = World::new(
        policy,
        memory,
        (input.spec_replicas, input.status_replicas),
        world::pods(&input.pods, "cpu"),
    );
    world.scale(input.spec_replicas, input.status_replicas, selector(&input.selector));
    for (index, metric) in input.metrics.iter().enumerate() {
        world.read(&index.to_string(), reading(&input, metric));
    }
    let decision = world.decide()?;
    compare(case, &input, &mut world, &decision, scale_to_zero)
        .map_err(|difference| format!("{difference}\n  {decision}"))
}

fn compare(
    case: &Case,
    input: &case::Reconcile,
    world: &mut World,
    decision: &Decision,
    scale_to_zero: bool,
) -> Checked {
    let written = if decision.rescales() { Written::Rescaled } else { Written::Nothing };
    if decision.rescales() {
        let (from, to) = (decision.current, decision.desired);
        world.observe(Observation::Rescaled { target: target(), from, to, error: None });
    }
    let mut conditions: BTreeMap<String, (String, String)> = input.initial_conditions.clone();
    if !scale_to_zero {
        conditions.remove("ScaledToZero");
    }
    let memory = world.memory();
    for condition in decision.hpa_conditions(written, Some(&memory)) {
        let status = if condition.status { "True" } else { "False" };
        let kind = condition.condition_type.as_str().to_owned();
        conditions.insert(kind, (status.to_owned(), condition.reason.to_owned()));
    }
    let disabled = decision.steps.iter().any(|step| step.reason == Reason::ScalingDisabled);
    let stopped = decision.steps[0].stage == Stage::Recommend && !decision.follows_metrics() && !disabled;
    let found = json!({
        "desired": decision.desired,
        "scale_updated": decision.rescales(),
        "error": stopped || error_of(decision).is_some(),
        "conditions": conditions,
    });
    same_fields(case, &found)?;
    match &case.expected_event {
        Some(expected) => {
            let reason = decision.rescale_reason(|name| sentence_name(input, name));
            same(
                "event",
                format!("SuccessfulRescale: New size: {}; reason: {reason}", decision.desired),
                expected.clone(),
            )
        }
        None => Ok(()),
    }
}

fn metrics(input: &case::Reconcile) -> Result<Metrics, String> {
    let metric = |(index, spec): (usize, &case::MetricSpec)| {
        let source = world::source(&spec.kind, spec.resource.as_deref(), spec.container.as_deref());
        Metric::new(
            index.to_string(),
            source,
            wanted(spec).unwrap_or(MetricTarget::AverageValue(Milli::new(1))),
        )
    };
    let list: Result<Vec<_>, _> = input.metrics.iter().enumerate().map(metric).collect();
    Metrics::new(list.map_err(|e| e.to_string())?, None).map_err(|e| e.to_string())
}

fn wanted(spec: &case::MetricSpec) -> Option<MetricTarget> {
    let amount = |milli: i64| Milli::new(milli);
    (spec.average_utilization_pct.map(MetricTarget::Utilization))
        .or_else(|| spec.average_value_milli.map(|milli| MetricTarget::AverageValue(amount(milli))))
        .or_else(|| spec.value_milli.map(|milli| MetricTarget::Value(amount(milli))))
}

fn selector(text: &str) -> Selector {
    match text {
        "ok" => Selector::Valid,
        "" => Selector::Missing,
        "ambiguous" => {
            let autoscalers = vec!["test-namespace/one".to_owned(), "test-namespace/other".to_owned()];
            Selector::Ambiguous { selector: "name=podNamePrefix".to_owned(), autoscalers }
        }
        other => Selector::Invalid { error: format!("unable to parse requirement: {other}") },
    }
}

fn reading(input: &case::Reconcile, spec: &case::MetricSpec) -> Reading {
    if wanted(spec).is_none() || input.failing_metric_types.contains(&spec.kind) {
        return Reading::Failed { error: "something went wrong".to_owned() };
    }
    let levels = &input.reported_levels_milli;
    let per_pod = |value: fn(i64, bool) -> i64| {
        let values = levels.iter().enumerate().map(|(index, level)| PodValue {
            pod: format!("test-pod-{index}").into(),
            value: Milli::new(value(*level, spec.container.is_some())),
            at: NOW,
            window: Duration::from_secs(60),
            starting: false,
        });
        Reading::PerPod { values: values.collect(), at: NOW }
    };
    match spec.kind.as_str() {
        "Resource" | "ContainerResource" => {
            per_pod(|level, of_one| if of_one { level / 2 } else { level / 2 * 2 })
        }
        "Pods" => per_pod(|level, _| level),
        "Object" => match levels.first() {
            Some(level) => world::total(&[*level]),
            None => Reading::Missing { why: "no metrics returned".to_owned() },
        },
        _ => world::total(levels),
    }
}

fn sentence_name(input: &case::Reconcile, name: &Name) -> String {
    let spec = name.as_str().parse().ok().and_then(|index: usize| input.metrics.get(index));
    match spec {
        Some(spec) if spec.kind == "Resource" => {
            let resource = spec.resource.as_deref().unwrap_or("cpu");
            format!("{resource} resource utilization (percentage of request)")
        }
        _ => "metric".to_owned(),
    }
}
